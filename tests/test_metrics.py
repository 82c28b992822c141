import numpy as np
import pytest
from estimators import rows, small

from sslearn.metrics import effective_rank


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
