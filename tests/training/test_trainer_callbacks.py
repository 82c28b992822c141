"""Lightning's callbacks, loggers and bars around a fit."""

import csv
import pickle
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import pytest
import sklearn
from estimators import rows, small
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import CSVLogger
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.fixes import parse_version
from torch import nn

from sslearn.callbacks import OnlineProbe
from sslearn.metrics import effective_rank

X = rows("table", n=70)
y = (X[:, 0] > 0).astype(int)
needs_callbacks = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn below 1.9 has no callbacks",
)


def _with(*callbacks, name="SimCLR", **params):
    return small(name, trainer_params={"callbacks": list(callbacks)}, **params)


class Seen(lightning.Callback):
    """Keeps what there is to see when an epoch ends."""

    def __init__(self):
        self.metrics = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.metrics.append({k: float(v) for k, v in trainer.callback_metrics.items()})

    def column(self, key):
        return [row[key] for row in self.metrics]


class Rates(lightning.Callback):
    """Keeps the learning rate of every step."""

    def __init__(self):
        self.rates = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


class Counts(lightning.Callback):
    """Has a state, as Lightning means it, and something that leads to the data."""

    def __init__(self):
        self.epochs = []
        self.limit = 99
        self.module = None

    def on_train_epoch_end(self, trainer, pl_module):
        self.module = {"kept": [pl_module]}
        self.epochs.append(trainer.current_epoch)
        self.last = len(self.epochs)

    def state_dict(self):
        return {"epochs": self.epochs}


def test_a_callback_sees_the_losses_of_its_epoch():
    seen = Seen()
    # Behind one that watches a metric, too: those run last.
    model = _with(EarlyStopping("loss"), seen, max_epochs=3, validation_fraction=0.2).fit(X)
    assert seen.column("loss") == pytest.approx(model.loss_curve_)
    assert seen.column("validation_loss") == pytest.approx(model.validation_loss_curve_)


@pytest.mark.parametrize(
    "params", [{"max_steps": 6}, {"limit_train_batches": 2}, {"accumulate_grad_batches": 3}]
)
def test_it_does_wherever_an_epoch_ends(params):
    seen = Seen()
    model = small("SimCLR", trainer_params={"callbacks": seen, **params}, max_epochs=3).fit(X)
    assert seen.column("loss") == pytest.approx(model.loss_curve_)


@pytest.mark.parametrize("name", ["BYOL", "MoCo"])
def test_momentum_and_rank_reach_callbacks(name):
    seen = Seen()
    params = {} if name == "MoCo" else {"ema_schedule": "cosine"}
    model = _with(seen, name=name, max_epochs=3, **params).fit(X)
    last = seen.metrics[-1]
    assert last["effective_rank"] == pytest.approx(model.embedding_rank_curve_[-1][1])
    assert 0.9 < last["ema_decay"] < 1
    if name == "BYOL":
        assert seen.column("ema_decay") == sorted(set(seen.column("ema_decay")))


@needs_callbacks
def test_all_that_is_measured_reaches_a_logger(tmp_path):
    probe = OnlineProbe(LogisticRegression(), X[:50], y[:50], X[50:], y[50:], every=2)
    other = OnlineProbe(LogisticRegression(C=0.1), X[:50], y[:50], X[50:], y[50:], every=1)
    logger = CSVLogger(tmp_path)
    params = {"logger": logger, "callbacks": [LearningRateMonitor("step")], "log_every_n_steps": 1}
    model = small("BYOL", max_epochs=4, validation_fraction=0.2, trainer_params=params)
    model.set_callbacks(probe, other).fit(X)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        table = list(csv.DictReader(file))

    def column(key):
        return [float(row[key]) for row in table if row[key]]

    assert column("loss") == pytest.approx(model.loss_curve_)
    assert column("validation_loss") == pytest.approx(model.validation_loss_curve_)
    assert column("effective_rank")[-1] == pytest.approx(model.embedding_rank_curve_[-1][1])
    assert column("ema_decay")[-1] == pytest.approx(1, abs=1e-3)
    assert column("probe_score") == pytest.approx([score for _, score in probe.history_])
    assert column("probe_score_2") == pytest.approx([score for _, score in other.history_])
    rates = column("lr-AdamW/pg1")
    assert len(rates) == model.n_steps_ == 12
    assert max(rates) == pytest.approx(model.learning_rate_)


def test_a_checkpoint_needs_no_switch_and_can_be_read(tmp_path):
    keeper = ModelCheckpoint(tmp_path, "{epoch}-{loss:.4f}", monitor="loss", save_top_k=1)
    model = _with(keeper, max_epochs=3).fit(X)
    best = int(np.argmin(model.loss_curve_))
    name = f"epoch={best}-loss={model.loss_curve_[best]:.4f}.ckpt"
    assert Path(keeper.best_model_path) == tmp_path / name
    assert Path(keeper.best_model_path).exists()
    assert float(keeper.best_model_score) == pytest.approx(min(model.loss_curve_))
    # Each fit begins anew: what is worse than the best of the one before is kept all the same.
    worse = model.set_params(learning_rate=1e-9, random_state=5).fit(X)
    assert float(keeper.best_model_score) == pytest.approx(min(worse.loss_curve_))
    assert len(keeper.best_k_models) == 1


