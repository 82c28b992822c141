"""What every estimator has from its base."""

import warnings

import numpy as np
import pytest
import torch
from estimators import rows, small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn


def _weight_normed(width=8):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in people's code
        return torch.nn.utils.weight_norm(nn.Linear(width, 8))


def test_modules_that_refuse_deepcopy_are_cloned():
    X = rows("table", n=40)
    estimator = small("SimCLR", encoder=_weight_normed(6), projector=_weight_normed())
    estimator.set_output(transform="pandas")
    cloned = clone(estimator)
    assert cloned.encoder is not estimator.encoder
    for name, value in cloned.encoder.state_dict().items():
        assert torch.equal(value, estimator.encoder.state_dict()[name])
    assert cloned.get_params().keys() == estimator.get_params().keys()
    assert cloned.fit(X).loss_curve_ == estimator.fit(X).loss_curve_
    pytest.importorskip("pandas")
    assert list(clone(estimator).fit_transform(X).columns) == [f"simclr{i}" for i in range(8)]
    search = GridSearchCV(estimator, {"learning_rate": [1e-3, 1e-2]}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(X).cv_results_["mean_test_score"]).all()


def test_so_are_those_in_a_list():
    given = [_weight_normed(6), _weight_normed(6)]
    estimator = small("LFR", projectors=given, predictors=[_weight_normed() for _ in given])
    estimator.set_params(n_targets=2)
    cloned = clone(estimator)
    assert type(cloned.projectors) is list
    assert not set(map(id, cloned.projectors)) & set(map(id, given))
    assert cloned.fit(rows("table")).loss_curve_ == estimator.fit(rows("table")).loss_curve_


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": nn.MSELoss}, r"loss\(predictions, targets\) and must return .* class MSELoss"),
        ({"loss": lambda p: p}, r"loss\(predictions, targets\). Got <lambda>, which takes \(p\)"),
        ({"augment": type("Views", (), {"__init__": lambda self, a, b: None})}, "the class Views"),
    ],
)
def test_classes_that_would_return_themselves(params, message):
    with pytest.raises(TypeError, match=f"parameter is called as .*{message}"):
        small("BYOL", **params).fit(rows("table"))
