"""What a fit prints, and what it tells of "auto" afterwards."""

import re

import pytest
import sklearn
import torch
from estimators import ESTIMATORS, rows, small
from sklearn.linear_model import LogisticRegression
from sklearn.utils.fixes import parse_version
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn import SimCLR
from sslearn._methods.simclr import _SimCLRObjective
from sslearn._training._progress import Clock
from sslearn.callbacks import OnlineProbe

X = rows("table", n=70)
STANDARD = {"enable_progress_bar": False}


@pytest.mark.parametrize("trainer_params", [None, {"accumulate_grad_batches": 1}])
def test_the_first_line_tells_what_auto_became(capsys, trainer_params):
    model = SimCLR(max_epochs=2, verbose=1, random_state=0, device="cpu")
    model.set_params(embedding_dim=8, trainer_params=trainer_params).fit(X)
    first, *epochs = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "[SimCLR] 70 samples of shape (6,) on cpu in float32: 2 steps x 2 epochs in batches of 32, "
        "learning rate 0.001, "
    )
    weights = int(re.search(r"([\d,]+) weights behind TableBank$", first)[1].replace(",", ""))
    assert weights > sum(p.numel() for p in model.encoder_.parameters())
    assert len(epochs) == 2
    assert re.fullmatch(r"\[SimCLR\] epoch 1 of 2, loss \d\.\d{4}(, rank .*)?, 0 s left", epochs[0])
    assert re.fullmatch(r"\[SimCLR\] epoch 2 of 2, loss \d\.\d{4}, rank \d\.\d", epochs[1])


def test_the_first_line_names_what_does_not_learn(capsys):
    own = nn.Sequential(nn.Linear(6, 4).requires_grad_(False), nn.Linear(4, 3))
    for X, encoder, expected in (
        (rows("series"), None, "KernelBank, ViewWhitening"),
        (rows("image"), None, "PatchBank, ViewWhitening"),
        (rows("table"), own, "frozen layers"),
    ):
        small("SimCLR", encoder=encoder, max_epochs=0, verbose=1).fit(X)
        assert capsys.readouterr().out.splitlines()[0].endswith(f" weights behind {expected}")


def test_steps_that_are_no_multiple_of_the_epochs(capsys):
    small("SimCLR", max_epochs=3, verbose=1, trainer_params={"max_steps": 7}).fit(X)
    assert ": 7 steps in 3 epochs in batches of 16, " in capsys.readouterr().out


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scikit-learn below 1.9 has no callbacks",
)
@pytest.mark.parametrize("trainer_params", [None, STANDARD])
def test_the_line_of_an_epoch_has_the_score_of_its_probe(capsys, trainer_params):
    y = (X[:, 0] > 0).astype(int)
    probe = OnlineProbe(LogisticRegression(), X[:50], y[:50], X[50:], y[50:], every=2)
    model = small("BYOL", max_epochs=3, verbose=1, trainer_params=trainer_params)
    model.set_params(validation_fraction=0.2).set_callbacks(probe).fit(X)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert ["probe score" in line for line in lines] == [False, True, False]
    assert f"probe score {probe.history_[0][1]:.4g}, " in lines[1]
    assert all(", validation loss " in line and ", momentum 0.9" in line for line in lines)


def test_the_time_that_is_left(monkeypatch):
    import sslearn._training._progress

    now = [100.0]
    monkeypatch.setattr(sslearn._training._progress.time, "monotonic", lambda: now[0])
    clock = Clock()
    now[0] = 500.0
    clock.start()
    for seconds, left in ((1, "9 s"), (10, "1 min 30 s"), (1000, "2 h 30 min"), (20, "3 min 00 s")):
        now[0] = 500.0 + seconds
        assert clock.left(0.1) == left
    assert clock.left(0.4) == "30 s"
    assert clock.left(1.0) is None


def test_numbers_of_an_objective_of_ones_own_are_told(capsys):
    class Objective(_SimCLRObjective):
        def measured(self, step, n_steps):
            return {"own_number": 2.0 + step}

    class Own(SimCLR):
        def _make_objective(self, encoder, data):
            made = super()._make_objective(encoder, data)
            return Objective(made.encoder, made.projector, made.temperature)

    Own(max_epochs=2, batch_size=16, random_state=0, device="cpu", verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert ", own number 5, " in lines[0]
    assert lines[1].endswith(", own number 9")


@pytest.mark.parametrize("trainer_params", [None, {"accumulate_grad_batches": 1}])
@pytest.mark.parametrize("name", ["SimCLR", "LFR"])
def test_one_bar_over_all_epochs(capsys, trainer_params, name):
    model = small(name, max_epochs=3, verbose=2, trainer_params=trainer_params).fit(X)
    out = capsys.readouterr().out
    first, bar = out.split("\n", 1)
    assert first.startswith(f"[{name}] 70 samples")
    assert bar.count("\n") == 1  # of the bar itself, when it is done
    assert bar.endswith("\n")
    *_, last = bar.rstrip().split("\r")
    assert f"{model.n_steps_}/{model.n_steps_} " in last
    assert f"loss={model.loss_curve_[-1]:.3g}" in last
    assert f"/{model.n_steps_} " in bar.split("\r")[1]  # the total is known from the start
    assert "epoch" not in bar


def test_no_bar_where_it_is_switched_off(capsys):
    small("SimCLR", verbose=2, trainer_params=STANDARD).fit(X)
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_bar_ends_where_training_fails(capsys):
    with pytest.raises(ValueError, match="became nan|became inf"):
        small("SimCLR", verbose=2, learning_rate=1e30, max_epochs=9).fit(X)
    assert capsys.readouterr().out.endswith("\n")


@pytest.mark.parametrize("trainer_params", [None, {"accumulate_grad_batches": 2}])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_what_is_known_after_a_fit(name, trainer_params):
    model = small(name, trainer_params=trainer_params, precision="bfloat16").fit(X)
    phases = 2 if name == "LFR" else 1
    # A last step of an epoch may be of fewer batches than the others.
    per_epoch = 4 * phases if trainer_params is None else 2 * phases
    assert model.n_steps_ == per_epoch * model.n_iter_
    assert (model.batch_size_, model.device_, model.precision_) == (16, "cpu", "bfloat16")
    assert model.learning_rate_ == (3e-3 if name in ("AMDIM", "LFR") else 1e-3)
    assert type(model.learning_rate_) is float
    assert model.set_params(precision="float32", learning_rate=1e-4).fit(X).learning_rate_ == 1e-4
    assert model.precision_ == "float32"


def test_batches_of_a_loader_are_the_callers():
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=20)
    model = small("SimCLR").fit(loader)
    assert model.batch_size_ == 20
    assert model.n_steps_ == 8  # the last batch of an epoch is shorter


def test_early_stopping_counts_the_steps_that_were_made():
    model = small("SimCLR", validation_fraction=0.3, n_iter_no_change=1, max_epochs=200)
    model.set_params(learning_rate=0.1).fit(X)
    assert model.n_iter_ < 200
    assert model.n_steps_ == 3 * model.n_iter_
