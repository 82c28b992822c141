import math
from functools import partial

import numpy as np
import pytest
import torch
from estimators import rows, small
from torch import nn

from sslearn import SimCLR
from sslearn._training._auto import automatic_rate, resolve_batch_size, resolve_max_epochs
from sslearn._training._optimization import (
    LARS,
    LearningRate,
    make_optimizer,
    parameter_groups,
)


def _module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def test_biases_and_norms_do_not_decay():
    module = _module()
    module[2].weight.requires_grad_(False)
    decayed, plain = parameter_groups(module, 0.1)
    assert [p is module[0].weight for p in decayed["params"]] == [True]
    assert decayed["weight_decay"] == 0.1
    assert len(plain["params"]) == 4
    assert plain["weight_decay"] == 0


@pytest.mark.parametrize(
    "norm",
    [
        nn.LayerNorm((4, 10)),
        nn.RMSNorm((4, 10)),
        nn.GroupNorm(2, 4),
        nn.BatchNorm2d(4),
        nn.InstanceNorm1d(4, affine=True),
    ],
)
def test_norms_of_any_number_of_axes_do_not_decay(norm):
    (plain,) = parameter_groups(nn.Sequential(norm), 0.1)
    assert [id(p) for p in plain["params"]] == [id(p) for p in norm.parameters()]
    assert (plain["weight_decay"], plain["lars"]) == (0, False)


def test_biases_are_known_by_their_names_too():
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True)
    assert attention.bias_k.ndim == 3
    decayed, plain = parameter_groups(attention, 0.1)
    weights = {id(attention.in_proj_weight), id(attention.out_proj.weight)}
    assert {id(p) for p in decayed["params"]} == weights
    assert len(plain["params"]) == 4


def test_a_shared_parameter_is_in_one_group():
    norm, linear, tied = nn.LayerNorm((4, 10)), nn.Linear(10, 4), nn.Linear(10, 4)
    tied.weight, linear.weight = linear.weight, norm.weight
    for order in ((norm, linear), (linear, norm)):
        (plain,) = parameter_groups(nn.ModuleList(order), 0.1)
        assert len(plain["params"]) == 3
    decayed, plain = parameter_groups(nn.ModuleList([tied, nn.ModuleList([tied])]), 0.1)
    assert [id(p) for p in decayed["params"]] == [id(tied.weight)]
    assert [id(p) for p in plain["params"]] == [id(tied.bias)]


def test_unknown_modules_go_by_axes():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.table = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, 2))
            self.unbiased = nn.Parameter(torch.ones(3, 2))

    module = Scale()
    decayed, plain = parameter_groups(module, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(module.table), id(module.unbiased)]
    assert [id(p) for p in plain["params"]] == [id(module.scale)]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lars"])
def test_optimizers_by_name(name):
    module = _module()
    optimizer = make_optimizer(name, parameter_groups(module, 0.1), 0.05)
    assert type(optimizer).__name__.lower() == name
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    x = torch.randn(32, 4)
    first = module(x).square().mean()
    for _ in range(20):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    assert module(x).square().mean() < first


def test_lars_equals_a_loop():
    torch.manual_seed(0)
    module, twin = _module(), _module()
    optimizer = LARS(parameter_groups(module, 0.01), lr=0.3)
    momenta = [torch.zeros_like(p) for p in twin.parameters()]
    x = torch.randn(16, 4)
    for _ in range(5):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
        twin.zero_grad()
        twin(x).square().mean().backward()
        with torch.no_grad():
            for parameter, momentum in zip(twin.parameters(), momenta, strict=True):
                step = parameter.grad
                if parameter.ndim > 1:
                    step = step + 0.01 * parameter
                    step = step * 1e-3 * parameter.norm() / step.norm()
                momentum.mul_(0.9).add_(step)
                parameter.sub_(0.3 * momentum)
    for mine, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_lars_with_zero_weights_and_gradients():
    weight = nn.Parameter(torch.zeros(2, 2))
    still = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weight, still], lr=0.1, weight_decay=0.0)
    weight.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.full((2, 2), -0.1))
    assert torch.equal(still.detach(), torch.ones(2, 2))


