"""What is SimSiam's own."""

import pytest
import torch
from estimators import rows, small
from torch import nn

from sslearn._methods.simsiam import _SimSiamObjective


def test_the_loss_is_the_papers():
    torch.manual_seed(0)
    encoder, projector, predictor = nn.Linear(4, 8), nn.Linear(8, 5), nn.Linear(5, 5)
    objective = _SimSiamObjective(encoder, projector, predictor)
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    z1, z2 = projector(encoder(a)), projector(encoder(b))
    cosine = nn.functional.cosine_similarity
    expected = -(cosine(predictor(z1), z2) + cosine(predictor(z2), z1)).mean() / 2
    torch.testing.assert_close(objective.loss(a, b), expected)


def test_the_gradient_of_the_targets_is_stopped():
    torch.manual_seed(0)
    encoder, projector = nn.Identity(), nn.Identity()
    objective = _SimSiamObjective(encoder, projector, nn.Linear(4, 4).requires_grad_(False))
    a, b = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    objective.loss(a, b).backward()
    through_prediction = a.grad.clone()
    a.grad = None
    prediction = nn.functional.cosine_similarity(objective.predictor(a), b)
    (-prediction.mean() / 2).backward()
    torch.testing.assert_close(through_prediction, a.grad)


def test_the_heads_are_the_papers():
    kept = []

    class Kept(type(small("SimSiam"))):
        def _publish(self, objective):
            kept.append(objective)

    Kept(embedding_dim=8, max_epochs=1, projection_dim=12, device="cpu").fit(rows("table"))
    (objective,) = kept
    projector, predictor = objective.projector.module, objective.predictor.module
    assert [m.out_features for m in projector if isinstance(m, nn.Linear)][-1] == 12
    assert len([m for m in projector if isinstance(m, nn.Linear)]) == 3
    assert isinstance(projector[-1], nn.BatchNorm1d)
    assert projector[-1].weight is None
    assert isinstance(predictor[-1], nn.Linear)
    assert predictor[-1].out_features == 12


def test_bad_heads():
    with pytest.raises(ValueError, match="'predictor' parameter must map rows of 5 .* of 5. Got 4"):
        small("SimSiam", projector=nn.Linear(8, 5), predictor=nn.Linear(5, 4)).fit(rows("table"))
