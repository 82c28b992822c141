"""The rows of X, wherever they are: one face for arrays, data sets and streams.

``Rows`` can be asked for any row by number: an array, a memory map, a tensor, a map-style
dataset. A ``Stream`` can only be read from its beginning: an iterable dataset, a loader.
Nothing is copied or cast whole; a batch is what moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ._isolation import default_generator_kept
from ._objective import Batch
from ._standardize import Standardize, Statistics, check_finite

__all__ = ["Rows", "Stream", "TrainingData", "as_layout", "lay_out", "measure", "memory_format"]

# What a pass over all rows reads at a time: far above the cost of a call, within the cache.
_CHUNK_BYTES = 2**20
# The part of a device's free memory that the data may take.
_DEVICE_SHARE = 0.4


def memory_format(n_dims: int) -> torch.memory_format:
    """Return the layout in which convolutions are fastest: channels last for images, volumes."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return formats.get(n_dims, torch.contiguous_format)


def as_layout(x: torch.Tensor) -> torch.Tensor:
    """Lay a batch out in the :func:`memory_format` of its kind."""
    return x.contiguous(memory_format=memory_format(x.ndim))


def lay_out(module: nn.Module, n_dims: int) -> None:
    """Lay the convolution weights of a module out as its batches of `n_dims` axes are.

    Weights of another number of axes keep a layout of the encoder's own.
    """
    if memory_format(n_dims) != torch.contiguous_format:
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if tensor.ndim == n_dims:
                tensor.data = as_layout(tensor.data)


def chunk_rows(sample_shape: tuple[int, ...], itemsize: int = 8) -> int:
    """Return how many rows a pass over all rows reads at a time."""
    return max(1, _CHUNK_BYTES // (itemsize * int(np.prod(sample_shape))))


def _view(array: np.ndarray) -> torch.Tensor | None:
    """View a NumPy array as a tensor; None where torch cannot (strides, byte order, dtype).

    A read-only array is viewed too, without the warning that ``torch.from_numpy`` gives: it is
    presented under its address as writeable, and never written.
    """
    kind, itemsize = array.dtype.kind, array.dtype.itemsize
    if not array.dtype.isnative or kind not in "biuf" or itemsize > 8:
        return None
    if kind == "u" and itemsize > 1:  # torch has these dtypes, but few operations on them
        return None
    if any(stride < 0 or stride % array.dtype.itemsize for stride in array.strides):
        return None
    if not array.flags.writeable:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        holder = type("_Writeable", (), {"__array_interface__": interface, "owner": array})()
        array = np.asarray(holder)
    return torch.from_numpy(array)


def first_of(item: Any) -> Any:
    """Return x of an item ``x`` or ``(x, ...)``."""
    return item[0] if isinstance(item, (tuple, list)) else item


def as_batch(x: Any) -> torch.Tensor:
    """Make what a dataset or a loader gave a tensor."""
    if isinstance(x, torch.Tensor):
        return x.detach()
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            "Items of a torch dataset or loader must be arrays or tensors x, or tuples (x, ...) "
            f"that begin with one. Got {type(x).__name__} instead."
        )
    tensor = _view(array)
    return _to_native(array) if tensor is None else tensor