def test_a_callable_carries_its_settings():
    groups = [{"params": [nn.Parameter(torch.ones(2))]}]
    made = make_optimizer(partial(torch.optim.Adam, betas=(0.8, 0.9)), groups, 0.1)
    assert made.param_groups[0]["betas"] == (0.8, 0.9)
    assert made.param_groups[0]["lr"] == 0.1
    other = [nn.Parameter(torch.ones(2))]
    with pytest.raises(ValueError, match="one of other parameters"):
        make_optimizer(lambda groups: torch.optim.SGD(other), groups, 0.1)
    with pytest.raises(TypeError, match="must return a torch.optim.Optimizer. Got int"):
        small("SimCLR", optimizer=lambda groups: 3).fit(rows("table"))


def test_an_optimizer_may_be_a_class_that_takes_groups():
    fitted = small("SimCLR", optimizer=torch.optim.RMSprop).fit(rows("table"))
    assert np.isfinite(fitted.loss_curve_).all()
    # What it raises itself is not hidden.
    message = "'optimizer' .* called with parameter groups.* Got ValueError from LBFGS: LBFGS"
    with pytest.raises(ValueError, match=message) as caught:
        small("SimCLR", optimizer=torch.optim.LBFGS).fit(rows("table"))
    assert isinstance(caught.value.__cause__, ValueError)

    def with_closure(groups):
        return torch.optim.LBFGS([p for group in groups for p in group["params"]])

    with pytest.raises(ValueError, match=r"step\(\) is called without a closure. Got LBFGS"):
        small("SimCLR", optimizer=with_closure).fit(rows("table"))


def test_a_schedule_is_no_class():
    for given in (torch.optim.lr_scheduler.StepLR, partial(torch.optim.lr_scheduler.LambdaLR)):
        with pytest.raises(TypeError, match=r"'lr_schedule' .*\(step, n_steps\).*the class \w+LR"):
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


def test_the_automatic_rate_follows_the_number_of_steps():
    for n_axes, highest in ((1, 1e-3), (2, 3e-3), (3, 1e-2), (4, 1e-2)):
        assert automatic_rate("adamw", 10, 128, n_axes=n_axes) == highest
        assert automatic_rate("adamw", 0, 128, n_axes=n_axes) == highest
        assert automatic_rate("sgd", 2000, 128, n_axes=n_axes) == 0.1
        assert automatic_rate("lars", 2000, 128, n_axes=n_axes) == pytest.approx(0.15)
        assert automatic_rate(torch.optim.AdamW, 10**6, 128, n_axes=n_axes) == 1e-3
    assert automatic_rate("adam", 2000, 128, n_axes=3) == pytest.approx(7.5e-3)


@pytest.mark.parametrize(
    ("n_rows", "expected"),
    [
        (2, 32),
        (150, 32),
        (600, 64),
        (1257, 128),
        (2047, 128),
        (2048, 256),
        (10**6, 256),
        (None, 256),
    ],
)
def test_the_automatic_batch_size_follows_the_number_of_rows(n_rows, expected):
    assert resolve_batch_size("auto", n_rows) == expected
    assert resolve_batch_size(np.int64(7), n_rows) == 7


@pytest.mark.parametrize(
    ("n_rows", "expected"), [(2, 200), (1100, 200), (2200, 100), (11_000, 20), (10**7, 20)]
)
def test_the_automatic_epochs_follow_the_number_of_rows(n_rows, expected):
    assert resolve_max_epochs("auto", n_rows) == expected
    assert resolve_max_epochs(np.int64(7), n_rows) == 7


@pytest.mark.parametrize(
    ("kind", "rate"),
    [
        ("table", 1e-3),
        pytest.param("series", 3e-3, marks=pytest.mark.slow),
        pytest.param("image", 15 / (9 * 200), marks=pytest.mark.slow),
    ],
)
def test_automatic_settings_are_those_they_stand_for(kind, rate):
    X = rows(kind, n=300)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 8))
    auto = SimCLR(encoder, random_state=0, device="cpu").fit(X)
    named = SimCLR(encoder, random_state=0, device="cpu")
    named.set_params(max_epochs=200, batch_size=32, learning_rate=rate).fit(X)
    assert auto.loss_curve_ == named.loss_curve_
    assert auto.n_iter_ == 200
    names = ("max_epochs", "batch_size", "learning_rate")
    assert [auto.get_params()[name] for name in names] == ["auto"] * 3