def test_early_stopping_can_be_read_and_begins_anew():
    stopping = EarlyStopping("loss", patience=1)
    model = _with(stopping, max_epochs=12, learning_rate=1e-12).fit(X)
    first = stopping.stopped_epoch, float(stopping.best_score), stopping.wait_count
    assert first[0] == model.n_iter_ - 1 < 11
    assert first[1] == pytest.approx(min(model.loss_curve_))
    other = clone(model).fit(X)  # its callback is a copy, which has begun anew, too
    copied = other.trainer_params["callbacks"][0]
    assert copied is not stopping
    again = pickle.loads(pickle.dumps(model)).fit(X)
    assert model.fit(X).n_iter_ == other.n_iter_ == again.n_iter_ == first[0] + 1
    for each in (stopping, copied):
        assert (each.stopped_epoch, float(each.best_score), each.wait_count) == first
    # What the caller sets in between stays.
    stopping.patience = 3
    assert model.fit(X).n_iter_ > first[0] + 1
    assert stopping.patience == 3


def test_the_state_of_a_callback_of_ones_own():
    counts = Counts()
    model = _with(counts, max_epochs=3).fit(X)
    assert counts.epochs == [0, 1, 2]
    assert counts.last == 3
    assert counts.module is None  # it would carry the data
    counts.limit = 7
    model.set_params(max_epochs=2).fit(X)
    assert counts.epochs == [0, 1]
    assert counts.limit == 7

    class Fails(lightning.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        _with(counts, Fails()).fit(X)
    assert counts.epochs == [0]


def test_a_pickled_estimator_carries_no_data_of_a_callback():
    large = np.repeat(X, 2000, axis=0)
    bar = TQDMProgressBar(refresh_rate=0)
    averaging = StochasticWeightAveraging(1e-2, swa_epoch_start=1)
    params = {"callbacks": [Seen(), averaging, bar], "limit_train_batches": 2}
    model = small("SimCLR", trainer_params=params, encoder=nn.Linear(6, 4)).fit(large)
    assert len(pickle.dumps(model)) < large.nbytes / 2


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_weight_averaging_has_its_own_rate(schedule):
    rates = Rates()
    averaging = StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=1)
    model = _with(averaging, rates, max_epochs=5, lr_schedule=schedule, batch_size=35)
    model.fit(X)
    # It sets its own when its first epoch ends; that after the tenth step only sets statistics.
    assert max(rates.rates[:4]) <= 1e-3
    assert rates.rates[4:10] == [0.05] * 6
    assert model.n_steps_ == 10


def test_the_schedule_does_not_count_the_epoch_that_averaging_adds():
    plain, averaged = Rates(), Rates()
    _with(plain, max_epochs=4).fit(X)
    late = StochasticWeightAveraging(1e-2, swa_epoch_start=4)
    _with(late, averaged, max_epochs=4).fit(X)
    assert averaged.rates[:12] == plain.rates[:12]


def test_the_curve_ends_with_the_weights_that_a_callback_leaves():
    averaging = StochasticWeightAveraging(0.1, swa_epoch_start=1)
    model = _with(averaging, max_epochs=4, encoder=nn.Linear(6, 4), projector=nn.Linear(4, 4))
    model.set_params(learning_rate=0.1).fit(X)
    epoch, rank, _ = model.embedding_rank_curve_[-1]
    assert epoch == 4
    features = model.transform(X)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert rank == pytest.approx(effective_rank(features), rel=1e-5)
    assert [epoch for epoch, *_ in model.embedding_rank_curve_].count(4) == 1


def test_a_bar_of_ones_own_needs_no_switch(capsys):
    for verbose in (0, 2):
        _with(TQDMProgressBar(), verbose=verbose, name="BYOL").fit(X)
        out = capsys.readouterr().out
        assert "Epoch 1" in out
        assert "loss=" in out
        assert "ema_decay=" in out
        assert "[BYOL]:" not in out


@pytest.mark.parametrize(
    ("callback", "error", "message"),
    [
        (LearningRateFinder(), ValueError, "must not hold a LearningRateFinder: set learning_rate"),
        (BatchSizeFinder(), ValueError, "must not hold a BatchSizeFinder: set batch_size"),
        (EarlyStopping, TypeError, "Got the class EarlyStopping instead of an instance"),
        ("early", TypeError, "must hold callbacks of Lightning .* Got str instead"),
        (
            OnlineProbe(LogisticRegression(), X, y, X, y),
            TypeError,
            r"Got OnlineProbe, which .* pass it to set_callbacks\(OnlineProbe\(\.\.\.\)\)",
        ),
    ],
)
def test_callbacks_that_cannot_work_are_refused(callback, error, message):
    for given in (callback, [callback], (Seen(), callback)):
        with pytest.raises(error, match=message):
            small("SimCLR", trainer_params={"callbacks": given}).fit(X)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ("ckpt_path", ValueError, "must not hold 'ckpt_path': a fit always begins anew"),
        ("resume_from_checkpoint", ValueError, "must not hold 'resume_from_checkpoint': a fit"),
        ("callback", TypeError, "Got 'callback' instead; did you mean 'callbacks'"),
        ("no_such", TypeError, "must hold arguments of lightning.Trainer. Got 'no_such' instead"),
    ],
)
def test_arguments_that_no_trainer_takes_are_refused_before_any_work(key, error, message):
    class Untouched:
        def __array__(self, *args, **kwargs):
            raise AssertionError("X was read")

    with pytest.raises(error, match=message):
        small("SimCLR", trainer_params={key: "last.ckpt"}).fit(Untouched())
