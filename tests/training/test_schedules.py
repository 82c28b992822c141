"""Learning rates: named schedules, functions of the step, and schedulers of torch."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from estimators import rows, small
from sklearn.base import clone
from torch import nn
from torch.optim import lr_scheduler

from sslearn._training._loop import TrainingLoop
from sslearn._training._schedules import LearningRate


def test_a_class_that_is_no_scheduler_is_refused():
    for given in (torch.optim.SGD, partial(torch.optim.SGD, momentum=0.9)):
        with pytest.raises(TypeError, match=r"'lr_schedule' .*\(step, n_steps\).*the class SGD"):
            small("SimCLR", lr_schedule=given).fit(rows("table"))


def test_a_scheduler_whose_arguments_are_missing():
    for given in (lr_scheduler.StepLR, partial(lr_scheduler.LambdaLR)):
        with pytest.raises(TypeError, match=r"as lr_schedule\(optimizer\). Got \w+, which takes"):
            small("SimCLR", lr_schedule=given).fit(rows("table"))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.1, "0.5", None, [0.5]])
@pytest.mark.parametrize("trainer_params", [None, {"gradient_clip_val": 1e9}])
def test_a_schedule_that_gives_no_factor(wrong, trainer_params):
    message = r"'lr_schedule' .* must return the factor on .* at step 1 of 2"
    with pytest.raises(ValueError, match=message) as caught:
        small(
            "SimCLR",
            lr_schedule=lambda step, n_steps: wrong if step else 1.0,
            trainer_params=trainer_params,
        ).fit(rows("table"))
    assert f"Got {wrong!r}" in str(caught.value)


def test_numbers_that_are_factors():
    assert _rates(lambda step, n: 0, 2, 0.5) == [0.0, 0.0]
    for given in (np.float32(0.5), torch.tensor(0.5), 0.5):
        assert _rates(lambda step, n: given, 2, 0.5) == [1.0, 1.0]  # noqa: B023
    with pytest.raises(ValueError, match="'lr_schedule' .* Got ZeroDivisionError from") as caught:
        _rates(lambda step, n: 1 / (3 - step), 5, 0.0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def _rates(schedule, n_steps, warmup):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    rate = LearningRate(optimizer, schedule, n_steps, warmup)
    rates = []
    for step in range(n_steps):
        rate.set(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_cosine_with_warm_up():
    rates = _rates("cosine", 100, 0.1)
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert max(rates) == rates[10] == 2.0  # the base rate is really reached
    assert rates[55] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 + math.cos(math.pi * 89 / 90))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert _rates("cosine", 1, 0.05) == [2.0]
    assert _rates("cosine", 3, 1.0) == pytest.approx([2 / 3, 4 / 3, 2.0])


def test_constant_and_callable():
    assert _rates("constant", 4, 0.5) == [1.0, 2.0, 2.0, 2.0]
    assert _rates(lambda step, n: step / n, 4, 0.5) == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize("loss", [1.0, 0.0, -1.0])
def test_plateau_lowers_the_rate(loss):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    rate = LearningRate(optimizer, "plateau", 100, 0.0)
    found = []
    for step in range(22):
        rate.set(step)
        found.append(optimizer.param_groups[0]["lr"])
        rate.end_epoch(loss, step)
    # The first epoch is better than none; after ten that are no better comes a tenth of the rate.
    np.testing.assert_allclose(found, [2.0] * 11 + [0.2] * 10 + [0.02])


@pytest.mark.parametrize("schedule", ["cosine", "constant", "plateau"])
def test_a_rate_that_somebody_else_has_set_stays(schedule):
    weights = [nn.Parameter(torch.ones(1)) for _ in range(3)]
    optimizer = torch.optim.SGD([{"params": [p]} for p in weights[:2]], lr=2.0)
    rate = LearningRate(optimizer, schedule, 100, 0.1)
    untouched = _rates(schedule, 100, 0.1)
    for step in range(60):
        rate.set(step)
        if step == 5:
            optimizer.param_groups[0]["lr"] = 0.7
        rate.end_epoch(1.0, step)
        if step >= 5:
            assert optimizer.param_groups[0]["lr"] == 0.7
        if schedule != "plateau":
            assert optimizer.param_groups[1]["lr"] == untouched[step]
    if schedule == "plateau":
        assert optimizer.param_groups[1]["lr"] < 2.0
    else:
        optimizer.add_param_group({"params": [weights[2]], "lr": 0.3})  # one unfrozen later
        rate.set(60)
        assert optimizer.param_groups[2]["lr"] == 0.3


# --- schedulers of torch --------------------------------------------------------------------------


def _twin(maker, n_epochs, steps_per_epoch, interval="epoch", losses=None):
    """Rates of a plain loop, one for each step."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    scheduler = maker(optimizer)
    found = []
    for epoch in range(n_epochs):
        for _ in range(steps_per_epoch):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if interval == "step" and len(found) < n_epochs * steps_per_epoch:
                scheduler.step()
        if interval == "epoch":
            scheduler.step(*([] if losses is None else [losses[epoch]]))
    return found


@pytest.fixture
def rates(monkeypatch):
    """The rate of every step of the fits that follow."""
    seen, after_step = [], TrainingLoop.after_step

    def recorded(self):
        seen.append([group["lr"] for group in self.rate.optimizer.param_groups])
        after_step(self)

    monkeypatch.setattr(TrainingLoop, "after_step", recorded)
    return seen


def _two_parts(optimizer):
    first = lr_scheduler.LinearLR(optimizer, 0.25, total_iters=2)
    return lr_scheduler.SequentialLR(
        optimizer, [first, lr_scheduler.ExponentialLR(optimizer, 0.5)], milestones=[2]
    )


