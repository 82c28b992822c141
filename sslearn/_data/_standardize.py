"""The one layer that casts: raw rows in their own dtype to standardised float32."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from sklearn import get_config
from torch import nn

from ._limits import Limits, Subsample, find_limits

__all__ = ["Standardize", "Statistics", "check_finite"]

# Dtypes whose values float32 holds exactly. The others are shifted in float64 before the cast:
# if cast first, a time stamp 1.7e9 + U(0, 100) keeps two distinct values.
_NARROW = {torch.uint8, torch.int8, torch.int16, torch.bool}
_NARROW |= {torch.float32, torch.float16, torch.bfloat16}
# The largest value of a byte, and the value that some must exceed for numbers to count as bytes.
_BYTE, _BRIGHT = 255, 128
# Bands whose own range covers this part of the range of all three are those of a photograph.
_ALIKE = 0.5
# The parts of the samples, over all channels and in one, whose spread may be below the noise of the
# views before a warning says so.
_MOST_DROWNED, _BAND_DROWNED = 0.5, 0.9
# Remedies for values that are no numbers, by the axes of a batch: scikit-learn's imputers take
# tables alone, and refuse infinity.
_REMEDIES = {
    ("NaN", 2): "fill them in first, for example with sklearn.impute.SimpleImputer",
    ("NaN", 3): "fill them in first, for example by numpy.interp along time",
}
# Distance of the mean from the median, in widths of the middle half of a column, above which
# float32 would merge the values of most rows.
_FAR = 30.0


def _is_grid(shape: tuple[int, ...]) -> bool:
    """Return whether samples are images or volumes, whose views are drawn in [0, 1]."""
    return len(shape) >= 3


def check_finite(x: torch.Tensor, estimator_name: str) -> float:
    """Refuse NaN and infinity, in one sentence; return the largest magnitude."""
    if not x.is_floating_point() or get_config()["assume_finite"]:
        return 0.0
    low, high = torch.aminmax(x)  # both are NaN if one value is
    largest = max(-float(low), float(high))
    if math.isfinite(largest):
        return largest
    what = "NaN" if x.isnan().any() else "infinity"
    axis = "feature" if x.ndim == 2 else "channel"
    where = f"{axis} {int((~x.isfinite()).nonzero()[0, 1])}"
    if x.shape[1] > 1:
        where += f" (of 0 to {x.shape[1] - 1}) and maybe others"
    remedy = _REMEDIES.get(
        (what, x.ndim), "fill them in first" if what == "NaN" else "clip them first"
    )
    raise ValueError(
        f"Input X contains {what}, in {where}. {estimator_name} needs finite numbers: drop such "
        f"samples, or {remedy}."
    )


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
        self._weight = 0
        self._first: torch.Tensor | None = None
        self._mean = torch.zeros(sample_shape[0], dtype=torch.float64)
        self._m2 = torch.zeros_like(self._mean)
        self._smallest = torch.full_like(self._mean, math.inf)
        self._largest = torch.full_like(self._mean, -math.inf)
        self.subsample = Subsample(self.sample_shape)
        # Distance of a feature of a table from zeros and ones: 0 for those.
        self._not_binary = torch.zeros_like(self._mean)
        self._whole = _is_grid(self.sample_shape)

    def update(self, x: torch.Tensor) -> None:
        """Add a batch of shape (n, *sample_shape), in its own dtype, on any device."""
        if not len(x):
            return
        self.n_rows += len(x)
        x = x.detach()
        self.subsample.update(x)
        x = x.to(torch.float64)
        if len(self.sample_shape) == 1:
            smallest, largest = torch.aminmax(x, dim=0)
            self._not_binary += _sum((x * (x - 1)).abs_()).cpu()
        else:
            flat = x.flatten(2)
            smallest, largest = flat.amin(2).amin(0), flat.amax(2).amax(0)
        self._smallest = torch.minimum(self._smallest, smallest.cpu())
        self._largest = torch.maximum(self._largest, largest.cpu())
        self._whole &= self._within_bytes and bool((x == x.floor()).all())
        if self._first is None:
            self._first = x[0].flatten(1)[:, 0].cpu() if x.ndim > 2 else x[0].cpu()
        weight = x.numel() // x.shape[1]
        total = self._weight + weight
        along = (-1, *(1 for _ in self.sample_shape[1:]))
        x = x - self._first.to(x.device).view(along)
        mean = _sum(x) / weight
        x -= mean.view(along)
        m2, mean = _sum(x.square_()).cpu(), mean.cpu()
        delta = mean - self._mean
        self._mean += delta * (weight / total)
        self._m2 += m2 + delta.square() * (self._weight * weight / total)
        self._weight = total

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
        return bool((self._smallest >= 0).all() and (self._largest <= _BYTE).all())

    def layer(self, standardize: bool = True) -> Standardize:
        """Return the layer that brings rows of these statistics to zero mean and unit variance."""
        if self._first is None:
            return _untouched(self.sample_shape)
        values = self.subsample.values()
        limits = find_limits(values, self._smallest, self._largest)
        is_bytes = self._whole and self._within_bytes and bool((limits.high > _BRIGHT).any())
        if is_bytes:
            limits.least.clamp_(max=0)
            limits.most.clamp_(min=_BYTE)
        bands = self._range(limits, is_bytes)
        if not standardize:
            made = _untouched(self.sample_shape, bands, _BYTE if is_bytes else 1.0)
        else:
            mean, scale = self._moments(values, limits)
            made = Standardize(self.sample_shape, bands, mean, scale, limits.least, limits.most)
        made.is_photograph = bands is not None and len(bands[0]) == 3 and _alike(*bands)
        return made

    def _moments(self, values: torch.Tensor, limits: Limits) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean to subtract and the scale to divide by."""
        assert self._first is not None
        mean = self._first + self._mean
        scale = (self._m2 / max(self._weight, 1)).sqrt()
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
            flat, n = values.flatten(1), values[0].numel()
            quarter, middle, last = (
                flat.kthvalue(1 + (n - 1) * part // 4, dim=1).values for part in (1, 2, 3)
            )
            far = (mean - middle).abs() > _FAR * (last - quarter)
            mean = torch.where(far & (last > quarter) & ~binary, middle, mean)
        return mean, scale

    def _range(self, limits: Limits, is_bytes: bool) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the values of each band that become 0 and 1, for images and volumes."""
        if not _is_grid(self.sample_shape):
            return None
        if is_bytes:
            return torch.zeros_like(self._mean), torch.full_like(self._mean, _BYTE)
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
        middle = values.flatten(1).median(dim=1).values
        spread = (
            (values - middle[:, None, None]).div_(unit[:, None, None]).square_().mean(2).sqrt_()
        )
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
    if bands is None and _is_grid(sample_shape):
        bands = zero, zero + 1
    return Standardize(sample_shape, bands, zero, zero + scale, zero - math.inf, zero + math.inf)


class Standardize(nn.Module):
    """Shift, scale and clip rows to zero mean and unit variance, giving float32.

    Two steps, since the views are drawn in between for images and volumes: :meth:`unit` (images
    and volumes to [0, 1], tables and series untouched) and :meth:`normalize`. ``forward`` is
    both at once. The same numbers give the same bits whatever their dtype.

    Parameters
    ----------
    sample_shape : tuple of int
        Shape of one row.
    bands : tuple of two tensors of shape (channels,), or None
        Values of each channel that become 0 and 1, for images and volumes. If None, there is no
        such step.
    mean, scale : Tensor of shape (features,) or (channels,)
        Values to subtract and to divide by, in the unit of the data.
    least, most : Tensor of shape (features,) or (channels,)
        Limits to which values are clipped.
    """

    shift: torch.Tensor
    gain: torch.Tensor
    least: torch.Tensor
    most: torch.Tensor
    shift32: torch.Tensor
    offset32: torch.Tensor
    gain32: torch.Tensor
    least32: torch.Tensor
    most32: torch.Tensor
    unit_shift: torch.Tensor
    unit_shift32: torch.Tensor
    unit_scale: torch.Tensor
    unit_least: torch.Tensor
    unit_most: torch.Tensor
    unit_mean: torch.Tensor
    unit_gain: torch.Tensor

    #: Whether the three bands are red, green and blue.
    is_photograph = False
    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        bands: tuple[torch.Tensor, torch.Tensor] | None,
        mean: torch.Tensor,
        scale: torch.Tensor,
        least: torch.Tensor,
        most: torch.Tensor,
    ) -> None:
        super().__init__()
        self.is_grid = _is_grid(sample_shape)
        self.dtype = torch.float32
        shape = (-1, *(1 for _ in sample_shape[1:]))

        def keep(name: str, values: torch.Tensor) -> None:
            self.register_buffer(name, values.reshape(shape).clone())

        keep("shift", mean)
        keep("gain", 1 / scale)
        keep("least", least)
        keep("most", most)
        # In float32, unless the numbers come near the ends of its range. What is subtracted first
        # is a number that float32 has, so that large numbers close to it, time stamps for example,
        # lose nothing; the rest of the mean is subtracted with the scaling.
        ends = torch.cat((mean.abs(), scale, 1 / scale))
        self.fits_float32 = bool((ends < 1e37).all())
        near = mean.float()
        keep("shift32", near)
        keep("gain32", (1 / scale).float())
        keep("offset32", ((near.double() - mean) / scale).float())
        keep("least32", ((least - mean) / scale).float())
        keep("most32", ((most - mean) / scale).float())
        self.is_clipped = bool(least.isfinite().any() or most.isfinite().any())
        self.holds_bytes = bool((least <= 0).all() and (most >= _BYTE).all())
        if bands is None:
            return
        low, high = bands
        keep("unit_shift", low)
        keep("unit_shift32", low.float())
        keep("unit_scale", (1 / (high - low)).float())
        keep("unit_least", ((least - low) / (high - low)).float())
        keep("unit_most", ((most - low) / (high - low)).float())
        keep("unit_mean", ((mean - low) / (high - low)).float())
        keep("unit_gain", ((high - low) / scale).float())
        self.is_zero_to_one = bool((low == 0).all() and (high == 1).all())

    def _apply(self, fn, recurse=True):
        # A module's .half() or .double() must not round the statistics: they follow the device
        # alone, and the dtype is that of the output, for the layers that follow.
        kept = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.shift.device)).dtype
        return self

    def extra_repr(self) -> str:
        n, kind = len(self.shift), "feature" if self.shift.ndim == 1 else "channel"
        scaled = bool((self.shift != 0).any() or (self.gain != 1).any())
        words = [f"{n} {kind}{'s' * (n != 1)}", "scaled" if scaled else "not scaled"]
        return ", ".join(words + ["clipped"] * self.is_clipped)

    def unit(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input of the views: in [0, 1] for images, standardised for other kinds."""
        if not self.is_grid:
            return self(x)
        if self.is_zero_to_one and not self.is_clipped:
            return x.float()
        if x.dtype in _NARROW and self.fits_float32:
            shifted = x.float() - self.unit_shift32
        else:
            shifted = (x.double() - self.unit_shift).float()
        return self._clip(shifted.mul_(self.unit_scale), self.unit_least, self.unit_most, x.dtype)

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Bring the output of :meth:`unit`, or views of it, to zero mean and unit variance."""
        return (x - self.unit_mean) * self.unit_gain if self.is_grid else x

    def denormalize(self, x: torch.Tensor) -> torch.Tensor:
        """Bring standardised samples back to the output of :meth:`unit`."""
        if not self.is_grid:
            return x
        # What is constant has no gain, and is at its mean.
        constant = self.unit_gain == 0
        return x / self.unit_gain.masked_fill(constant, 1) + self.unit_mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.fits_float32:
            clipped = x.double().clamp(self.least, self.most)
            return clipped.sub_(self.shift).mul_(self.gain).to(self.dtype)
        if x.dtype in _NARROW:
            shifted = x.float() - self.shift32
        else:
            shifted = (x.double() - self.shift32).float()
        scaled = torch.addcmul(self.offset32, shifted, self.gain32)
        return self._clip(scaled, self.least32, self.most32, x.dtype).to(self.dtype)

    def _clip(
        self, x: torch.Tensor, least: torch.Tensor, most: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """Clip in place, unless no value of this input dtype can lie beyond the limits."""
        if not self.is_clipped or (self.holds_bytes and dtype == torch.uint8):
            return x
        return x.clamp_(least, most)