def _to_native(array: np.ndarray) -> torch.Tensor:
    """Copy a (small) array into one that torch can view."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "u" and dtype.itemsize > 1:
        dtype = np.dtype({2: np.int32, 4: np.int64, 8: np.float64}[dtype.itemsize])
    elif dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


class Rows:
    """Rows that can be asked for by number.

    Parameters
    ----------
    source : ndarray, Tensor or map-style Dataset
        Already validated.
    sample_shape : tuple of int, optional
        For a dataset, the shape of one item.
    """

    is_stream = False

    def __init__(
        self,
        source: np.ndarray | torch.Tensor | Dataset,
        sample_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.source = source
        self.tensor: torch.Tensor | None = None
        if isinstance(source, torch.Tensor):
            self.tensor = source.detach()
        elif isinstance(source, np.ndarray):
            self.tensor = _view(source)
        shape = source.shape[1:] if sample_shape is None else sample_shape  # type: ignore[union-attr]
        self.sample_shape = tuple(int(size) for size in shape)
        self.item_shape = self.sample_shape

    def view_as(self, sample_shape: tuple[int, ...]) -> None:
        """Give rows in another shape from now on, (1, features) for (features,) say."""
        self.sample_shape = tuple(sample_shape)

    def _shaped(self, batch: torch.Tensor) -> torch.Tensor:
        if self.sample_shape == self.item_shape:
            return batch
        return batch.reshape(len(batch), *self.sample_shape)

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Return the rows of a 1-D integer tensor, in their own dtype, where the data is."""
        if self.tensor is not None:
            return self._shaped(self.tensor.index_select(0, index.to(self.tensor.device)))
        if isinstance(self.source, np.ndarray):
            return self._shaped(_to_native(self.source[index.numpy()]))
        numbers = index.tolist()
        fetch = getattr(self.source, "__getitems__", None)
        items = fetch(numbers) if fetch else [self.source[i] for i in numbers]
        rows = [as_batch(first_of(item)) for item in items]
        for row in rows:
            check_shape(row.shape, self.item_shape)
        return self._shaped(torch.stack(rows))

    def slices(self, size: int) -> Iterator[torch.Tensor]:
        """Go through all rows in order, `size` at a time, without a copy where that is possible."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            if self.tensor is not None:
                yield self._shaped(self.tensor[start:stop])
            elif isinstance(self.source, np.ndarray):
                yield self._shaped(_to_native(self.source[start:stop]))
            else:
                yield self.take(torch.arange(start, stop))

    def to(self, device: torch.device) -> Rows:
        """Move all rows to a device if they fit there, else leave them where they are."""
        if self.tensor is None or device.type != "cuda" or self.tensor.device == device:
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.tensor.nbytes > _DEVICE_SHARE * free:
            return self
        moved = Rows(self.tensor.to(device))
        moved.view_as(self.sample_shape)
        return moved


class Stream:
    """Rows that can only be read from the beginning, batch by batch.

    Parameters
    ----------
    loader : DataLoader
        The caller's own, or one around an iterable dataset.
    drop_short : bool
        Leave out a last batch that is shorter than the first (a loader of the caller's says
        itself what it leaves out).
    keep_generator : bool
        Leave torch's default generator alone, from which going through a loader draws the seed
        of its workers. In ``fit`` the generator is the fit's own, and each epoch wants another
        seed.
    minimum : int
        Rows that are needed, for the message when there are none.
    """

    is_stream = True

    def __init__(
        self, loader: DataLoader, *, drop_short: bool, keep_generator: bool, minimum: int
    ) -> None:
        self.loader = loader
        self.drop_short = drop_short
        self.keep_generator = keep_generator
        items = self._begin()
        first = next(items, None)
        if first is None:
            raise ValueError(
                "Found no rows in X: the torch dataset or loader gave no batch while a minimum "
                f"of {minimum} is required."
            )
        # What has been begun is gone on with: a stream may be one that can be read once only.
        self._begun: tuple[Any, Iterator[Any]] | None = (first, items)
        self.item_shape = self.sample_shape = tuple(as_batch(first_of(first)).shape[1:])
        self.n_rows: int | None = None
        self.n_batches: int | None = None

    def view_as(self, sample_shape: tuple[int, ...]) -> None:
        """Give rows in another shape from now on."""
        self.sample_shape = tuple(sample_shape)

    def _begin(self) -> Iterator[Any]:
        if self.keep_generator:
            with default_generator_kept():
                return iter(self.loader)
        return iter(self.loader)

    def slices(self, size: int | None = None) -> Iterator[torch.Tensor]:
        """Go through all rows; `size` is the loader's affair."""
        items = (
            self._begin()
            if self._begun is None
            else itertools.chain([self._begun[0]], self._begun[1])
        )
        self._begun = None
        for item in items:
            batch = as_batch(first_of(item))
            check_shape(batch.shape[1:], self.item_shape)
            if len(batch):
                yield batch.reshape(len(batch), *self.sample_shape)

    def count(self, sizes: list[int]) -> None:
        """Take note of the sizes of all batches, seen in the first pass."""
        self.n_rows = sum(sizes)
        self.n_batches = sum(self._kept(size, sizes[0]) for size in sizes)
        if self.n_rows > 1 and not self.n_batches:
            raise ValueError(
                "All batches of X have one row, whose loss has nothing to compare it with. Make "
                "the DataLoader with a batch_size of 2 or more."
            )

    def _kept(self, size: int, first: int) -> bool:
        # One row has no batch statistics and no negatives.
        return size > 1 and not (self.drop_short and size < first)

    def batches(self) -> Iterator[torch.Tensor]:
        """Go through the batches that are trained on."""
        first = None
        for batch in self.slices():
            first = len(batch) if first is None else first
            if self._kept(len(batch), first):
                yield batch


