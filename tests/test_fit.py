"""The stages of fit: seeds, the split, and an encoder that reads samples in another shape."""

import gc
import weakref

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, rows, small
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn._data._reading import _split
from sslearn._data._rows import Rows
from sslearn._data._seeds import Seeds
from sslearn._data._stem_cache import StemCache
from sslearn._objective import Objective
from sslearn.augment import Scaling
from sslearn.encoders import KernelBank, StemEncoder, default_encoder
from sslearn.metrics import effective_rank


def test_seeds_differ_and_follow_from_the_root():
    seeds = Seeds.from_root(0)
    assert len(set(seeds)) == len(seeds) == 8
    assert seeds == Seeds.from_root(0)
    assert not set(seeds) & set(Seeds.from_root(1))
    words = np.random.SeedSequence(0).generate_state(7)
    assert (seeds.order, seeds.reference) == (words[0], words[6])


def test_a_split_has_every_sample_once_in_order():
    data = Rows(np.zeros((50, 3)))
    assert _split(data, None, 0) == (None, None)
    trained_on, held_out = _split(data, 0.3, 0)
    assert len(held_out) == 15
    assert torch.cat((trained_on, held_out)).sort().values.tolist() == list(range(50))
    assert torch.equal(held_out, held_out.sort().values)
    assert not torch.equal(held_out, _split(data, 0.3, 1)[1])
    with pytest.raises(ValueError, match="holds out 0 and leaves 50 to train on"):
        _split(data, 0.001, 0)


@pytest.mark.parametrize("name", ["SimCLR", "CPC"])
def test_encoder_takes_samples_as_x_has_them(name):
    X = rows("table")
    model = small(name).fit(X)
    raw = model.encoder_(torch.from_numpy(X).float()).detach().numpy()
    np.testing.assert_allclose(raw, model.transform(X), rtol=1e-5, atol=1e-6)
    assert [part for part, _ in model.encoder_.named_children()][-2:] == ["standardize", "features"]


# --- encoders with a stem ------------------------------------------------------------------------


class _Counting(Scaling):
    """Of this package, but for the count of samples that it is asked for views of."""

    __module__ = Scaling.__module__
    asked = 0

    def _apply(self, x, generator):
        type(self).asked += len(x)
        return super()._apply(x, generator)


@pytest.fixture
def counting():
    _Counting.asked = 0
    return _Counting()


def _encoder():
    """A frozen layer, and others."""
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.Conv1d(2, 6, 5), nn.BatchNorm1d(6), nn.ReLU()).requires_grad_(False)
    return nn.Sequential(
        frozen, nn.Conv1d(6, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1)
    )


@pytest.mark.parametrize("name", ["SimCLR", "BYOL", "MoCo", "LFR"])
def test_training_behind_a_stem_is_training_of_the_whole(name, monkeypatch):
    """With new views at each step: the same losses and features, bit for bit."""
    X, fresh = rows("series"), {} if name == "LFR" else {"cached_views": 0}
    if name == "LFR":
        monkeypatch.setattr("sslearn._fit.resolve_cached_views", lambda *_, **__: 0)
    made = {"encoder": _encoder(), "validation_fraction": 0.3, **fresh}
    split = small(name, **made).fit(X)
    monkeypatch.setattr(ESTIMATORS[name], "_keeps_encoder_whole", True)
    whole = small(name, **made).fit(X)
    assert split.loss_curve_ == whole.loss_curve_
    if name != "BYOL" and name != "MoCo":  # whose copies have batch statistics of their own
        assert split.validation_loss_curve_ == whole.validation_loss_curve_
    np.testing.assert_array_equal(split.transform(X), whole.transform(X))


def test_views_are_drawn_as_often_as_they_are_kept(counting):
    X = rows("series")
    small("SimCLR", augment=counting, max_epochs=9, batch_size=12).fit(X)
    assert _Counting.asked == 8 * 24
    _Counting.asked = 0
    small("SimCLR", augment=counting, max_epochs=9, cached_views=3).fit(X)
    assert _Counting.asked == 3 * 24
    _Counting.asked = 0
    # Held-out samples have the same two views in all epochs.
    small("SimCLR", augment=counting, max_epochs=9, cached_views=0, validation_fraction=0.25).fit(X)
    whitened_by = 4 * 18
    assert _Counting.asked == whitened_by + 9 * 2 * 16 + 2 * 6
    _Counting.asked = 0
    small("SimCLR", augment=counting, max_epochs=9, encoder=default_encoder).fit(X)  # no stem
    assert _Counting.asked == 9 * 2 * 16


