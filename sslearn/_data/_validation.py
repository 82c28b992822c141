"""Conversion of the caller's X to rows, with one clear error sentence for each unusable input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array, validate_data
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from .._sklearn import check_feature_names
from ..augment._given import takes_given_views
from ._axes import warn_of_other_axes
from ._categories import codes_of_frame, note_categories
from ._frames import (
    dtypes_of,
    joined,
    refuse_dates,
    refuse_repeated_names,
    refuse_values,
    with_nan,
    without_columns,
)
from ._given_views import GivenRows, ItemReader, first_of_each
from ._ragged import from_list, without_padding
from ._refusals import explain_no_numbers, refuse_other_things
from ._rows import Rows, Stream
from ._tensors import is_dense, plain_tensor

__all__ = ["check_labels", "check_order", "too_few_rows", "validate_rows"]


def validate_rows(estimator, X: Any, *, reset: bool, batch_size: int) -> Rows | Stream:
    """Validate X and wrap it; sets (`reset`) or compares what is known of the input.

    Finiteness is checked later, by the first pass over the rows, batch by batch.
    """
    augment = getattr(estimator, "augment", None)
    if isinstance(X, Dataset) and hasattr(X, "__array__"):
        X = np.asarray(X)  # all samples at once
    if not reset:
        X = first_of_each(X, augment, estimator.input_shape_)
    known = None if reset else _as_in_fit(estimator, X)
    if known is not None:
        return Rows(known)
    minimum = 2 if reset else 1
    rows: Rows | Stream
    # Views are no steps of a series.
    has_views = reset and takes_given_views(augment)
    listed = None if has_views else from_list(X, _name(estimator))
    X = X if listed is None else listed
    if _is_torch_data(X):
        rows = _validate_torch_data(estimator, X, reset, batch_size)
    elif isinstance(X, torch.Tensor):
        tensor = _validate_tensor(estimator, X)
        rows = Rows(tensor) if has_views else _without_padding(tensor)
    else:
        refuse_other_things(_name(estimator), X)
        if not reset and not _may_have_length(estimator, X, listed is not None):
            _refuse_another_shape(estimator, X)
        array = _validate_array(estimator, X, reset=reset, minimum=minimum)
        _check_numeric(estimator, array.dtype, array.dtype.kind in "biuf")
        rows = Rows(array) if has_views else _without_padding(array)
    rows.any_length |= listed is not None
    if has_views and type(rows) is Rows and not _is_torch_data(X):
        rows = GivenRows.from_array(rows)
        estimator.n_features_in_ = rows.sample_shape[0]
    if len(rows.sample_shape) > 4:
        raise ValueError(
            f"{_name(estimator)} takes tables (n, features), series (n, channels, time), images "
            "(n, channels, height, width) and volumes (n, channels, depth, height, width). Found "
            f"array with dim {len(rows.sample_shape) + 1}."
        )
    if 0 in rows.sample_shape:
        raise ValueError(
            f"Found samples of shape {rows.sample_shape} while a minimum of 1 along each axis is "
            f"required by {_name(estimator)}."
        )
    if isinstance(rows, Rows) and len(rows) < minimum:
        raise ValueError(too_few_rows(estimator, len(rows), rows.sample_shape, minimum))
    if reset:
        warn_of_other_axes(
            rows.sample_shape,
            rows.dtype,
            method="permute" if isinstance(X, torch.Tensor) else "transpose",
            items=_is_torch_data(X),
            n_before=2 if rows.n_given else 1,
        )
    if isinstance(X, DataLoader | Dataset | torch.Tensor):
        check_feature_names(estimator, X, reset=reset)
        if reset:
            estimator.n_features_in_ = rows.sample_shape[0]
    if reset:
        estimator.input_shape_ = rows.sample_shape
        if dtypes_of(X) is None:
            note_categories(estimator, rows.sample_shape, X)
    elif rows.sample_shape != estimator.input_shape_ and not _may_have_length(
        estimator, rows, rows.any_length
    ):
        raise ValueError(_shape_message(estimator, rows.sample_shape))
    return rows


def _without_padding(array: np.ndarray | torch.Tensor) -> Rows:
    """Return the rows of an array, without steps that are padding in all series."""
    cut = without_padding(array)
    rows = Rows(cut)
    rows.any_length = cut is not array
    return rows


def _may_have_length(estimator, X: Any, is_padded: bool) -> bool:
    """Return whether samples are series of the channels of `fit`, and of a length that may be.

    That is any if those of `fit` had several, and else up to theirs if it says where a series ends.
    """
    expected = estimator.input_shape_
    shape = X.sample_shape if isinstance(X, Rows | Stream) else getattr(X, "shape", ())[1:]
    if len(shape) != 2 or len(expected) != 2 or shape[0] != expected[0]:
        return False
    return estimator.any_length_ or (is_padded and shape[1] <= expected[1])


def _is_torch_data(X: Any) -> bool:
    return isinstance(X, DataLoader | Dataset)


def _as_in_fit(estimator, X: Any) -> np.ndarray | None:
    """Return X as an array if it clearly has the form seen in fit, else None: validate it fully.

    For a single sample scikit-learn's validation takes longer than many encoders.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and type(X).__name__ == "DataFrame" and hasattr(X, "to_numpy"):
        columns = np.asarray(X.columns, dtype=object)
        # Extension dtypes, sparse ones for example, are scikit-learn's to convert or refuse.
        plain = all(isinstance(dtype, np.dtype) for dtype in X.dtypes)
        # Labels of categories have to be looked up.
        plain &= not getattr(estimator, "categories_", {})
        if not plain or not np.array_equal(columns, names):
            return None
        X, names = X.to_numpy(), None
    if type(X) is not np.ndarray or names is not None or X.dtype.kind not in "biuf":
        return None
    return X if X.ndim > 1 and X.shape[1:] == estimator.input_shape_ and len(X) else None


