"""Early stopping, and the error of a loss that is not finite."""

import math
import types

import pytest
import torch
from torch import nn

from sslearn._training._history import Diverged, History, Patience, RunningLoss


def test_patience_keeps_the_best_weights_and_ends_the_training():
    layer, patience = nn.Linear(1, 1, bias=False), Patience(2)
    ended = []
    for value, loss in enumerate([3.0, 1.0, 2.0, 1.0]):
        nn.init.constant_(layer.weight, value)
        ended.append(patience.update(loss, layer))
    assert ended == [False, False, False, True]
    assert patience.restore(layer)
    assert float(layer.weight.detach()) == 1.0


def test_without_a_limit_nothing_is_kept():
    layer, patience = nn.Linear(1, 1), Patience(None)
    before = layer.weight.detach().clone()
    assert not any(patience.update(loss, layer) for loss in (1.0, 2.0, 3.0))
    assert not patience.restore(layer)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(("loss", "word"), [(math.nan, "nan"), (math.inf, "infinite")])
def test_the_error_names_epoch_and_remedy(loss, word):
    settings = types.SimpleNamespace(name="SimCLR", max_epochs=9, warmup_fraction=0.05)
    error = str(Diverged.in_epoch(3, loss, settings, 0.1))
    assert f"The loss of SimCLR became {word} in epoch 3 of 9" in error
    assert "lower learning_rate (it is 0.1)" in error


def test_a_running_loss_is_read_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sslearn._training._history.time.monotonic", lambda: now[0])
    running = RunningLoss(torch.device("cpu"))
    assert math.isnan(running.mean)
    for value in (1.0, 2.0):
        running.add(torch.tensor(value, requires_grad=True))
    assert not running.is_due
    now[0] = 1.0
    assert running.is_due
    assert (running.read(), running.mean, running.count) == (3.0, 1.5, 2)
    assert not running.is_due
    running.reset()
    assert (running.read(), running.count) == (0.0, 0)


def test_measurements_of_an_epoch_have_a_rank_if_it_was_measured_then():
    history = History([2.0, 1.0], rank_curve=[(0, 9.0, 1.0), (2, 8.0, 1.0)])
    assert history.measured(2) == {"loss": 1.0, "effective_rank": 8.0}
    history.validation_loss_curve.append(3.0)
    assert history.measured(3) == {"loss": 1.0, "validation_loss": 3.0}
