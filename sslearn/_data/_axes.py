"""Warnings for an unusual order of axes: series with time first, images with channels last, ..."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["warn_of_other_axes"]

# A last axis of up to this length may be channels; other axes below `_SMALL` are not checked.
_FEW, _SMALL = 16, 8


class _Rule(NamedTuple):
    """Shapes that suggest another kind of sample, and the order of axes that corrects it."""

    matches: Callable[[Sequence[int], bool], bool]
    suspicion: str
    order: tuple[int, ...] | None  # if None, a channel axis is inserted


def _time_first(shape: Sequence[int], is_bytes: bool) -> bool:
    # Up to 16 steps of four times as many channels, or any number of 16 times as many: of the
    # series in the UEA archive none is like this, though some have 963 channels of 144 steps.
    channels, steps = shape
    return channels >= max(_SMALL, (4 if steps <= _FEW else 16) * steps)


def _grey_images(shape: Sequence[int], is_bytes: bool) -> bool:
    return min(shape) >= _SMALL and (is_bytes or shape[0] == shape[1])


def _channels_last(shape: Sequence[int], is_bytes: bool) -> bool:
    *sides, last = shape
    return last <= _FEW and min(sides) >= max(_SMALL, 2 * last)


def _grey_volumes(shape: Sequence[int], is_bytes: bool) -> bool:
    # A cube, or as many "channels" as pixels a side; satellites have up to 13 bands, and patches
    # of hyperspectral images far more bands than pixels a side.
    if min(shape) == max(shape):
        return shape[0] >= _SMALL
    first, *sides = shape
    return first >= _FEW and max(sides) < 2 * first and first < 2 * min(sides)


def _frames_first(shape: Sequence[int], is_bytes: bool) -> bool:
    frames, channels, *sides = shape
    return frames >= _SMALL and channels in (1, 3) and min(sides) >= _SMALL


# By the number of axes of a sample; the warning is that of the first rule that matches.
_RULES = {
    2: (
        _Rule(_time_first, "time comes first", (1, 0)),
        _Rule(_grey_images, "they are grey images", None),
    ),
    3: (
        _Rule(_channels_last, "channels come last", (2, 0, 1)),
        _Rule(_grey_volumes, "they are volumes without a channel", None),
    ),
    4: (
        _Rule(_channels_last, "channels come last", (3, 0, 1, 2)),
        _Rule(_frames_first, "they are videos with frames first", (1, 0, 2, 3)),
    ),
}
_READ = {
    2: "series of {} channels and {} steps",
    3: "{} channels of {} x {} pixels",
    4: "{} channels of {} x {} x {} voxels",
}


def warn_of_other_axes(
    shape: tuple[int, ...], dtype: str, *, method: str, items: bool, n_before: int = 1
) -> None:
    """Warn when the axes of samples suggest another order, from which little would be learned.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample.
    dtype : str
        Dtype of the samples; bytes are more likely pixels than measurements.
    method : str
        Method of X that moves axes: "transpose" of arrays, "permute" of tensors.
    items : bool
        Whether samples come from a dataset or loader, one by one.
    n_before : int
        Number of axes of X before those of a sample: two where views are given.
    """
    for rule in _RULES.get(len(shape), ()):
        if not rule.matches(shape, dtype.endswith("uint8")):
            continue
        x = "x" if items else "X"
        if rule.order is None:
            remedy = f"{x}[None]" if items else f"{x}[{':, ' * n_before}None]"
        else:
            moved = (*range(n_before), *(axis + n_before for axis in rule.order))
            order = rule.order if items else moved
            remedy = f"{x}.{method}{order}"
        remedy = f"return {remedy} as items" if items else f"pass {remedy}"
        read = _READ[len(shape)].format(*shape)
        warnings.warn(
            f"X has samples of shape {shape}, read as {read}. If {rule.suspicion}, {remedy}.",
            stacklevel=8,  # the caller of fit
        )
        return