def too_few_rows(estimator, n: int, sample_shape: tuple[int, ...], minimum: int = 2) -> str:
    """Return scikit-learn's sentence for too few rows."""
    return (
        f"Found array with {n} sample(s) (shape={(n, *sample_shape)}) while a minimum of "
        f"{minimum} is required by {_name(estimator)}."
    )


def _name(estimator) -> str:
    return type(estimator).__name__


def _shape_message(estimator, shape: tuple[int, ...]) -> str:
    expected = estimator.input_shape_
    if len(shape) == len(expected) == 1:
        return (
            f"X has {shape[0]} features, but {_name(estimator)} is expecting {expected[0]} "
            "features as input."
        )
    message = (
        f"X has samples of shape {shape}, but {_name(estimator)} is expecting samples of shape "
        f"{expected} as input."
    )
    if len(shape) == len(expected) == 2 and shape[0] == expected[0]:
        message += " It takes series of any length if those of fit are a list, or end in NaN."
    return message


def _refuse_another_shape(estimator, X: Any) -> None:
    """Refuse arrays of another shape, unless scikit-learn's own count of features will do so."""
    shape = getattr(X, "shape", ())
    if len(shape) < 2 or len(shape) == 2 == len(estimator.input_shape_) + 1:
        return
    if shape[1:] != estimator.input_shape_:
        message = _shape_message(estimator, tuple(shape[1:]))
        if shape == estimator.input_shape_:
            message += " A single sample is passed as X[None]."
        raise ValueError(message)


def _check_numeric(estimator, dtype, numeric: bool) -> None:
    if not numeric:
        raise ValueError(
            f"{_name(estimator)} needs real numbers (bool, integer or float). Got dtype {dtype} "
            "instead."
        )


