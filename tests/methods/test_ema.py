"""The slow copy that BYOL and MoCo learn from."""

import copy
import math
import warnings

import pytest
import torch
from estimators import rows, small
from torch import nn

from sslearn import BYOL, MoCo
from sslearn._methods._ema import MomentumCopy
from sslearn.encoders import ResNet


def _net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def _moved(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_decay_follows_the_paper():
    cosine = MomentumCopy(_net(), 0.9995, "cosine")
    assert cosine.decay_at(0, 100) == pytest.approx(0.9995, abs=1e-12)
    assert cosine.decay_at(50, 100) == pytest.approx(0.99975, abs=1e-12)
    assert cosine.decay_at(100, 100) == 1
    for k in range(100):
        tau = 1 - (1 - 0.9995) * (math.cos(math.pi * k / 100) + 1) / 2
        assert cosine.decay_at(k, 100) == pytest.approx(tau, abs=1e-12)
    constant = MomentumCopy(_net(), 0.7, "constant")
    assert {constant.decay_at(k, 9) for k in range(9)} == {0.7}


def test_known_values_of_the_cosine():
    # Of six steps, and the four values that Quadra's own tests have.
    six = [0.9, 0.906699, 0.925, 0.95, 0.975, 0.993301]
    decay = MomentumCopy(_net(), 0.9, "cosine").decay_at
    assert [decay(k, 6) for k in range(6)] == pytest.approx(six, abs=1e-6)
    decay = MomentumCopy(_net(), 0.9995, "cosine").decay_at
    known = {0: 0.9995, 25: 0.9995732233, 50: 0.99975, 75: 0.9999267767}
    assert [decay(k, 100) for k in known] == pytest.approx(list(known.values()), abs=1e-10)


def test_a_schedule_of_its_own_number_of_steps_and_end():
    decay = MomentumCopy(_net(), 0.9, "cosine", end=0.98, steps=8).decay_at
    assert decay(0, 1000) == pytest.approx(0.9, abs=1e-12)
    assert decay(2, 1000) == pytest.approx(0.98 - 0.04 * (math.cos(math.pi / 4) + 1), abs=1e-12)
    assert decay(4, 1000) == pytest.approx(0.94, abs=1e-12)
    assert [decay(k, 1000) for k in (8, 9, 500)] == pytest.approx([0.98] * 3, abs=1e-12)
    # Downwards, too.
    assert MomentumCopy(_net(), 0.9, "cosine", end=0.5).decay_at(5, 10) == pytest.approx(0.7)


def test_a_period():
    decay = MomentumCopy(_net(), 0.9, "cyclic", end=0.98, steps=8).decay_at
    there_and_back = [0.9, 0.98 - 0.04 * (1 + 0.5**0.5), 0.94, 0.98 - 0.04 * (1 - 0.5**0.5)]
    there_and_back += [0.98, *there_and_back[:0:-1]]
    assert [decay(k, 3) for k in range(8)] == pytest.approx(there_and_back, abs=1e-12)
    assert [decay(k, 3) for k in range(80, 88)] == pytest.approx(there_and_back, abs=1e-9)
    once = MomentumCopy(_net(), 0.9, "cyclic").decay_at
    assert [once(k, 4) for k in range(4)] == pytest.approx([0.9, 0.95, 1.0, 0.95], abs=1e-12)


def _rising(step, n_steps):
    return 0.5 + 0.4 * step / n_steps


def test_a_function_of_the_step():
    online = _net()
    follower = MomentumCopy(online, _rising, "cosine", end=0.2)
    assert [follower.decay_at(k, 4) for k in range(4)] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    own = follower.module[0].weight.clone()
    _moved(online)
    follower.follow(2, 4)
    torch.testing.assert_close(follower.module[0].weight, 0.7 * own + 0.3 * online[0].weight)


@pytest.mark.parametrize("wrong", [1.01, -0.1, math.nan, None, "0.9", [0.9]])
def test_a_function_that_gives_no_weight(wrong):
    follower = MomentumCopy(_net(), lambda step, n: wrong, name="ema_decay")
    with pytest.raises(ValueError, match=r"'ema_decay' .* in \[0, 1\]. Got .* at step 3 of 9"):
        follower.follow(3, 9)
    follower = MomentumCopy(_net(), lambda step, n: step / 0, name="momentum")
    with pytest.raises(ValueError, match="'momentum' .* Got ZeroDivisionError from <lambda>"):
        follower.follow(3, 9)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("BYOL", {"ema_schedule": "cyclic", "ema_decay_end": 0.5, "ema_steps": 2}),
        ("BYOL", {"ema_decay": _rising}),
        ("MoCo", {"momentum_schedule": "cosine", "momentum_end": 0.99, "momentum_steps": 3}),
        ("MoCo", {"momentum_schedule": "cyclic"}),
        ("MoCo", {"momentum": _rising}),
    ],
)
def test_estimators_pass_their_schedule_and_both_drivers_follow_it(name, params):
    X, curves = rows("table", n=48), []
    for trainer_params in (None, {"enable_model_summary": False}):
        model = small(name, trainer_params=trainer_params, max_epochs=3, **params).fit(X)
        curves.append((model.loss_curve_, model.transform(X).tobytes()))
    assert curves[0] == curves[1]
    plain = small(name, max_epochs=3).fit(X)
    assert plain.loss_curve_ != curves[0][0]


def test_moco_with_the_schedule_of_byol_equals_a_function():
    def cosine(step, n_steps):
        return 1 - (1 - 0.95) * (math.cos(math.pi * step / n_steps) + 1) / 2

    X = rows("table", n=48)
    named = small("MoCo", momentum_schedule="cosine").fit(X)
    assert named.loss_curve_ == small("MoCo", momentum=cosine).fit(X).loss_curve_


