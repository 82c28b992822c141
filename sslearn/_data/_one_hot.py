"""Columns of a table that belong together: the categories of a one-hot encoding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

__all__ = ["find_one_hot"]

# Rows that are looked at, evenly spaced among those given.
_ROWS = 20_000
# Pairs of ones in one row that a block would have by chance, and has not, if its columns were
# independent of each other: e^-12 is the probability that it has none. A block with a one in every
# row needs no more evidence.
_EVIDENCE = 12.0


def find_one_hot(values: torch.Tensor, codes: Any = None) -> list[list[int]]:
    """Find blocks of neighbouring columns of which at most one is 1 in each row.

    A one is the larger value of a column with two values, which need not be 0 and 1: one-hot
    columns may have been scaled. Where several blocks stand next to each other, two categories or
    a category and a single column of zeros and ones, the borders are those that leave
    the most pairs of columns without a one in the same row within the blocks, counted as how often
    they would meet by chance. A one in every row makes a block, and so does evidence enough: rows
    without any come from a category that was dropped or unknown. Where a category is missing, all
    columns of its block are NaN.

    Parameters
    ----------
    values : Tensor of shape (features, n)
        Raw rows, one column after the other.
    codes : OneHotCodes or None
        Layer that has made columns of categories, if any. These are left out.

    Returns
    -------
    list of lists of int
        Numbers of the columns of each block, in X, of two columns with ones at least.
    """
    if codes is not None:
        plain = codes.is_code.logical_not().cpu()
        numbers = codes.owner.cpu()[plain]
        return [numbers[block].tolist() for block in find_one_hot(values[plain])]
    if not values.shape[1]:
        return []
    values = values[:, :: -(-values.shape[1] // _ROWS)]
    missing = values.isnan()
    if not bool(missing.any()):
        least, most = (found[:, None] for found in torch.aminmax(values, dim=1))
    else:
        least = values.masked_fill(missing, math.inf).amin(1, keepdim=True)
        most = values.masked_fill(missing, -math.inf).amax(1, keepdim=True)
    two_valued = ((values == least) | (values == most) | missing).all(1).numpy()
    ones = (values == most).numpy()
    # A column of one value has no ones: it is all zeros, or a column of its own.
    ones &= (least < most).numpy()
    is_zero = (most == 0).flatten().numpy()
    n = values.shape[1]
    found: list[list[int]] = []
    for start, stop in _runs(two_valued & ((least < most).flatten().numpy() | is_zero)):
        block = ones[start:stop]
        for first, last in _best_borders(block):
            counts = block[first:last].sum(1).astype(float)
            n_missing = int(missing[start + first : start + last].all(0).sum())
            complete = counts.sum() == n - n_missing
            if np.sum(counts > 0) > 1 and (complete or _meetings(counts) / n >= _EVIDENCE):
                found.append(list(range(start + first, start + last)))
    return found


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return where each run of true values starts and stops."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _meetings(counts: np.ndarray) -> float:
    """Return the sum over pairs of columns of the product of their counts."""
    return float(counts.sum() ** 2 - (counts**2).sum()) / 2


def _best_borders(ones: np.ndarray) -> list[tuple[int, int]]:
    """Cut columns (features, n) into blocks without two ones in a row, by dynamic programming."""
    n_columns = len(ones)
    first = _earliest_start(ones)
    counts = ones.sum(1).astype(float)
    sums = np.concatenate(([0.0], counts.cumsum()))
    squares = np.concatenate(([0.0], (counts**2).cumsum()))
    # The best value of all columns before each, and where its last block starts.
    best, start = np.zeros(n_columns + 1), np.zeros(n_columns + 1, dtype=int)
    for stop in range(1, n_columns + 1):
        starts = np.arange(first[stop - 1], stop)
        total = sums[stop] - sums[starts]
        value = best[starts] + (total**2 - (squares[stop] - squares[starts])) / 2
        start[stop] = starts[value.argmax()]  # of equals the longest block
        best[stop] = value.max()
    borders, stop = [], n_columns
    while stop:
        borders.append((int(start[stop]), stop))
        stop = int(start[stop])
    return borders[::-1]


def _earliest_start(ones: np.ndarray) -> np.ndarray:
    """Return for each column where the longest block that ends with it starts."""
    row, column = np.nonzero(ones.T)
    same_row = row[1:] == row[:-1]
    earliest = np.zeros(len(ones), dtype=int)
    # Of the ones of a row, neighbouring ones alone limit a block.
    np.maximum.at(earliest, column[1:][same_row], column[:-1][same_row] + 1)
    return np.maximum.accumulate(earliest)
