"""Range of the values of a feature or channel, on which a few bad samples have no influence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Limits", "Subsample", "find_limits", "middle_half"]

# Maximum size of a subsample, and positions of a series, image or volume that it takes.
_MOST_ROWS, _MOST_BYTES = 100_000, 128 * 2**20
_POSITIONS = 64
# Outer quantiles leave out this part of the values at either end, or two samples of few; limits lie
# `_WIDENED` times the distance of the two quantiles beyond them. With medians and quartiles
# instead, spikes, beats and the rare large counts of a table would count as errors.
_TAIL, _BAD_ROWS, _WIDENED = 1000, 2, 10
# Number of samples that must differ from the most common value for quantiles of these.
_ENOUGH = 8


def _hashes(first: int, stop: int) -> np.ndarray:
    """Hash the numbers of rows (splitmix64), so that any prefix of them is a random sample."""
    z = np.arange(first, stop, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Subsample:
    """A random subsample of the rows of a stream: all of them, up to 100,000.

    Rows whose number has a small hash are kept, and the bound is halved whenever there are too
    many, so that the choice depends on the number of rows alone, not on batches, dtypes or
    containers. Wide tables keep fewer rows, 128 MiB in all; series, images and volumes keep the
    same 64 positions of each.

    Parameters
    ----------
    sample_shape : tuple of int
        Shape of one row: (features,) or (channels, ...).
    """

    def __init__(self, sample_shape: tuple[int, ...]) -> None:
        n_positions = math.prod(sample_shape[1:])
        self.positions: torch.Tensor | None = None
        if n_positions > _POSITIONS:
            generator = torch.Generator().manual_seed(0)
            self.positions = torch.randperm(n_positions, generator=generator)[:_POSITIONS].sort()[0]
        self.n_rows = 0
        row_bytes = 8 * sample_shape[0] * min(n_positions, _POSITIONS)
        self._most = max(32, min(_MOST_ROWS, _MOST_BYTES // row_bytes))
        self._bound = 2**64 - 1
        # Both grow as a list does. Kept batch by batch, small blocks between large temporary ones
        # would fragment gigabytes of free memory.
        self._hashes = np.empty(0, dtype=np.uint64)
        self._kept: torch.Tensor | None = None
        self._n_kept = 0

    def update(self, x: torch.Tensor) -> None:
        """Add the next rows, (n, features) or (n, channels, ...)."""
        hashes = _hashes(self.n_rows, self.n_rows + len(x))
        self.n_rows += len(x)
        few = hashes <= self._bound
        x = x.reshape(len(x), x.shape[1], -1)
        if self.positions is not None:
            x = x.index_select(2, self.positions.to(x.device))
        if not few.all():
            hashes, x = hashes[few], x[torch.from_numpy(few).to(x.device)]
        stop = self._n_kept + len(x)
        kept = self._grown(x, stop)
        self._hashes[self._n_kept : stop] = hashes
        kept[self._n_kept : stop] = x
        self._n_kept = stop
        while self._n_kept > self._most:
            self._bound //= 2
            (left,) = np.nonzero(self._hashes[: self._n_kept] <= self._bound)
            self._n_kept = len(left)
            self._hashes[: len(left)] = self._hashes[left]
            kept[: len(left)] = kept[torch.from_numpy(left)]

    def _grown(self, x: torch.Tensor, n: int) -> torch.Tensor:
        """Return the tensor of kept rows, with room for `n`, in a dtype that holds `x` too."""
        if self._kept is None:
            self._kept = torch.empty(0, *x.shape[1:], dtype=x.dtype)
        dtype = x.dtype if x.dtype == self._kept.dtype else torch.float64
        if n > len(self._kept) or dtype != self._kept.dtype:
            more = torch.empty(max(n, 2 * len(self._kept)), *x.shape[1:], dtype=dtype)
            more[: self._n_kept] = self._kept[: self._n_kept]
            self._kept = more
            self._hashes = np.resize(self._hashes, len(more))
        return self._kept

    def values(self) -> torch.Tensor:
        """Return the kept values in float64, of shape (features or channels, rows, positions)."""
        assert self._kept is not None
        kept = self._kept[: self._n_kept].transpose(0, 1)
        return kept.to(torch.float64).contiguous()


@dataclass
class Limits:
    """Range of the values of each feature or channel; all of shape (features or channels,).

    Attributes
    ----------
    low, high : Tensor
        The outer quantiles.
    least, most : Tensor
        Values beyond these are errors, or differ from all that was seen in training.
    """

    low: torch.Tensor
    high: torch.Tensor
    least: torch.Tensor
    most: torch.Tensor


def find_limits(values: torch.Tensor, smallest: torch.Tensor, largest: torch.Tensor) -> Limits:
    """Find the outer quantiles of values, and the limits around them.

    Parameters
    ----------
    values : Tensor of shape (channels, rows, positions)
        Values as :meth:`Subsample.values` returns them; NaN are left out.
    smallest, largest : Tensor of shape (channels,)
        Extremes of all rows, also of those that the subsample leaves out.
    """
    n_rows, n_positions = values.shape[1:]
    values = values.flatten(1)
    if not bool(values.isnan().any()):
        return _limits(values, n_rows, smallest, largest)
    # Channels differ in the number of values that are known.
    found = []
    for line, *ends in zip(values, smallest[:, None], largest[:, None], strict=True):
        known = line[~line.isnan()]
        if len(known):
            found.append(_limits(known[None], max(1, len(known) // n_positions), *ends))
        else:  # in rows that the subsample leaves out
            found.append(Limits(*ends, *ends))
    columns = zip(*((x.low, x.high, x.least, x.most) for x in found), strict=True)
    return Limits(*map(torch.cat, columns))


def middle_half(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the quartiles of each line of values, NaN left out; NaN where there are no others."""
    if not bool(values.isnan().any()):
        n = values.shape[1]
        first, middle, last = (
            values.kthvalue(1 + (n - 1) * part // 4, dim=1).values for part in (1, 2, 3)
        )
        return first, middle, last
    lines = [line[~line.isnan()] for line in values]
    nothing = values.new_full((3, 1), math.nan)
    found = [torch.stack(middle_half(line[None])) if len(line) else nothing for line in lines]
    first, middle, last = torch.cat(found, dim=1)
    return first, middle, last


def _limits(
    values: torch.Tensor, n_rows: int, smallest: torch.Tensor, largest: torch.Tensor
) -> Limits:
    """Return the limits of lines of known values, which are those of `n_rows` rows."""
    low, high = _outer_quantiles(values, n_rows)
    margin = _WIDENED * (high - low)
    least, most = low - margin, high + margin
    # Nearly all values of such a channel are equal: the limits are those of the others.
    for i in (low == high).nonzero().flatten().tolist():
        different = values[i][values[i] != low[i]]
        n_different = len(different) * n_rows // values.shape[1]
        if n_different < _ENOUGH:
            low[i], high[i] = least[i], most[i] = smallest[i], largest[i]
            continue
        ends = _outer_quantiles(different[None], n_different)
        low[i], high[i] = torch.minimum(low[i], ends[0]), torch.maximum(high[i], ends[1])
        margin = _WIDENED * (high[i] - low[i])
        least[i], most[i] = low[i] - margin, high[i] + margin
    return Limits(low, high, least, most)


def _outer_quantiles(values: torch.Tensor, n_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outer quantiles of each line of values, which are those of `n_rows` rows."""
    n = values.shape[1]
    left_out = min(max(n // _TAIL, _BAD_ROWS * n // max(n_rows, 1)), n // 4)
    return (
        values.kthvalue(left_out + 1, dim=1).values,
        values.kthvalue(n - left_out, dim=1).values,
    )
