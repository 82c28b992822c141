"""What is BYOL's own."""

import functools

import numpy as np
import pytest
import torch
from estimators import rows, small
from torch import nn

from sslearn import BYOL
from sslearn._methods._ema import MomentumCopy
from sslearn._methods._losses import negative_cosine
from sslearn._methods.byol import _BYOLObjective, _squared_distance
from sslearn.encoders import default_encoder


def _objective(**kwargs):
    torch.manual_seed(0)
    encoder, projector, predictor = nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(5, 5)
    follow = functools.partial(MomentumCopy, decay=0.9, schedule="cosine")
    settings = {"compare": _squared_distance, "follow": follow, **kwargs}
    return _BYOLObjective(encoder, projector, predictor, **settings)


def test_the_loss_is_the_papers():
    objective = _objective()
    nn.init.normal_(objective.target.module[0].weight)
    a, b = torch.randn(6, 4), torch.randn(6, 4)

    def distance(x, other):
        q = objective.predictor(objective.projector(objective.encoder(x)))
        z = objective.target(other)
        return 2 - 2 * nn.functional.cosine_similarity(q, z).mean()

    expected = distance(a, b) + distance(b, a)
    torch.testing.assert_close(objective.loss(a, b), expected)
    p = objective.predictor(objective.projector(objective.encoder(a)))
    torch.testing.assert_close(
        _squared_distance(p, objective.target(b)), 2 + 2 * negative_cosine(p, objective.target(b))
    )


def test_targets_get_no_gradient_and_heads_do():
    objective = _objective()
    objective.loss(torch.randn(6, 4), torch.randn(6, 4)).backward()
    for module in (objective.encoder, objective.projector, objective.predictor):
        assert all(p.grad is not None for p in module.parameters())
    assert all(p.grad is None for p in objective.target.parameters())


def test_a_loss_of_ones_own():
    seen = []

    def loss(p, z):
        seen.append((p.requires_grad, z.requires_grad, p.shape == z.shape))
        return nn.functional.mse_loss(p, z)

    model = small("BYOL", loss=loss).fit(rows("table"))
    assert np.isfinite(model.loss_curve_).all()
    assert set(seen) == {(True, False, True)}
    model.set_params(validation_fraction=0.2).fit(rows("table"))
    assert np.isfinite(model.validation_loss_curve_).all()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda p, z: (p - z).square().sum(1), r"'loss' parameter .* Got shape \(16,\)"),
        (lambda p, z: 1.0, "'loss' parameter .* Got float"),
        (lambda p, z: (p - z).detach().mean(), "'loss' parameter .* requires_grad=False"),
        (lambda p, z: p.size("n"), r"'loss' parameter is called as .* Got TypeError from <lambda>"),
    ],
)
@pytest.mark.parametrize("trainer_params", [None, {"gradient_clip_val": 1.0}])
def test_a_loss_that_is_none(loss, message, trainer_params):
    with pytest.raises(ValueError, match=message):
        small("BYOL", loss=loss, trainer_params=trainer_params).fit(rows("table"))


def test_both_heads_are_trained():
    heads = {}

    class Kept(BYOL):
        def _publish(self, objective):
            heads.update(projector=objective.projector, predictor=objective.predictor)

    projector, predictor = nn.Linear(8, 5), nn.Linear(5, 5)
    model = Kept(projector=projector, predictor=predictor, embedding_dim=8, max_epochs=2)
    model.set_params(random_state=0, device="cpu").fit(rows("table"))
    assert not torch.equal(heads["projector"].module.weight, projector.weight)
    assert not torch.equal(heads["predictor"].module.weight, predictor.weight)


def test_an_empty_sequential_is_a_head():
    model = small("BYOL", projector=nn.Sequential(), predictor=nn.Sequential())
    model.fit(rows("table"))
    assert np.isfinite(model.loss_curve_).all()
    widths = []
    small("BYOL", projector=lambda width: widths.append(width) or nn.Identity()).fit(rows("table"))
    assert widths == [8]


def test_the_online_encoder_is_what_transforms():
    kept = []

    class Kept(BYOL):
        def _publish(self, objective):
            kept.append((objective.encoder, objective.target))

    X = rows("table")
    model = Kept(default_encoder, max_epochs=2, random_state=0, device="cpu").fit(X)
    online, target = kept[0]
    assert model.encoder_.features is online
    assert not torch.equal(next(online.parameters()), next(target.parameters()))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"ema_decay": 1.5},
            r"'ema_decay' parameter of BYOL .* \[0.0, 1.0\] or a callable. Got 1.5",
        ),
        ({"ema_decay": -0.1}, r"'ema_decay' parameter of BYOL .* Got -0.1"),
        ({"ema_schedule": "linear"}, "'ema_schedule' parameter of BYOL .* Got 'linear'"),
        ({"ema_decay_end": 1.1}, r"'ema_decay_end' parameter of BYOL .* Got 1.1"),
        ({"ema_steps": 0}, "'ema_steps' parameter of BYOL .* Got 0"),
        ({"ema_decay": lambda step: 0.9}, r"'ema_decay' .* as ema_decay\(step, n_steps\)"),
        ({"loss": "euclid"}, "'loss' parameter of BYOL .* Got 'euclid'"),
        ({"projection_dim": 0}, "'projection_dim' parameter of BYOL"),
        ({"projector": nn.Linear(9, 4)}, r"'projector' parameter does not fit.*\(1, 8\)"),
        ({"predictor": nn.Linear(9, 4)}, r"'predictor' parameter does not fit.*\(1, 128\)"),
        (
            {"projector": nn.Linear(8, 5), "predictor": nn.Linear(5, 4)},
            "'predictor' parameter must map rows of 5 features to rows of 5. Got 4",
        ),
        ({"projector": lambda width: "no module"}, "'projector' parameter is called with a width"),
        ({"batch_size": 1}, "'batch_size' parameter of BYOL"),
    ],
)
def test_bad_parameters_are_named_before_any_step(params, message, monkeypatch):
    monkeypatch.setattr(_BYOLObjective, "loss", None)
    with pytest.raises((ValueError, TypeError), match=message):
        small("BYOL", **params).fit(rows("table"))
