import numpy as np
import pytest
import sklearn
from estimators import rows, small
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sslearn.groups import GroupWhitening
from sslearn.metrics import group_leakage


@parametrize_with_checks([GroupWhitening()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def _features(n_groups=30, n_features=6, seed=0):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(n_groups), rng.integers(2, 6, size=n_groups)))
    offsets = rng.normal(size=(n_groups, n_features)) * np.r_[4.0, 2.0, np.zeros(n_features - 2)]
    return offsets[groups] + rng.normal(size=(len(groups), n_features)), groups


@pytest.mark.parametrize("n_features", [6, 50])  # fewer and more than groups
@pytest.mark.parametrize("shrinkage", [0.1, 1.0, 10.0])
def test_it_is_the_inverse_root_of_the_covariance_of_means(n_features, shrinkage):
    X, groups = _features(n_features=n_features)
    model = GroupWhitening(shrinkage).fit(X, groups=groups)
    means = np.array([X[groups == g].mean(0) for g in range(30)])
    S = np.cov(means.T)
    values, vectors = np.linalg.eigh(S + shrinkage * np.trace(S) / n_features * np.eye(n_features))
    expected = vectors / np.sqrt(values) @ vectors.T
    np.testing.assert_allclose(model.weight_, expected, rtol=1e-4, atol=1e-6)
    found = model.transform(X)
    np.testing.assert_allclose(found, (X - means.mean(0)) @ expected, rtol=1e-4, atol=1e-5)
    assert model.transform(X.astype(np.float32)).dtype == np.float32


def test_groups_it_has_not_seen_leak_less():
    X, groups = _features(n_groups=60)
    seen = groups < 30
    model = GroupWhitening(0.1).fit(X[seen], groups=groups[seen])
    before, after = (
        group_leakage(features, groups[~seen], n_neighbors=2)
        for features in (X[~seen], model.transform(X[~seen]))
    )
    assert after < 0.75 * before


def test_the_order_and_names_of_samples_do_not_matter():
    X, groups = _features()
    order = np.random.default_rng(1).permutation(len(X))
    first = GroupWhitening().fit(X, groups=groups)
    names = np.array([f"site {g}" for g in groups])
    second = GroupWhitening().fit(X[order], groups=names[order])
    np.testing.assert_allclose(first.weight_, second.weight_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(first.mean_, second.mean_)


def test_without_groups_each_sample_is_one():
    X, _ = _features()
    np.testing.assert_array_equal(
        GroupWhitening().fit(X).weight_, GroupWhitening().fit(X, groups=range(len(X))).weight_
    )
    # Means that are all alike leave features as they are, but for their mean.
    pairs = np.array([[1.0, 3.0], [-1.0, 1.0], [2.0, 4.0], [-2.0, 0.0]])
    model = GroupWhitening().fit(pairs, groups=[0, 0, 1, 1])
    np.testing.assert_allclose(model.transform(pairs), pairs - [0, 2])


def test_it_is_a_step_behind_an_estimator():
    X, y = rows("table", n=40), np.arange(40) % 2
    groups = np.repeat(range(10), 4)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            small("SimCLR").set_fit_request(groups=True),
            GroupWhitening().set_fit_request(groups=True),
            LogisticRegression(),
        )
        pipeline.fit(X, y, groups=groups)
        assert pipeline.predict(X).shape == (40,)
        assert pipeline[:-1].get_feature_names_out()[0] == "simclr0"
    features = pipeline[0].transform(X)
    again = GroupWhitening().fit(features, groups=groups).transform(features)
    np.testing.assert_array_equal(pipeline[:-1].transform(X), again)


def test_bad_input():
    X, groups = _features()
    with pytest.raises(ValueError, match="The 'groups' parameter must be .* one label for each"):
        GroupWhitening().fit(X, groups=groups[1:])
    with pytest.raises(ValueError, match="'shrinkage' parameter of GroupWhitening must be a float"):
        GroupWhitening(0.0).fit(X)