def test_views_of_a_callable_are_drawn_at_each_step():
    asked = []

    def augment(x, generator):
        asked.append(len(x))
        return x + torch.randn(x.shape, generator=generator)

    small("SimCLR", augment=augment, max_epochs=6).fit(rows("series"))
    assert asked == [4 * 24] + [32] * 6  # the first for the whitening
    small("SimCLR", augment=augment, max_epochs=6, cached_views=4).fit(rows("series"))
    assert sum(asked[7:]) == 4 * 24


def test_too_few_cached_views_are_refused():
    with pytest.raises(ValueError, match=r"'cached_views' parameter must be 0 or at least .* 2\."):
        small("SimCLR", cached_views=1).fit(rows("series"))
    # Without a stem it is ignored.
    small("SimCLR", encoder=nn.Linear(6, 8), cached_views=1).fit(rows("table"))


def test_an_objective_sees_what_learns(monkeypatch):
    seen = []

    def batch_loss(self, batch):
        seen.append((batch.x.shape[1:], batch.samples.shape[1:], batch.views[0].shape[1:]))
        seen.append([type(module).__name__ for module in self.modules()])
        assert self.features is self.encoder
        return Objective.batch_loss(self, batch)

    monkeypatch.setattr("sslearn._methods.byol._BYOLObjective.batch_loss", batch_loss)
    X = rows("series")
    for cached in (0, 4):
        model = small("BYOL", max_epochs=1, cached_views=cached, embedding_dim=None).fit(X)
        shapes, names = seen[-2:]
        assert shapes == ((1512,), (2, 20), (1512,))
        assert "KernelBank" not in names  # in the momentum copy neither
        assert model.transform(X).shape == (24, 2048)


def test_score_and_curve_are_of_what_is_learned():
    X = rows("series", n=60)
    model = small("VICReg", embedding_dim=None).fit(X)
    features = model.encoder_.features
    with torch.no_grad():
        learned = features.learned(model.encoder_.standardize(torch.from_numpy(X)))
    assert learned.shape == (60, 512)
    assert model.score(X) == pytest.approx(effective_rank(learned.numpy()), rel=1e-4)
    assert model.score(X) != pytest.approx(effective_rank(model.transform(X)), rel=1e-2)


def test_a_collapse_behind_a_stem_is_seen(monkeypatch):
    # What the stem gives to the features stays as it is.
    def loss(self, *views):
        return (self.encoder(views[0]) - 1).square().mean()

    monkeypatch.setattr("sslearn._methods.vicreg._VICRegObjective.loss", loss)
    X = rows("series", n=60)
    bank = KernelBank.from_samples(torch.from_numpy(X), n_features=84)
    body = nn.Linear(84, 16)
    encoder = StemEncoder(bank, body, stem_width=84, body_width=16)
    model = small("VICReg", encoder=encoder, max_epochs=400, learning_rate=0.03)
    with pytest.warns(ConvergenceWarning, match="collapsed"):
        model.fit(X)
    assert effective_rank(model.transform(X)) > 5


def test_the_cache_is_freed_also_on_error(monkeypatch):
    made = []
    monkeypatch.setattr(
        "sslearn._data._batches.StemCache",
        lambda *given: made.append(StemCache(*given)) or made[-1],
    )
    small("SimCLR").fit(rows("series"))
    alive = weakref.ref(made.pop())
    gc.collect()
    assert alive() is None
    with pytest.raises(ValueError, match="became nan"):
        small("SimCLR", learning_rate=1e30, max_epochs=5).fit(rows("series"))
    alive = weakref.ref(made.pop())
    gc.collect()
    assert alive() is None


def test_fitted_encoders_keep_their_stem():
    X = rows("series")
    first = small("SimCLR", embedding_dim=None).fit(X)
    stem = first.encoder_.features.module.stem.state_dict()
    for encoder in (first.encoder_.features, first.encoder_):
        again = small("VICReg", encoder=encoder, random_state=5).fit(2 * X)
        kept = next(m for m in again.encoder_.modules() if isinstance(m, StemEncoder)).stem
        kept = kept.state_dict()
        assert all(torch.equal(kept[key], stem[key]) for key in stem)
        assert again.transform(X).shape == (24, 2048)
        assert not np.allclose(again.transform(X), first.transform(X), atol=1e-3)


