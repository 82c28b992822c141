"""The bank of kernels: its features by hand, and that rounding decides none of them."""

import copy
import functools
import io
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from rounding import ROUNDING_WAYS, threads
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from sslearn import VICReg
from sslearn.encoders import HadamardRotation, KernelBank


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _bank(samples, **params):
    return KernelBank.from_samples(samples, generator=_generator(), **params)


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=_generator(seed))


# By hand ---------------------------------------------------------------------------------------


# Which weights of each kernel are 2.
LARGE = list(itertools.combinations(range(9), 3))


def _shares_by_hand(bank, x):
    """Count as the definition says, kernel by kernel, in float64."""
    found = []
    n_steps = x.shape[-1]
    x = x.astype(np.float64)
    signals = [(layer, x) for layer in bank.layers]
    signals += [(layer, np.diff(x, prepend=x[..., :1])) for layer in bank.layers_of_changes]
    for layer, signal in signals:
        d = layer.dilation
        stride = min(math.ceil(n_steps / 512), max(d, math.ceil(n_steps / 512) // 8))
        padded = np.pad(signal, ((0, 0), (0, 0), (4 * d, 4 * d)))
        summed_weights = layer.weight.double().numpy().reshape(8, x.shape[1], 84)
        responses = np.empty((len(x), n_steps, 84))
        for k, places in enumerate(LARGE):
            kernel = np.full(9, -1.0)
            kernel[list(places)] = 2.0
            channels = np.flatnonzero(np.abs(summed_weights[:, :, k]).sum(0))
            assert 1 <= len(channels) <= 9
            steps = padded[:, channels].sum(1)
            responses[:, :, k] = sum(
                weight * steps[:, i * d : i * d + n_steps] for i, weight in enumerate(kernel)
            )
        for slope, offset in zip(layer.slope.double(), layer.offset.double(), strict=True):
            counts = np.clip(responses * slope.numpy() + offset.numpy(), 0, 1)
            found.append(counts[:, ::stride].mean(1))
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("shape", [(1, 50), (12, 33), (2, 700)])
def test_shares_by_hand(shape):
    x = _noise(4, *shape)
    bank = _bank(x, n_features=840)
    expected = _shares_by_hand(bank, x.numpy())
    np.testing.assert_allclose(bank.shares(x).numpy(), expected, atol=1e-5)


def test_thresholds_are_quantiles_of_the_responses():
    bank = _bank(_noise(64, 1, 128))
    # Over all features, the shares are spread evenly.
    mean = bank.shares(_noise(200, 1, 128, seed=1)).mean(0)
    counts = torch.histc(mean, bins=8, min=0, max=1)
    assert (counts / len(mean) - 1 / 8).abs().max() < 0.02
    # And so are those of each kernel: 6 thresholds at each of 4 dilations.
    of_kernels = mean.view(24, 84).sort(dim=0).values
    assert (of_kernels[12:].mean(0) - of_kernels[:12].mean(0)).min() > 0.3


def test_features_of_training_samples_are_standardised():
    samples = _noise(50, 2, 64)
    features = _bank(samples)(samples)
    torch.testing.assert_close(features.mean(0), torch.zeros(2016), atol=1e-4, rtol=0)
    deviation = features.std(0, correction=0)
    # Thresholds at the very ends of the responses are exceeded hardly ever, or nearly always.
    assert ((deviation - 1).abs() < 1e-3).float().mean() > 0.99
    assert deviation.max() < 1 + 1e-3


@pytest.mark.parametrize(
    ("n_steps", "dilations"),
    [(8, [1]), (16, [1]), (17, [1, 2]), (128, [1, 2, 4, 8]), (513, [1, 2, 4, 8, 16, 32, 64])],
)
def test_dilations_reach_over_the_series(n_steps, dilations):
    bank = KernelBank(1, n_steps)
    assert [layer.dilation for layer in bank.layers] == dilations


@pytest.mark.parametrize(("asked", "given"), [(1, 84), (840, 840), (1000, 1008), (2016, 2016)])
def test_number_of_features(asked, given):
    samples = _noise(3, 1, 3000)
    bank = _bank(samples, n_features=asked)
    assert bank.n_features == given
    assert bank(samples).shape == (3, given)


def test_channels_are_subsets_of_all_sizes():
    bank = KernelBank(60, 1000, generator=_generator())
    sizes = []
    for layer in bank.layers:
        used = layer.weight.view(8, 60, 84).abs().sum(0) > 0
        sizes.append(used.sum(0))
        assert used.any(1).float().mean() > 0.8  # all but a few channels are seen
    assert set(torch.cat(sizes).tolist()) == set(range(1, 10))
    single = KernelBank(2, 9, generator=_generator()).layers[0].weight.view(8, 2, 84)
    assert set((single.abs().sum(0) > 0).sum(0).tolist()) == {1, 2}


# Shapes and lengths ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(2, 1, 8), (2, 60, 8), (2, 1, 3000), (3, 60, 128), (2, 1, 100_000)]
)
def test_samples_of_all_sizes(shape):
    samples = _noise(*shape)
    features = _bank(samples)(samples)
    assert features.shape == (shape[0], 2016)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().mean() > 1


def test_long_series_are_counted_at_few_steps():
    for n_steps, positions in [
        (512, [512] * 6),
        (513, [513] + [257] * 6),
        (3000, [3000, 1500, 750] + [500] * 6),
        (100_000, [4167] * 5 + [3125, 1563, 782] + [511] * 4),
    ]:
        layers = KernelBank(1, n_steps).layers
        found = [layer.responses(torch.zeros(1, 1, n_steps)).shape for layer in layers]
        assert found == [(1, n, 84) for n in positions]


def test_a_masked_sample_is_as_a_shorter_one():
    bank = _bank(_noise(20, 3, 90))
    x = _noise(5, 3, 90, seed=1)
    lengths = torch.tensor([90, 60, 31, 8, 1])
    mask = torch.arange(90) < lengths[:, None]
    features = bank(x, mask)
    for sample, length, found in zip(x, lengths, features, strict=True):
        torch.testing.assert_close(found, bank(sample[None, :, :length])[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(bank(x, torch.ones_like(mask)), bank(x), atol=1e-4, rtol=0)
    # What stands where nothing is valid does not matter, and may be missing.
    filled = torch.where(mask[:, None], x, torch.nan)
    assert torch.equal(bank(filled, mask), features)
    assert bank(x, torch.zeros_like(mask)).isfinite().all()


def test_a_long_masked_sample_is_counted_where_it_is_valid():
    x = _noise(2, 1, 1100)
    bank = _bank(x)
    mask = torch.arange(1100) < torch.tensor([[1100], [700]])
    found = bank.shares(x, mask)
    expected = _shares_by_hand(bank, x.numpy())
    np.testing.assert_allclose(found[0].numpy(), expected[0], atol=1e-5)
    x[1, :, 700:] = 0
    unmasked = bank.shares(x[1:])[0]
    assert (found[1] - unmasked).abs().max() > 0.1  # the zeros are not counted


# Rounding --------------------------------------------------------------------------------------


def _awkward(n=40, n_steps=150):
    """Draw standardised series where responses repeat, or hardly differ."""
    generator = _generator()
    time = torch.linspace(0, 1, n_steps)
    phase, rate = torch.rand(2, n, 1, generator=generator)
    wave = torch.sin(2 * math.pi * ((1 + 3 * rate) * time + phase))
    noise = torch.randn(n, n_steps, generator=generator)
    series = {
        "smooth": torch.sin(2 * math.pi * (0.3 * rate * time + phase)),
        "flat": (3 * wave).round(),
        "clipped": (2 * wave).clamp(-1, 1),
        "integers": torch.poisson(2 + 2 * wave.clamp_min(0), generator=generator),
        "constant": torch.zeros(n, n_steps),
        "nearly_constant": 1e-4 * noise + (rate < 0.1) * wave,
        "rare": (noise > 2.5) * wave,
        "offset": 100 + phase + 0.01 * noise,
        "walk": noise.cumsum(1),
    }
    scaled = {}
    for name, x in series.items():
        deviation = x.double().std()
        scaled[name] = ((x - x.double().mean()) / (deviation if deviation > 0 else 1)).float()
    scaled["two"] = torch.stack([scaled["flat"], scaled["smooth"]], dim=1)
    return {name: x if x.ndim == 3 else x[:, None] for name, x in scaled.items()}


AWKWARD = _awkward()


WAYS = ROUNDING_WAYS | {
    "among-many": lambda bank, x: bank(x.repeat(9, 1, 1))[-len(x) :],
    "float64-input": lambda bank, x: bank(x.double()),
    "strided": lambda bank, x: bank(x.transpose(0, 2).contiguous().transpose(0, 2)),
}


@pytest.mark.parametrize("kind", AWKWARD)
@pytest.mark.parametrize("way", WAYS)
def test_rounding_does_not_decide(way, kind):
    x = AWKWARD[kind]
    bank = _bank(x, n_features=1008)
    with threads(1):
        expected = bank(x)
        found = WAYS[way](bank, x)
    assert found.dtype == torch.float32
    # The features have unit deviation, or less.
    assert (found - expected).abs().max() < 1e-4


@functools.cache
def _fitted(kind):
    """The encoder of a fit, without its standardisation, in eval mode."""
    model = VICReg(max_epochs=2, random_state=0, device="cpu").fit(AWKWARD[kind])
    return model.encoder_.features


@pytest.mark.parametrize("kind", AWKWARD)
@pytest.mark.parametrize("way", [*(way for way in WAYS if way != "autocast"), "exported"])
def test_rounding_does_not_decide_behind_the_kernels(way, kind):
    x, encoder = AWKWARD[kind], _fitted(kind)
    with threads(1), torch.no_grad():
        expected = encoder(x)
        if way == "exported":
            batch = {0: torch.export.Dim("batch", min=2)}
            found = torch.export.export(encoder, (x,), dynamic_shapes=(batch,)).module()(x)
        else:
            found = WAYS[way](encoder, x)
    deviation = expected.std(0).mean()
    assert (found - expected).abs().max() <= 1e-4 * deviation


def test_responses_to_a_flat_stretch_are_zero():
    # Wherever it lies: nine products with a sum of zero would leave a rounding.
    layer = KernelBank(1, 100).layers[0]
    for level in (0.1, 3.3, -1e3):
        responses = layer.responses(torch.full((1, 1, 100), level))
        assert (responses[:, 4:-4] == 0).all()


def test_constant_channels_give_zeros():
    samples = _noise(20, 2, 50)
    samples[:, 1] = 0
    features = _bank(samples)(samples)
    assert features.isfinite().all()
    bank = _bank(torch.zeros(5, 1, 50))
    assert (bank(torch.zeros(3, 1, 50)) == 0).all()
    # What was never seen in training stays bounded.
    assert bank(_noise(3, 1, 50)).abs().max() <= 10


def test_hardly_varying_features_are_not_blown_up():
    # A single sample in a hundred has a spike: its shares differ by one step in sixty-four.
    samples = torch.sin(torch.arange(64) / 5).expand(100, 1, 64).clone()
    samples[0, 0, 30] += 0.001
    bank = _bank(samples)
    assert bank.gain.max() <= 4 * 64 * (1 + 1e-5)
    assert bank(_noise(4, 1, 64)).abs().max() <= 10


def test_extreme_values_stay_bounded():
    bank = _bank(_noise(20, 2, 50))
    far = bank(torch.full((1, 2, 50), 1e30) * torch.tensor([1.0, -1.0])[:, None])
    assert far.isfinite().all()
    assert far.abs().max() <= 10


# A module --------------------------------------------------------------------------------------


def test_the_generator_decides():
    samples = _noise(300, 4, 40)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = _bank(samples)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first(samples), _bank(samples)(samples))
    other = KernelBank.from_samples(samples, generator=_generator(1))
    assert not torch.allclose(first(samples), other(samples))
    # Without one, torch's default generator.
    torch.manual_seed(0)
    default = KernelBank.from_samples(samples)
    assert torch.equal(default(samples), first(samples))


def test_nothing_moves():
    samples = _noise(10, 2, 40)
    bank = _bank(samples)
    before = copy.deepcopy(bank.state_dict())
    assert not list(bank.parameters())
    assert {buffer.dtype for buffer in bank.buffers()} == {torch.float32}
    assert torch.equal(bank.train()(samples), bank.eval()(samples))
    for name, value in bank.state_dict().items():
        assert torch.equal(value, before[name])


def test_copied_pickled_and_loaded():
    samples = _noise(10, 2, 40)
    bank = _bank(samples)
    expected = bank(samples)
    empty = KernelBank(2, 40)
    assert not torch.equal(empty(samples), expected)
    empty.load_state_dict(bank.state_dict())
    for other in (copy.deepcopy(bank), pickle.loads(pickle.dumps(bank)), empty):
        assert torch.equal(other(samples), expected)


def test_a_pickle_is_small():
    for shape in [(1, 100), (60, 3000)]:
        bank = _bank(_noise(2, *shape))
        model = nn.Sequential(bank, HadamardRotation(bank.n_features))
        file = io.BytesIO()
        torch.save(model, file)
        assert file.tell() < 4 * 2**20


def test_is_exported():
    batch = ({0: torch.export.Dim("n")},)
    x = AWKWARD["two"]
    bank = _bank(x, n_features=1008)
    program = torch.export.export(bank, (x[:3],), dynamic_shapes=batch).module()
    for part in (x, x.round(), x[:1]):
        assert (program(part) - bank(part)).abs().max() < 1e-4


def test_is_exported_with_a_mask():
    samples = _noise(10, 2, 600)
    bank = _bank(samples)
    mask = torch.arange(600) < torch.randint(1, 601, (10, 1), generator=_generator())
    batch = {0: torch.export.Dim("n")}
    program = torch.export.export(bank, (samples[:3], mask[:3]), dynamic_shapes=(batch, batch))
    assert (program.module()(samples, mask) - bank(samples, mask)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KernelBank(0, 9), "'in_channels' parameter of KernelBank must be an int"),
        (lambda: KernelBank(1, 0), "'n_steps' parameter of KernelBank must be an int"),
        (lambda: KernelBank(1, 9, n_features=0.5), "'n_features' parameter of KernelBank"),
        (lambda: KernelBank.from_samples(_noise(3, 9)), "samples of shape .n, channels, time."),
        (lambda: KernelBank(2, 9)(_noise(3, 1, 9)), r"\(n, 2, time\). Got \(3, 1, 9\) instead"),
        (lambda: KernelBank(1, 9)(_noise(3, 9)), r"Got \(3, 9\) instead"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# What it is for --------------------------------------------------------------------------------


def _sines(n, seed):
    """Draw two classes, which differ by how fast one of two channels swings."""
    generator = _generator(seed)
    y = torch.arange(n) % 2
    phase = torch.rand(n, 1, generator=generator)
    wave = torch.sin(2 * math.pi * (phase + (5 + y[:, None]) * torch.linspace(0, 1, 128)))
    x = torch.randn(n, 2, 128, generator=generator)
    x[:, 0] += wave
    return x / x.std(), y.numpy()


def test_a_linear_model_finds_what_raw_steps_do_not_tell():
    (x, y), (x_test, y_test) = _sines(200, 0), _sines(400, 1)
    bank = _bank(x)
    rotation = HadamardRotation(bank.n_features, generator=_generator())
    scores = {}
    for name, encode in {
        "raw": lambda x: x.flatten(1),
        "bank": bank,
        "rotated": lambda x: rotation(bank(x)),
    }.items():
        model = RidgeClassifier(alpha=100.0).fit(encode(x).numpy(), y)
        scores[name] = model.score(encode(x_test).numpy(), y_test)
    assert scores["raw"] < 0.65
    assert scores["bank"] > 0.85
    assert scores["rotated"] == pytest.approx(scores["bank"], abs=0.005)


# The rotation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_features", "out_features"), [(1, 1), (3, 4), (64, 64), (100, 128), (2016, 2048)]
)
def test_rotation_keeps_distances(in_features, out_features):
    rotation = HadamardRotation(in_features, generator=_generator())
    assert rotation.out_features == out_features
    matrix = rotation(torch.eye(in_features))
    assert matrix.shape == (in_features, out_features)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(in_features), atol=1e-5, rtol=0)
    # Every column is a sum of all features, with signs of its own.
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, out_features**-0.5))
    assert in_features < 64 or matrix.mean().abs() < 0.01


