"""What is trained on: rows on their way to the batches of an objective."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .._objective import Batch
from ..augment import Augmentation
from ._rows import Rows, Stream, chunk_rows, sample_rows
from ._standardize import Standardize, Statistics, check_finite

__all__ = ["TrainingData", "compute_statistics"]

# Rows by which networks are made that depend on the data: the quantiles of columns, say.
_LOOKED_AT = 4096
# A stream of which so many rows, or for so many seconds, have been counted may have no end.
_MANY_ROWS, _MANY_SECONDS = 10_000_000, 600
# Of fewer rows than this all may happen to have two equal views.
_ENOUGH_ROWS = 8


def compute_statistics(rows: Rows | Stream, held_out: torch.Tensor | None, name: str) -> Statistics:
    """Go through all rows once: statistics of those trained on, finiteness of all.

    A stream is counted on the way.
    """
    statistics = Statistics(rows.sample_shape)
    if isinstance(rows, Stream):
        sizes, head, lacking = [], [], sample_rows(rows.sample_shape)
        for batch in _may_have_no_end(rows):
            check_finite(batch, name)
            statistics.update(batch)
            sizes.append(len(batch))
            if lacking > 0:
                head.append(batch[:lacking].clone())
                lacking -= len(batch)
        rows.count(sizes, torch.cat(head))
        return statistics
    trained_on = None
    if held_out is not None:
        trained_on = torch.ones(len(rows), dtype=torch.bool)
        trained_on[held_out] = False
    start = 0
    for batch in rows.slices(chunk_rows(rows.sample_shape)):
        check_finite(batch, name)
        stop = start + len(batch)
        if trained_on is not None:
            batch = batch[trained_on[start:stop].to(batch.device)]
        statistics.update(batch)
        start = stop
    return statistics


def _may_have_no_end(stream: Stream) -> Iterator[torch.Tensor]:
    """Go through a stream that is counted, and say so once when that takes suspiciously long."""
    begun, n_rows, quiet = time.monotonic(), 0, stream.ends
    for batch in stream.slices():
        n_rows += len(batch)
        seconds = time.monotonic() - begun
        if not quiet and (n_rows > _MANY_ROWS or seconds > _MANY_SECONDS):
            quiet = True
            warnings.warn(
                f"X is gone through once before training, to be counted: {n_rows} rows in "
                f"{seconds:.0f} s so far. If it has no end, interrupt, and set "
                'trainer_params={"limit_train_batches": n}, an int, or "max_steps".',
                stacklevel=2,
            )
        yield batch


def _views(
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    x: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the views of `x`; images may have become smaller, a table may not."""
    try:
        views: Any = augment(x, generator)
    except Exception as error:
        if isinstance(augment, Augmentation) and isinstance(error, TypeError | ValueError):
            raise  # it says itself which of its parameters, or what of x, is wrong
        raise ValueError(f"{_called(x)}. Got {type(error).__name__}: {error}") from error
    if not isinstance(views, torch.Tensor):
        got = type(views).__name__
    elif views.ndim != x.ndim or views.shape[:2] != x.shape[:2]:
        got = f"shape {tuple(views.shape)}"
    else:
        return views.float()
    raise ValueError(f"{_called(x)}. Got {got} instead.")


def _called(x: torch.Tensor) -> str:
    kept = "rows and features" if x.ndim == 2 else "rows, channels and axes"
    return (
        "The 'augment' parameter is called as augment(x, generator) and must return a tensor with "
        f"the {kept} of x, shape {tuple(x.shape)}"
    )


def _warn_of_equal_views(views: tuple[torch.Tensor, ...]) -> None:
    first = views[0]
    if len(views) < 2 or len(first) < _ENOUGH_ROWS or first.amin() == first.amax():
        return
    if all(torch.equal(first, view) for view in views[1:]):
        warnings.warn(
            "The 'augment' parameter gave equal views of all rows in the first batch, so that "
            "training teaches no invariance. It changes nothing, or draws once for the whole "
            "batch; draw for each row of x, as those of sslearn.augment do.",
            stacklevel=2,
        )