def test_the_untrained_encoder_has_the_same_layout():
    X = rows("series")
    untrained = small("SimCLR", embedding_dim=None, max_epochs=0).fit(X).transform(X)
    assert untrained.shape == (24, 2048)
    # The layer as it was drawn gives nothing: it would take weight from the bank.
    assert untrained.var(axis=0).sum() == pytest.approx(1.0, rel=1e-3)
    first = small("SimCLR", embedding_dim=None, max_epochs=1).fit(X)
    assert first.transform(X).var(axis=0).sum() == pytest.approx(2.0, rel=1e-3)
    # An encoder that was trained before gives both.
    again = small("SimCLR", encoder=first.encoder_.features, max_epochs=0).fit(X)
    np.testing.assert_allclose(again.transform(X), first.transform(X), atol=1e-4)


def test_a_stem_computes_in_float32(monkeypatch):
    seen = []

    def forward(self, x, mask=None):
        seen.append(torch.is_autocast_enabled("cpu"))
        return kept(self, x, mask)

    kept = KernelBank.forward
    monkeypatch.setattr(KernelBank, "forward", forward)
    for cached in (0, 4):
        small("SimCLR", precision="bfloat16", cached_views=cached).fit(rows("series"))
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("name", ["SimCLR", "LFR"])
def test_a_fit_behind_a_stem_repeats(name):
    X = rows("series")
    first, again, other = (small(name, random_state=seed).fit(X) for seed in (0, 0, 1))
    assert first.loss_curve_ == again.loss_curve_
    np.testing.assert_array_equal(first.transform(X), again.transform(X))
    assert other.loss_curve_ != first.loss_curve_


def test_streams_behind_a_stem():
    X = rows("series")
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=8)
    for name in ("SimCLR", "LFR"):
        model = small(name, embedding_dim=None).fit(loader)
        assert model.transform(X).shape == (24, 2048)


def test_samples_of_an_objective_without_views_are_encoded_once(monkeypatch):
    calls = []
    kept = KernelBank.forward
    monkeypatch.setattr(
        KernelBank,
        "forward",
        lambda self, x, mask=None: calls.append(len(x)) or kept(self, x, mask),
    )
    X = rows("series")
    few = small("LFR", max_epochs=2).fit(X)
    n_few = sum(calls)
    calls.clear()
    many = small("LFR", max_epochs=12).fit(X)
    # Looks at the rank aside, which are more.
    looks = len(many.embedding_rank_curve_) - len(few.embedding_rank_curve_)
    assert sum(calls) == n_few
    assert looks >= 0


@pytest.mark.parametrize("kind", ["image", "volume"])
def test_views_that_whiten_are_of_samples_in_unit_range(kind):
    X = (255 * np.random.default_rng(0).random((40, *rows(kind).shape[1:]))).astype(np.uint8)
    seen = []

    def augment(x, generator):
        seen.append((float(x.min()), float(x.max())))
        return x + 0.1 * torch.randn(x.shape, generator=generator)

    model = small("VICReg", embedding_dim=None, augment=augment, cached_views=0).fit(X)
    assert model.encoder_.features.module.stem.whitening.is_fitted
    assert all(-1e-5 < low < 0.1 and 0.9 < high < 1 + 1e-5 for low, high in seen)


def test_the_stem_is_whitened_by_views(counting):
    X = rows("series", n=60)
    raw = torch.from_numpy(X)
    for cached in ("auto", 0):
        model = small("VICReg", embedding_dim=None, cached_views=cached).fit(X)
        stem = model.encoder_.features.module.stem
        assert stem.whitening.is_fitted
        with torch.no_grad():
            x = model.encoder_.standardize(raw)
            views = torch.stack(
                [stem.bank(counting(x, torch.Generator().manual_seed(i))) for i in range(6)], 1
            )
            before, after = (
                (of - of.mean(1, keepdim=True)).square().mean() / of.mean(1).var(0).mean()
                for of in (views, stem.whitening(views.flatten(0, 1)).view_as(views))
            )
        assert after < before
    # Without training, and without views, it changes nothing.
    assert (
        not small("VICReg", max_epochs=0).fit(X).encoder_.features.module.stem.whitening.is_fitted
    )
    assert not small("LFR").fit(X).encoder_.features.module.stem.whitening.is_fitted
