import itertools

import numpy as np
import pytest
from estimators import rows, small

from sslearn.metrics import effective_rank, group_leakage


def test_known_values():
    assert effective_rank(np.eye(7)) == pytest.approx(7)
    assert effective_rank(np.ones((7, 3))) == pytest.approx(1)
    assert effective_rank(np.zeros((7, 3))) == 1
    assert effective_rank(np.diag([1.0, 1.0, 0.0])) == pytest.approx(2)
    p = np.array([0.5, 0.3, 0.2])
    expected = np.exp(-np.sum(p * np.log(p)))
    assert effective_rank(np.diag(p)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(300, 20), (20, 300), (64, 64)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_equals_the_definition(shape, dtype):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=shape) * np.logspace(0, -6, shape[1]) + 0.1).astype(dtype)
    p = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    p = p / p.sum()
    expected = np.exp(-np.sum(p * np.log(p + 1e-300)))
    assert effective_rank(features) == pytest.approx(expected, rel=1e-4)


def test_scale_and_rotation_do_not_matter():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)) * np.arange(1, 7)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert effective_rank(features @ rotation * 100) == pytest.approx(effective_rank(features))


def test_score_is_the_rank_of_the_features():
    X = rows("table", n=60)
    estimator = small("SimCLR").fit(X)
    assert estimator.score(X) == effective_rank(estimator.transform(X))
    assert 1 <= estimator.score(X) <= 8


def test_bad_features():
    with pytest.raises(ValueError, match="features contains NaN"):
        effective_rank(np.array([[1.0, np.nan]]))


def _slow_leakage(features, groups, n_neighbors):
    """The definition: neighbours by sorting all distances; chance by every pair of samples."""
    n, hits, pairs = len(features), 0, 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        others.sort(key=lambda j: np.square(features[i] - features[j]).sum())
        hits += sum(groups[j] == groups[i] for j in others[:n_neighbors])
        pairs += sum(groups[j] == groups[i] for j in others)
    return (hits / (n * n_neighbors)) / (pairs / (n * (n - 1)))


@pytest.mark.parametrize("n_neighbors", [1, 3, 29])
@pytest.mark.parametrize("kind", ["str", "int", "float"])
def test_leakage_equals_its_slow_twin(n_neighbors, kind):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 6, size=30)
    features = rng.normal(size=(30, 4)) + 0.7 * rng.normal(size=(6, 4))[groups]
    found = group_leakage(features, groups.astype(kind), n_neighbors=n_neighbors)
    assert found == pytest.approx(_slow_leakage(features, groups, n_neighbors), rel=1e-12)
    assert found == pytest.approx(1) if n_neighbors == 29 else found > 1.1


def test_leakage_is_one_where_labels_are_permuted():
    # The mean over all permutations is 1 exactly, with groups of unequal sizes too.
    features, groups = np.array([[0.0], [1.0], [3.0], [3.5], [9.0]]), "aabbb"
    ratios = [group_leakage(features, list(order)) for order in itertools.permutations(groups)]
    assert np.mean(ratios) == pytest.approx(1, rel=1e-12)


def test_leakage_is_the_inverse_of_chance_where_groups_are_apart():
    groups = np.repeat(range(4), 5)
    features = 100.0 * groups[:, None] + np.arange(20.0)[:, None]
    assert group_leakage(features, groups, n_neighbors=4) == pytest.approx(19 / 4)
    # Duplicates are neighbours, and a sample is never its own.
    twice = np.repeat(np.arange(10.0), 2)[:, None]
    assert group_leakage(twice, np.tile([0, 1], 10)) == 0
    assert group_leakage(twice, np.repeat(range(10), 2)) == pytest.approx(19)


@pytest.mark.parametrize(
    ("features", "groups", "params", "message"),
    [
        (np.eye(4), [0, 1, 2], {}, "'groups' parameter must be an array of one label .* the 4"),
        (np.eye(4), [0, 0, 0, 0], {}, "two different labels or more"),
        (np.eye(4), [0, 1, 2, 3], {}, "give two samples the same label. Got 4 different labels"),
        (np.eye(4), [0, 1, np.nan, 3], {}, "Got missing values for 1 of 4"),
        (np.eye(4), [0, 0, 1, 1], {"n_neighbors": 4}, "whole number from 1 to 3.* Got 4 instead"),
        (np.eye(4), [0, 0, 1, 1], {"n_neighbors": 0}, "Got 0 instead"),
        (np.eye(4), [0, 0, 1, 1], {"n_neighbors": 1.5}, "Got 1.5 instead"),
        (np.full((4, 2), np.nan), [0, 0, 1, 1], {}, "features contains NaN"),
    ],
)
def test_leakage_of_bad_input(features, groups, params, message):
    with pytest.raises(ValueError, match=message):
        group_leakage(features, groups, **params)
