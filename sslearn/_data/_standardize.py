"""The one layer that casts: raw rows in their own dtype to standardised float32."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from sklearn import get_config
from torch import nn

__all__ = ["BYTE", "Checked", "Standardize", "check_values", "is_grid", "refuse_nan"]

# Dtypes whose values float32 holds exactly. The others are shifted in float64 before the cast:
# if cast first, a time stamp 1.7e9 + U(0, 100) keeps two distinct values.
_NARROW = {torch.uint8, torch.int8, torch.int16, torch.bool}
_NARROW |= {torch.float32, torch.float16, torch.bfloat16}
# The largest value of a byte.
BYTE = 255
# Remedies for NaN, by the axes of a batch: scikit-learn's imputers take tables alone.
_REMEDIES = {
    2: "fill them in first, for example with sklearn.impute.SimpleImputer",
    3: "fill them in first, for example by numpy.interp along time",
}


def is_grid(shape: tuple[int, ...]) -> bool:
    """Return whether samples are images or volumes, whose views are drawn in [0, 1]."""
    return len(shape) >= 3


class Checked(NamedTuple):
    """Result of the check of a batch.

    Attributes
    ----------
    largest : float
        The largest magnitude of a value.
    missing : str or None
        Feature or channel of the first NaN, which means a missing value, in words. If None, there
        is none.
    """

    largest: float
    missing: str | None = None


def check_values(
    x: torch.Tensor, estimator_name: str, *, allow_nan: bool, owner: list[int] | None = None
) -> Checked:
    """Refuse infinity, and NaN unless it means a missing value, in one sentence.

    `owner` holds the number in X of each column, where some have become several.
    """
    trusted = get_config()["assume_finite"]
    if not x.is_floating_point() or (trusted and not allow_nan):
        return Checked(0.0)
    low, high = torch.aminmax(x)  # both are NaN if one value is
    largest = max(-float(low), float(high))
    if math.isfinite(largest):
        return Checked(largest)
    missing = x.isnan()
    where = _first_place(missing, owner) if bool(missing.any()) else None
    if where and not allow_nan:
        refuse_nan(where, x.ndim, estimator_name)
    infinite = x.isinf()
    if bool(infinite.any()) and not trusted:
        raise ValueError(
            f"Input X contains infinity, in {_first_place(infinite, owner)}. {estimator_name} "
            "needs finite numbers: drop such samples, or clip them first."
        )
    empty = missing.flatten(1).all(1)
    # A category that was not seen is missing, but not a value that X lacks.
    if owner is None and bool(empty.any()):
        raise ValueError(
            f"Input X contains samples without any value, all NaN: {int(empty.sum())} of "
            f"{len(x)} that were read together. {estimator_name} needs one value at least in each "
            "sample: drop such samples."
        )
    return Checked(float(x.masked_fill(missing, 0.0).abs().max()), where)


def refuse_nan(where: str, n_axes: int, estimator_name: str) -> None:
    """Refuse NaN for encoders that take none, in batches of `n_axes` axes."""
    if get_config()["assume_finite"]:
        return
    remedy = _REMEDIES.get(n_axes, "fill them in first")
    if n_axes < 4:
        remedy += ", or give an encoder that takes NaN, see sslearn.encoders.FillMissing"
    raise ValueError(
        f"Input X contains NaN, in {where}. {estimator_name} needs finite numbers: drop such "
        f"samples, or {remedy}.{' Series of unequal length are padded with NaN.' * (n_axes == 3)}"
    )


def _first_place(found: torch.Tensor, owner: list[int] | None) -> str:
    """Name the feature or channel of the first true value."""
    axis = "feature" if found.ndim == 2 else "channel"
    numbers = range(found.shape[1]) if owner is None or found.ndim > 2 else owner
    where = f"{axis} {numbers[int(found.nonzero()[0, 1])]}"
    if numbers[-1]:
        where += f" (of 0 to {numbers[-1]}) and maybe others"
    return where


class Standardize(nn.Module):
    """Shift, scale and clip rows to zero mean and unit variance, giving float32.

    Two steps, since the views are drawn in between for images and volumes: :meth:`unit` (images
    and volumes to [0, 1], tables and series untouched) and :meth:`normalize`. ``forward`` is
    both at once. The same numbers give the same bits whatever their dtype. NaN, a missing value,
    stays NaN.

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
        self.is_grid = is_grid(sample_shape)
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
        self.holds_bytes = bool((least <= 0).all() and (most >= BYTE).all())
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
