"""The rows of X, wherever they are: one interface for arrays, data sets and streams.

``Rows`` can be asked for any row by number: an array, a memory map, a tensor, a map-style
dataset. A ``Stream`` can only be read from its beginning: an iterable dataset, a loader.
Nothing is copied or cast whole, only batch by batch.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .._process_state import default_generator_kept
from ._shapes import check_shape, stackable

__all__ = ["Rows", "Stream", "chunk_rows", "sample_rows"]

# Bytes that a pass over all rows reads at a time: far above the cost of a call, within the cache.
_CHUNK_BYTES = 2**20
# A sample of rows that is kept while an estimator is fitted: enough to
# describe all of them, but fewer of large images.
_SAMPLE_ROWS, _SAMPLE_BYTES = 256, 64 * 2**20
# Dtypes for which torch has few operations, and those that hold all their values.
_CASTS = dict.fromkeys((torch.uint16, torch.uint32, torch.uint64), torch.int64)
_CASTS |= {getattr(torch, name): torch.float32 for name in dir(torch) if name[:7] == "float8_"}
_STACKS: dict[type, Callable] = {torch.Tensor: torch.stack, np.ndarray: np.stack}
# The part of a device's free memory that the data may take.
_DEVICE_SHARE = 0.4


def chunk_rows(sample_shape: tuple[int, ...], itemsize: int = 8) -> int:
    """Return how many rows a pass over all rows reads at a time."""
    return max(1, _CHUNK_BYTES // (itemsize * int(np.prod(sample_shape))))


def sample_rows(sample_shape: tuple[int, ...], itemsize: int = 4, most: int = _SAMPLE_ROWS) -> int:
    """Return the maximum number of rows that are kept in memory as a sample."""
    fit = _SAMPLE_BYTES // (itemsize * int(np.prod(sample_shape)))
    return max(2, min(most, fit))


def _view(array: np.ndarray) -> torch.Tensor | None:
    """View a NumPy array as a tensor, or return None where torch cannot (strides, dtype, ...).

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


def is_picture(x: Any) -> bool:
    """Return whether x looks like a PIL image; NumPy would read it, with channels last."""
    return all(hasattr(x, name) for name in ("mode", "size", "convert"))


def is_dense(x: torch.Tensor) -> bool:
    """Return whether a tensor has one value for each position of its shape."""
    return x.layout == torch.strided and not (x.is_nested or x.is_quantized or x.is_meta)


def plain_tensor(x: torch.Tensor) -> torch.Tensor:
    """Return a plain tensor, not of a subclass, of a dtype in which torch can compute.

    Subclasses (of MONAI, of torchvision's v2 transforms) hook into every operation.
    """
    if type(x) is not torch.Tensor:
        # Nested tensors and others that only wrap tensors cannot be converted.
        with contextlib.suppress(NotImplementedError, RuntimeError):
            x = x.as_subclass(torch.Tensor)
    if x.requires_grad:
        x = x.detach()
    cast = _CASTS.get(x.dtype)
    return x if cast is None else x.to(cast)


def first_of(item: Any) -> Any:
    """Return x of an item ``x`` or ``(x, ...)``."""
    if not isinstance(item, tuple | list):
        return item
    if not item:
        raise TypeError(_no_item(f"an empty {type(item).__name__}"))
    return item[0]


def as_batch(x: Any) -> torch.Tensor:
    """Convert an item of a dataset or a loader to a tensor; several arrays are refused."""
    if isinstance(x, torch.Tensor):
        x = plain_tensor(x)
        if x.dtype.is_complex or not is_dense(x):
            raise TypeError(_no_item(f"{x.layout} of {x.dtype} on {x.device}"))
        return x
    if type(x) is not np.ndarray:
        _refuse_other_items(x)
    try:
        array = np.asarray(x)
    except ValueError as error:  # lists of lists of different lengths
        raise TypeError(_no_item(f"a {type(x).__name__} without a common shape")) from error
    if array.dtype.kind not in "biuf":
        raise TypeError(_no_item(type(x).__name__))
    tensor = _view(array)
    return _to_native(array) if tensor is None else tensor


