"""The bank of whitened patches: its features by hand, and that rounding decides none of them."""

import copy
import io
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from rounding import ROUNDING_WAYS, threads
from sklearn.linear_model import RidgeClassifier

from sslearn.encoders import PatchBank, ResNet, StemEncoder, default_encoder


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=_generator(seed))


def _bank(samples, n_patches=20):
    return PatchBank.from_samples(samples, n_patches=n_patches, generator=_generator())


def _pooled_by_hand(bank, x):
    """Compare each patch with each filter, as the definition says, in float64."""
    x = x.astype(np.float64)
    n_dims, n = len(bank.size), len(x)
    for axis in range(n_dims):
        side = x.shape[2 + axis] // bank.scale
        x = x.take(range(side * bank.scale), axis=2 + axis)
        parts = (*x.shape[: 2 + axis], side, bank.scale, *x.shape[3 + axis :])
        x = x.reshape(parts).mean(3 + axis)
    filters = bank.conv.weight.double().numpy().reshape(bank.n_patches, -1)
    starts = [
        range(0, side - patch + 1, bank.stride)
        for side, patch in zip(x.shape[2:], bank.patch_size, strict=True)
    ]
    responses = np.empty((n, bank.n_patches, *map(len, starts)))
    for place in itertools.product(*map(enumerate, starts)):
        position = tuple(i for i, _ in place)
        slices = [slice(s, s + p) for (_, s), p in zip(place, bank.patch_size, strict=True)]
        patch = x[(slice(None), slice(None), *slices)].reshape(n, -1)
        patch = patch - patch.mean(1, keepdims=True)
        patch /= np.sqrt(patch.var(1, keepdims=True) + 2.5e-3)
        found = patch @ filters.T + bank.offset.double().numpy()
        responses[(slice(None), slice(None), *position)] = found
    features = []
    for sign in (1, -1):
        above = np.maximum(sign * responses - 0.5, 0)
        means = torch.nn.functional.adaptive_avg_pool2d
        if n_dims == 3:
            means = torch.nn.functional.adaptive_avg_pool3d
        features.append(means(torch.from_numpy(above), bank.cells).flatten(2).numpy())
    means = np.concatenate(features, axis=1)
    whole = [means.mean(2)] if bank.n_whole else []
    return np.sqrt(np.concatenate((*whole, means.reshape(n, -1)), axis=1) + 1e-3) - np.sqrt(1e-3)


SHAPES = [(3, 32, 32), (1, 28, 28), (3, 40, 36), (2, 100, 64), (1, 8, 8), (1, 20, 18, 18)]


@pytest.mark.parametrize("shape", SHAPES)
def test_features_by_hand(shape):
    x = _noise(12, *shape).cumsum(2) / 3
    bank = _bank(x)
    found = bank.pooled(x[:3]).numpy()
    np.testing.assert_allclose(found, _pooled_by_hand(bank, x[:3].numpy()), atol=2e-5)


def test_patches_are_whitened():
    # Correlated pixels: whatever their spectrum, filters respond alike to all directions.
    x = _noise(400, 1, 16, 16).cumsum(2).cumsum(3)
    x = (x - x.mean()) / x.std()
    bank = PatchBank.from_samples(x, n_patches=300, generator=_generator())
    windows = x.unfold(2, 6, 1).unfold(3, 6, 1).reshape(-1, 36)[::7].double()
    windows = windows - windows.mean(1, keepdim=True)
    windows /= (windows.square().mean(1, keepdim=True) + 2.5e-3).sqrt()
    responses = windows @ bank.conv.weight.flatten(1).double().T
    # Unit filters of whitened patches: unit deviation along axes that are far above the floor.
    assert 0.2 < responses.std(0).median() < 1.1
    after, before = (torch.linalg.eigvalsh(of.T.cov())[-12:] for of in (responses, windows))
    assert before.max() / before.min() > 4 * after.max() / after.min()


