"""The two drivers, what they count, and how training ends."""

import contextlib
import functools
import importlib.util
import math
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import joblib
import numpy as np
import pytest
import torch
from estimators import rows, small, trained_module
from sklearn.base import clone
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn import SimCLR
from sslearn.base import Objective

# Anything in trainer_params takes the standard driver; this changes nothing else.
STANDARD = {"enable_progress_bar": False}


def _weights(estimator):
    return [value.clone() for value in estimator.encoder_.state_dict().values()]


def _equal(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["table", "image"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"optimizer": "sgd", "lr_schedule": "constant"},
        {"optimizer": "lars", "learning_rate": 0.1, "warmup_fraction": 0.5},
        {"lr_schedule": "plateau", "validation_fraction": 0.2},
        {"validation_fraction": 0.3, "n_iter_no_change": 1, "max_epochs": 5},
    ],
)
def test_drivers_give_the_same_bits(precision, kind, params):
    X = rows(kind, n=70)
    params = {"max_epochs": 3, "precision": precision, **params}
    fast = small("SimCLR", **params).fit(X)
    standard = small("SimCLR", trainer_params=STANDARD, **params).fit(X)
    assert fast.loss_curve_ == standard.loss_curve_
    assert _equal(_weights(fast), _weights(standard))


def test_drivers_give_the_same_bits_on_a_stream():
    X = torch.from_numpy(rows("table", n=70))
    loader = DataLoader(TensorDataset(X, X), batch_size=16)
    fast = small("SimCLR").fit(loader)
    standard = small("SimCLR", trainer_params=STANDARD).fit(loader)
    assert _equal(_weights(fast), _weights(standard))


def test_drivers_give_the_same_bits_with_dropout():
    def encoder(shape):
        return nn.Sequential(nn.Linear(shape[0], 32), nn.Dropout(0.5), nn.Linear(32, 8))

    X = rows("table", n=70)
    fast = small("SimCLR", encoder=encoder).fit(X)
    standard = small("SimCLR", encoder=encoder, trainer_params=STANDARD).fit(X)
    assert _equal(_weights(fast), _weights(standard))


