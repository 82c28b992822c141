"""Blocks of one-hot columns, found in raw rows."""

import numpy as np
import pytest
import torch

from sslearn._data._one_hot import find_one_hot


def found(*parts):
    """Blocks that are found, as pairs of the first column and the number of columns."""
    X = np.hstack([np.asarray(part, dtype=float).reshape(len(part), -1) for part in parts])
    blocks = find_one_hot(torch.from_numpy(np.ascontiguousarray(X.T)))
    assert all(block == list(range(block[0], block[-1] + 1)) for block in blocks)
    return [(block[0], len(block)) for block in blocks]


def category(n, shares, seed=0):
    """One-hot columns of categories of unequal shares."""
    shares = np.asarray(shares) / np.sum(shares)
    return np.eye(len(shares))[np.random.default_rng(seed).choice(len(shares), n, p=shares)]


@pytest.fixture
def numbers():
    return np.random.default_rng(9).normal(size=(400, 2))


def test_blocks_between_numbers(numbers):
    a, b = category(400, (5, 3, 2)), category(400, (1, 1), seed=1)
    assert found(numbers, a, numbers, b) == [(2, 3), (7, 2)]


def test_blocks_next_to_each_other(numbers):
    # Two ones in a row: there the next category begins, also if its first columns are rare.
    a, b = category(400, (5, 3, 2)), category(400, (0.02, 0.02, 1, 1), seed=1)
    c = category(400, (3, 0.01, 0.01), seed=2)
    assert found(a, b, numbers, c)[:2] == [(0, 3), (3, 4)]
    assert found(b, a) == [(0, 4), (4, 3)]


def test_single_columns_of_zeros_and_ones_stay_alone(numbers):
    a = category(400, (5, 3, 2))
    rng = np.random.default_rng(3)
    common, rare = rng.random(400) < 0.5, rng.random(400) < 0.02
    assert found(common, a, common) == [(1, 3)]
    assert found(rare, a) == [(1, 3)]
    independent = rng.random((400, 30)) < rng.uniform(0.01, 0.6, size=30)
    assert found(independent) == []
    assert found(numbers, np.ones(400), np.zeros(400)) == []


def test_sparse_independent_columns_are_no_block():
    rng = np.random.default_rng(4)
    for seed in range(5):
        words = np.random.default_rng(seed).random((1000, 300)) < rng.uniform(0.001, 0.05, size=300)
        assert found(words) == []


def test_dropped_and_unknown_categories(numbers):
    a, b = category(400, (5, 3, 2)), category(400, (1, 2, 3, 1), seed=1)
    assert found(a[:, 1:], b[:, 1:]) == [(0, 2), (2, 3)]  # the first one of each is dropped
    unknown = a.copy()
    unknown[::50] = 0
    assert found(unknown, b, numbers) == [(0, 3), (3, 4)]
    # With so few rows two columns that never meet may do so by chance.
    assert found(a[:12, 1:]) == []
    assert found(a[:12]) == [(0, 3)]


def test_scaled_blocks_and_any_order_of_sizes(numbers):
    a, b = category(400, (5, 3, 2)), category(400, np.arange(1, 42), seed=1)
    X = np.hstack([a, b])
    expected = [(0, 3), (3, 41)]
    assert found((X - X.mean(0)) / np.maximum(X.std(0), 1e-9)) == expected
    assert found(b, a) == [(0, 41), (41, 3)]


def test_empty_and_tiny():
    assert find_one_hot(torch.zeros(3, 0)) == []
    assert found(np.zeros((1, 4))) == []
    assert found(np.eye(2)) == [(0, 2)]
