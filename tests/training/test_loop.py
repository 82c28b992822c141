"""An encoder that is not trained: ``max_epochs=0``."""

import warnings

import lightning.pytorch as lightning
import numpy as np
import pytest
import sklearn
import torch
from estimators import ESTIMATORS, encoder_shape, rows, small, trained_module
from sklearn.linear_model import LogisticRegression
from sklearn.utils.fixes import parse_version
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sslearn import SimCLR
from sslearn.callbacks import OnlineProbe


def _network(shape):
    width = int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU())


def _fields(model):
    return (
        model.loss_curve_,
        model.n_iter_,
        model.n_steps_,
        [epoch for epoch, *_ in model.embedding_rank_curve_],
        hasattr(model, "validation_loss_curve_"),
    )


@pytest.mark.parametrize("kind", ["table", "series", "image", "volume"])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_weights_as_drawn_and_statistics_of_one_pass(name, kind):
    X = rows(kind, n=70)
    with torch.random.fork_rng():
        drawn = _network(encoder_shape(name, kind))
    before = [parameter.clone() for parameter in drawn.parameters()]
    model = small(name, encoder=drawn, max_epochs=0).fit(X)
    found = trained_module(model)
    assert all(map(torch.equal, found.parameters(), before))
    assert all(parameter.requires_grad for parameter in found.parameters())
    assert not any(module.training for module in model.encoder_.modules())
    assert _fields(model) == ([], 0, 0, [0], False)
    assert np.isfinite(model.embedding_rank_curve_[0][1])
    # The statistics are those of an epoch in which next to nothing is learned.
    epoch = small(name, encoder=drawn, max_epochs=1, learning_rate=1e-12).fit(X)
    norm, expected = found[2], trained_module(epoch)[2]
    assert norm.num_batches_tracked == expected.num_batches_tracked > 0
    for statistic in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(norm, statistic), getattr(expected, statistic))
    assert not torch.equal(norm.running_mean, torch.zeros(8))
    np.testing.assert_allclose(model.transform(X), epoch.transform(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_the_default_encoder_of_an_estimator(name):
    X = rows("table", n=70)
    model = small(name, max_epochs=0).fit(X)
    epoch = small(name, max_epochs=1, learning_rate=1e-12).fit(X)
    np.testing.assert_allclose(model.transform(X), epoch.transform(X), rtol=1e-4, atol=1e-5)
    again = small(name, max_epochs=0, trainer_params={"accumulate_grad_batches": 2}).fit(X)
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_streams_and_held_out_rows(name):
    X = torch.from_numpy(rows("table", n=70))
    loader = DataLoader(TensorDataset(X), batch_size=16)
    model = small(name, max_epochs=0).fit(loader)
    assert _fields(model) == ([], 0, 0, [0], False)
    assert model.batch_size_ == 16
    held_out = small(name, max_epochs=0, validation_fraction=0.3, n_iter_no_change=2).fit(X)
    assert _fields(held_out) == ([], 0, 0, [0], False)


def test_a_stream_without_end():
    class Endless(IterableDataset):
        def __iter__(self):
            generator = torch.Generator().manual_seed(0)
            while True:
                yield torch.randn(6, generator=generator)

    params = {"limit_train_batches": 3}
    model = small("SimCLR", encoder=_network, max_epochs=0, trainer_params=params).fit(Endless())
    assert trained_module(model)[2].num_batches_tracked == 3


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_nothing_need_be_there_to_train(name):
    frozen = _network(encoder_shape(name, "table")).requires_grad_(False)
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    model = small(name, encoder=frozen, max_epochs=0).fit(rows("table"))
    found = trained_module(model).state_dict()
    assert all(torch.equal(found[key], before[key]) for key in before)


def test_it_warns_of_no_collapse():
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return self.weight.expand(len(x), 4)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small("SimCLR", encoder=Same(), max_epochs=0).fit(rows("table"))


def test_callbacks_hear_of_no_epoch():
    class Heard(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            raise AssertionError("there is no epoch")

        on_train_epoch_start = on_train_batch_end = on_train_epoch_end

    small("SimCLR", max_epochs=0, trainer_params={"callbacks": [Heard()]}).fit(rows("table"))


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn below 1.9 has no callbacks",
)
def test_a_probe_scores_the_untrained_encoder(capsys):
    X = rows("table", n=60)
    y = (X[:, 0] > 0).astype(int)
    probe = OnlineProbe(LogisticRegression(), X[:40], y[:40], X[40:], y[40:])
    model = small("SimCLR", max_epochs=0).set_callbacks(probe).fit(X)
    features = model.transform(X)
    expected = LogisticRegression().fit(features[:40], y[:40]).score(features[40:], y[40:])
    assert probe.history_ == [(0, expected)]
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    small("SimCLR", max_epochs=0).set_callbacks(ProgressBar()).fit(X)
    assert "100%" in capsys.readouterr().out


def test_what_is_told_of_it(capsys):
    X = rows("table", n=70)
    small("SimCLR", max_epochs=0, verbose=2).fit(X)
    line = capsys.readouterr().out
    assert "cpu in float32: no step, one pass for batch statistics in batches of 16, " in line
    assert line.count("\n") == 1
    assert SimCLR(max_epochs=0, random_state=0).fit(X).learning_rate_ == 1e-3
    with pytest.raises(ValueError, match=r"'max_epochs' .* in the range \[0, inf\)"):
        small("SimCLR", max_epochs=-1).fit(X)