def test_bad_schedules_are_named():
    for params, message in (
        ({"momentum": 1.5}, "'momentum' parameter of MoCo .* Got 1.5"),
        ({"momentum_schedule": "linear"}, "'momentum_schedule' parameter of MoCo .* Got 'linear'"),
        ({"momentum_end": -1}, "'momentum_end' parameter of MoCo .* Got -1"),
        ({"momentum_steps": 0}, "'momentum_steps' parameter of MoCo .* Got 0"),
        ({"momentum": lambda step: 0.9}, r"as momentum\(step, n_steps\)"),
        ({"momentum": lambda step, n_steps: 2}, r"'momentum' .* Got 2 at step 0 of 2"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            small("MoCo", **params).fit(rows("table"))


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_updates_equal_a_loop(schedule):
    online = _net()
    follower = MomentumCopy(online, 0.9, schedule)
    own = [p.clone() for p in follower.parameters()]
    for step in range(5):
        _moved(online)
        follower.follow(step, 5)
        tau = follower.decay_at(step, 5)
        own = [tau * p + (1 - tau) * q for p, q in zip(own, online.parameters(), strict=True)]
        for expected, found in zip(own, follower.parameters(), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("decay", "kept"), [(1.0, True), (0.0, False)])
def test_extreme_decays(decay, kept):
    online = _net()
    follower = MomentumCopy(online, decay)
    before = [p.clone() for p in follower.parameters()]
    _moved(online)
    follower.follow(0, 1)
    for old, now, new in zip(before, follower.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(now, old if kept else new.detach())


def test_only_weights_follow_and_nothing_is_trained():
    online = _net()
    follower = MomentumCopy(online, 0.5)
    assert not any(p.requires_grad for p in follower.parameters())
    assert all(p.requires_grad for p in online.parameters())
    online[1].running_mean.fill_(7)
    follower.follow(0, 1)
    assert (follower.module[1].running_mean == 0).all()  # batch statistics are its own
    follower.train()(torch.randn(8, 3))
    assert (follower.module[1].running_mean != 0).all()
    # What is followed is not part of it: nothing is saved or moved twice.
    assert len(follower.state_dict()) == len(online.state_dict())


def test_frozen_weights_are_not_looked_at():
    online = _net()
    online[0].requires_grad_(False)
    follower = MomentumCopy(online, 0.5)
    assert len(follower._own) == 4
    before = follower.module[0].weight.clone()
    follower.follow(0, 1)
    assert torch.equal(follower.module[0].weight, before)


def test_a_copy_follows_the_copy():
    pair = nn.ModuleDict({"online": _net()})
    pair["follower"] = MomentumCopy(pair["online"], 0.0)
    copied = copy.deepcopy(pair)
    _moved(copied["online"])
    copied["follower"].follow(0, 1)
    for a, b in zip(copied["online"].parameters(), copied["follower"].parameters(), strict=True):
        torch.testing.assert_close(a.detach(), b)
    assert not torch.equal(pair["follower"].module[0].weight, copied["online"][0].weight)


def test_modules_that_refuse_deepcopy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in people's code
        online = nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 2)))
        online(torch.ones(1, 3))
    MomentumCopy(online, 0.5).follow(0, 1)


def test_one_operation_for_a_resnet_18():
    from torch.profiler import ProfilerActivity, profile

    online = ResNet(3, width=64, depth=(2, 2, 2, 2), embedding_dim=512)
    follower = MomentumCopy(online, 0.99)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        follower.follow(0, 1)
    calls = {event.key: event.count for event in found.key_averages()}
    assert calls["aten::_foreach_lerp_"] == 1


@pytest.mark.parametrize(
    ("trainer_params", "n_steps"),
    [
        (None, 12),
        ({"accumulate_grad_batches": 2}, 6),
        ({"max_steps": 5}, 5),
        ({"accumulate_grad_batches": 3, "max_steps": 4}, 4),
    ],
)
@pytest.mark.parametrize("cls", [BYOL, MoCo])
def test_it_moves_once_after_each_optimizer_step(cls, trainer_params, n_steps, monkeypatch):
    taus = []
    follow = MomentumCopy.follow

    def recorded(self, step, n_steps):
        taus.append(self.decay_at(step, n_steps))
        follow(self, step, n_steps)

    monkeypatch.setattr(MomentumCopy, "follow", recorded)
    model = cls(max_epochs=3, batch_size=16, trainer_params=trainer_params, random_state=0)
    model.set_params(device="cpu", validation_fraction=0.1).fit(rows("table", n=72))
    decay = model.ema_decay if cls is BYOL else model.momentum
    expected = [decay] * n_steps
    if cls is BYOL:
        cosines = (math.cos(math.pi * k / n_steps) for k in range(n_steps))
        expected = [1 - (1 - decay) * (c + 1) / 2 for c in cosines]
        assert taus[-1] < 1
    assert taus == pytest.approx(expected, abs=1e-12)


def test_layers_the_caller_froze_stay_frozen_in_the_target():
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    encoder[:2].requires_grad_(False)
    before = {key: value.clone() for key, value in encoder[:2].state_dict().items()}
    model = small("BYOL", encoder=encoder).fit(rows("table"))
    for key, value in model.encoder_.features.module[:2].state_dict().items():
        assert torch.equal(value, before[key])
    assert not torch.equal(model.encoder_.features.module[3].weight, encoder[3].weight)
