"""From what a caller passes as X to rows: what is accepted, and one sentence for what is not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from ._data import Rows, Stream, as_batch, first_of
from ._sklearn import check_feature_names

__all__ = ["check_order", "resolve_device", "too_few_rows", "validate_rows"]


def resolve_device(device: str) -> torch.device:
    """Return the device that a ``device`` parameter names."""
    if device == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = torch.device("meta")
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) < count:
            return torch.device("cuda", resolved.index or 0)
        raise ValueError(
            f"The 'device' parameter is {device!r}, but torch finds {count} CUDA devices here. "
            "Use 'auto' or 'cpu'."
        )
    if resolved.type != "cpu":
        raise ValueError(
            "The 'device' parameter must be 'auto', 'cpu', 'cuda' or 'cuda:<number>'. "
            f"Got {device!r} instead."
        )
    return torch.device("cpu")


def validate_rows(estimator, X: Any, *, reset: bool, batch_size: int) -> Rows | Stream:
    """Validate X and wrap it; sets (`reset`) or compares what is known of the input.

    Finiteness is not looked at here: whoever reads the rows first does that, batch by batch.
    """
    minimum = 2 if reset else 1
    rows: Rows | Stream
    if isinstance(X, DataLoader | Dataset):
        rows = _validate_torch_data(estimator, X, reset, batch_size)
    elif isinstance(X, torch.Tensor):
        rows = Rows(_validate_tensor(estimator, X))
    else:
        _refuse_lists_of_items(estimator, X)
        if not reset:
            _refuse_another_shape(estimator, X)
        try:
            array = validate_data(
                estimator,
                X,
                reset=reset,
                dtype="numeric",
                order=None,
                copy=False,
                ensure_all_finite=False,
                allow_nd=True,
                ensure_min_samples=minimum,
            )
            if array.dtype.kind == "O":  # scikit-learn lets those of some data frames through
                array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            _say_what_is_no_number(estimator, X, error)
            raise
        _check_numeric(estimator, array.dtype, array.dtype.kind in "biuf")
        rows = Rows(array)
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
        _warn_of_other_axes(rows.sample_shape, str(getattr(X, "dtype", "")).endswith("uint8"))
    if isinstance(X, DataLoader | Dataset | torch.Tensor):
        check_feature_names(estimator, X, reset=reset)
        if reset:
            estimator.n_features_in_ = rows.sample_shape[0]
    if reset:
        estimator.input_shape_ = rows.sample_shape
    elif rows.sample_shape != estimator.input_shape_:
        raise ValueError(_shape_message(estimator, rows.sample_shape))
    return rows


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
    return (
        f"X has samples of shape {shape}, but {_name(estimator)} is expecting samples of shape "
        f"{expected} as input."
    )


def _refuse_another_shape(estimator, X: Any) -> None:
    """Refuse arrays that are no table, or ought to be none; scikit-learn would count features."""
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


def _validate_tensor(estimator, X: torch.Tensor) -> torch.Tensor:
    if X.layout != torch.strided or X.is_quantized:
        raise TypeError(
            f"{_name(estimator)} needs a dense tensor. Got layout {X.layout}, dtype {X.dtype} "
            "instead."
        )
    _check_numeric(estimator, X.dtype, not X.dtype.is_complex)
    if X.dtype in (torch.uint16, torch.uint32, torch.uint64):
        X = X.to(torch.int64)  # torch has few operations on these
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
    if isinstance(X, DataLoader):
        rows = Stream(X, drop_short=False, keep_generator=not reset, minimum=minimum)
    elif isinstance(X, IterableDataset):
        loader = DataLoader(X, batch_size=batch_size)
        rows = Stream(loader, drop_short=True, keep_generator=not reset, minimum=minimum)
    else:
        n = len(X)
        if n == 0:
            raise ValueError(too_few_rows(estimator, 0, (), minimum))
        rows = Rows(X, tuple(as_batch(first_of(X[0])).shape))
    if rows.sample_shape == ():
        raise ValueError(
            f"{_name(estimator)} takes samples of 1 to 4 axes, (features,) at least. Got single "
            "numbers from the torch dataset or loader; a DataLoader with batch_size=None gives "
            "samples instead of batches."
        )
    return rows


def check_order(X: Any) -> None:
    """Refuse a loader whose rows do not come out as they are stored, each once."""
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
            "transform returns features in the order of the rows, but the DataLoader shuffles, "
            "samples or drops them. Use DataLoader(..., shuffle=False, drop_last=False)."
        )


def _say_what_is_no_number(estimator, X: Any, error: Exception) -> None:
    """Say it in the terms of whoever calls: by the columns of a data frame, and with the cure."""
    name = _name(estimator)
    one_hot = "OneHotEncoder(sparse_output=False)"
    if "Sparse data was passed" in str(error):
        raise TypeError(
            f"Sparse data was passed, but {name} needs dense rows: X.toarray(), or in a pipeline "
            f"ColumnTransformer(..., sparse_threshold=0) or {one_hot}."
        ) from error
    if "bytes/strings" in str(error):
        raise ValueError(
            f"{name} needs real numbers (bool, integer or float). Got strings instead."
        ) from error
    if hasattr(X, "columns"):
        columns = [column for column in X.columns if not _holds_numbers(X[column])]
        if columns:
            raise ValueError(
                f"{name} needs columns of numbers. Got text, dates or the like in {columns}: make "
                f"numbers of them first, say by a ColumnTransformer with {one_hot}."
            ) from error


def _holds_numbers(column: Any) -> bool:
    values = np.asarray(column)
    if values.dtype.kind in "mM":
        return False
    try:
        values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def _warn_of_other_axes(shape: tuple[int, ...], is_bytes: bool) -> None:
    """Say so when the axes look like another kind's; they would be learned from badly."""
    if len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) >= 8:
        read = f"{shape[0]} channels of {shape[1]} x {shape[2]} pixels"
        cure = "If channels come last, pass X.transpose(0, 3, 1, 2)."
    elif len(shape) == 2 and shape[0] >= 8 * shape[1]:
        read = f"series of {shape[0]} channels and {shape[1]} steps"
        cure = "If time comes first, pass X.transpose(0, 2, 1)."
    elif len(shape) == 2 and is_bytes and min(shape) >= 8:
        read = f"series of {shape[0]} channels and {shape[1]} steps"
        cure = "If they are grey images, pass X[:, None]."
    else:
        return
    warnings.warn(f"X has rows of shape {shape}, read as {read}. {cure}", stacklevel=2)


def _refuse_lists_of_items(estimator, X: Any) -> None:
    """Cross-validation makes a list of items of a torch dataset; say so in one sentence."""
    if not (isinstance(X, list) and X):
        return
    item = X[0]
    if isinstance(item, torch.Tensor) or (
        isinstance(item, tuple) and item and isinstance(item[0], torch.Tensor | np.ndarray)
    ):
        raise TypeError(
            f"{_name(estimator)} got a list of {type(item).__name__} items, which is what "
            "cross-validation makes of a torch dataset. Cross-validate an array (of rows, or of "
            "paths that an earlier step loads), or fit on a torch.utils.data.Subset."
        )
