"""A collapse of the representation is seen, recorded and said."""

import math
import time
import warnings

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, SHAPES, rows, small
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sslearn import SimSiam
from sslearn._methods._losses import negative_cosine
from sslearn._methods.simsiam import _SimSiamObjective
from sslearn._objective import Objective, jointly
from sslearn._training._rank import RankMonitor
from sslearn.encoders import default_encoder
from sslearn.metrics import effective_rank


class _WithoutStopGradient(_SimSiamObjective):
    def loss(self, *views):
        z1, z2 = jointly(lambda x: self.projector(self.encoder(x)), views)
        p1, p2 = jointly(self.predictor, (z1, z2))
        return (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2


class _Collapsing(SimSiam):
    def _make_objective(self, encoder, data):
        made = super()._make_objective(encoder, data)
        return _WithoutStopGradient(made.encoder, made.projector, made.predictor)


def _whole(shape):
    """Make an encoder without a stem."""
    return default_encoder(shape, 128)


def _digits():
    return load_digits().images[:300, None].astype(np.float32)


def test_simsiam_without_its_stop_gradient_collapses_and_says_so():
    # Linear heads: batch norms in them would hold the projections apart for a while.
    model = _Collapsing(projector=nn.Linear(128, 32), predictor=nn.Linear(32, 32))
    model.set_params(max_epochs=12, batch_size=32, learning_rate=1.0, random_state=0)
    model.set_params(weight_decay=0.5, encoder=_whole)
    with pytest.warns(ConvergenceWarning, match=r"_Collapsing has collapsed.*learning_rate \(it"):
        model.fit(_digits())
    (_, before, _), *_, (epoch, rank, spread) = model.embedding_rank_curve_
    assert epoch == 12
    assert rank < 0.1 * before or spread < 0.1 / math.sqrt(128)


def test_simsiam_as_it_is_does_not():
    model = SimSiam(max_epochs=15, batch_size=32, learning_rate=3e-3, random_state=0)
    model.set_params(encoder=default_encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(_digits())
    (_, before, _), *_, (_, rank, _) = model.embedding_rank_curve_
    assert rank > before


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_the_curve(name, kind):
    X = rows(kind, n=40)
    # Without a stem, whose part of the features is not watched.
    model = small(name, max_epochs=4, encoder=default_encoder).fit(X)
    epochs = [epoch for epoch, _, _ in model.embedding_rank_curve_]
    assert epochs[0] == 0
    assert epochs[-1] == model.n_iter_
    assert epochs == sorted(set(epochs))
    features = nn.functional.normalize(torch.from_numpy(model.transform(X)).double()).numpy()
    _, rank, spread = model.embedding_rank_curve_[-1]
    assert rank == pytest.approx(effective_rank(features), rel=1e-3)
    assert spread == pytest.approx(features.std(axis=0).mean(), rel=1e-3)


def test_the_last_point_is_of_the_weights_that_are_kept():
    X = rows("table", n=60)
    model = small("SimCLR", max_epochs=30, learning_rate=0.3, validation_fraction=0.3)
    model.set_params(n_iter_no_change=1, standardize=False, random_state=1).fit(X)
    assert model.n_iter_ < 30
    epochs = [epoch for epoch, _, _ in model.embedding_rank_curve_]
    assert epochs[-1] == model.n_iter_
    assert epochs.count(model.n_iter_) == 1


def test_streams_and_large_rows_are_sampled_too():
    from torch.utils.data import DataLoader, TensorDataset

    X = torch.from_numpy(rows("table", n=300))
    loader = DataLoader(TensorDataset(X), batch_size=50)
    model = small("SimCLR", encoder=default_encoder).fit(loader)
    features = nn.functional.normalize(torch.from_numpy(model.transform(X[:256])).double())
    _, rank, _ = model.embedding_rank_curve_[-1]
    assert rank == pytest.approx(effective_rank(features.numpy()), rel=1e-3)


def test_looking_draws_nothing():
    class Drawing(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 4)

        def forward(self, x):
            return self.linear(x) + torch.randn(len(x), 4)

    def curve(monkeypatch, share):
        monkeypatch.setattr("sslearn._training._rank._SHARE", share)
        torch.manual_seed(0)
        model = small("SimCLR", encoder=Drawing(), max_epochs=6).fit(rows("table"))
        return len(model.embedding_rank_curve_), model.loss_curve_

    with pytest.MonkeyPatch.context() as monkeypatch:
        (few, seldom), (many, often) = curve(monkeypatch, 1e-9), curve(monkeypatch, 1e9)
    assert few < many
    assert seldom == often


class _Data:
    """Stands for the training data: an epoch takes as long as the clock says."""

    sample_shape = (5,)
    device = torch.device("cpu")

    def inputs(self, samples):
        return samples

    def __init__(self, rows):
        self.rows = rows

    def sample(self, n, generator):
        return self.rows[:n]


class _Identity(Objective):
    def __init__(self):
        super().__init__(nn.Identity())


@pytest.mark.parametrize(
    ("width", "n_steps", "batch_size"),
    [(8, 10, 64), (512, 10, 64), (512, 100, 256), (2048, 3, 32)],
)
def test_looking_takes_no_more_than_its_share(width, n_steps, batch_size):
    """Of operations: those of a look, against three passes over the views of all steps between."""
    torch.manual_seed(0)
    rows, linear = torch.randn(256, 32), nn.Linear(32, width)
    objective = Objective(linear)
    curve = RankMonitor(objective, _Data(rows), 0, n_steps, batch_size)
    seen = []
    curve.look = seen.append
    for epoch in range(1, 2001):
        curve.end_epoch(epoch)
    every = seen[0]
    assert seen == list(range(every, 2001, every))
    overhead, forward, short = 25e6, 2 * 32 * width, min(width, 256)
    look = overhead + 256 * forward + 2 * short**2 * max(width, 256) + 12 * short**3
    step = overhead + 3 * 2 * batch_size * forward
    assert look <= 0.01 * every * n_steps * step
    assert every == 1 or look > 0.01 * (every - 1) * n_steps * step


def test_equal_fits_are_equal_whatever_the_clock_says():
    def attributes(delay):
        def encoder(shape):
            time.sleep(delay)
            return nn.Sequential(nn.Linear(6, 8), _Slow(delay))

        model = SimSiam(encoder, max_epochs=30, batch_size=16, random_state=0, device="cpu")
        return vars(model.fit(rows("table", n=70)))

    quick, slow = attributes(0.0), attributes(0.003)
    assert quick.keys() == slow.keys()
    learned = [name for name in quick if name not in ("encoder", "encoder_")]
    assert {name: quick[name] for name in learned} == {name: slow[name] for name in learned}
    states = [fitted["encoder_"].state_dict() for fitted in (quick, slow)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


class _Slow(nn.Module):
    """In training only, as where another process takes the core."""

    def __init__(self, delay):
        super().__init__()
        self.delay = delay

    def forward(self, x):
        if self.training:
            time.sleep(self.delay)
        return x


@pytest.mark.parametrize(
    ("trained", "collapsed"),
    [
        (lambda x: x, False),
        (lambda x: 0 * x + 1, True),
        (lambda x: 1 + 1e-3 * x, True),
        (lambda x: x[:, :1] * torch.ones(1, 20), True),
        (lambda x: x @ torch.diag(torch.arange(20) < 4).float(), False),
        (lambda x: x * float("nan"), False),  # the loss has its own word for that
    ],
)
def test_what_counts_as_collapsed(trained, collapsed):
    torch.manual_seed(0)
    curve = RankMonitor(_Identity(), _Data(torch.randn(50, 20)), 0, 1, 1)
    curve.sample = trained(curve.sample)
    curve.end(1)
    # The sample stands for the features here; the rows themselves do differ.
    curve.sample = torch.randn(50, 20)
    assert curve.collapsed is collapsed


def test_features_that_were_alike_before_have_not_collapsed():
    """Means over many patches, say."""
    torch.manual_seed(0)
    sample = torch.randn(50, 20)
    curve = RankMonitor(_Identity(), _Data(1 + 1e-2 * sample), 0, 1, 1)
    curve.sample = 1 + 5e-3 * sample
    curve.look(1)
    curve.sample = sample
    assert not curve.collapsed


def test_rows_that_are_all_alike_do_not_count():
    X = np.ones((40, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small("SimSiam").fit(X)