class _TellsItsWeight(nn.Module):
    """Notes what its layer makes of the unit vectors: the weight that is really used."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4, bias=False)
        self.used, self.held = [], []

    def forward(self, x):
        if self.training:
            self.used.append(self.layer(torch.eye(6)).detach().T)
            self.held.append(self.layer.weight.detach().clone())
        return self.layer(x)


@pytest.mark.parametrize("trainer_params", [None, STANDARD])
@pytest.mark.parametrize("held_open", [False, True])
def test_every_step_uses_its_own_weights_cast(trainer_params, held_open):
    model = small(
        "SimCLR",
        encoder=_TellsItsWeight(),
        precision="bfloat16",
        learning_rate=0.05,
        max_epochs=4,
        trainer_params=trainer_params,
    )
    context = torch.autocast("cpu", torch.bfloat16) if held_open else contextlib.nullcontext()
    with context:
        model.fit(rows("table", n=70))
    encoder = trained_module(model)
    steps = [  # without the check of the encoder, which is in float32
        (used, held)
        for used, held in zip(encoder.used, encoder.held, strict=True)
        if used.dtype == torch.bfloat16
    ]
    assert len(steps) == 16
    assert all(torch.equal(used, held.bfloat16()) for used, held in steps)
    assert (encoder.held[-1] - encoder.held[0]).abs().max() > 0.05


def test_batch_statistics_and_data_stay_in_full_precision():
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    X = torch.from_numpy(rows("table", n=70)).half()
    seen = []

    def augment(x, generator):
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        noise = 0.01 * torch.randn(x.shape, generator=generator)
        return x + 0.1 * (x @ x.T @ x) + noise  # the product is what autocast would round

    found = []
    for precision in ("float32", "bfloat16"):
        model = small(
            "SimCLR", encoder=encoder, augment=augment, precision=precision, validation_fraction=0.3
        )
        model.set_params(max_epochs=1, learning_rate=1e-12).fit(TensorDataset(X))
        found.append(trained_module(model)[1])
    assert set(seen) == {(torch.float32, False)}
    for name in ("running_mean", "running_var"):
        exact, reduced = (getattr(norm, name) for norm in found)
        assert reduced.dtype == torch.float32
        torch.testing.assert_close(reduced, exact, rtol=0.02, atol=0.02)


class _Watched(Objective):
    """Counts what the training tells it."""

    log: list = []

    def __init__(self, encoder):
        super().__init__(encoder)
        self.head = nn.Linear(encoder.width, 4)

    def loss(self, *views):
        return self.head(self.encoder(torch.cat(views))).square().mean()

    def after_step(self, step, n_steps):
        self.log.append((step, n_steps))


class _Phased(_Watched):
    phases = ("encoder", "head", "head")
    n_views = 0
    seen: list = []

    def batch_loss(self, batch):
        assert batch.views == ()
        self.seen.append((self.phase, sorted(batch.index.tolist())))
        return self.head(self.encoder(batch.x)).square().mean()

    def start_phase(self, phase, data):
        self.train()
        self.phase = phase
        assert data.sample_shape == (6,)
        return (self.encoder if phase == "encoder" else self.head).parameters()


def _with(objective, **attributes):
    class Estimator(SimCLR):
        def _make_objective(self, encoder, data):
            made = objective(encoder)
            for key, value in attributes.items():
                setattr(made, key, value)
            return made

    return Estimator


@pytest.mark.parametrize(
    ("trainer_params", "n_steps"),
    [
        (None, 12),
        ({}, 12),
        (STANDARD, 12),
        ({"accumulate_grad_batches": 3}, 6),  # 4 batches an epoch: 3, and 1 at its end
        ({"max_steps": 5}, 5),
        ({"limit_train_batches": 2}, 6),
        ({"accumulate_grad_batches": 2, "max_steps": 4}, 4),
    ],
)
def test_steps_are_counted_as_they_run(trainer_params, n_steps):
    log = []
    _with(_Watched, log=log)(
        max_epochs=3, batch_size=16, trainer_params=trainer_params, random_state=0, device="cpu"
    ).fit(rows("table", n=70))
    assert log == [(step, n_steps) for step in range(n_steps)]


@pytest.mark.parametrize("trainer_params", [None, STANDARD])
def test_phases(trainer_params):
    seen, log = [], []
    estimator = _with(_Phased, seen=seen, log=log)(
        max_epochs=2, batch_size=16, trainer_params=trainer_params, random_state=0, device="cpu"
    )
    estimator.fit(rows("table", n=40))
    phases = [phase for phase, _ in seen]
    assert phases == (["encoder"] * 2 + ["head"] * 4) * 2
    assert len(estimator.loss_curve_) == estimator.n_iter_ == 2
    assert [n for _, n in log] == [12] * 12
    # Each pass is a new order of distinct rows.
    passes = [seen[i][1] + seen[i + 1][1] for i in range(0, len(seen), 2)]
    assert all(len(set(p)) == 32 for p in passes)
    assert len({tuple(p) for p in passes}) == len(passes)


def test_what_does_not_move_in_a_phase_has_no_gradient():
    weights = []

    class Frozen(_Phased):
        phases = ("head",)

        def start_phase(self, phase, data):
            weights.append([p.clone() for p in self.encoder.parameters()])
            return super().start_phase(phase, data)

    estimator = _with(Frozen, seen=[], log=[])(
        max_epochs=3, batch_size=16, random_state=0, device="cpu", weight_decay=0.5
    ).fit(rows("table"))
    after = list(estimator.encoder_.features.parameters())
    assert _equal(weights[0], [p.detach() for p in after])
    assert all(p.requires_grad for p in after)


def test_layers_the_caller_froze_stay_frozen():
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
    for parameter in encoder[:2].parameters():
        parameter.requires_grad_(False)
    estimator = small("SimCLR", encoder=encoder).fit(rows("table"))
    fitted = estimator.encoder_.features.module
    for key in ("0.weight", "0.bias", "1.weight", "1.running_mean", "1.num_batches_tracked"):
        assert torch.equal(fitted.state_dict()[key], encoder.state_dict()[key])
    assert not torch.equal(fitted[3].weight, encoder[3].weight)
    assert [p.requires_grad for p in fitted.parameters()] == [False] * 4 + [True] * 2


def test_prepare_runs_before_the_optimizer_is_made():
    class Prepared(_Watched):
        def prepare(self, data, generator):
            assert len(data) == 40
            assert data.sample(7, generator).shape == (7, 6)
            assert data.sample(99, generator).shape == (40, 6)
            self.target = data.map(lambda x: x[:, :4] * 2)
            self.extra = nn.Parameter(torch.zeros(4))

        def batch_loss(self, batch):
            target = self.target[batch.index]
            np.testing.assert_allclose(target, 2 * batch.x[:, :4], rtol=1e-6)
            made = self.head(self.encoder(batch.x)) + self.extra
            self.seen.append(self.extra.detach().clone())
            return (made - target).square().mean()

    seen = []
    _with(Prepared, seen=seen, log=[])(
        max_epochs=2, batch_size=16, random_state=0, device="cpu"
    ).fit(rows("table", n=40))
    assert seen[-1].abs().min() > 0


def test_validation_loss_and_early_stopping():
    X = rows("table", n=120)
    kept = small("SimCLR", validation_fraction=0.25, max_epochs=6).fit(X)
    assert len(kept.validation_loss_curve_) == 6
    assert np.isfinite(kept.validation_loss_curve_).all()
    # The views of held-out rows come from one seed: without training the loss does not move.
    still = small(
        "SimCLR", validation_fraction=0.25, learning_rate=1e-30, encoder=nn.Linear(6, 8),
        projector=nn.Linear(8, 4), max_epochs=4,
    ).fit(X)  # fmt: skip
    assert len(set(still.validation_loss_curve_)) == 1
    stopped = small(
        "SimCLR", validation_fraction=0.25, n_iter_no_change=2, max_epochs=300,
        learning_rate=0.05, lr_schedule="constant",
    ).fit(X)  # fmt: skip
    curve = stopped.validation_loss_curve_
    assert stopped.n_iter_ == len(curve) == int(np.argmin(curve)) + 1 + 2 < 300
    # The best weights are those of a run that ends there, if both see the same views: how many are
    # computed once depends on the number of epochs.
    shorter = small(
        "SimCLR", validation_fraction=0.25, max_epochs=int(np.argmin(curve)) + 1, cached_views=0,
        learning_rate=0.05, lr_schedule="constant", warmup_fraction=0.0,
    )  # fmt: skip
    stopped.set_params(warmup_fraction=0.0, cached_views=0).fit(X)
    shorter.set_params(max_epochs=int(np.argmin(stopped.validation_loss_curve_)) + 1).fit(X)
    assert _equal(_weights(stopped), _weights(shorter))
    assert not hasattr(small("SimCLR").fit(X), "validation_loss_curve_")


def test_held_out_rows_are_not_trained_on():
    seen = []

    class Seeing(_Watched):
        def batch_loss(self, batch):
            if self.training:
                seen.extend(batch.index.tolist())
            else:
                held_out.extend(batch.index.tolist())
            return super().batch_loss(batch)

    held_out = []
    X = rows("table", n=50)
    _with(Seeing, log=[])(
        validation_fraction=0.3, max_epochs=4, batch_size=5, random_state=0, device="cpu"
    ).fit(X)
    assert set(seen) | set(held_out) == set(range(50))
    assert not set(seen) & set(held_out)
    assert len(set(held_out)) == 15


@pytest.mark.parametrize("trainer_params", [None, STANDARD])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverging_loss_ends_fit(value, trainer_params):
    class Diverging(_Watched):
        def loss(self, *views):
            loss = super().loss(*views)
            return loss * value if len(self.log) >= 5 else loss

    estimator = _with(Diverging, log=[])(
        max_epochs=4, batch_size=16, random_state=0, device="cpu", trainer_params=trainer_params
    )
    with pytest.raises(ValueError, match=r"epoch 2 of 4.*[Ll]ower learning_rate \(it is 0.001\)"):
        estimator.fit(rows("table", n=70))
    assert not hasattr(estimator, "encoder_")


@pytest.mark.parametrize("trainer_params", [None, STANDARD])
def test_an_error_in_the_objective_comes_out_as_it_is(trainer_params):
    class Failing(_Watched):
        def loss(self, *views):
            raise ZeroDivisionError("here")

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError, match="here"):
        _with(Failing)(trainer_params=trainer_params, device="cpu").fit(rows("table"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    small("SimCLR").fit(rows("table"))  # and the lock is free


def test_trainer_params_that_the_estimator_owns():
    for key in ("max_epochs", "accelerator", "precision"):
        with pytest.raises(ValueError, match=f"must not hold '{key}'"):
            small("SimCLR", trainer_params={key: 1}).fit(rows("table"))
    with pytest.raises(ValueError, match="one device"):
        small("SimCLR", trainer_params={"devices": 2}).fit(rows("table"))
    with pytest.raises(TypeError, match="no_such"):
        small("SimCLR", trainer_params={"no_such": 2}).fit(rows("table"))


def test_trainer_params_reach_the_trainer(tmp_path):
    import lightning.pytorch as lightning

    class Count(lightning.Callback):
        n = 0

        def on_train_batch_end(self, *args):
            self.n += 1

    callback = Count()
    params = {"callbacks": [callback], "gradient_clip_val": 0.5, "default_root_dir": str(tmp_path)}
    small("SimCLR", trainer_params=params).fit(rows("table", n=70))
    assert callback.n == 8
    assert list(tmp_path.iterdir()) == []


def test_callbacks_may_watch_the_losses():
    from lightning.pytorch.callbacks import EarlyStopping

    for watched in ("loss", "validation_loss"):
        # A loss above this is as bad as none: training ends at the first look.
        callback = EarlyStopping(watched, divergence_threshold=0.0)
        params = {"callbacks": [callback], "enable_progress_bar": False}
        model = small("SimCLR", trainer_params=params, validation_fraction=0.2, max_epochs=5)
        assert model.fit(rows("table", n=70)).n_iter_ == 1


def test_callbacks_with_a_state_begin_each_fit_anew():
    from lightning.pytorch.callbacks import EarlyStopping

    params = {"callbacks": [EarlyStopping("loss", patience=1)], "enable_progress_bar": False}
    X = rows("table", n=70)
    model = small("SimCLR", trainer_params=params, max_epochs=12, learning_rate=1e-12)
    first = model.fit(X).n_iter_
    assert first < 12
    assert model.fit(X).n_iter_ == clone(model).fit(X).n_iter_ == first


def test_copies_of_the_module_do_not_copy_the_data():
    import copy

    import lightning.pytorch as lightning

    class Copying(lightning.Callback):
        def on_fit_start(self, trainer, module):
            copied = copy.deepcopy(module)
            assert copied.steps.data.rows is module.steps.data.rows
            assert copied.objective is not module.objective

    small("SimCLR", trainer_params={"callbacks": [Copying()]}).fit(rows("table"))


def test_weight_averaging_adds_no_epoch():
    from lightning.pytorch.callbacks import StochasticWeightAveraging

    params = {"callbacks": [StochasticWeightAveraging(1e-2)]}
    model = small("SimCLR", trainer_params=params, max_epochs=4).fit(rows("table", n=70))
    assert model.n_iter_ == len(model.loss_curve_) == 4


def test_deterministic_is_undone(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    small("SimCLR", trainer_params={"deterministic": True}).fit(rows("table"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_a_cluster_is_not_looked_for(monkeypatch):
    for key, value in (("SLURM_NTASKS", "4"), ("SLURM_JOB_NAME", "train"), ("SLURM_JOB_ID", "1")):
        monkeypatch.setenv(key, value)
    assert small("SimCLR").fit(rows("table")).n_iter_ == 2


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_after_the_last_step_is_not_lost():
    import lightning.pytorch as lightning

    class Pressed(lightning.Callback):
        def on_train_end(self, *args):
            signal.raise_signal(signal.SIGINT)

    model = small("SimCLR", trainer_params={"callbacks": [Pressed()]})
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(rows("table"))
    assert model.n_iter_ == 2


def test_verbose_prints_a_line_per_epoch(capsys):
    small("SimCLR", verbose=1).fit(rows("table"))
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("[SimCLR] 24 samples ")
    assert len(lines) == 2
    assert lines[0].startswith("[SimCLR] epoch 1 of 2, loss ")


class _Raises(nn.Module):
    """An encoder whose forward pass is interrupted by what it runs itself."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        if self.training and torch.is_grad_enabled() and x.shape[0] > 2:
            raise KeyboardInterrupt("mine")
        return self.layer(x)


