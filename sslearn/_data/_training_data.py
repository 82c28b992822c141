"""The samples trained on: their statistics, and what an objective may ask of them."""

from __future__ import annotations

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from .._modules import shortcut_of
from ._groups import Groups
from ._ragged import ends_early
from ._rows import Rows, Stream, chunk_rows, sample_rows
from ._standardize import Checked, Standardize, check_values, is_grid
from ._statistics import Statistics

__all__ = ["TrainingData", "autocast_off", "compute_statistics"]

# Samples that networks are made from, by quantiles of columns for example.
_MOST_REFERENCE_ROWS = 4096
# Samples of a stream, or seconds, after which it may have no end.
_MANY_ROWS, _MANY_SECONDS = 10_000_000, 600


def compute_statistics(rows: Rows | Stream, held_out: torch.Tensor | None, name: str) -> Statistics:
    """Read all samples once: statistics of those trained on, and a check of all values.

    All given views of a sample are read. In tables and series NaN is a missing value. A stream is
    also counted.
    """
    owner = None if rows.codes is None else rows.codes.owner.tolist()
    check = functools.partial(
        check_values, estimator_name=name, allow_nan=not is_grid(rows.sample_shape), owner=owner
    )
    statistics = _statistics(rows, held_out, check)
    unknown = statistics.nowhere_known()
    if unknown is not None:
        unknown = owner[unknown] if owner and len(rows.sample_shape) == 1 else unknown
        axis = "feature" if len(rows.sample_shape) == 1 else "channel"
        raise ValueError(
            f"Input X contains no value in {axis} {unknown}, only NaN, in the samples that are "
            f"trained on. {name} needs one value at least in each {axis}: drop the {axis}."
        )
    return statistics


def _statistics(
    rows: Rows | Stream, held_out: torch.Tensor | None, check: Callable[[torch.Tensor], Checked]
) -> Statistics:
    def each(batch: torch.Tensor) -> torch.Tensor:
        return batch.flatten(0, 1) if rows.n_given else batch

    statistics = Statistics(rows.sample_shape)
    if isinstance(rows, Stream):
        sizes, head, lacking = [], [], sample_rows(rows.sample_shape)
        for batch in _may_have_no_end(rows):
            checked = check(each(batch))
            statistics.where_missing = statistics.where_missing or checked.missing
            rows.any_length |= bool(checked.missing) and ends_early(each(batch))
            statistics.update(each(batch), has_missing=bool(checked.missing))
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
    for batch in rows.with_views(chunk_rows(rows.sample_shape)):
        checked = check(each(batch))
        stop = start + len(batch)
        rows.any_length |= bool(checked.missing) and ends_early(each(batch))
        if trained_on is not None:
            batch = batch[trained_on[start:stop].to(batch.device)]
        statistics.where_missing = statistics.where_missing or checked.missing
        statistics.update(each(batch), has_missing=bool(checked.missing))
        start = stop
    return statistics


def _may_have_no_end(stream: Stream) -> Iterator[torch.Tensor]:
    """Iterate over a stream that is counted, and warn once if that takes suspiciously long."""
    begun, n_rows, quiet = time.monotonic(), 0, stream.ends
    for batch in stream.with_views():
        n_rows += len(batch)
        seconds = time.monotonic() - begun
        if not quiet and (n_rows > _MANY_ROWS or seconds > _MANY_SECONDS):
            quiet = True
            warnings.warn(
                f"X is read once before training, to count its samples: {n_rows} in "
                f"{seconds:.0f} s so far. If it has no end, interrupt, and set "
                'trainer_params={"limit_train_batches": n}, an int, or "max_steps".',
                stacklevel=2,
            )
        yield batch


