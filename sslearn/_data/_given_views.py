"""Views that come with the samples: in items of datasets and loaders, or in arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..augment._given import adds_nothing, takes_given_views
from ._rows import Rows, Stream, as_batch, first_of, holds_arrays, no_item, stacked
from ._stem_cache import CACHE_BYTES

__all__ = ["GivenRows", "ItemReader", "check_n_views", "first_of_each", "some_views"]

# Samples of a dataset that are read twice, to see whether their views are drawn at each access.
_READ_TWICE = 8


class ItemReader:
    """Reads items of a dataset, and batches of a loader, with the views that they hold.

    Views are nested, ``((v0, v1, ...), ...)``. Where `augment` says that views are given, they may
    also come first, ``(v0, v1, ...)``, or along the first axis of x.

    Parameters
    ----------
    augment : callable or None
        The estimator's parameter.
    first_only : bool
        Return the first view of each sample, as if it were the sample.
    sample_axes : int or None
        Number of axes of a sample, where it is known.

    Attributes
    ----------
    n_given : int
        Views of each sample of what was read; 0 for samples.
    is_plain : bool
        Whether items are ``x`` or ``(x, ...)`` with a sample x.
    """

    def __init__(self, augment: Any, *, first_only: bool, sample_axes: int | None = None) -> None:
        self.are_given = takes_given_views(augment)
        self.first_only = first_only
        self.sample_axes = sample_axes
        self.n_given = 0
        self.is_plain = True

    def item(self, item: Any) -> torch.Tensor:
        """Return a sample, or its views (n_views, ...)."""
        return self._read(item, 0)

    def batch(self, batch: Any) -> torch.Tensor:
        """Return samples (n, ...), or their views (n, n_views, ...)."""
        return self._read(batch, 1)

    def collate(self, items: Sequence[Any]) -> torch.Tensor:
        """Return the batch of some items."""
        first = self.item(items[0])
        if self.is_plain:
            return stacked(items)
        return stacked([first, *(self.item(item) for item in items[1:])])

    def _read(self, item: Any, n_before: int) -> torch.Tensor:
        """Read what has `n_before` axes before those of a sample or its views."""
        views = self._listed(item, n_before)
        if views is not None:
            self.is_plain = False
            if not views:
                raise TypeError(no_item(f"an empty {type(views).__name__}"))
            if self.first_only:
                return as_batch(views[0])
            return self._found(_joined([as_batch(view) for view in views], n_before), n_before)
        x = as_batch(first_of(item))
        if not self.are_given or x.ndim - n_before == self.sample_axes:
            return x
        self.is_plain = False
        if self.sample_axes is None:  # of fit
            return self._found(x, n_before)
        return x.select(n_before, 0) if x.ndim - n_before == self.sample_axes + 1 else x

    def _found(self, views: torch.Tensor, n_before: int) -> torch.Tensor:
        shape = tuple(views.shape[n_before:])
        _check_views(shape, f"items of shape {shape}")
        self.n_given = shape[0]
        return views

    def _listed(self, item: Any, n_before: int) -> Sequence[Any] | None:
        """Return the views in an item, or None if it holds a sample."""
        if not isinstance(item, tuple | list) or not item:
            return None
        if isinstance(item[0], tuple | list):
            # Lists of numbers are an array.
            return item[0] if holds_arrays(item[0]) or not item[0] else None
        if not self.are_given or self.sample_axes is not None:
            return None
        first, *others = (getattr(x, "shape", None) for x in item)
        alike = list(itertools.takewhile(lambda shape: shape == first, others))
        if first is None or len(first) <= n_before:
            return None
        if not alike and others and others[0] is not None and len(others[0]) == len(first):
            raise _unlike(first[n_before:], others[0][n_before:])
        return item[: len(alike) + 1] if alike else None


def _joined(views: Sequence[torch.Tensor], n_before: int) -> torch.Tensor:
    if views[0].ndim <= n_before:
        raise TypeError(
            "Views of a sample must be arrays or tensors of one axis or more. Got "
            f"{len(views)} single numbers for each sample instead; make one array of them."
        )
    for view in views:
        if view.shape != views[0].shape:
            raise _unlike(views[0].shape[n_before:], view.shape[n_before:])
    return torch.stack(list(views), dim=n_before)


def _unlike(first: Sequence[int], other: Sequence[int]) -> ValueError:
    return ValueError(
        f"All views of a sample must have the same shape. Got {tuple(first)} and {tuple(other)} "
        "instead; crop or resize them to one shape first."
    )


def _check_views(shape: tuple[int, ...], got: str) -> None:
    """Refuse what has no axis of views, or a single view; `shape` begins with their number."""
    if len(shape) < 2:
        raise ValueError(
            "The 'augment' parameter is GivenViews(), for which X must be an array (n, n_views, "
            f"...), or hold items (v0, v1, ...). Got {got} instead; where X gives no views, leave "
            "augment None."
        )
    if shape[0] < 2:
        raise ValueError(
            f"X must give two views of each sample, or more. Got one, in {got}, instead; pass "
            "samples, from which the views are drawn by 'augment'."
        )


class _ReadItems(Dataset):
    """The items of a dataset as a reader returns them."""

    def __init__(self, dataset: Any, reader: ItemReader) -> None:
        self.dataset = dataset
        self.reader = reader

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.reader.item(self.dataset[i])

    def __getitems__(self, numbers: list[int]) -> list[torch.Tensor]:
        fetch = getattr(self.dataset, "__getitems__", None)
        items = fetch(numbers) if fetch else [self.dataset[i] for i in numbers]
        return [self.reader.item(item) for item in items]


class GivenRows(Rows):
    """Rows with several views of each; a row is its first view.

    Parameters
    ----------
    given : Rows
        The views of each sample, (n_views, ...).
    """

    def __init__(self, given: Rows) -> None:
        self.given = given
        self.source, self._typed = given.source, given._typed
        self.tensor = None if given.tensor is None else given.tensor[:, 0]
        self.n_given, *shape = given.sample_shape
        self.sample_shape = self.item_shape = self.read_shape = tuple(shape)
        self.any_length, self.codes = given.any_length, None

    @classmethod
    def from_dataset(cls, dataset: Any, reader: ItemReader) -> Rows:
        """Return the rows of a map-style dataset, with their views if it holds any."""
        first = reader.item(dataset[0])
        if reader.is_plain:
            return Rows(dataset, first)
        rows = Rows(_ReadItems(dataset, reader), first)
        return cls(rows) if reader.n_given else rows

    @classmethod
    def from_array(cls, rows: Rows) -> GivenRows:
        """Return the rows of an array (n, n_views, ...)."""
        shape = rows.sample_shape
        _check_views(shape, f"an array of shape {(len(rows), *shape)}")
        return cls(rows)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        if self.tensor is not None:
            return super().take(index)
        return self._shaped(self.given.take(index)[:, 0])

    def slices(self, size: int) -> Iterator[torch.Tensor]:
        for batch in self.given.slices(size):
            yield self._shaped(batch[:, 0])

    def with_views(self, size: int) -> Iterator[torch.Tensor]:
        for batch in self.given.slices(size):
            yield self._every(batch)

    def views(self, index: torch.Tensor) -> torch.Tensor:
        return self._every(self.given.take(index))

    def _every(self, views: torch.Tensor) -> torch.Tensor:
        """Return all views (n, n_given, ...) as samples are read."""
        shaped = self._shaped(views.reshape(-1, *self.item_shape))
        return shaped.reshape(len(views), self.n_given, *self.sample_shape)

    def to(self, device: torch.device) -> GivenRows:
        given = self.given.to(device)
        if given is self.given:
            return self
        moved = GivenRows(given)
        moved.view_as(self.sample_shape)
        return moved

    def n_kept(
        self, augment: Any, wanted: int, input_shape: tuple[int, ...], *, at_any_size: bool
    ) -> int:
        """Return of how many views of each sample the stem's features are computed once.

        All that are given, where memory allows, if they are always the same. Otherwise as many as
        are wanted, drawn once or several times with all that are given.
        """
        if not wanted:
            return 0
        if adds_nothing(augment) and not self._are_drawn_anew():
            n_bytes = 2 * self.n_given * len(self) * math.prod(input_shape)
            return self.n_given if at_any_size or n_bytes <= CACHE_BYTES else 0
        return max(wanted // self.n_given, int(at_any_size)) * self.n_given

    def _are_drawn_anew(self) -> bool:
        """Return whether the views of a dataset differ at each access."""
        if not isinstance(self.source, Dataset):
            return False
        some = torch.linspace(0, len(self) - 1, min(_READ_TWICE, len(self))).long()
        return not torch.equal(self.given.take(some), self.given.take(some))


def check_n_views(rows: Rows | Stream, n_views: int, name: str) -> None:
    """Refuse given views where a method takes more."""
    if 0 < rows.n_given < n_views:
        raise ValueError(
            f"X must give as many views of each sample as {name} takes, {n_views}, or more. Got "
            f"{rows.n_given} instead."
        )


def some_views(rows: Rows | Stream, index: torch.Tensor | None, n: int, seed: int) -> torch.Tensor:
    """Return all views of some samples trained on; of a stream, of the first ones."""
    if isinstance(rows, Stream):
        assert rows.head_views is not None
        return rows.head_views[:n]
    n_samples = len(rows) if index is None else len(index)
    chosen = torch.randperm(n_samples, generator=torch.Generator().manual_seed(seed))[:n]
    return rows.views(chosen if index is None else index[chosen])


def first_of_each(X: Any, augment: Any, input_shape: tuple[int, ...]) -> Any:
    """Return the first view of each sample of an array (n, n_views, ...), and X if it has none."""
    if not takes_given_views(augment):
        return X
    if isinstance(X, tuple | list):
        try:
            array = np.asarray(X)
        except ValueError:  # of several shapes
            return X
        found = array[:, 0] if array.shape[2:] == input_shape and array.ndim > 2 else X
        return found
    has_views = tuple(getattr(X, "shape", ())[2:]) == tuple(input_shape)
    return X[:, 0] if has_views else X