def _raising_schedule(step, n_steps):
    raise KeyboardInterrupt("mine")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("trainer_params", [None, STANDARD])
@pytest.mark.parametrize("params", [{"encoder": _Raises()}, {"lr_schedule": _raising_schedule}])
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_keyboard_interrupt_of_the_callers_stays_one(params, trainer_params, in_thread):
    model = small("SimCLR", trainer_params=trainer_params, **params)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    raised = []

    def fit():
        with pytest.raises(KeyboardInterrupt, match="mine") as caught:
            model.fit(rows("table"))
        raised.append(caught.value)

    if in_thread:
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()
    else:
        fit()
    assert len(raised) == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not hasattr(model, "encoder_")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("where", ["augment", "cleaning up"])
@pytest.mark.parametrize("trainer_params", [None, STANDARD])
def test_two_interrupts_leave_no_handler_and_no_trace(monkeypatch, where, trainer_params):
    from lightning.pytorch.strategies import SingleDeviceStrategy

    expected = small("SimCLR", trainer_params=trainer_params).fit(rows("table")).loss_curve_
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupt = functools.partial(signal.raise_signal, signal.SIGINT)

    def augment(x, generator):
        interrupt()
        if where == "augment":
            interrupt()
        return x + torch.randn(x.shape, generator=generator)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        # In the midst of what Lightning does after the first one.
        patched.setattr(SingleDeviceStrategy, "on_exception", lambda *args: interrupt())
        small("SimCLR", trainer_params=trainer_params, augment=augment).fit(rows("table", n=70))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert small("SimCLR", trainer_params=trainer_params).fit(rows("table")).loss_curve_ == expected


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_warnings_are_errors_an_interrupted_fit_leaves_nothing_fitted(number):
    import lightning.pytorch as lightning

    class Pressed(lightning.Callback):
        def on_train_end(self, *args):
            signal.raise_signal(number)

    model = small("SimCLR", trainer_params={"callbacks": [Pressed()]})
    with pytest.raises(UserWarning, match="interrupted by"):
        model.fit(rows("table"))
    assert not hasattr(model, "encoder_")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAST_DEV_RUN", "1"),
        ("LIMIT_TRAIN_BATCHES", "1"),
        ("GRADIENT_CLIP_VAL", "1"),
        ("NUM_NODES", "2"),
    ],
)
def test_environment_variables_of_trainers_have_no_say(monkeypatch, name, value):
    expected = small("SimCLR").fit(rows("table", n=70)).loss_curve_
    monkeypatch.setenv(f"PL_TRAINER_{name}", value)
    assert small("SimCLR").fit(rows("table", n=70)).loss_curve_ == expected
    assert os.environ[f"PL_TRAINER_{name}"] == value


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use stays")
@pytest.mark.parametrize("trainer_params", [None, STANDARD])
def test_a_working_directory_that_is_gone(tmp_path, monkeypatch, trainer_params):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert small("SimCLR", trainer_params=trainer_params).fit(rows("table")).n_iter_ == 2


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("trainer_params", [None, STANDARD])
@pytest.mark.parametrize(("number", "by"), [(signal.SIGINT, "user"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_after_an_epoch_keeps_the_weights(capsys, number, by, trainer_params):
    """Those of the last whole step, of which an uninterrupted fit had the same."""
    log, found = [], {}

    class Stopped(_Watched):
        def after_step(self, step, n_steps):
            super().after_step(step, n_steps)
            found[step] = self.head.weight.detach().clone()
            if number and step == 5:
                signal.raise_signal(number)

    def fit():
        log.clear()
        return _with(Stopped, log=log)(
            max_epochs=4,
            batch_size=16,
            lr_schedule="constant",
            trainer_params=trainer_params,
            random_state=0,
            device="cpu",
        ).fit(rows("table", n=70))

    with pytest.warns(UserWarning, match=f"^Training interrupted by {by}.$"):
        model = fit()
    assert [step for step, _ in log] == list(range(6))
    assert model.n_iter_ == len(model.loss_curve_) == 1
    stopped, number = dict(found), 0
    assert fit().n_iter_ == 4
    assert torch.equal(stopped[5], found[5])


@pytest.mark.parametrize("trainer_params", [None, STANDARD])
@pytest.mark.parametrize("frozen", [False, True])
def test_lightning_is_kept_from_warning_not_only_silenced(monkeypatch, trainer_params, frozen):
    """Other threads may reset the filters at any time."""
    monkeypatch.setattr("sslearn._training._trainer.quiet", contextlib.nullcontext)
    first = nn.Linear(6, 8).requires_grad_(not frozen)
    encoder = nn.Sequential(first, nn.Linear(8, 8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small("SimCLR", encoder=encoder, trainer_params=trainer_params).fit(rows("table"))
    assert [str(warning.message) for warning in caught] == []


def test_a_threaded_search_is_silent_where_warnings_are_errors():
    X, y = rows("table", n=120), np.arange(120) % 2
    pipeline = make_pipeline(small("SimCLR", max_epochs=1), RidgeClassifier())
    with joblib.parallel_config(backend="threading", n_jobs=2), warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            search = GridSearchCV(
                pipeline, {"simclr__batch_size": [16, 32]}, cv=3, error_score="raise"
            )
            assert search.fit(X, y).n_splits_ == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("trainer_params", [None, STANDARD])
def test_ctrl_c_reaches_the_workers_of_a_loader_too(persistent, trainer_params):
    X = torch.from_numpy(rows("table", n=70))
    loader = DataLoader(
        TensorDataset(X),
        batch_size=16,
        num_workers=1,
        multiprocessing_context="fork",
        persistent_workers=persistent,
    )
    sent = []

    def schedule(step, n_steps):
        if step == 6:
            sent.append(time.monotonic())
            for process in (*multiprocessing.active_children(), multiprocessing.current_process()):
                os.kill(process.pid, signal.SIGINT)
        return 1.0

    model = small("SimCLR", max_epochs=4, trainer_params=trainer_params, lr_schedule=schedule)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(loader)
    assert time.monotonic() - sent[0] < 2
    assert model.n_iter_ == 1
    again = small("SimCLR", max_epochs=2, trainer_params=trainer_params)
    assert again.fit(loader).n_iter_ == 2
    for process in multiprocessing.active_children():  # for which the loader would wait
        process.terminate()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_signals_at_random_moments():
    """Twenty of those that tests/benchmarks/signals.py can send."""
    path = pathlib.Path(__file__).parents[1] / "benchmarks" / "signals.py"
    spec = importlib.util.spec_from_file_location("signals", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = list(module.warm(20, seed=3))
    assert [error for *_, error in found if error] == []
    assert len({outcome for *_, outcome, _ in found}) > 2


INTERRUPTED = """
    import pickle, signal, sys, warnings
    import numpy as np
    from sslearn import SimCLR
    X = np.random.default_rng(0).normal(size=(2000, 8)).astype("float32")
    model = SimCLR(max_epochs=100000, batch_size=4, device="cpu", verbose=1, random_state=0)
    handler = signal.default_int_handler
    signal.signal(signal.SIGINT, handler)  # background jobs inherit that it is ignored
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print("begins", flush=True)
            model.fit(X)
    except KeyboardInterrupt:
        print("KeyboardInterrupt", hasattr(model, "encoder_"))
    else:
        kept = pickle.loads(pickle.dumps(model))
        print("returned", kept.n_iter_ >= 1, len(kept.transform(X)),
              [str(w.message) for w in caught])
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    model.set_params(max_epochs=1, batch_size=100, verbose=0).fit(X)  # the process is intact
    print("alive")
"""


@contextlib.contextmanager
def _started(code, cwd):
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(code)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _interrupt(tmp_path, after, number=signal.SIGINT, delay=0.0):
    with _started(INTERRUPTED, tmp_path) as process:
        lines = []
        while not (lines and lines[-1].startswith(after)):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line.strip())
        time.sleep(delay)
        process.send_signal(number)
        sent = time.monotonic()
        while not lines[-1].startswith(("returned", "KeyboardInterrupt")):
            line = process.stdout.readline()
            if not line:
                break
            lines.append(line.strip())
        took = time.monotonic() - sent
        out, err = process.communicate(timeout=60)
        return (lines + out.splitlines())[-2:], process.returncode, took, err


def test_sigterm_after_an_epoch_keeps_the_weights(tmp_path):
    (said, last), code, took, err = _interrupt(tmp_path, "[SimCLR] epoch 2", signal.SIGTERM)
    assert said == "returned True 2000 ['Training interrupted by SIGTERM.']", err
    assert last == "alive"
    assert code == 0
    assert took < 1


def test_ctrl_c_while_lightning_is_imported_waits(tmp_path):
    (said, last), code, _, err = _interrupt(tmp_path, "begins", delay=0.5)
    assert said == "KeyboardInterrupt False", err
    assert last == "alive"
    assert code == 0


def test_sigterm_before_an_epoch_ends_the_process(tmp_path):
    lines, code, _, _ = _interrupt(tmp_path, "begins", signal.SIGTERM, delay=0.1)
    assert lines[-1] == "begins"
    assert code == -signal.SIGTERM


IN_A_WORKER = """
    import pathlib, sys, threading, time
    import numpy as np
    from sslearn import SimCLR

    def fit(started):
        def augment(x, generator):
            pathlib.Path(started).touch()
            return x + 1
        X = np.random.default_rng(0).normal(size=(2000, 8)).astype("float32")
        SimCLR(max_epochs=100000, batch_size=4, augment=augment, device="cpu").fit(X)

    def wait_for(path):
        while not path.exists():
            time.sleep(0.01)

    if __name__ == "__main__":
        started = pathlib.Path("started")
        {start}
        wait_for(started)
        time.sleep(0.3)
        begun = time.monotonic()
        {end}
        print(time.monotonic() - begun < 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "end"),
    [
        (
            "import multiprocessing; pool = multiprocessing.get_context('spawn').Pool(1); "
            "pool.apply_async(fit, (str(started),))",
            "pool.terminate(); pool.join()",
        ),
        (
            "from joblib.externals import loky; executor = loky.get_reusable_executor(1); "
            "executor.submit(fit, str(started))",
            "executor.shutdown(kill_workers=True)",
        ),
    ],
    ids=["multiprocessing", "loky"],
)
def test_workers_end_when_they_are_told_to(tmp_path, start, end):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(IN_A_WORKER).format(start=start, end=end))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "True\n", done.stderr


def test_no_step_is_an_error():
    with pytest.raises(ValueError, match="made no step"):
        small("SimCLR", trainer_params={"limit_train_batches": 0}).fit(rows("table"))
