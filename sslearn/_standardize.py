"""The one layer that casts: raw rows in their own dtype to standardised float32."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from sklearn import get_config
from torch import nn

__all__ = ["Standardize", "Statistics", "check_finite"]

# Dtypes whose values float32 holds exactly. The others are shifted in float64 before the cast:
# cast first, 1.7e9 + U(0, 100), a time stamp, keeps two distinct values.
_NARROW = {torch.uint8, torch.int8, torch.int16, torch.bool}
_NARROW |= {torch.float32, torch.float16, torch.bfloat16}


def _is_grid(shape: tuple[int, ...]) -> bool:
    """Tell whether samples are images or volumes: views see those in [0, 1]."""
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
    first = int((~x.isfinite()).nonzero()[0, 1])
    raise ValueError(
        f"Input X contains {what}, in {axis} {first} (of 0 to {x.shape[1] - 1}) and maybe others. "
        f"{estimator_name} needs finite numbers: drop such rows, or fill them in before, with "
        "sklearn.impute.SimpleImputer, say."
    )


def _sum(x: torch.Tensor) -> torch.Tensor:
    """Sum over all axes but the second, which is four times faster like this than by axes."""
    if x.ndim == 2:
        return x.new_ones(len(x)) @ x
    return x.flatten(2).sum(2).sum(0)


class Statistics:
    """Mean, standard deviation, smallest and largest value per feature or channel, streamed.

    Batches are merged by their means and squared deviations, in float64, so that nothing is
    lost to cancellation. All is taken as the distance from the first row: a constant is then
    exactly zero, where its mean would be off by a rounding, and that would pass for a deviation.

    Parameters
    ----------
    sample_shape : tuple of int
        (features,), or (channels, ...): statistics are per feature of a table and per channel
        otherwise.
    """

    def __init__(self, sample_shape: tuple[int, ...]) -> None:
        self.sample_shape = tuple(sample_shape)
        self.n_rows = 0
        self.dtype: torch.dtype | None = None
        self._weight = 0
        self._first: torch.Tensor | None = None
        self._mean = torch.zeros(sample_shape[0], dtype=torch.float64)
        self._m2 = torch.zeros_like(self._mean)
        self._low = float("inf")
        self._high = float("-inf")
        # What keeps a feature of a table from being zeros and ones: 0 for those.
        self._not_binary = torch.zeros_like(self._mean)

    def update(self, x: torch.Tensor) -> None:
        """Take in a batch of shape (n, *sample_shape), in its own dtype, on any device."""
        if not len(x):
            return
        self.dtype = x.dtype if self.dtype is None else torch.promote_types(self.dtype, x.dtype)
        self.n_rows += len(x)
        x = x.detach().to(torch.float64)
        if _is_grid(self.sample_shape):
            low, high = torch.aminmax(x)
            self._low = min(self._low, float(low))
            self._high = max(self._high, float(high))
        if len(self.sample_shape) == 1:
            self._not_binary += _sum((x * (x - 1)).abs_()).cpu()
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
    def of(cls, sample_shape: tuple[int, ...], batches: Iterable[torch.Tensor]) -> Statistics:
        statistics = cls(sample_shape)
        for batch in batches:
            statistics.update(batch)
        return statistics

    def layer(self, standardize: bool = True) -> Standardize:
        """Return the layer that takes rows of these statistics to zero mean and unit variance."""
        is_bytes = _is_grid(self.sample_shape) and self.dtype == torch.uint8
        low, high = 0.0, 1.0
        if is_bytes:
            high = 255.0
        elif _is_grid(self.sample_shape) and self._high > self._low:
            low, high = self._low, self._high
        if not standardize:
            zero = torch.zeros(self.sample_shape[0], dtype=torch.float64)
            scale = zero + (255.0 if is_bytes else 1.0)
            return Standardize(self.sample_shape, (low, high), zero, scale)
        mean = self._mean if self._first is None else self._first + self._mean
        scale = (self._m2 / max(self._weight, 1)).sqrt()
        # What was computed, as 0.1 + 0.2 beside 0.3, may differ in the last digit and be constant.
        floor = 10 * np.finfo(np.float64).eps * mean.abs()
        # Zeros and ones have a scale already: a rare category must not become a hundred.
        keep = (scale <= floor) | ((self._not_binary == 0) & (len(self.sample_shape) == 1))
        scale = torch.where(keep, torch.ones_like(scale), scale)
        return Standardize(self.sample_shape, (low, high), mean, scale)


class Standardize(nn.Module):
    """Shift and scale rows to zero mean and unit variance, giving float32.

    Two steps, since the views are drawn in between for images and volumes: :meth:`unit` (images
    and volumes to [0, 1], tables and series untouched) and :meth:`normalize`. ``forward`` is
    both at once.

    Parameters
    ----------
    sample_shape : tuple of int
        Of one row.
    limits : tuple of two floats
        The values that become 0 and 1 for images and volumes.
    mean, scale : Tensor of shape (features,) or (channels,)
        In the unit of the data.
    """

    shift: torch.Tensor
    gain: torch.Tensor
    shift32: torch.Tensor
    gain32: torch.Tensor
    unit_mean: torch.Tensor
    unit_gain: torch.Tensor

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        limits: tuple[float, float],
        mean: torch.Tensor,
        scale: torch.Tensor,
    ) -> None:
        super().__init__()
        self.is_grid = _is_grid(sample_shape)
        self.limits = limits
        low, high = limits
        shape = (-1, *(1 for _ in sample_shape[1:]))
        self.register_buffer("shift", mean.reshape(shape).clone())
        self.register_buffer("gain", (1 / scale).reshape(shape))
        if not self.is_grid:
            low, high = 0.0, 1.0
        # Rows of a narrow dtype are shifted in float32, where nothing is lost, unless the numbers
        # come near the ends of its range.
        ends = torch.cat((mean.abs().flatten(), scale.flatten(), 1 / scale.flatten()))
        self.fits_float32 = bool((ends < 1e37).all())
        self.register_buffer("shift32", self.shift.float())
        self.register_buffer("gain32", self.gain.float())
        self.register_buffer("unit_mean", ((self.shift - low) / (high - low)).float())
        self.register_buffer("unit_gain", (self.gain * (high - low)).float())

    def _apply(self, fn, recurse=True):
        # A module's .half() or .float() must not round the statistics; only the device follows.
        kept = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def unit(self, x: torch.Tensor) -> torch.Tensor:
        """Give what views are drawn from: [0, 1] for images, standardised for other kinds."""
        if not self.is_grid:
            return self(x)
        low, high = self.limits
        if (low, high) == (0.0, 1.0):
            return x.float()
        if x.dtype in _NARROW and self.fits_float32:
            return (x.float() - low).mul_(1 / (high - low))
        return (x.double() - low).mul_(1 / (high - low)).float()

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Follow :meth:`unit`, or the views drawn from it: to zero mean and unit variance."""
        return (x - self.unit_mean) * self.unit_gain if self.is_grid else x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype in _NARROW and self.fits_float32:
            return (x.float() - self.shift32).mul_(self.gain32)
        return (x.double() - self.shift).mul_(self.gain).float()