def test_features_of_training_samples_are_standardised():
    samples = _noise(60, 3, 16, 16)
    features = _bank(samples)(samples)
    torch.testing.assert_close(features.mean(0), torch.zeros(360), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(360), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("shape", "patch", "stride", "scale", "cells"),
    [
        ((3, 32, 32), (6, 6), 1, 1, (3, 3)),
        ((3, 48, 40), (6, 6), 2, 1, (3, 3)),
        ((3, 224, 224), (6, 6), 2, 4, (3, 3)),
        ((3, 512, 512), (6, 6), 2, 10, (3, 3)),
        ((1, 8, 8), (4, 4), 1, 1, (3, 3)),
        ((1, 4, 4), (2, 2), 1, 1, (3, 3)),
        ((1, 2, 3), (1, 2), 1, 1, (2, 2)),
        ((60, 16, 16), (2, 2), 1, 1, (3, 3)),
        ((300, 8, 8), (1, 1), 1, 1, (3, 3)),
        ((1, 28, 28, 28), (3, 3, 3), 1, 1, (2, 2, 2)),
        ((1, 8, 8, 8), (3, 3, 3), 1, 1, (2, 2, 2)),
        ((1, 40, 40, 30), (3, 3, 3), 2, 1, (2, 2, 2)),
        ((4, 64, 64, 64), (3, 3, 3), 1, 2, (2, 2, 2)),
        ((20, 9, 9, 9), (2, 2, 3), 1, 1, (2, 2, 2)),
        ((1, 1, 30, 30), (1, 3, 3), 1, 1, (1, 2, 2)),
        ((1, 1, 1, 1), (1, 1, 1), 1, 1, (1, 1, 1)),
    ],
)
def test_sizes_follow_the_samples(shape, patch, stride, scale, cells):
    bank = PatchBank(shape[0], shape[1:], n_patches=5)
    assert (bank.patch_size, bank.stride, bank.scale, bank.cells) == (patch, stride, scale, cells)
    whole = len(shape) == 4 and math.prod(cells) > 1
    assert bank.n_features == 10 * (math.prod(cells) + whole)
    features = bank(_noise(2, *shape))
    assert features.shape == (2, bank.n_features)
    assert features.isfinite().all()


def test_few_samples_have_smaller_patches():
    # 2 x 9 x 9 places for 108 values would tell no covariance.
    assert max(_bank(_noise(2, 3, 14, 14)).patch_size) < 6
    assert _bank(_noise(100, 3, 14, 14)).patch_size == (6, 6)
    assert _bank(_noise(2, 1, 2, 2)).n_features == 40 * 4


def _awkward():
    """Draw images, standardised as a whole, that are flat in parts, rare or far from zero."""
    noise = _noise(40, 3, 20, 20)
    smooth = noise.cumsum(2).cumsum(3)
    scale = smooth / smooth.std()
    black = scale.clone()
    black[:, :, :12] = 0
    far = noise.clone()
    far[:, 1] = 30 + 0.01 * far[:, 1]
    return {
        "noise": noise,
        "smooth": scale,
        "black": black,
        "clipped": (2 * scale).clamp(-1, 1),
        "levels": scale.round(),
        "constant": torch.zeros_like(noise),
        "constant_channel": noise * torch.tensor([1.0, 0.0, 1.0])[:, None, None],
        "rare": torch.where(_noise(40, 3, 20, 20, seed=1) > 3, 20.0, 0.0),
        "far": far,
    }


AWKWARD = _awkward()


def _exported(bank, x):
    batch = {0: torch.export.Dim("batch", min=2)}
    return torch.export.export(bank, (x,), dynamic_shapes=(batch,)).module()(x)


WAYS = ROUNDING_WAYS | {
    "strided": lambda bank, x: bank(x.transpose(0, 3).contiguous().transpose(0, 3)),
    "exported": _exported,
}


@pytest.mark.parametrize("kind", AWKWARD)
@pytest.mark.parametrize("way", WAYS)
def test_rounding_does_not_decide(way, kind):
    x = AWKWARD[kind]
    bank = _bank(x)
    with threads(1):
        expected = bank(x)
        found = WAYS[way](bank, x)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-4


def test_the_cells_of_a_volume_vary_as_much_as_the_whole():
    samples = _noise(60, 2, 9, 8, 8)
    bank = _bank(samples)
    whole, cells = (of.var(0, correction=0) for of in bank(samples).split((40, 320), dim=1))
    torch.testing.assert_close(whole, torch.ones(40), atol=2e-3, rtol=0)
    torch.testing.assert_close(cells, torch.full((320,), 1 / 8), atol=2e-3, rtol=0)


def test_constant_images_give_zeros():
    bank = _bank(torch.zeros(5, 3, 16, 16))
    assert (bank(torch.ones(2, 3, 16, 16)) == 0).all()
    assert bank(_noise(2, 3, 16, 16)).abs().max() <= 10
    assert _bank(_noise(5, 3, 16, 16))(torch.full((2, 3, 16, 16), 1e30)).isfinite().all()


@pytest.mark.parametrize("shape", [(1, 7, 6), (1, 5, 6, 4)])
def test_a_gradient_reaches_the_input(shape):
    bank = _bank(_noise(20, *shape), n_patches=3).double()
    x = _noise(2, *shape, seed=1).double().requires_grad_()
    torch.autograd.gradcheck(bank, (x,), eps=1e-7, atol=1e-4)


def test_views_may_be_smaller():
    bank = _bank(_noise(20, 3, 32, 32))
    assert bank(_noise(4, 3, 24, 20)).shape == (4, bank.n_features)


def test_the_generator_decides():
    samples = _noise(50, 3, 16, 16)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = _bank(samples)(samples)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, _bank(samples)(samples))
    other = PatchBank.from_samples(samples, n_patches=20, generator=_generator(1))
    assert not torch.allclose(first, other(samples))


