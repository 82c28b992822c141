"""Widths of the default heads."""

import functools

import numpy as np
import pytest
from estimators import ESTIMATORS, rows, small
from sklearn.model_selection import GridSearchCV
from torch import nn

NAMES = sorted(n for n, cls in ESTIMATORS.items() if "projection_hidden_dim" in cls().get_params())
DEFAULTS = {"SimCLR": 1, "MoCo": 1, "BYOL": 2, "SimSiam": 2, "BarlowTwins": 2, "VICReg": 2}


def _linears(name, head, **params):
    """Widths of the linear layers of a head, from its input on."""
    found = {}

    class Kept(ESTIMATORS[name]):
        def _make_objective(self, encoder, data):
            found["made"] = super()._make_objective(encoder, data)
            return found["made"]

    settings = {"max_epochs": 0, "batch_size": 16, "embedding_dim": 8, "device": "cpu"}
    Kept(**settings, **params).fit(rows("table"))
    layers = [m for m in getattr(found["made"], head).modules() if isinstance(m, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def test_every_method_with_a_projection_head_is_here():
    assert sorted(DEFAULTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_number_or_a_width_for_each_layer(name):
    widths = functools.partial(_linears, name, "projector", projection_dim=5)
    assert widths(projection_hidden_dim=7) == [8, *[7] * DEFAULTS[name], 5]
    assert widths(projection_hidden_dim=[12, 10, 9]) == [8, 12, 10, 9, 5]
    assert widths(projection_hidden_dim=(np.int64(12),)) == [8, 12, 5]
    assert widths(projection_hidden_dim=()) == [8, 5]


@pytest.mark.parametrize("name", ["BYOL", "SimSiam"])
def test_of_the_prediction_head_too(name):
    widths = functools.partial(_linears, name, "predictor", projection_dim=5)
    assert widths(prediction_hidden_dim=7) == [5, 7, 5]
    assert widths(prediction_hidden_dim=(9, 6)) == [5, 9, 6, 5]


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_equals_its_number_and_is_searched(name):
    X = rows("table")
    hidden = (16,) * DEFAULTS[name]
    listed = small(name, projection_hidden_dim=hidden).fit(X)
    assert listed.loss_curve_ == small(name, projection_hidden_dim=16).fit(X).loss_curve_
    if name == "SimCLR":
        grid = {"projection_hidden_dim": [16, (16, 8)]}
        found = GridSearchCV(small(name), grid, cv=2, error_score="raise").fit(X)
        assert found.best_params_["projection_hidden_dim"] in (16, (16, 8))


@pytest.mark.parametrize("wrong", [(0,), [8, -1], (8, "8"), (True,), [2.5], ((8,),)])
@pytest.mark.parametrize(
    ("name", "parameter"),
    [(n, "projection_hidden_dim") for n in NAMES] + [("BYOL", "prediction_hidden_dim")],
)
def test_wrong_widths_are_named(name, parameter, wrong):
    message = rf"'{parameter}' parameter must be the width of .* or a list of such widths. Got "
    with pytest.raises(ValueError, match=message):
        small(name, **{parameter: wrong}).fit(rows("table"))
    with pytest.raises(ValueError, match=rf"'{parameter}' parameter of {name} must be"):
        small(name, **{parameter: 0}).fit(rows("table"))