def test_wide_features_are_projected():
    rotation = HadamardRotation(3040, generator=_generator())
    assert rotation.out_features == 2048
    x = _noise(50, 3040)
    distances, kept = torch.pdist(x), torch.pdist(rotation(x))
    assert ((kept / distances) - 1).abs().max() < 0.1
    assert (kept / distances).mean() == pytest.approx(1, abs=0.01)
    narrow = HadamardRotation(10, max_features=4, generator=_generator())
    assert narrow(_noise(2, 10)).shape == (2, 4)


def test_a_scaler_fitted_on_few_samples_does_no_harm():
    # Features that are seldom on: in twenty samples many of them are hardly ever.
    rare = (_noise(1000, 256) - 1.5).clamp_min(0) + 1e-3 * _noise(1000, 256, seed=1)
    rotated = HadamardRotation(256, generator=_generator())(rare)
    spoilt = StandardScaler().fit(rare[:20].numpy()).transform(rare.numpy())
    fine = StandardScaler().fit(rotated[:20].numpy()).transform(rotated.numpy())
    assert np.abs(spoilt).max() > 500
    assert np.abs(fine).max() < 10


def test_rotation_as_a_module():
    rotation = HadamardRotation(300, generator=_generator())
    x = _noise(6, 300)
    assert not list(rotation.parameters())
    assert torch.equal(HadamardRotation(300, generator=_generator())(x), rotation(x))
    assert not torch.allclose(HadamardRotation(300, generator=_generator(1))(x), rotation(x))
    assert torch.equal(pickle.loads(pickle.dumps(rotation))(x), rotation(x))
    program = torch.export.export(rotation, (x[:3],), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.testing.assert_close(program.module()(x), rotation(x))
    with pytest.raises(ValueError, match=r"must be a power of 2. Got 100 instead"):
        HadamardRotation(3, max_features=100)
    with pytest.raises(ValueError, match="'in_features' parameter of HadamardRotation"):
        HadamardRotation(0)