def check_shape(shape: Sequence[int], expected: tuple[int, ...]) -> None:
    """Refuse a sample of another shape than the first."""
    if tuple(shape) != expected:
        raise ValueError(
            f"All samples of X must have the same shape. Got {tuple(shape)} after {expected}."
        )


def measure(rows: Rows | Stream, held_out: torch.Tensor | None, name: str) -> Statistics:
    """Go through all rows once: statistics of those trained on, finiteness of all.

    A stream is counted on the way.
    """
    statistics = Statistics(rows.sample_shape)
    if isinstance(rows, Stream):
        sizes = []
        for batch in rows.slices():
            check_finite(batch, name)
            statistics.update(batch)
            sizes.append(len(batch))
        rows.count(sizes)
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


def _checked(views: Any, n: int) -> torch.Tensor:
    if not isinstance(views, torch.Tensor) or views.ndim < 2 or len(views) != n:
        kind = tuple(views.shape) if isinstance(views, torch.Tensor) else type(views).__name__
        raise ValueError(
            f"The 'augment' parameter must return a tensor with a row for each of {n} rows. Got "
            f"{kind} instead."
        )
    return views.float()


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
    """

    def __init__(
        self,
        rows: Rows | Stream,
        index: torch.Tensor | None,
        standardize: Standardize,
        augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None,
        n_views: int,
        device: torch.device,
    ) -> None:
        self.rows = rows
        self.index = index
        self.standardize = standardize
        self.augment = augment
        self.n_views = n_views
        self.device = device
        self.sample_shape = rows.sample_shape

    def __len__(self) -> int:
        if isinstance(self.rows, Stream):
            return self.rows.n_rows or 0
        return len(self.rows) if self.index is None else len(self.index)

    def to_device(self, x: torch.Tensor) -> torch.Tensor:
        """Move raw rows to the device, in their own dtype."""
        if x.device == self.device:
            return x
        if self.device.type == "cuda" and x.device.type == "cpu":
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    def clean(self, raw: torch.Tensor) -> torch.Tensor:
        """Standardise raw rows; ready for the encoder."""
        return as_layout(self.standardize(self.to_device(raw)))

    def batch(self, raw: torch.Tensor, index: torch.Tensor | None, generator) -> Batch:
        """Draw the views of raw rows, all in one call: one random draw per sample and view."""
        raw = self.to_device(raw)
        views: tuple[torch.Tensor, ...] = ()
        if self.n_views:
            unit = self.standardize.unit(raw)
            if self.n_views > 1:
                unit = torch.cat((unit,) * self.n_views)  # repeat takes three times as long
            if self.augment is not None:
                unit = _checked(self.augment(unit, generator), len(unit))
            unit = as_layout(self.standardize.normalize(unit))
            views = unit.chunk(self.n_views)
        return Batch(lambda: self.clean(raw), index, views, generator)

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Return `n` rows without replacement (all, if there are fewer), standardised.

        Of a stream, the first ones. `generator` is on the CPU.
        """
        if isinstance(self.rows, Stream):
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

    def map(self, function: Callable[[torch.Tensor], torch.Tensor], size: int = 1024):
        """Return `function` of all rows, batch by batch, concatenated on the device."""
        if isinstance(self.rows, Stream):
            return torch.cat([function(self.clean(part)) for part in self.rows.slices()])
        if self.index is None:
            return torch.cat([function(self.clean(part)) for part in self.rows.slices(size)])
        return torch.cat([function(self.clean(self.rows.take(i))) for i in self.index.split(size)])