class TrainingData:
    """What an objective may ask of the data, and where its batches come from.

    Parameters
    ----------
    rows : Rows or Stream
        The data, on the device where it fits.
    index : Tensor of shape (n,) or None
        The rows trained on, where others are held out; None: all.
    standardize : Standardize
        On `device`.
    augment : callable or None
        ``augment(x, generator)`` on a whole batch.
    n_views : int
        Views of each row in a batch.
    device : torch.device
        Of the batches.
    reference_seed : int
        Of the rows that :meth:`reference_rows` returns.
    extremes : Tensor of shape (2, features), optional
        The smallest and the largest value of each column of a table.
    """

    def __init__(
        self,
        rows: Rows | Stream,
        index: torch.Tensor | None,
        standardize: Standardize,
        augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None,
        n_views: int,
        device: torch.device,
        reference_seed: int = 0,
        extremes: torch.Tensor | None = None,
    ) -> None:
        self.rows = rows
        self.index = index
        self.standardize = standardize
        self.augment = augment
        self.n_views = n_views
        #: What views are drawn of, see :class:`Objective`.
        self.pieces: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
        self.device = device
        self.sample_shape = rows.sample_shape
        self.reference_seed = reference_seed
        self.extremes = extremes
        #: What the noise of the views drowns, in words.
        self.drowned: str | None = None
        #: Whether views that are equal are told: `augment` is the caller's.
        self.watch_views = False
        self._reference: torch.Tensor | None = None

    def __len__(self) -> int:
        """Return how many rows are trained on."""
        return self.n_rows if self.index is None else len(self.index)

    @property
    def n_rows(self) -> int:
        """Rows of X, held-out ones too: what ``Batch.index`` counts."""
        return (self.rows.n_rows or 0) if isinstance(self.rows, Stream) else len(self.rows)

    @property
    def is_stream(self) -> bool:
        """Whether the rows have no numbers, and ``Batch.index`` is None."""
        return self.rows.is_stream

    def to_device(self, x: torch.Tensor) -> torch.Tensor:
        """Move raw rows to the device, in their own dtype."""
        if x.device == self.device:
            return x
        if self.device.type == "cuda" and x.device.type == "cpu":
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    def clean(self, raw: torch.Tensor) -> torch.Tensor:
        """Standardise raw rows, in float32; ready for the encoder."""
        with self._autocast_off():
            return self.standardize(self.to_device(raw)).contiguous()

    def batch(self, raw: torch.Tensor, index: torch.Tensor | None, generator) -> Batch:
        """Draw the views of raw rows, all in one call: one random draw per sample and view."""
        raw = self.to_device(raw)
        views: tuple[torch.Tensor, ...] = ()
        if self.n_views:
            with self._autocast_off():
                unit = self.pieces(self.standardize.unit(raw))
                if self.n_views > 1:
                    unit = torch.cat((unit,) * self.n_views)  # repeat takes three times as long
                if self.augment is not None:
                    unit = _views(self.augment, unit, generator)
                unit = self.standardize.normalize(unit).contiguous()
            views = unit.chunk(self.n_views)
            if self.watch_views:
                self.watch_views = False  # the first batch says it, and a look waits for the device
                _warn_of_equal_views(views)
        return Batch(lambda: self.clean(raw), index, views, generator)

    def _autocast_off(self):
        """Keep what is computed in float32 so, where Lightning or an objective casts around it."""
        if torch.is_autocast_enabled(self.device.type):
            return torch.autocast(self.device.type, enabled=False)
        return contextlib.nullcontext()

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Return `n` rows without replacement (all, if there are fewer), standardised.

        Of a stream, the first ones. `generator` is on the CPU.
        """
        if isinstance(self.rows, Stream):
            n = min(n, len(self))
            if self.rows.head is not None and n <= len(self.rows.head):
                return self.clean(self.rows.head[:n])
            parts: list[torch.Tensor] = []
            for part in self.rows.slices():
                parts.append(part[: n - sum(map(len, parts))])
                if sum(map(len, parts)) >= n:
                    break
            return self.clean(torch.cat(parts))
        chosen = torch.randperm(len(self), generator=generator)[:n]
        if self.index is not None:
            chosen = self.index[chosen]
        return self.clean(self.rows.take(chosen))

    def reference_rows(self) -> torch.Tensor:
        """Return some rows, standardised, by which networks are made; always the same.

        Of a stream the first ones, which it has kept: it is not gone through once more. A column
        of a table that is constant in these rows, and not in all, has its extremes in two of them.
        """
        if self._reference is None:
            n = sample_rows(self.sample_shape, most=_LOOKED_AT)
            if isinstance(self.rows, Stream) and self.rows.head is not None:
                n = min(n, len(self.rows.head))
            found = self.sample(n, torch.Generator().manual_seed(self.reference_seed))
            if found.ndim == 2 and self.extremes is not None and len(found) > 2:
                extremes = self.clean(self.extremes)
                rare = (found == found[:1]).all(0) & (extremes[0] < extremes[1])
                found[:2, rare] = extremes[:, rare]
            self._reference = found
        return self._reference

    def map(self, function: Callable[[torch.Tensor], torch.Tensor], size: int = 1024):
        """Return `function` of all rows, batch by batch, concatenated on the device."""
        if isinstance(self.rows, Stream):
            return torch.cat([function(self.clean(part)) for part in self.rows.slices()])
        if self.index is None:
            return torch.cat([function(self.clean(part)) for part in self.rows.slices(size)])
        return torch.cat([function(self.clean(self.rows.take(i))) for i in self.index.split(size)])