def _refuse_other_items(x: Any) -> None:
    """Refuse items that NumPy would convert to an array other than the intended sample."""
    if isinstance(x, tuple | list) and _holds_arrays(x):
        raise TypeError(
            "Items of a torch dataset or loader must be x or (x, ...), where x is one array or "
            f"tensor. Got a {type(x).__name__} of {len(x)} for x instead; sslearn draws the views "
            "of x itself, by the 'augment' parameter."
        )
    if is_picture(x):
        remedy = "convert it by np.asarray(image.convert('RGB')).transpose(2, 0, 1)"
        raise TypeError(_no_item("a PIL image", f"; {remedy} or pil_to_tensor of torchvision"))
    refuse_masked(x)


def stacked(items: Sequence[Any], sample_shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Make a batch of items; `sample_shape` is that of the first one if None."""
    xs = [first_of(item) for item in items]
    kind = type(xs[0])
    # All at once where all are alike, which is faster than one by one.
    if kind in _STACKS and all(type(x) is kind for x in xs):
        # Samples of another shape are reported below.
        with contextlib.suppress(RuntimeError, ValueError):
            batch = as_batch(_STACKS[kind](xs))
            if sample_shape is None or batch.shape[1:] == sample_shape:
                return batch
    rows = [as_batch(x) for x in xs]
    expected = tuple(rows[0].shape) if sample_shape is None else sample_shape
    for row in rows:
        check_shape(row.shape, expected)
    return torch.stack(rows)


def refuse_masked(x: Any) -> None:
    """Refuse a masked array, unless nothing is masked: its mask would be dropped."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(
            f"X must not hold masked values. Got {np.ma.count_masked(x)} of them instead; fill "
            "them in first, by X.filled(value), or by an imputer on X.filled(np.nan)."
        )


def _holds_arrays(x: Sequence[Any]) -> bool:
    """Return whether nested lists hold anything but plain numbers."""
    return any(
        _holds_arrays(part)
        if isinstance(part, tuple | list)
        else (hasattr(part, "shape") and not isinstance(part, np.generic)) or is_picture(part)
        for part in x
    )


