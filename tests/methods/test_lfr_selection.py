"""Greedy MAP of a determinantal point process, and what it chooses from random projectors."""

import numpy as np
import pytest
import torch

from sslearn._methods._lfr_selection import (
    _row_by_cosines,
    _row_by_products,
    greedy_map,
    most_diverse,
)


def of_kernel(kernel, k):
    kernel = np.asarray(kernel, dtype=np.float64)
    return greedy_map(kernel.diagonal(), kernel.__getitem__, k)


def of_features(features, k):
    """The same of ``features @ features.T``, which is never built."""
    diagonal = np.einsum("nd,nd->n", features, features)
    return greedy_map(diagonal, lambda item: features @ features[item], k)


def brute_force(kernel, k):
    """Add, repeatedly, the item that makes the determinant of the chosen ones largest."""
    chosen = []
    for _ in range(k):
        gains = [
            -np.inf
            if i in chosen
            else np.linalg.slogdet(kernel[np.ix_(chosen + [i], chosen + [i])])[1]
            for i in range(len(kernel))
        ]
        chosen.append(int(np.argmax(gains)))
    return chosen


@pytest.mark.parametrize("seed", range(200))
def test_it_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 13))
    features = rng.normal(size=(n, n + 2)) * rng.uniform(0.1, 3, size=(n, 1))
    kernel = features @ features.T
    k = int(rng.integers(1, n + 1))
    expected = brute_force(kernel, k)
    for chosen, rank in (of_kernel(kernel, k), of_features(features, k)):
        assert chosen.tolist() == expected
        assert rank == k


def test_it_equals_a_cholesky_of_a_thousand():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1000, 60))
    kernel = features @ features.T
    chosen = of_kernel(kernel, 40)[0].tolist()
    for t in range(40):  # each is the farthest from the span of those before it
        span = np.linalg.qr(features[chosen[:t]].T)[0]
        left = ((features - features @ span @ span.T) ** 2).sum(1)
        left[chosen[:t]] = -1
        assert left[chosen[t]] == pytest.approx(left.max(), rel=1e-9)
    assert of_features(features, 40)[0].tolist() == chosen
    assert len(set(chosen)) == 40


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (np.eye(5), [0, 1, 2]),
        (np.diag([1.0, 3.0, 2.0]), [1, 2, 0]),
        ([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]], [0, 2, 1]),
    ],
)
def test_known_values(kernel, expected):
    assert of_kernel(kernel, 3)[0].tolist() == expected


def _chosen_and_rank(found):
    chosen, rank = found
    return chosen.tolist(), rank


def test_when_the_rank_is_too_low():
    for function in (of_kernel, of_features):
        assert _chosen_and_rank(function(np.ones((3, 3)), 3)) == ([0, 1, 2], 1)
    kernel = np.zeros((5, 5))
    kernel[1, 1] = kernel[3, 3] = kernel[1, 3] = kernel[3, 1] = 2
    kernel[4, 4] = 1
    assert _chosen_and_rank(of_kernel(kernel, 4)) == ([1, 4, 3, 0], 2)
    assert _chosen_and_rank(of_kernel(np.zeros((3, 3)), 2)) == ([0, 1], 0)


@pytest.mark.parametrize("seed", range(20))
def test_duplicates_are_not_both_chosen_and_rounding_does_not_choose(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(10, 20))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    twice = np.concatenate([features, features])
    chosen, rank = of_features(twice, 10)
    assert rank == 10
    assert sorted(chosen % 10) == list(range(10))
    assert (chosen < 10).all()  # the first of two equals
    noisy = twice @ twice.T
    noisy = noisy * (1 + 1e-15 * rng.normal(size=noisy.shape))
    assert of_kernel(noisy, 10)[0].tolist() == chosen.tolist()


def test_bad_kernels():
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"range \[1, 3\], the number of items. Got {k}"):
            of_kernel(np.eye(3), k)
    with pytest.raises(ValueError, match="kernel must be finite"):
        of_kernel(np.diag([1.0, np.nan]), 1)


def _slow_kernel(outputs):
    grams = []
    for output in outputs:
        unit = np.asarray(output, dtype=np.float64)
        length = np.linalg.norm(unit, axis=1, keepdims=True)
        unit = np.divide(unit, length, out=np.zeros_like(unit), where=length > 0)
        grams.append((unit @ unit.T).ravel())
    grams = [gram / np.linalg.norm(gram) for gram in grams]
    return np.array([[a @ b for b in grams] for a in grams])


@pytest.mark.parametrize("widths", [[3] * 12, [20] * 12, [2, 30, 5, 1, 8, 3, 40, 4, 4, 6, 2, 9]])
@pytest.mark.parametrize("zero_rows", [False, True])
def test_most_diverse_is_the_greedy_map_of_the_papers_kernel(widths, zero_rows):
    torch.manual_seed(0)
    outputs = [torch.randn(16, width) for width in widths]
    if zero_rows:
        for i, output in enumerate(outputs):
            output[i % 5] = 0
    kernel = _slow_kernel(outputs)
    np.fill_diagonal(kernel, 1.0)  # otherwise rounding chooses the first
    units = [torch.nn.functional.normalize(o.double(), dim=1) for o in outputs]
    for rows in (_row_by_cosines(units), _row_by_products(units)):
        np.testing.assert_allclose(np.stack([rows(i) for i in range(12)]), kernel, atol=1e-12)
    chosen, among, n_different = most_diverse(outputs, 5)
    assert n_different == 5
    assert chosen.tolist() == brute_force(kernel, 5)
    np.testing.assert_allclose(among, kernel[np.ix_(chosen, chosen)], atol=1e-12)
    assert (among.diagonal() == 1).all()
    np.testing.assert_array_equal(among, among.T)


def test_equal_candidates_are_not_chosen_twice():
    torch.manual_seed(0)
    a, b = torch.randn(30, 8), torch.randn(30, 8)
    chosen, _, n_different = most_diverse([a, a, b, 2 * a], 2)
    assert (chosen.tolist(), n_different) == ([0, 2], 2)
    chosen, kernel, n_different = most_diverse([a, a, b, 2 * a], 4)
    assert n_different == 2
    assert chosen.tolist() == [0, 2, 1, 3]
    np.testing.assert_allclose(kernel[0], [1, kernel[0, 1], 1, 1], atol=1e-12)