def autocast_off(device: torch.device) -> contextlib.AbstractContextManager:
    """Compute in float32, also where Lightning or an objective has opened an autocast context."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


class TrainingData:
    """The samples trained on, and what an objective may ask of them.

    Parameters
    ----------
    rows : Rows or Stream
        The data, on the device if it fits there.
    index : Tensor of shape (n,) or None
        Numbers of the samples trained on. If None, all are.
    standardize : Standardize
        Standardisation, on `device`.
    device : torch.device
        Device of the batches.
    reference_seed : int
        Seed of :meth:`reference_rows`.
    extremes : Tensor of shape (2, features), optional
        The smallest and the largest value of each column of a table.
    where_missing : str or None
        Feature or channel of the first missing value, NaN, in words. If None, all are known.
    """

    def __init__(
        self,
        rows: Rows | Stream,
        index: torch.Tensor | None,
        standardize: Standardize,
        device: torch.device,
        reference_seed: int = 0,
        extremes: torch.Tensor | None = None,
        *,
        where_missing: str | None = None,
    ) -> None:
        self.rows = rows
        self.index = index
        self.standardize = standardize
        self.device = device
        self.sample_shape = rows.sample_shape
        self.reference_seed = reference_seed
        self.extremes = extremes
        #: Where the first value is missing, which is NaN in samples and views, if one is.
        self.where_missing = where_missing
        #: The group of each sample of X, where the caller gives them.
        self.groups: Groups | None = None
        #: Shape of what the encoder takes that is trained: a sample, or the stem's features of one.
        self.input_shape = rows.sample_shape
        #: What comes before that, and does not change.
        self.stem: nn.Module | None = None
        #: Whether what is trained is a few layers behind a stem, for which few steps are enough.
        self.few_layers = False
        #: What the encoder takes of all samples trained on, in half precision, where it is kept.
        self.kept_inputs: torch.Tensor | None = None
        self._reference: torch.Tensor | None = None
        self._places: torch.Tensor | None = None

    def __len__(self) -> int:
        """Return the number of samples trained on."""
        return self.n_rows if self.index is None else len(self.index)

    @property
    def n_rows(self) -> int:
        """Number of samples of X, held-out ones too: ``Batch.index`` is below it."""
        return (self.rows.n_rows or 0) if isinstance(self.rows, Stream) else len(self.rows)

    @property
    def is_stream(self) -> bool:
        """Whether the samples have no numbers, and ``Batch.index`` is None."""
        return self.rows.is_stream

    def to_device(self, x: torch.Tensor) -> torch.Tensor:
        """Move raw samples to the device, in their own dtype."""
        if x.device == self.device:
            return x
        if self.device.type == "cuda" and x.device.type == "cpu":
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    def clean(self, raw: torch.Tensor) -> torch.Tensor:
        """Standardise raw samples, in float32; ready for the encoder."""
        with autocast_off(self.device):
            return self.standardize(self.to_device(raw)).contiguous()

    @property
    def has_stem(self) -> bool:
        """Whether what is trained takes the features of a stem, not samples."""
        return self.stem is not None

    def put_stem(self, stem: nn.Module, input_shape: tuple[int, ...], *, few_layers: bool) -> None:
        """Put a stem before what is trained, which then takes its output, of a shape."""
        self.stem, self.input_shape, self.few_layers = stem, input_shape, few_layers

    @torch.no_grad()
    def inputs(self, samples: torch.Tensor) -> torch.Tensor:
        """Return what the encoder takes that is trained, of standardised samples or views."""
        if self.stem is None:
            return samples
        with autocast_off(self.device):
            return shortcut_of(self.stem)(samples)

    @torch.no_grad()
    def stem_features(self, samples: torch.Tensor) -> torch.Tensor:
        """Return all features of the stem, of standardised samples or views."""
        assert self.stem is not None
        with autocast_off(self.device):
            return self.stem(samples)

    def places(self, index: torch.Tensor) -> torch.Tensor:
        """Return where the samples of some numbers are among those trained on: 0 to n - 1."""
        if self.index is None:
            return index
        if self._places is None:
            self._places = torch.full((self.n_rows,), -1)
            self._places[self.index.cpu()] = torch.arange(len(self))
            self._places = self._places.to(index.device)
        return self._places.to(index.device)[index]

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Return `n` samples without replacement (all, if there are fewer), standardised.

        For a stream, the first ones. `generator` is on the CPU.
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
        """Return some standardised samples that networks are made from; always the same.

        For a stream, the first ones, which it keeps, so that it is not read again. A column of a
        table that is constant in these rows, but not in all, has its extremes in two of them.
        """
        if self._reference is None:
            n = sample_rows(self.sample_shape, most=_MOST_REFERENCE_ROWS)
            if isinstance(self.rows, Stream) and self.rows.head is not None:
                n = min(n, len(self.rows.head))
            found = self.sample(n, torch.Generator().manual_seed(self.reference_seed))
            if found.ndim == 2 and self.extremes is not None and len(found) > 2:
                extremes = self.clean(self.extremes)
                equal = (found == found[:1]).all(0)
                if self.where_missing is not None:
                    # Of the values that are known here; there may be none.
                    missing = found.isnan()
                    most = found.masked_fill(missing, -math.inf).amax(0)
                    equal = ((found == most) | missing).all(0)
                rare = equal & (extremes[0] < extremes[1])
                found[:2, rare] = extremes[:, rare]
            self._reference = found
        return self._reference

    def reference_features(self) -> torch.Tensor:
        """Return all features of the stem, of the samples of `reference_rows`."""
        return torch.cat([self.stem_features(part) for part in self.reference_rows().split(256)])

    def map(self, function: Callable[[torch.Tensor], torch.Tensor], size: int = 1024):
        """Apply a function to all samples, batch by batch; concatenate its output on the device."""
        if isinstance(self.rows, Stream):
            return torch.cat([function(self.clean(part)) for part in self.rows.slices()])
        if self.index is None:
            return torch.cat([function(self.clean(part)) for part in self.rows.slices(size)])
        return torch.cat([function(self.clean(self.rows.take(i))) for i in self.index.split(size)])

    def map_inputs(self, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Apply a function to what the encoder takes of all samples, as :meth:`map` does."""
        if self.kept_inputs is None:
            return self.map(lambda samples: function(self.inputs(samples)))
        parts = self.kept_inputs.split(1024)
        return torch.cat([function(part.float()) for part in parts])