def _no_item(got: str, remedy: str = "") -> str:
    return (
        "Items of a torch dataset or loader must be dense arrays or tensors x of real numbers, or "
        f"tuples (x, ...) that begin with one. Got {got} instead{remedy}."
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
    """Rows with access by number.

    Parameters
    ----------
    source : ndarray, Tensor or map-style Dataset
        The rows, already validated.
    first : Tensor, optional
        First x of a dataset.
    """

    is_stream = False
    #: Whether a sample is the same each time that it is read.
    is_fixed = True

    def __init__(
        self,
        source: np.ndarray | torch.Tensor | Dataset,
        first: torch.Tensor | None = None,
    ) -> None:
        self.source = source
        self.tensor: torch.Tensor | None = None
        if isinstance(source, torch.Tensor):
            self.tensor = source.detach()
        elif isinstance(source, np.ndarray):
            self.tensor = _view(source)
        shape = source.shape[1:] if first is None else first.shape  # type: ignore[union-attr]
        self._typed: Any = source if first is None else first
        self.sample_shape = tuple(int(size) for size in shape)
        self.item_shape = self.read_shape = self.sample_shape
        self.codes: Any = None
        #: Whether series came as a list, or were padded, so that others may have another length.
        self.any_length = False

    @property
    def dtype(self) -> str:
        """Name of the rows' dtype; made on access, since ``transform`` does not need it."""
        return str(self._typed.dtype)

    def view_as(self, sample_shape: tuple[int, ...]) -> None:
        """Return rows in another shape from now on, for example (1, features) for (features,)."""
        self.sample_shape = tuple(sample_shape)

    def spread(self, codes: Any) -> None:
        """Return rows with one-hot columns from now on, as :class:`OneHotCodes` makes them."""
        self.codes, self.sample_shape = codes, (codes.out_features,)
        self.read_shape = self.sample_shape

    def _shaped(self, batch: torch.Tensor) -> torch.Tensor:
        if self.codes is not None:
            batch = self.codes(batch)
        if self.sample_shape == self.read_shape:
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
        return self._shaped(stacked(items, self.item_shape))

    def slices(self, size: int) -> Iterator[torch.Tensor]:
        """Yield all rows in order, `size` at a time, without a copy where that is possible."""
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
        moved.any_length = self.any_length
        assert self.codes is None  # which is found once rows are where they stay
        return moved


class Stream:
    """Rows that can only be read from the beginning, batch by batch.

    Parameters
    ----------
    loader : DataLoader
        The caller's own, or one around an iterable dataset.
    drop_short : bool
        Leave out a last batch that is shorter than the first (the caller's loader decides this
        itself).
    keep_generator : bool
        Restore torch's default generator, from which iterating over a loader draws the seed of
        its workers. In ``fit`` the generator is seeded by the fit, and each epoch needs another
        seed.
    minimum : int
        Number of rows required, for the message when there are none.
    """

    is_stream = is_fixed = True

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
                "Found no samples in X: the torch dataset or loader gave no batch while a minimum "
                f"of {minimum} is required."
            )
        # Continue the iterator already started: a stream may be readable only once.
        self._begun: tuple[Any, Iterator[Any]] | None = (first, items)
        batch = as_batch(first_of(first))
        self.dtype = str(batch.dtype)
        self.item_shape = self.read_shape = self.sample_shape = tuple(batch.shape[1:])
        self.codes: Any = None
        self.any_length = False
        #: Maximum number of batches of a pass; if None, the stream alone ends it.
        self.limit: int | None = None
        self.n_rows: int | None = None
        self.n_batches: int | None = None
        self.batch_size: int | None = None
        self.head: torch.Tensor | None = None

    @property
    def ends(self) -> bool:
        """Whether a pass certainly has an end."""
        try:
            return self.limit is not None or len(self.loader) >= 0
        except TypeError:  # an iterable dataset, or a sampler without a length
            return False

    def view_as(self, sample_shape: tuple[int, ...]) -> None:
        """Return rows in another shape from now on."""
        self.sample_shape = tuple(sample_shape)

    def spread(self, codes: Any) -> None:
        """Return rows with one-hot columns from now on, as :class:`OneHotCodes` makes them."""
        self.codes, self.sample_shape = codes, (codes.out_features,)
        self.read_shape = self.sample_shape

    def _begin(self) -> Iterator[Any]:
        if self.keep_generator:
            with default_generator_kept():
                return stackable(iter(self.loader))
        return stackable(iter(self.loader))

    def slices(self, size: int | None = None) -> Iterator[torch.Tensor]:
        """Yield all rows, up to :attr:`limit`; `size` is ignored, since the loader sets it."""
        items = (
            self._begin()
            if self._begun is None
            else itertools.chain([self._begun[0]], self._begun[1])
        )
        self._begun = None
        for item in itertools.islice(items, self.limit):
            batch = as_batch(first_of(item))
            check_shape(batch.shape[1:], self.item_shape)
            if len(batch):
                if self.codes is not None:
                    batch = self.codes(batch)
                yield batch.reshape(len(batch), *self.sample_shape)

    def count(self, sizes: list[int], head: torch.Tensor) -> None:
        """Record the sizes of all batches and the first rows, seen in the first pass."""
        self.head = head
        self.n_rows = sum(sizes)
        self.batch_size = max(sizes, default=0)
        self.n_batches = sum(self._kept(size, sizes[0]) for size in sizes)
        if self.n_rows > 1 and not self.n_batches:
            raise ValueError(
                "All batches of X have one sample, which the loss can compare with no other. Make "
                "the DataLoader with a batch_size of 2 or more."
            )

    def _kept(self, size: int, first: int) -> bool:
        # One row has no batch statistics and no negatives.
        return size > 1 and not (self.drop_short and size < first)

    def batches(self) -> Iterator[torch.Tensor]:
        """Yield the batches that are trained on."""
        first = None
        for batch in self.slices():
            first = len(batch) if first is None else first
            if self._kept(len(batch), first):
                yield batch
