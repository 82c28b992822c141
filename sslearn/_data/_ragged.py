"""Series of unequal length: lists of them are padded with NaN, and padding is never data."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ..encoders._own_length import own_lengths
from ._rows import refuse_masked
from ._shapes import check_shape

__all__ = ["aligned", "ends_early", "from_list", "without_padding"]

# Samples whose last step is looked at together.
_CHUNK = 1024


def from_list(X: Any, name: str) -> np.ndarray | None:
    """Make one array of a list of series, padded with NaN at their ends; None if X is no such list.

    Parameters
    ----------
    X : object
        The caller's data. A list, or an array of objects, whose items have two axes, (channels,
        time_i), is a list of series.
    name : str
        Name of the estimator, for messages.

    Returns
    -------
    ndarray of shape (n, channels, time), or None
        In their own dtype if all have one length. Else in float32 if that holds all values of
        their dtypes, and in float64 if it does not.
    """
    is_list = isinstance(X, list) or (isinstance(X, np.ndarray) and X.dtype == object)
    if not is_list or getattr(X, "ndim", 1) != 1 or not len(X) or not _is_series(X[0]):
        return None
    series = [_as_array(item, i, name) for i, item in enumerate(X)]
    n_channels = series[0].shape[0]
    for i, one in enumerate(series):
        if one.ndim != 2:
            check_shape(one.shape, series[0].shape)
        if one.shape[0] != n_channels:
            raise ValueError(
                "All series of X must have the same number of channels, and be of shape "
                f"(channels, time). Got {one.shape} after {series[0].shape} instead."
            )
        if not one.shape[1]:
            raise ValueError(
                f"All series of X must have one step at least. Got series {i} of shape "
                f"{one.shape} instead; drop it."
            )
    lengths = [one.shape[1] for one in series]
    if min(lengths) == max(lengths):
        return np.stack(series)
    # Of integers of more than 16 bits, time stamps for example, float32 would merge many.
    is_narrow = np.result_type(np.float32, *{one.dtype for one in series}) == np.float32
    dtype = np.float32 if is_narrow else np.float64
    padded = np.full((len(series), n_channels, max(lengths)), np.nan, dtype=dtype)
    for row, one in zip(padded, series, strict=True):
        row[:, : one.shape[1]] = one
    return padded


def _is_series(item: Any) -> bool:
    """Return whether an item is an array of two axes, or nested lists that are one."""
    if isinstance(item, list | tuple):
        return (
            bool(len(item))
            and isinstance(item[0], list | tuple)
            and not any(isinstance(value, Sequence) or np.ndim(value) for value in item[0])
        )
    return not isinstance(item, torch.Tensor) and len(getattr(item, "shape", ())) == 2


def _as_array(item: Any, number: int, name: str) -> np.ndarray:
    refuse_masked(item)
    try:
        array = np.asarray(item)
    except ValueError as error:  # channels of different lengths
        raise ValueError(
            f"The channels of a series must have one length: pad them with NaN. Got series "
            f"{number} of X without a common length instead."
        ) from error
    if array.dtype.kind == "O":  # numbers, None and NaN among them
        with contextlib.suppress(TypeError, ValueError):
            array = array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} needs real numbers (bool, integer or float). Got series {number} of dtype "
            f"{array.dtype} instead."
        )
    return array


def without_padding(X: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Cut the steps at the end that are missing in all series, so that padding changes nothing."""
    is_float = X.is_floating_point() if isinstance(X, torch.Tensor) else X.dtype.kind == "f"
    if X.ndim != 3 or not is_float or 0 in X.shape:
        return X
    longest = 0
    for start in range(0, len(X), _CHUNK):
        # Nearly always the first series, or one of them, is as long as the array.
        if not _all_missing(X[start : start + _CHUNK, :, -1]):
            return X
    for start in range(0, len(X), _CHUNK):
        part = X[start : start + _CHUNK]
        if not isinstance(part, torch.Tensor):
            part = torch.from_numpy(np.array(part, dtype=np.float64))
        longest = max(longest, int(own_lengths(part).max()))
    return X[:, :, :longest] if longest else X


def _all_missing(x: np.ndarray | torch.Tensor) -> bool:
    return bool((x.isnan() if isinstance(x, torch.Tensor) else np.isnan(x)).all())


def ends_early(x: torch.Tensor) -> bool:
    """Return whether a series of a batch (n, channels, time) ends before the last step."""
    return x.ndim == 3 and bool(x[:, :, -1].isnan().all(1).any())


def aligned(x: torch.Tensor, n_steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Iterate over series as an encoder takes them that has seen series of `n_steps`.

    Its features of a series then depend neither on the padding nor on the other series.

    Parameters
    ----------
    x : Tensor of shape (n, channels, time)
        A batch of series.
    n_steps : int
        Length to which shorter series are padded.

    Yields
    ------
    places : Tensor of shape (m,)
        Numbers of the series.
    series : Tensor of shape (m, channels, length)
        Series of `n_steps` with NaN at the end, and then longer ones, those of one length together.
    """
    if not x.is_floating_point():
        x = x.to(torch.float64)
    lengths = own_lengths(x).clamp(min=n_steps)
    for length in lengths.unique().tolist():
        places = (lengths == length).nonzero()[:, 0]
        series = x[places, :, :length]
        missing = length - series.shape[2]
        if missing > 0:
            series = torch.nn.functional.pad(series, (0, missing), value=math.nan)
        yield places, series