MAKERS = {
    "cosine": partial(lr_scheduler.CosineAnnealingLR, T_max=5, eta_min=0.002),
    "exponential": partial(lr_scheduler.ExponentialLR, gamma=0.5),
    "function": _two_parts,
    "one cycle": partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=15),
}


@pytest.mark.parametrize("trainer_params", [None, {"gradient_clip_val": 1e9}])
@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("name", MAKERS)
def test_a_scheduler_gives_the_rates_of_a_plain_loop(name, interval, trainer_params, rates):
    maker = MAKERS[name]
    given = maker if interval == "epoch" else {"scheduler": maker, "interval": "step"}
    model = small("SimCLR", lr_schedule=given, optimizer="sgd", learning_rate=0.1)
    model.set_params(max_epochs=5, trainer_params=trainer_params).fit(rows("table", n=50))
    np.testing.assert_allclose([rate for rate, _ in rates], _twin(maker, 5, 3, interval))
    assert len({rate for rate, _ in rates}) > 2


@pytest.mark.parametrize("name", ["SimCLR", "LFR"])
@pytest.mark.parametrize(
    "schedule",
    [
        partial(lr_scheduler.CosineAnnealingLR, T_max=4),
        {"scheduler": partial(lr_scheduler.StepLR, step_size=2), "interval": "step"},
        {"scheduler": partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=10.0)},
    ],
)
def test_both_drivers_give_the_same_bits(name, schedule, rates):
    X, found = rows("table", n=50), []
    for trainer_params in (None, {"enable_model_summary": False}):
        rates.clear()
        model = small(name, lr_schedule=schedule, trainer_params=trainer_params, max_epochs=4)
        features = model.set_params(validation_fraction=0.2).fit(X).transform(X)
        found.append((list(map(tuple, rates)), model.loss_curve_, features.tobytes()))
    assert found[0] == found[1]
    assert len(set(found[0][0])) > 1


def test_factor_and_patience_of_a_plateau(rates):
    maker = partial(lr_scheduler.ReduceLROnPlateau, factor=0.5, patience=2)
    model = small("SimCLR", lr_schedule=maker, optimizer="sgd", learning_rate=0.1, max_epochs=12)
    model.fit(rows("table", n=50))
    expected = _twin(maker, 12, 3, losses=model.loss_curve_)
    assert [rate for rate, _ in rates] == expected
    # Of losses that never get better, the rate is halved after the third.
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    rate = LearningRate(optimizer, maker, 100, 0.5)
    found = []
    for step in range(8):
        rate.set(step)
        found.append(optimizer.param_groups[0]["lr"])
        rate.end_epoch(1.0, step)
    assert found == [2.0] * 4 + [1.0] * 3 + [0.5]  # and there is no warm-up


def test_a_scheduler_leaves_rates_alone_that_somebody_else_has_set():
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [p]} for p in weights], lr=2.0)
    maker = {"scheduler": partial(lr_scheduler.ExponentialLR, gamma=0.5), "interval": "step"}
    rate = LearningRate(optimizer, maker, 100, 0.0)
    for step in range(6):
        rate.set(step)
        if step == 2:
            optimizer.param_groups[0]["lr"] = 0.7
    assert [group["lr"] for group in optimizer.param_groups] == [0.7, 2.0 * 0.5**5]


def test_which_callables_take_an_optimizer():
    def of_optimizer(optimizer):
        return lr_scheduler.ConstantLR(optimizer, 0.5)

    def of_two(step, n_steps):
        return 0.5

    def of_two_with_default(step, n_steps=3):
        return 0.5

    found = []
    for given in (of_optimizer, of_two, of_two_with_default, lambda *args: 0.5):
        optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
        rate = LearningRate(optimizer, given, 4, 0.0)
        rate.set(0)
        found.append((rate.scheduler is not None, optimizer.param_groups[0]["lr"]))
    assert found == [(True, 1.0), (False, 1.0), (False, 1.0), (False, 1.0)]


def test_a_scheduler_is_cloned_and_searched():
    given = {"scheduler": partial(lr_scheduler.StepLR, step_size=1), "interval": "step"}
    model = clone(small("SimCLR", lr_schedule=given))
    assert model.lr_schedule["scheduler"].func is lr_scheduler.StepLR
    X = rows("table")
    assert model.fit(X).loss_curve_ == small("SimCLR", lr_schedule=given).fit(X).loss_curve_


PLATEAU = lr_scheduler.ReduceLROnPlateau


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"keys 'scheduler' .* Got the keys \[\]"),
        ({"scheduler": PLATEAU, "monitor": "loss"}, "Got the keys .*'monitor'"),
        ({"scheduler": PLATEAU, "interval": "steps"}, "'epoch' or 'step' .* Got 'steps'"),
        ({"scheduler": "cosine"}, "a scheduler of torch as its 'scheduler' .* Got 'cosine'"),
        ({"scheduler": lambda step, n_steps: 1.0}, r"as lr_schedule\(optimizer\)"),
        ({"scheduler": PLATEAU, "interval": "step"}, "'epoch' .* ReduceLROnPlateau, which .*Got"),
        (lambda optimizer: 3, "must return a scheduler of it, a .* Got int"),
        (lambda optimizer: 1 / 0, "Got ZeroDivisionError from"),
        (
            lambda optimizer: lr_scheduler.ConstantLR(
                torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
            ),
            "Got one of another optimizer",
        ),
        (partial(lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=1), "Got ValueError from"),
    ],
)
def test_schedulers_that_do_not_fit(given, message):
    with pytest.raises((ValueError, TypeError), match=f"'lr_schedule' .*{message}") as caught:
        small("SimCLR", lr_schedule=given, max_epochs=4).fit(rows("table"))
    assert "\n" not in str(caught.value)
