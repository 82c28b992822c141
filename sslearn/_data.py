"""The rows of X, wherever they are: one face for arrays, data sets and streams.

``Rows`` can be asked for any row by number: an array, a memory map, a tensor, a map-style
dataset. A ``Stream`` can only be read from its beginning: an iterable dataset, a loader.
Nothing is copied or cast whole; a batch is what moves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ._isolation import default_generator_kept

__all__ = ["Rows", "Stream", "chunk_rows", "sample_rows"]

# What a pass over all rows reads at a time: far above the cost of a call, within the cache.
_CHUNK_BYTES = 2**20
# A sample of rows that is kept while an estimator is fitted: as many as say enough of all of
# them, but of large images no more than fit here.
_SAMPLE_ROWS, _SAMPLE_BYTES = 256, 32 * 2**20
# The part of a device's free memory that the data may take.
_DEVICE_SHARE = 0.4


def chunk_rows(sample_shape: tuple[int, ...], itemsize: int = 8) -> int:
    """Return how many rows a pass over all rows reads at a time."""
    return max(1, _CHUNK_BYTES // (itemsize * int(np.prod(sample_shape))))


def sample_rows(sample_shape: tuple[int, ...], itemsize: int = 4, most: int = _SAMPLE_ROWS) -> int:
    """Return how many rows a sample that is kept in memory has, at most."""
    fit = _SAMPLE_BYTES // (itemsize * int(np.prod(sample_shape)))
    return max(2, min(most, fit))


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
        if x.is_complex() or x.layout != torch.strided:
            raise TypeError(_no_item(f"{x.layout} of {x.dtype}"))
        return x.detach()
    array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(_no_item(type(x).__name__))
    tensor = _view(array)
    return _to_native(array) if tensor is None else tensor


def _no_item(got: str) -> str:
    return (
        "Items of a torch dataset or loader must be dense arrays or tensors x of real numbers, or "
        f"tuples (x, ...) that begin with one. Got {got} instead."
    )


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
        self.head: torch.Tensor | None = None

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

    def count(self, sizes: list[int], head: torch.Tensor) -> None:
        """Take note of the sizes of all batches and of the first rows, seen in the first pass."""
        self.head = head
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