def _validate_array(estimator, X: Any, *, reset: bool, minimum: int) -> np.ndarray:
    name, dtypes, coded = _name(estimator), dtypes_of(X), {}
    check: Callable = partial(validate_data, estimator, reset=reset)
    if dtypes is not None:
        # scikit-learn's checks of names and their number come before the contents of the columns.
        try:
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        except ValueError as error:
            refuse_repeated_names(X, error)
            raise
        refuse_dates(name, X, dtypes)
        if reset:
            note_categories(estimator, (len(dtypes),), X)
        coded = codes_of_frame(X, dtypes, getattr(estimator, "categories_", {}))
        if coded and (X := without_columns(X, coded)) is None:
            return joined(None, coded)
        check = partial(check_array, estimator=estimator, input_name="X")
    check = partial(
        check,
        dtype="numeric",
        order=None,
        copy=False,
        ensure_all_finite=False,
        allow_nd=True,
        ensure_min_samples=minimum,
    )
    try:
        try:
            array = check(X)
        except TypeError as error:
            if "NAType" not in str(error):
                raise
            array = check(with_nan(X))
        if array.dtype.kind == "O":  # scikit-learn accepts those of some data frames
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        if dtypes is not None:
            refuse_values(name, X, dtypes, error)
        explain_no_numbers(name, X, error)
        raise
    return joined(array, coded) if coded else array


def _validate_tensor(estimator, X: torch.Tensor) -> torch.Tensor:
    X = plain_tensor(X)
    if not is_dense(X):
        raise TypeError(
            f"{_name(estimator)} needs a dense tensor. Got {'a nested one, ' * X.is_nested}"
            f"layout {X.layout}, dtype {X.dtype}, on {X.device} instead."
        )
    _check_numeric(estimator, X.dtype, not X.dtype.is_complex)
    if X.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead: a tensor of shape {tuple(X.shape)}. "
            "Reshape your data either using X.reshape(-1, 1) if your data has a single feature or "
            "X.reshape(1, -1) if it contains a single sample."
        )
    return X


def _validate_torch_data(estimator, X, reset: bool, batch_size: int) -> Rows | Stream:
    minimum = 2 if reset else 1
    rows: Rows | Stream
    reader = ItemReader(
        getattr(estimator, "augment", None),
        # A method without views has no such parameter.
        first_only=not reset or not hasattr(estimator, "augment"),
        sample_axes=None if reset else len(estimator.input_shape_),
    )
    stream = partial(Stream, keep_generator=not reset, minimum=minimum)
    if isinstance(X, DataLoader):
        rows = stream(X, drop_short=False, read=reader.batch)
    elif isinstance(X, IterableDataset):
        loader = DataLoader(X, batch_size=batch_size, collate_fn=reader.collate)
        rows = stream(loader, drop_short=True)
    elif not hasattr(X, "__len__"):
        raise TypeError(
            f"A torch Dataset must have __len__, or be an IterableDataset. Got {type(X).__name__} "
            "without it instead."
        )
    else:
        n = len(X)
        if n == 0:
            raise ValueError(too_few_rows(estimator, 0, (), minimum))
        rows = GivenRows.from_dataset(X, reader)
    if isinstance(rows, Stream) and reader.n_given:
        rows.holds_views(reader.n_given)
    if rows.sample_shape == ():
        raise ValueError(
            f"{_name(estimator)} takes samples of 1 to 4 axes, (features,) at least. Got single "
            "numbers from the torch dataset or loader (the first entry of a tuple or list is "
            "taken); a DataLoader with batch_size=None gives samples instead of batches."
        )
    return rows


def check_labels(y: Any) -> None:
    """Refuse validation data as y, the second argument of fit in other packages."""
    if isinstance(y, DataLoader | Dataset):
        raise TypeError(
            "The 'y' parameter must be None, or labels for callbacks. Got a torch "
            f"{type(y).__name__} instead; pass samples to validate on as X_val."
        )


def check_order(X: Any) -> None:
    """Refuse a loader that does not return each row once, in the order of storage."""
    if not isinstance(X, DataLoader):
        return
    in_order = not X.drop_last
    if not isinstance(X.dataset, IterableDataset):
        in_order &= type(X.sampler) is SequentialSampler
        in_order &= X.batch_sampler is None or type(X.batch_sampler) is BatchSampler
        in_order &= not getattr(X.batch_sampler, "drop_last", False)
        in_order &= type(getattr(X.batch_sampler, "sampler", X.sampler)) is SequentialSampler
    if not in_order:
        raise ValueError(
            "transform returns features in the order of X, but the DataLoader shuffles, draws or "
            "drops samples. Use DataLoader(..., shuffle=False, drop_last=False)."
        )
