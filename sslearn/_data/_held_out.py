"""Samples that are held out from training: a part of X, or those that the caller gives."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from ._rows import Rows, Stream, chunk_rows, sample_rows
from ._standardize import check_values, is_grid
from ._statistics import Statistics
from ._validation import check_order, too_few_rows, validate_rows
from ._windows import WindowedRows, windows_in_the_middle

__all__ = ["HeldOut", "Part", "check_held_out", "read_held_out", "warn_of_other_scale"]

# Deviations of X by which half of the values of a feature or channel of X_val may lie off, before
# a warning: far more than samples of another place or time, less than those of another unit.
_FAR = 10.0


class Part(NamedTuple):
    """Some held-out samples.

    Attributes
    ----------
    raw : callable
        Returns the samples, in their own dtype.
    numbers : Tensor of shape (n,) or None
        Numbers of these samples in X; None for those of ``X_val``.
    n : int
        Number of these samples.
    """

    raw: Callable[[], torch.Tensor]
    numbers: torch.Tensor | None
    n: int


class HeldOut:
    """Samples whose loss is computed after each epoch.

    Parameters
    ----------
    rows : Rows or Stream
        X, or ``X_val``.
    index : Tensor or None
        Numbers of the samples in X; None for all samples of ``X_val``.
    """

    def __init__(self, rows: Rows | Stream, index: torch.Tensor | None = None) -> None:
        self.rows = rows
        self.index = index
        #: Some samples, to be compared with those of X.
        self.head: torch.Tensor | None = None
        #: Where the first value of ``X_val`` is missing, in words, if one is.
        self.where_missing: str | None = None
        #: The feature of X of each column, where categories are one-hot.
        self.owner = None if rows.codes is None else rows.codes.owner.tolist()

    def __len__(self) -> int:
        if self.index is not None:
            return len(self.index)
        return (self.rows.n_rows or 0) if isinstance(self.rows, Stream) else len(self.rows)

    def parts(self, batch_size: int) -> Iterator[Part]:
        """Iterate over batches of nearly equal size, or over those of a loader.

        In a short last one a sample would have fewer negatives, and one sample has none at all:
        a batch of one that a loader returns is left out.
        """
        if isinstance(self.rows, Stream):
            for batch in self.rows.slices():
                if len(batch) > 1:
                    yield Part(functools.partial(_given, batch), None, len(batch))
            return
        numbers = torch.arange(len(self)) if self.index is None else self.index
        for part in numbers.tensor_split(max(1, len(numbers) // batch_size)):
            index = None if self.index is None else part
            yield Part(functools.partial(self.rows.take, part), index, len(part))

    def read(self, name: str) -> None:
        """Read all samples once: a check of their values. Those of a loader are counted."""
        allow_nan = not is_grid(self.rows.sample_shape)
        head, missing, sizes = [], sample_rows(self.rows.sample_shape), []
        # Of recordings all is looked at, not a window.
        rows = self.rows.rows if isinstance(self.rows, WindowedRows) else self.rows
        for batch in rows.slices(chunk_rows(rows.sample_shape)):
            checked = check_values(batch, name, allow_nan=allow_nan, owner=self.owner)
            self.where_missing = self.where_missing or checked.missing
            sizes.append(len(batch))
            if missing > 0:
                head.append(batch[:missing].clone())
                missing -= len(batch)
        self.head = torch.cat(head)
        if isinstance(self.rows, Stream):
            self.rows.count(sizes, self.head)


def _given(x: torch.Tensor) -> torch.Tensor:
    return x


def check_held_out(estimator, X_val: Any) -> None:
    """Check how the parameters that ask for held-out samples go together with ``X_val``."""
    if estimator.validation_fraction is None and X_val is None:
        if estimator.n_iter_no_change is not None:
            raise ValueError(
                "The 'n_iter_no_change' parameter needs held-out samples to stop on: set "
                "validation_fraction too, for example to 0.1, or pass X_val to fit. Got "
                "validation_fraction=None."
            )
    elif X_val is not None and estimator.validation_fraction is not None:
        raise ValueError(
            "The 'X_val' parameter must be None where validation_fraction already holds out "
            f"samples. Got both, validation_fraction={estimator.validation_fraction}."
        )


def read_held_out(
    estimator, X_val: Any, like: Rows | Stream, batch_size: int, device: torch.device
) -> HeldOut:
    """Validate ``X_val`` as ``transform`` does its X, read it as X is read, and once as a whole."""
    if isinstance(X_val, DataLoader):
        try:
            check_order(X_val)
        except ValueError as error:
            raise ValueError(
                "The 'X_val' parameter must be a DataLoader that returns all samples in the same "
                "order each time: DataLoader(..., shuffle=False, drop_last=False). Got one that "
                "shuffles, draws or drops samples instead."
            ) from error
    if like.n_given:
        raise ValueError(
            "The 'X_val' parameter must be None where X gives the views of each sample: hold out "
            f"samples of X by validation_fraction. Got {type(X_val).__name__} instead."
        )
    expected = estimator.input_shape_
    shape = tuple(getattr(X_val, "shape", ())[1:])
    other_shape = len(shape) == len(expected) and shape != expected
    if shape and other_shape and not estimator.any_length_:
        raise ValueError(_other_shape(shape, expected))
    try:
        rows = validate_rows(estimator, X_val, reset=False, batch_size=batch_size)
        if isinstance(rows, Rows):
            rows = rows.to(device)
        if like.codes is not None:
            if isinstance(rows, Rows):
                for part in rows.slices(chunk_rows(rows.sample_shape)):
                    like.codes.check(part, type(estimator).__name__)
            rows.spread(like.codes)
        rows.view_as(estimator._sample_shape(rows.sample_shape))
        if isinstance(like, WindowedRows):
            rows = windows_in_the_middle(_as_long(rows, like.length), like.length)
        elif rows.sample_shape != like.sample_shape:
            rows = _as_long(rows, like.sample_shape[-1], exactly=True)
        held_out = HeldOut(rows)
        held_out.read(type(estimator).__name__)
        if len(held_out) < 2:
            raise ValueError(too_few_rows(estimator, len(held_out), rows.item_shape))
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(
            f"The 'X_val' parameter must be samples like those of X. Got this error: {error}"
        ) from error
    return held_out


def _as_long(rows: Rows | Stream, n_steps: int, *, exactly: bool = False) -> Rows | Stream:
    """Return series of fewer steps than `n_steps` with NaN at the end."""
    missing = n_steps - rows.sample_shape[-1]
    if missing < 0 and exactly:
        raise ValueError(
            f"Found series of {rows.sample_shape[-1]} steps, while the longest of X has {n_steps}: "
            "cut them."
        )
    if missing <= 0:
        return rows
    if isinstance(rows, Stream):
        raise ValueError(
            f"Found a loader of series of {rows.sample_shape[-1]} steps, while those of X have "
            f"{n_steps}: pad them with NaN at the end."
        )
    x = torch.cat(list(rows.slices(len(rows)))).double()
    return Rows(torch.nn.functional.pad(x, (0, missing), value=math.nan))


def _other_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return (
        f"The 'X_val' parameter must have samples of the shape of those of X, {expected}. Got "
        f"{shape} instead."
    )


def warn_of_other_scale(held_out: HeldOut, statistics: Statistics, *, stacklevel: int) -> None:
    """Warn if the samples of ``X_val`` lie many deviations of X off: not transformed as X was."""
    assert held_out.head is not None
    x, standardize = held_out.head.cpu().double(), statistics.layer()
    # Without the clip of the layer, behind which nothing lies far off. What is constant in X has no
    # deviation to measure by.
    off = ((x - standardize.shift) * standardize.gain).abs_().transpose(0, 1).flatten(1)
    off = off.nanmedian(dim=1).values.nan_to_num(0)
    off[(standardize.least == standardize.most).flatten()] = 0
    worst = int(off.argmax())
    if off[worst] <= _FAR:
        return
    named = worst if held_out.owner is None or x.ndim > 2 else held_out.owner[worst]
    where = f"{'feature' if x.ndim == 2 else 'channel'} {named}"
    warnings.warn(
        f"The samples of X_val lie {off[worst]:.0f} standard deviations off those of X in {where}, "
        "the median over its values: they seem not to be scaled as X is. In a pipeline the steps "
        "before leave X_val as it is, unless Pipeline(..., transform_input=['X_val']) names it.",
        stacklevel=stacklevel,
    )
