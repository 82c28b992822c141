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
from ._tensors import is_dense, plain_tensor, to_native, view_array

__all__ = ["Rows", "Stream", "chunk_rows", "holds_arrays", "no_item", "sample_rows"]

# Bytes that a pass over all rows reads at a time: far above the cost of a call, within the cache.
_CHUNK_BYTES = 2**20
# A sample of rows that is kept while an estimator is fitted: enough to
# describe all of them, but fewer of large images.
_SAMPLE_ROWS, _SAMPLE_BYTES = 256, 64 * 2**20
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


def is_picture(x: Any) -> bool:
    """Return whether x looks like a PIL image; NumPy would read it, with channels last."""
    return all(hasattr(x, name) for name in ("mode", "size", "convert"))


def first_of(item: Any) -> Any:
    """Return x of an item ``x`` or ``(x, ...)``."""
    if not isinstance(item, tuple | list):
        return item
    if not item:
        raise TypeError(no_item(f"an empty {type(item).__name__}"))
    return item[0]


def as_batch(x: Any) -> torch.Tensor:
    """Convert an item of a dataset or a loader to a tensor; several arrays are refused."""
    if isinstance(x, torch.Tensor):
        x = plain_tensor(x)
        if x.dtype.is_complex or not is_dense(x):
            raise TypeError(no_item(f"{x.layout} of {x.dtype} on {x.device}"))
        return x
    if type(x) is not np.ndarray:
        _refuse_other_items(x)
    try:
        array = np.asarray(x)
    except ValueError as error:  # lists of lists of different lengths
        raise TypeError(no_item(f"a {type(x).__name__} without a common shape")) from error
    if array.dtype.kind not in "biuf":
        name = type(x).__name__
        is_listed = isinstance(x, tuple | list)
        raise TypeError(no_item(f"a {name} of {type(x[0]).__name__}" if is_listed else name))
    tensor = view_array(array)
    return to_native(array) if tensor is None else tensor


def _refuse_other_items(x: Any) -> None:
    """Refuse items that NumPy would convert to an array other than the intended sample."""
    if isinstance(x, tuple | list) and holds_arrays(x):
        raise TypeError(
            "Items of a torch dataset or loader must be x or (x, ...), where x is one array or "
            "tensor, or all of them ((v0, v1, ...), ...), with views of a sample. Got a "
            f"{type(x).__name__} of {len(x)} for x instead."
        )
    if is_picture(x):
        remedy = "convert it by np.asarray(image.convert('RGB')).transpose(2, 0, 1)"
        raise TypeError(no_item("a PIL image", f"; {remedy} or pil_to_tensor of torchvision"))
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


def holds_arrays(x: Sequence[Any]) -> bool:
    """Return whether nested lists hold anything but plain numbers."""
    return any(
        holds_arrays(part)
        if isinstance(part, tuple | list)
        else (hasattr(part, "shape") and not isinstance(part, np.generic)) or is_picture(part)
        for part in x
    )


def no_item(got: str, remedy: str = "") -> str:
    return (
        "Items of a torch dataset or loader must be dense arrays or tensors x of real numbers, or "
        "tuples (x, ...) that begin with one, or with a tuple of them, views of a sample. Got "
        f"{got} instead{remedy}."
    )


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
    #: Views that come with each sample; 0 where there are samples alone.
    n_given = 0
    #: What makes one-hot columns of the categories of a table, if there are any.
    codes: Any = None
    #: Whether series came as a list, or were padded, so that others may have another length.
    any_length = False

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
            self.tensor = view_array(source)
        shape = source.shape[1:] if first is None else first.shape  # type: ignore[union-attr]
        self._typed: Any = source if first is None else first
        self.sample_shape = tuple(int(size) for size in shape)
        self.item_shape = self.read_shape = self.sample_shape

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
            return self._shaped(to_native(self.source[index.numpy()]))
        numbers = index.tolist()
        fetch = getattr(self.source, "__getitems__", None)
        items = fetch(numbers) if fetch else [self.source[i] for i in numbers]
        return self._shaped(stacked(items, self.item_shape))

    def views(self, index: torch.Tensor) -> torch.Tensor:
        """Return rows by number with all views that are given of each: (n, n_given, ...)."""
        return self.take(index)

    def slices(self, size: int) -> Iterator[torch.Tensor]:
        """Yield all rows in order, `size` at a time, without a copy where that is possible."""
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            if self.tensor is not None:
                yield self._shaped(self.tensor[start:stop])
            elif isinstance(self.source, np.ndarray):
                yield self._shaped(to_native(self.source[start:stop]))
            else:
                yield self.take(torch.arange(start, stop))

    def with_views(self, size: int) -> Iterator[torch.Tensor]:
        """Yield all rows in order, with the views that are given of each: (n, n_given, ...)."""
        return self.slices(size)

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
    read : callable, optional
        Returns the samples of what the loader gives, (n, ...), or their views (n, n_given, ...).
    """

    is_stream = is_fixed = True
    #: Views that come with each sample; 0 where there are samples alone.
    n_given = 0

    def __init__(
        self,
        loader: DataLoader,
        *,
        drop_short: bool,
        keep_generator: bool,
        minimum: int,
        read: Callable[[Any], torch.Tensor] = lambda item: as_batch(first_of(item)),
    ) -> None:
        self.loader = loader
        self.read = read
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
        batch = read(first)
        self.dtype = str(batch.dtype)
        self._read_shape = self.item_shape = self.read_shape = tuple(batch.shape[1:])
        self.sample_shape = self.item_shape
        self.codes: Any = None
        self.any_length = False
        #: Maximum number of batches of a pass; if None, the stream alone ends it.
        self.limit: int | None = None
        self.n_rows: int | None = None
        self.n_batches: int | None = None
        self.batch_size: int | None = None
        self.head: torch.Tensor | None = None
        self.head_views: torch.Tensor | None = None

    def holds_views(self, n_given: int) -> None:
        """Read the first axis of what the loader gives of a sample as that of its views."""
        self.n_given = n_given
        self.item_shape = self.sample_shape = self._read_shape[1:]

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
        for batch in self.with_views():
            yield batch[:, 0] if self.n_given else batch

    def with_views(self, size: int | None = None) -> Iterator[torch.Tensor]:
        """Yield all rows, with the views that are given of each: (n, n_given, ...)."""
        items = (
            self._begin()
            if self._begun is None
            else itertools.chain([self._begun[0]], self._begun[1])
        )
        self._begun = None
        for item in itertools.islice(items, self.limit):
            batch = self.read(item)
            check_shape(batch.shape[1:], self._read_shape)
            views = (self.n_given,) * bool(self.n_given)
            if len(batch):
                if self.codes is not None:
                    batch = self.codes(batch.reshape(-1, batch.shape[-1]))
                yield batch.reshape(-1, *views, *self.sample_shape)

    def count(self, sizes: list[int], head: torch.Tensor) -> None:
        """Record the sizes of all batches and the first rows, seen in the first pass."""
        self.head, self.head_views = (head[:, 0], head) if self.n_given else (head, None)
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
        """Yield the batches that are trained on, with the views that are given."""
        first = None
        for batch in self.with_views():
            first = len(batch) if first is None else first
            if self._kept(len(batch), first):
                yield batch
