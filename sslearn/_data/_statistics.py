"""Statistics of X, in one pass over its rows, and the layer that is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch

from ._limits import Limits, Subsample, find_limits, middle_half
from ._standardize import BYTE, Standardize, is_grid

__all__ = ["Statistics"]

# The value that some must exceed for numbers to count as bytes.
_BRIGHT = 128
# Bands whose own range covers this part of the range of all three are those of a photograph.
_ALIKE = 0.5
# The parts of the samples, over all channels and in one, whose spread may be below the noise of the
# views before a warning says so.
_MOST_DROWNED, _BAND_DROWNED = 0.5, 0.9
# Distance of the mean from the median, in widths of the middle half of a column, above which
# float32 would merge the values of most rows.
_FAR = 30.0


def _sum(x: torch.Tensor) -> torch.Tensor:
    """Sum over all axes but the second; four times faster than ``x.sum(axes)``."""
    if x.ndim == 2:
        return x.new_ones(len(x)) @ x
    return x.flatten(2).sum(2).sum(0)


class Statistics:
    """Mean, standard deviation, extremes and limits per feature or channel, streamed.

    Batches are merged by their means and squared deviations, in float64, so that nothing is
    lost to cancellation. All values are differences from the first row: a constant is then exactly
    zero, while its mean would have a rounding error, which would count as a deviation.
    Where values lie beyond the limits (see :func:`sslearn._data._limits.find_limits`), mean and
    deviation are those of the values within, in a subsample: all rows of up to 100,000.

    Parameters
    ----------
    sample_shape : tuple of int
        Shape (features,) or (channels, ...): statistics are per feature of a table and per channel
        otherwise.
    """

    def __init__(self, sample_shape: tuple[int, ...]) -> None:
        self.sample_shape = tuple(sample_shape)
        self.n_rows = 0
        #: Feature or channel of the first missing value that was read, in words.
        self.where_missing: str | None = None
        self._has_missing = False
        # How many values are known, of each feature or channel.
        self._weight = torch.zeros(sample_shape[0], dtype=torch.float64)
        self._first: torch.Tensor | None = None
        self._mean = torch.zeros(sample_shape[0], dtype=torch.float64)
        self._m2 = torch.zeros_like(self._mean)
        self._smallest = torch.full_like(self._mean, math.inf)
        self._largest = torch.full_like(self._mean, -math.inf)
        self.subsample = Subsample(self.sample_shape)
        # Distance of a feature of a table from zeros and ones: 0 for those.
        self._not_binary = torch.zeros_like(self._mean)
        self._whole = is_grid(self.sample_shape)

    def update(self, x: torch.Tensor, *, has_missing: bool = False) -> None:
        """Add a batch of shape (n, *sample_shape), in its own dtype, on any device.

        With `has_missing` some of its values may be NaN, and do not count.
        """
        if not len(x):
            return
        self.n_rows += len(x)
        x = x.detach()
        self.subsample.update(x)
        x = x.to(torch.float64)
        if has_missing:
            self._update_with_missing(x)
            return
        if len(self.sample_shape) == 1:
            smallest, largest = torch.aminmax(x, dim=0)
            self._not_binary += _sum((x * (x - 1)).abs_()).cpu()
        else:
            flat = x.flatten(2)
            smallest, largest = flat.amin(2).amin(0), flat.amax(2).amax(0)
        self._smallest = torch.minimum(self._smallest, smallest.cpu())
        self._largest = torch.maximum(self._largest, largest.cpu())
        self._whole &= self._within_bytes and bool((x == x.floor()).all())
        first = self._see(x[0].flatten(1)[:, 0] if x.ndim > 2 else x[0])
        weight = x.numel() // x.shape[1]
        x = x - first.to(x.device).view(self._along)
        mean = _sum(x) / weight
        x -= mean.view(self._along)
        self._merge(torch.full_like(self._mean, weight), mean.cpu(), _sum(x.square_()).cpu())

    def _update_with_missing(self, x: torch.Tensor) -> None:
        """Add a batch in float64 whose values may be NaN."""
        missing = x.isnan()
        self._has_missing |= bool(missing.any())
        lines = x.transpose(0, 1).flatten(1)
        unknown = missing.transpose(0, 1).flatten(1)
        self._smallest = torch.minimum(
            self._smallest, lines.masked_fill(unknown, math.inf).amin(1).cpu()
        )
        self._largest = torch.maximum(
            self._largest, lines.masked_fill(unknown, -math.inf).amax(1).cpu()
        )
        if len(self.sample_shape) == 1:
            self._not_binary += (lines * (lines - 1)).abs_().nansum(1).cpu()
        # The first known value of each channel; NaN where there is none yet.
        places = unknown.logical_not().to(torch.uint8).argmax(1, keepdim=True)
        first = self._see(lines.gather(1, places)[:, 0])
        known = missing.logical_not()
        weight = _sum(known.double())
        x = (x - first.to(x.device).view(self._along)).masked_fill_(missing, 0.0)
        mean = _sum(x) / weight.clamp_min(1.0)
        x = (x - mean.view(self._along)).masked_fill_(missing, 0.0)
        self._merge(weight.cpu(), mean.cpu(), _sum(x.square_()).cpu())

    @property
    def _along(self) -> tuple[int, ...]:
        """Shape in which a value of each feature or channel is one of a sample."""
        return (-1, *(1 for _ in self.sample_shape[1:]))

    def _see(self, first: torch.Tensor) -> torch.Tensor:
        """Keep the first value of each feature or channel, and return it."""
        if self._first is None:
            self._first = first.cpu()
        elif self._has_missing:
            self._first = torch.where(self._first.isnan(), first.cpu(), self._first)
        return self._first

    def _merge(self, weight: torch.Tensor, mean: torch.Tensor, m2: torch.Tensor) -> None:
        """Add the number of known values of a batch, their means and squared deviations."""
        total = self._weight + weight
        delta = mean - self._mean
        self._mean += delta * (weight / total.clamp_min(1.0))
        self._m2 += m2 + delta.square() * (self._weight * weight / total.clamp_min(1.0))
        self._weight = total

    def nowhere_known(self) -> int | None:
        """Return the number of the first feature or channel of which no value is known."""
        found = (self._weight == 0).nonzero()
        return int(found[0]) if self.n_rows and len(found) else None

    @classmethod
    def from_batches(
        cls, sample_shape: tuple[int, ...], batches: Iterable[torch.Tensor]
    ) -> Statistics:
        statistics = cls(sample_shape)
        for batch in batches:
            statistics.update(batch)
        return statistics

    @property
    def extremes(self) -> torch.Tensor:
        """The smallest and the largest value of each feature or channel, of shape (2, ...)."""
        return torch.stack((self._smallest, self._largest))

    @property
    def _within_bytes(self) -> bool:
        return bool((self._smallest >= 0).all() and (self._largest <= BYTE).all())

    def layer(self, standardize: bool = True) -> Standardize:
        """Return the layer that brings rows of these statistics to zero mean and unit variance."""
        if self._first is None:
            return _untouched(self.sample_shape)
        values = self.subsample.values()
        limits = find_limits(values, self._smallest, self._largest)
        is_bytes = self._whole and self._within_bytes and bool((limits.high > _BRIGHT).any())
        if is_bytes:
            limits.least.clamp_(max=0)
            limits.most.clamp_(min=BYTE)
        bands = self._range(limits, is_bytes)
        if not standardize:
            made = _untouched(self.sample_shape, bands, BYTE if is_bytes else 1.0)
        else:
            mean, scale = self._moments(values, limits)
            made = Standardize(self.sample_shape, bands, mean, scale, limits.least, limits.most)
        made.is_photograph = bands is not None and len(bands[0]) == 3 and _alike(*bands)
        return made

    def _moments(self, values: torch.Tensor, limits: Limits) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean to subtract and the scale to divide by."""
        assert self._first is not None
        mean = self._first + self._mean
        scale = (self._m2 / self._weight.clamp_min(1.0)).sqrt()
        beyond = (self._smallest < limits.least) | (self._largest > limits.most)
        for i in (beyond | ~scale.isfinite()).nonzero().flatten().tolist():
            # Errors do not count: clipped to ten times the usual distance, one of three hundred
            # rows would still triple the deviation. In units of the largest value, whose
            # square may overflow.
            inside = values[i][(values[i] >= limits.least[i]) & (values[i] <= limits.most[i])]
            unit = inside.abs().max().clamp_min(np.finfo(np.float64).tiny)
            inside /= unit
            mean[i], scale[i] = inside.mean() * unit, inside.std(correction=0) * unit
        # Computed constants, such as 0.1 + 0.2 and 0.3, may differ in the last digit.
        floor = 10 * np.finfo(np.float64).eps * mean.abs()
        # Zeros and ones have a scale already: a rare category must not be scaled up a hundredfold.
        binary = (self._not_binary == 0) & (len(self.sample_shape) == 1)
        scale = torch.where((scale <= floor) | binary, torch.ones_like(scale), scale)
        if len(self.sample_shape) == 1:
            quarter, middle, last = middle_half(values.flatten(1))
            far = (mean - middle).abs() > _FAR * (last - quarter)
            mean = torch.where(far & (last > quarter) & ~binary, middle, mean)
        return mean, scale

    def _range(self, limits: Limits, is_bytes: bool) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the values of each band that become 0 and 1, for images and volumes."""
        if not is_grid(self.sample_shape):
            return None
        if is_bytes:
            return torch.zeros_like(self._mean), torch.full_like(self._mean, BYTE)
        # The extremes, unless they lie far from nearly all values.
        width = limits.high - limits.low
        low = torch.where(self._smallest < limits.low - width, limits.low, self._smallest)
        high = torch.where(self._largest > limits.high + width, limits.high, self._largest)
        high = torch.where(high > low, high, low + 1)
        if len(low) == 3 and len(self.sample_shape) == 3 and _alike(low, high):
            # One range, so that a photograph keeps the balance of its colours.
            low, high = low.min().expand(3), high.max().expand(3)
        return low, high

    def drowned(self, layer: Standardize, noise: float) -> str | None:
        """Name the samples, or the channel, whose spread is below the noise of the views.

        Parameters
        ----------
        layer : Standardize
            Layer as :meth:`layer` returned it.
        noise : float
            Standard deviation of the noise that the views add.
        """
        if self._first is None or noise <= 0:
            return None
        values = self.subsample.values()
        unit = 1 / (layer.unit_scale if layer.is_grid else layer.gain).double().flatten().cpu()
        middle = values.flatten(1).nanmedian(dim=1).values
        distance = (values - middle[:, None, None]).div_(unit[:, None, None]).square_()
        # Without any value of a channel, a sample is neither above the noise nor below.
        spread = (distance.nanmean(2) if self._has_missing else distance.mean(2)).sqrt_()
        # A channel that is the same in all positions, and equal to most others, loses nothing.
        below = (spread > 0) & (spread < noise)  # (channels, rows)
        of_rows = float(((below | (spread == 0)).all(0) & below.any(0)).double().mean())
        if of_rows > _MOST_DROWNED:
            return f"{of_rows:.0%} of the samples differ"
        if len(self.sample_shape) > 1:
            of_bands = below.double().mean(1)
            worst = int(of_bands.argmax())
            if of_bands[worst] > _BAND_DROWNED:
                return f"channel {worst} differs"
        return None


def _alike(low: torch.Tensor, high: torch.Tensor) -> bool:
    """Return whether the ranges of bands are alike, as in a photograph."""
    return bool((high - low >= _ALIKE * (high.max() - low.min())).all())


def _untouched(
    sample_shape: tuple[int, ...],
    bands: tuple[torch.Tensor, torch.Tensor] | None = None,
    scale: float = 1.0,
) -> Standardize:
    """Return the layer that only casts, and divides bytes by 255."""
    zero = torch.zeros(sample_shape[0], dtype=torch.float64)
    if bands is None and is_grid(sample_shape):
        bands = zero, zero + 1
    return Standardize(sample_shape, bands, zero, zero + scale, zero - math.inf, zero + math.inf)
