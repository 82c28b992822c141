"""What is Barlow Twins' and VICReg's own: two statistics of a batch, and what they need of it."""

import numpy as np
import pytest
import torch
from estimators import rows, small
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn._methods._losses import barlow_twins, vicreg
from sslearn._methods.barlow_twins import _BarlowTwinsObjective
from sslearn._methods.vicreg import _VICRegObjective

both = pytest.mark.parametrize("name", ["BarlowTwins", "VICReg"])


@pytest.mark.parametrize(
    ("objective", "extra", "loss"),
    [
        (_BarlowTwinsObjective, 0.3, lambda a, b: barlow_twins(a, b, 0.3)),
        (_VICRegObjective, (3.0, 2.0, 1.5), lambda a, b: vicreg(a, b, 3.0, 2.0, 1.5)),
    ],
)
def test_the_objective_is_the_loss_of_the_projections(objective, extra, loss):
    torch.manual_seed(0)
    encoder, projector = nn.Linear(4, 8), nn.Linear(8, 5)
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    expected = loss(projector(encoder(a)), projector(encoder(b)))
    torch.testing.assert_close(objective(encoder, projector, extra).loss(a, b), expected)


@both
def test_a_batch_of_one(name):
    with pytest.raises(ValueError, match=rf"'batch_size' parameter of {name} .* Got 1"):
        small(name, batch_size=1).fit(rows("table"))
    X = torch.from_numpy(rows("table"))
    with pytest.raises(ValueError, match="batch_size of 2 or more"):
        small(name).fit(DataLoader(TensorDataset(X), batch_size=1))


@both
def test_held_out_rows_never_make_a_batch_of_one(name):
    # Five held-out rows in batches of two would leave one alone.
    model = small(name, batch_size=2, validation_fraction=5 / 60).fit(rows("table", n=60))
    assert np.isfinite(model.validation_loss_curve_).all()
    assert max(model.validation_loss_curve_) < 10 * max(model.loss_curve_)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("BarlowTwins", "off_diagonal_weight"),
        ("VICReg", "invariance_weight"),
        ("VICReg", "variance_weight"),
        ("VICReg", "covariance_weight"),
    ],
)
def test_weights(name, parameter):
    X = rows("table")
    assert small(name, **{parameter: 0}).fit(X).loss_curve_ != small(name).fit(X).loss_curve_
    with pytest.raises(ValueError, match=rf"'{parameter}' parameter of {name} .* Got -1"):
        small(name, **{parameter: -1}).fit(X)
