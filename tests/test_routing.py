"""Groups and held-out samples on their way through pipelines and searches."""

import numpy as np
import pytest
import sklearn
from estimators import ESTIMATORS, rows, small
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

X, Y = rows("table", n=48), np.arange(48) % 2
X[:, 0] *= 1000
GROUPS = np.repeat([f"patient {i}" for i in range(12)], 4)
X_VAL = rows("table", n=10, seed=1)
X_VAL[:, 0] *= 1000


@pytest.fixture
def seen(monkeypatch):
    """What each fit of a SimCLR gets."""
    calls = []
    fit = ESTIMATORS["SimCLR"].fit

    def noted(self, X, y=None, *, groups=None, X_val=None):
        calls.append((X, groups, X_val))
        return fit(self, X, y, groups=groups, X_val=X_val)

    monkeypatch.setattr(ESTIMATORS["SimCLR"], "fit", noted)
    return calls


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def _pipeline(model, **params):
    steps = [("scale", StandardScaler()), ("ssl", model), ("classify", LogisticRegression())]
    return Pipeline(steps, **params)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_method_can_ask_for_both(name, routing):
    model = clone(small(name).set_fit_request(groups=True, X_val=True))
    asked = model.get_metadata_routing()
    assert asked.consumes("fit", ["groups", "X_val"]) == {"groups", "X_val"}
    assert asked.consumes("fit_transform", ["groups", "X_val"]) == {"groups", "X_val"}
    assert not asked.consumes("transform", ["groups", "X_val"])


def test_a_pipeline_routes_both_and_transforms_the_second(routing, seen):
    model = small("SimCLR").set_fit_request(groups=True, X_val=True)
    fitted = _pipeline(model, transform_input=["X_val"]).fit(X, Y, groups=GROUPS, X_val=X_VAL)
    ((given, groups, held_out),) = seen
    scaler = fitted.named_steps["scale"]
    np.testing.assert_array_equal(given, scaler.transform(X))
    np.testing.assert_array_equal(groups, GROUPS)
    np.testing.assert_array_equal(held_out, scaler.transform(X_VAL))
    assert len(fitted.named_steps["ssl"].validation_loss_curve_) == 2


def test_a_pipeline_that_does_not_transform_it_is_warned_of(routing):
    model = small("SimCLR").set_fit_request(X_val=True)
    with pytest.warns(UserWarning, match=r"feature 0.*transform_input=\['X_val'\]"):
        _pipeline(model).fit(X, Y, X_val=X_VAL)


@pytest.mark.parametrize("positives", ["views", "group"])
def test_a_search_routes_both_and_splits_the_groups(routing, seen, positives):
    model = small("SimCLR", positives=positives, max_epochs=1)
    model.set_fit_request(groups=True, X_val=True)
    search = GridSearchCV(
        _pipeline(model, transform_input=["X_val"]),
        {"ssl__temperature": [0.2, 0.5]},
        cv=GroupKFold(3),
        error_score="raise",
    )
    search.fit(X, Y, groups=GROUPS, X_val=X_VAL)
    assert len(seen) == 2 * 3 + 1
    for given, groups, held_out in seen:
        # Of each fold the groups of its own samples, and all held-out samples.
        assert len(given) == len(groups)
        assert len(set(groups)) == (12 if len(given) == 48 else 8)
        assert all(np.sum(groups == group) == 4 for group in set(groups))
        assert held_out.shape == X_VAL.shape
        assert np.abs(held_out).max() < 10
    assert np.isfinite(search.best_estimator_.named_steps["ssl"].validation_loss_curve_).all()


def test_without_routing_the_splitter_alone_gets_the_groups(seen):
    search = GridSearchCV(
        _pipeline(small("SimCLR", max_epochs=1)), {"ssl__temperature": [0.2]}, cv=GroupKFold(2)
    )
    search.fit(X, Y, groups=GROUPS)
    assert [groups for _, groups, _ in seen] == [None] * 3


def test_parameters_of_a_step_need_no_routing(seen):
    pipeline = make_pipeline(StandardScaler(), small("SimCLR"))
    scaled = StandardScaler().fit(X).transform(X_VAL)
    pipeline.fit(X, simclr__groups=GROUPS, simclr__X_val=scaled)
    ((_, groups, held_out),) = seen
    assert groups is GROUPS
    assert held_out is scaled


@pytest.mark.parametrize("name", ["SimCLR", "LFR"])
def test_fit_transform_takes_both(name):
    scaled = StandardScaler().fit_transform(X)
    model, again = (small(name) for _ in range(2))
    features = model.fit_transform(scaled, Y, groups=GROUPS, X_val=scaled[:8])
    again.fit(scaled, Y, groups=GROUPS, X_val=scaled[:8])
    np.testing.assert_array_equal(features, again.transform(scaled))
    assert model.validation_loss_curve_ == again.validation_loss_curve_
    with pytest.raises(TypeError, match="sample_weight"):
        model.fit_transform(scaled, sample_weight=np.ones(48))