def test_nothing_moves_and_pickles():
    samples = _noise(10, 3, 16, 16)
    bank = _bank(samples)
    assert not any(parameter.requires_grad for parameter in bank.parameters())
    assert torch.equal(bank.train()(samples), bank.eval()(samples))
    assert torch.equal(pickle.loads(pickle.dumps(bank))(samples), bank(samples))
    empty = PatchBank(3, (16, 16), n_patches=20, patch_size=bank.patch_size)
    empty.load_state_dict(bank.state_dict())
    assert torch.equal(empty(samples), bank(samples))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchBank(0, (8, 8)), "'in_channels' parameter of PatchBank must be an int"),
        (lambda: PatchBank(1, (8,)), "'size' parameter of PatchBank must have 2 .* or 3"),
        (lambda: PatchBank(1, (8, 8), n_patches=0), "'n_patches' parameter of PatchBank"),
        (lambda: PatchBank(1, (8, 8), patch_size=(9, 2)), r"\(8, 8\), none larger. Got \(9, 2\)"),
        (lambda: PatchBank(1, (8, 8), patch_size=(2,)), "must have a number for each axis"),
        (lambda: PatchBank.from_samples(_noise(3, 9)), "expects samples of shape .n, channels"),
        (lambda: PatchBank(2, (8, 8))(_noise(3, 1, 8, 8)), r"\(n, 2, height, width\). Got"),
        (lambda: PatchBank(2, (8, 8))(_noise(3, 8, 8)), r"Got \(3, 8, 8\) instead"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# What it is for --------------------------------------------------------------------------------


def _textures(n, seed):
    """Draw two classes of images, with stripes that rise or fall, at any phase."""
    generator = _generator(seed)
    y = torch.arange(n) % 2
    across, down = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="xy")
    phase = 6.3 * torch.rand(n, 1, 1, generator=generator)
    stripes = torch.sin(across + torch.where(y == 1, 1.0, -1.0)[:, None, None] * down + phase)
    x = stripes + 0.5 * torch.randn(n, 16, 16, generator=generator)
    return x[:, None], y.numpy()


def test_a_linear_model_finds_what_pixels_do_not_tell():
    (x, y), (x_test, y_test) = _textures(100, 0), _textures(100, 1)
    bank = _bank(x)
    pixels = RidgeClassifier().fit(x.flatten(1).numpy(), y).score(x_test.flatten(1).numpy(), y_test)
    found = RidgeClassifier().fit(bank(x).numpy(), y).score(bank(x_test).numpy(), y_test)
    assert pixels < 0.8
    assert found > 0.95


@pytest.fixture(scope="module")
def of_many_samples():
    """Return the widest default encoder for images."""
    return default_encoder((1, 16, 16), None, _noise(2048, 1, 16, 16))


def test_the_default_encoder_keeps_principal_axes_where_samples_suffice(of_many_samples):
    many = of_many_samples
    few = default_encoder((1, 16, 16), None, _noise(100, 1, 16, 16))
    assert isinstance(many, StemEncoder)
    assert many.stem.bank.n_patches == 200
    assert many.stem_width == many.stem.axes.out_features == 1024
    assert few.stem.bank.n_patches == 56
    assert few.stem_width == few.stem.bank.n_features == 1008
    for encoder in (many, few):
        assert encoder.eval()(_noise(3, 1, 16, 16)).shape == (3, 2048)
    learned = default_encoder((1, 16, 16), 32, _noise(100, 1, 16, 16))
    assert learned.eval()(_noise(3, 1, 16, 16)).shape == (3, 32)


@pytest.mark.parametrize(
    "shape", [(1, 2, 3), (1, 1, 1), (3, 4, 2), (1, 5, 7), (60, 3, 3), (1, 2, 2, 3), (2, 1, 5, 4)]
)
def test_few_tiny_samples_give_no_more_columns_than_others(shape):
    x = _noise(20, *shape)
    encoder = default_encoder(shape, None, x)
    for module in encoder.stem:
        if hasattr(module, "fit"):
            module.fit(_noise(20, 2, encoder.stem_width))
    encoder.calibrate(encoder.stem(x))
    features = encoder.eval()(x)
    assert features.shape[1] <= 2048
    assert features.isfinite().all()


def test_the_default_encoder_of_volumes():
    volumes = _noise(30, 2, 8, 9, 8)
    encoder = default_encoder((2, 8, 9, 8), None, volumes)
    assert isinstance(encoder, StemEncoder)
    assert encoder.stem.bank.patch_size == (3, 3, 3)
    assert encoder.stem_width == 1008
    assert encoder.stem_weight == 1
    assert encoder.eval()(volumes).shape == (30, 2048)
    assert isinstance(default_encoder((2, 8, 9, 8)), ResNet)


def test_a_pickle_of_the_default_is_small(of_many_samples):
    encoder = copy.deepcopy(of_many_samples)
    for module in encoder.stem:
        if hasattr(module, "fit"):
            module.fit(_noise(10, 2, 1024))
    file = io.BytesIO()
    torch.save(encoder, file)
    assert file.tell() < 32 * 2**20
