"""Small images: a network that sees the pixels, next to the bank of patches."""

import pickle

import numpy as np
import pytest
import torch

import sslearn._fit
import sslearn._training._auto
from sslearn import LFR, VICReg
from sslearn.encoders import PatchBank, ResNet, StemEncoder, default_encoder
from sslearn.encoders._pixels import Flat, LastValues


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _network(encoder):
    (found,) = [module for module in encoder.modules() if isinstance(module, ResNet)]
    return found


def test_pixels_come_out_of_the_stem_as_they_are():
    x = _noise(4, 3, 5, 6)
    among = torch.cat((_noise(4, 7, seed=1), Flat()(x)), dim=1)
    assert torch.equal(LastValues((3, 5, 6))(among), x)


@pytest.mark.parametrize(
    ("shape", "has_network"),
    [
        ((1, 8, 8), True),
        ((1, 15, 12), True),
        ((1, 16, 12), False),
        ((3, 8, 8), False),
        ((1, 1, 1), True),
        ((1, 8, 8, 8), False),
    ],
)
def test_small_images_of_one_channel_have_a_network(shape, has_network):
    x = _noise(40, *shape)
    encoder = default_encoder(shape, None, x)
    assert isinstance(encoder, StemEncoder)
    assert any(isinstance(module, ResNet) for module in encoder.modules()) == has_network
    assert encoder.eval()(x[:3]).shape[1] <= 2048


def test_the_network_sees_the_pixels_and_the_output_the_patches():
    x = _noise(40, 1, 8, 9)
    encoder = default_encoder((1, 8, 9), None, x).eval()
    fixed = encoder.stem(x)
    n_patches = encoder.stem_width - 8 * 9
    assert encoder.stem_blocks == (n_patches,)
    assert torch.equal(encoder.body(fixed), _network(encoder)(x))
    # What views whiten are the features of patches; the pixels behind them stay.
    (whitening,) = [m for m in encoder.stem.modules() if hasattr(m, "fit")]
    whitening.fit(_noise(40, 4, encoder.stem_width))
    whitened = encoder.stem(x)
    assert torch.equal(whitened[:, n_patches:], fixed[:, n_patches:])
    assert not torch.allclose(whitened[:, :n_patches], fixed[:, :n_patches], atol=0.1)


def test_many_samples_have_no_more_patches():
    encoder = default_encoder((1, 8, 8), None, _noise(2048, 1, 8, 8))
    (bank,) = [module for module in encoder.modules() if isinstance(module, PatchBank)]
    assert bank.n_patches == 56


def test_a_number_of_features_is_that_of_the_network():
    encoder = default_encoder((1, 8, 8), 24, _noise(30, 1, 8, 8))
    assert encoder.output == "body"
    assert _network(encoder).pool == "mean"
    assert encoder.eval()(_noise(3, 1, 8, 8)).shape == (3, 24)


@pytest.mark.parametrize(("side", "epochs", "rate"), [(8, 4, 1e-2), (16, 1, 3e-3)])
def test_a_network_trains_as_long_as_without_a_stem(side, epochs, rate, monkeypatch):
    monkeypatch.setattr(sslearn._training._auto, "_EPOCHS", (1, 4))
    monkeypatch.setattr(sslearn._training._auto, "_ENOUGH_STEPS", 2)
    X = _noise(40, 1, side, side).numpy()
    model = VICReg(batch_size=20, random_state=0, device="cpu").fit(X)
    assert model.n_iter_ == epochs
    assert model.learning_rate_ == rate
    assert np.isfinite(model.transform(X)).all()


@pytest.fixture(scope="module")
def fitted():
    X = _noise(64, 1, 8, 8).numpy()
    return VICReg(max_epochs=2, random_state=0, device="cpu").fit(X), X


def test_features_do_not_depend_on_the_batch(fitted):
    model, X = fitted
    features = model.transform(X)
    for rows in (X[:1], X[:3], X[:1].repeat(40, 0)):
        assert np.array_equal(model.transform(rows)[0], features[0])
    assert np.array_equal(pickle.loads(pickle.dumps(model)).transform(X), features)


def test_export(fitted):
    model, X = fitted
    x = torch.from_numpy(X[:5])
    batch = {0: torch.export.Dim("batch", min=2)}
    exported = torch.export.export(model.encoder_, (x,), dynamic_shapes=(batch,)).module()
    for samples in (x, torch.from_numpy(X)):
        torch.testing.assert_close(exported(samples), model.encoder_(samples), rtol=0, atol=1e-5)


def test_new_views_at_each_step_unless_a_number_is_asked_for(monkeypatch):
    kept, resolve = [], sslearn._fit.resolve_cached_views

    def counting(*args, **kwargs):
        kept.append(resolve(*args, **kwargs))
        return kept[-1]

    monkeypatch.setattr(sslearn._fit, "resolve_cached_views", counting)
    settings = {"max_epochs": 1, "random_state": 0, "device": "cpu"}
    X = _noise(32, 1, 8, 8).numpy()
    VICReg(**settings).fit(X)
    assert kept == []
    VICReg(cached_views=3, **settings).fit(X)
    VICReg(**settings).fit(X.repeat(2, 2))
    LFR(n_candidates=8, **settings).fit(X)  # of the samples themselves, without views
    assert kept == [3, 2, 1]


def test_the_bank_is_not_computed_to_train(monkeypatch):
    rows_at_a_time, forward = [], PatchBank.forward

    def counted(self, x, *args):
        rows_at_a_time.append(len(x))
        return forward(self, x, *args)

    monkeypatch.setattr(PatchBank, "forward", counted)
    X = np.random.default_rng(0).random((96, 1, 10, 10), dtype=np.float32)
    counts = []
    for max_epochs in (1, 3):
        rows_at_a_time.clear()
        VICReg(max_epochs=max_epochs, random_state=0).fit(X)
        counts.append(sum(rows_at_a_time))
    assert counts[0] == counts[1] > 0
