"""Comparison of methods over many data sets: ranks, wins and tests of the differences.

All take accuracies as an array (data sets, methods).
"""

import numpy as np
from scipy.stats import rankdata, wilcoxon

LEVEL = 0.05
# Points. Less than this is rounding of what was published: one of 2,500 test samples is .04.
SAME = 0.02


def mean_ranks(accuracies):
    """Mean rank of each method; the best of a set has 1, equals share the mean of theirs."""
    return rankdata(-np.asarray(accuracies), axis=1).mean(axis=0)


def wins_draws_losses(ours, theirs):
    """On how many sets the one is better than the other, equal, worse."""
    difference = differences(np.asarray(ours), np.asarray(theirs))
    return tuple(int(np.sum(np.sign(difference) == sign)) for sign in (1, 0, -1))


def differences(ours, theirs):
    """Return what is more than rounding."""
    difference = ours - theirs
    return np.where(np.abs(difference) < SAME, 0, difference)


def pairwise_p(accuracies):
    """P of Wilcoxon's signed-rank test for each pair of methods, adjusted by Holm."""
    n = accuracies.shape[1]
    pairs = [(i, j) for i in range(n) for j in range(i)]
    raw = [_signed_rank(differences(accuracies[:, i], accuracies[:, j])) for i, j in pairs]
    found = np.ones((n, n))
    for (i, j), p in zip(pairs, holm(raw), strict=True):
        found[i, j] = found[j, i] = p
    return found


def _signed_rank(difference):
    return wilcoxon(difference).pvalue if np.any(difference) else 1.0


def holm(p):
    """P-values adjusted for the number of tests, step-down."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def cliques(ranks, p, level=LEVEL):
    """Groups of neighbours in the order of ranks, of which no pair differs; none within another."""
    order = np.argsort(ranks, kind="stable")
    found, reached = [], -1
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and np.all(p[order[last + 1], order[first : last + 1]] > level):
            last += 1
        if last > max(first, reached):
            found.append([int(k) for k in order[first : last + 1]])
        reached = max(reached, last)
    return found
