"""Outer quantiles, limits, and the subsample that they are taken from."""

import numpy as np
import pytest
import torch

from sslearn._data._limits import Subsample, find_limits


def _limits(X):
    x = torch.as_tensor(X, dtype=torch.float64)
    values = x.reshape(len(x), x.shape[1], -1).transpose(0, 1).contiguous()
    flat = values.flatten(1)
    return find_limits(values, flat.amin(1), flat.amax(1))


def test_limits_by_hand():
    found = _limits(np.arange(1001.0)[:, None])
    # Two of a thousand are left out at either end, and ten times the distance of the rest added.
    assert (found.low.item(), found.high.item()) == (2, 998)
    assert (found.least.item(), found.most.item()) == (2 - 9960, 998 + 9960)


@pytest.mark.parametrize("n", [5, 20, 400, 4000])
def test_bad_rows_have_no_say(n):
    X = np.random.default_rng(0).normal(size=(n, 3))
    clean = _limits(X)
    X[0, 0] = 1e300
    X[-1, 1] = -1e12
    found = _limits(X)
    assert found.most[0] < 100
    assert found.least[1] > -100
    assert found.most[2] == clean.most[2]
    if n >= 20:
        X[1, 0] = 1e300
        assert _limits(X).most[0] < 100


def test_channels_whose_values_are_nearly_all_one():
    X = np.zeros((5000, 5))
    X[:4, 0] = 7  # four that differ: all of them count
    X[:40, 1] = np.arange(1, 41)
    X[40, 1] = 1e12
    X[:, 2] = 3
    X[:, 3] = np.arange(5000) % 2
    X[:30, 4] = -1
    found = _limits(X)
    assert (found.least[0], found.most[0]) == (0, 7)
    assert 39 <= found.most[1] <= 40 * 11
    assert (found.least[2], found.most[2]) == (3, 3)
    assert (found.least[3], found.most[3]) == (-10, 11)
    assert (found.least[4], found.most[4]) == (-11, 10)


def test_infinite_distances():
    found = _limits(np.array([[-1.7e308], [1.7e308]] * 40))
    assert found.least.item() == -np.inf
    assert found.most.item() == np.inf


def _subsample(X, size):
    subsample = Subsample(X.shape[1:])
    for part in torch.as_tensor(X).split(size):
        subsample.update(part)
    return subsample.values()


@pytest.mark.parametrize("shape", [(3,), (2, 10), (2, 9, 9)])
def test_a_subsample_is_all_of_few_rows(shape):
    X = np.random.default_rng(0).normal(size=(300, *shape))
    for size in (1, 7, 300):
        values = _subsample(X, size)
        positions = min(int(np.prod(shape[1:])), 64)
        assert values.shape == (shape[0], 300, positions)
        if positions < 64:
            expected = X.reshape(300, shape[0], -1).swapaxes(0, 1)
            np.testing.assert_array_equal(values, expected)
    # Positions are the same for all rows, and each is looked at once.
    numbers = np.broadcast_to(np.arange(np.prod(shape[1:])).reshape(1, 1, *shape[1:]), X.shape)
    found = _subsample(np.array(numbers), 50)
    assert (found == found[:1, :1]).all()
    assert len(found[0, 0].unique()) == positions


def test_a_subsample_of_many_rows_depends_on_nothing_but_their_number(monkeypatch):
    monkeypatch.setattr("sslearn._data._limits._MOST_ROWS", 1000)
    X = np.arange(40_000)[:, None]
    expected = _subsample(X, 40_000)
    assert 400 < expected.shape[1] <= 1000
    for size, dtype in ((1, np.int64), (999, np.int32), (5000, np.float32)):
        assert torch.equal(_subsample(X.astype(dtype), size), expected)
    # A random one, not the first rows.
    assert expected.mean() == pytest.approx(20_000, rel=0.1)
    mixed = Subsample((1,))
    for i, part in enumerate(torch.as_tensor(X).split(5000)):
        mixed.update(part.to(torch.int32 if i % 2 else torch.float64))
    assert torch.equal(mixed.values(), expected)


def test_a_subsample_keeps_nothing_of_the_callers():
    X = torch.ones(10, 2)
    subsample = Subsample((2,))
    subsample.update(X)
    X.zero_()
    assert (subsample.values() == 1).all()
