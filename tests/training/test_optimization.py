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
        pytest.param("image", 1e-2, marks=pytest.mark.slow),
    ],
)
def test_automatic_settings_are_those_they_stand_for(kind, rate):
    X = rows(kind, n=100)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(X[0].size, 8))
    auto = SimCLR(encoder, random_state=0, device="cpu").fit(X)
    named = SimCLR(encoder, random_state=0, device="cpu")
    named.set_params(max_epochs=200, batch_size=32, learning_rate=rate).fit(X)
    assert auto.loss_curve_ == named.loss_curve_
    assert auto.n_iter_ == 200
    names = ("max_epochs", "batch_size", "learning_rate")
    assert [auto.get_params()[name] for name in names] == ["auto"] * 3
