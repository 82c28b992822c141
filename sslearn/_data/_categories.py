"""Categories of a table: which columns, their codes, and the one-hot columns that these become."""

from __future__ import annotations

import copy
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import nn

from ._frames import column_of, dtypes_of, is_categorical
from ._rows import Rows, Stream, chunk_rows

__all__ = ["OneHotCodes", "codes_of_frame", "note_categories", "spread_categories"]

# Codes are below this, the integers that float32 has; this one is that of an unseen label.
_MOST_CODE = 2**24 - 1
# Categories of one column, at most: each is a column for the encoder.
_MOST_CATEGORIES = 1000
_ACCEPTED = "None, 'from_dtype', a mask of shape (n_features,), or the indices or names of columns"


# --- which columns -------------------------------------------------------------------------------


def note_categories(estimator, sample_shape: tuple[int, ...], X: Any) -> None:
    """Set ``is_categorical_`` and the labels that columns of a data frame hold, in ``fit``."""
    given = getattr(estimator, "categorical_features", None)
    if given is None:
        return
    if len(sample_shape) != 1:
        raise ValueError(
            "The 'categorical_features' parameter is for tables, (n, features), and must be None "
            f"for other data. Got {given!r} for samples of shape {sample_shape}."
        )
    dtypes, names = dtypes_of(X), getattr(estimator, "feature_names_in_", None)
    columns = _category_columns(given, sample_shape[0], names, dtypes)
    estimator.is_categorical_ = np.isin(np.arange(sample_shape[0]), columns)
    estimator.categories_ = {} if dtypes is None else _labels_of_frame(X, dtypes, columns)


def _category_columns(given: Any, n_features: int, names: Any, dtypes: list | None) -> list[int]:
    """Return the numbers of the columns that the parameter names."""
    if isinstance(given, str):  # "from_dtype", as in scikit-learn nothing in an array
        return [i for i, dtype in enumerate(dtypes or []) if is_categorical(dtype)]
    array = np.asarray(given)
    array = array.astype(object) if array.dtype.kind == "U" else array
    if array.ndim == 1 and not array.size:
        return []
    if array.ndim != 1 or array.dtype.kind not in "biuO":
        raise ValueError(_message(f"Got {given!r} instead."))
    if array.dtype.kind == "b":
        if len(array) != n_features:
            raise ValueError(
                _message(f"Got a mask of {len(array)} values for {n_features} features instead.")
            )
        return np.flatnonzero(array).tolist()
    if array.dtype.kind in "iu":
        beyond = array[(array < 0) | (array >= n_features)]
        if len(beyond):
            raise ValueError(
                _message(f"Got the index {beyond[0]} for {n_features} features instead.")
            )
        return sorted(set(array.tolist()))
    return _named(array, names)


def _named(given: np.ndarray, names: Any) -> list[int]:
    if not all(isinstance(name, str) for name in given):
        raise ValueError(_message(f"Got {list(given)!r} instead."))
    if names is None:
        raise ValueError(
            _message(
                f"Got names, {list(given[:3])}, for an X without names of columns instead; pass "
                "a data frame whose names are all strings."
            )
        )
    places = {name: i for i, name in enumerate(names)}
    unknown = [name for name in given if name not in places]
    if unknown:
        raise ValueError(_message(f"Got {unknown[0]!r}, which X has no column of, instead."))
    return sorted({places[name] for name in given})


def _message(got: str) -> str:
    return f"The 'categorical_features' parameter must be {_ACCEPTED}. {got}"


# --- data frames: from labels to codes -----------------------------------------------------------


def _labels_of_frame(X: Any, dtypes: list, columns: list[int]) -> dict[int, np.ndarray]:
    """Return the categories that columns of a categorical dtype hold, sorted, without missing ones.

    Their order in the dtype, and those that no row has, do not count.
    """
    found = {}
    for i in columns:
        if is_categorical(dtypes[i]):
            different, _ = _factorized(column_of(X, i))
            labels = sorted(different, key=lambda label: (type(label).__name__, label))
            whole = all(
                isinstance(v, Real) and float(v).is_integer() and float(v) >= 0 for v in labels
            )
            array = np.empty(len(labels), dtype=object)
            array[:] = labels
            found[i] = array.astype(np.int64) if whole else array
    return found


def codes_of_frame(
    X: Any, dtypes: list, categories: dict[int, np.ndarray]
) -> dict[int, np.ndarray]:
    """Return the codes of columns of a data frame as float64, NaN where a category is missing.

    Whole numbers from 0 on are their own codes, as in an array. The code of any other category is
    its place in `categories`; one that is not among them has a code that no other one has.
    """
    found = {}
    for i, labels in categories.items():
        if labels.dtype.kind == "O":
            known = {label: float(place) for place, label in enumerate(labels)}
        elif is_categorical(dtypes[i]):
            known = {label: float(label) for label in labels.tolist()}
        else:  # numbers
            continue
        different, places = _factorized(column_of(X, i))
        codes = [known.get(label, float(_MOST_CODE)) for label in different]
        found[i] = np.array([*codes, np.nan])[places]
    return found


def _factorized(column: Any) -> tuple[list, np.ndarray]:
    """Return the different labels of a column, and the place of the label of each row, or -1."""
    accessor: Any = getattr(column, "cat", None)
    if hasattr(accessor, "codes"):  # pandas
        places, labels = np.asarray(accessor.codes), list(accessor.categories)
        used, again = np.unique(places, return_inverse=True)
        again -= int(used[0] < 0) if len(used) else 0
        return [labels[i] for i in used if i >= 0], again
    numbers: dict[Any, int] = {}
    values = column.to_pylist() if hasattr(column, "to_pylist") else np.asarray(column).tolist()
    found = [-1 if _is_missing(v) else numbers.setdefault(v, len(numbers)) for v in values]
    return list(numbers), np.array(found, dtype=np.int64)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType" or value != value


# --- from codes to one-hot columns ---------------------------------------------------------------


class OneHotCodes(nn.Module):
    """One-hot columns in place of the columns of a table that hold codes of categories.

    A category that is missing, NaN, is NaN in all of its columns. One that was not seen in fit is
    missing too where the encoder takes NaN, and 0 in all of its columns for other encoders.

    Parameters
    ----------
    n_features : int
        Number of columns of X.
    codes : dict of int to ndarray
        For each column that holds categories, the codes that were seen, sorted.
    unseen_is_nan : bool
        Whether an unseen category is NaN.
    """

    owner: torch.Tensor
    code: torch.Tensor
    is_code: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(
        self, n_features: int, codes: dict[int, np.ndarray], *, unseen_is_nan: bool
    ) -> None:
        super().__init__()
        self.in_features = n_features
        self.columns = sorted(codes)
        self.unseen = float("nan") if unseen_is_nan else 0.0
        # For each column that comes out: the column of X, and the code that is a one.
        owner: list[int] = []
        code: list[int] = []
        for i in range(n_features):
            seen = codes[i].tolist() if i in codes else [-1]
            owner += [i] * len(seen)
            code += seen
        #: Number of columns that come out.
        self.out_features = len(owner)
        self.register_buffer("owner", torch.tensor(owner))
        self.register_buffer("code", torch.tensor(code))
        self.register_buffer("is_code", self.code >= 0)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"columns={self.columns}"
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map rows (n, in_features) to rows (n, out_features), in float32 or float64."""
        # Whichever holds all values, as in the standardisation that follows.
        narrow = x.dtype.itemsize < 4 or x.dtype == torch.float32
        x = x.to(torch.float32 if narrow else torch.float64)
        if x.device != self.owner.device:  # samples of another container than those of fit
            return copy.deepcopy(self).to(x.device)(x)
        spread = x.index_select(1, self.owner)
        ones = (spread == self.code) & self.is_code
        n_ones = torch.zeros_like(x).index_add_(1, self.owner, ones.to(x.dtype))
        # 0 in a category that is known, and else NaN, or 0 again.
        others = torch.where(x.isnan(), x, self.unseen).masked_fill_(n_ones > 0, 0.0)
        encoded = others.index_select(1, self.owner).masked_fill_(ones, 1.0)
        return torch.where(self.is_code, encoded, spread)

    def check(self, x: torch.Tensor, name: str) -> None:
        """Refuse values of rows of X that are no codes."""
        _check_codes(x[:, self.columns], self.columns, name)


def _check_codes(x: torch.Tensor, columns: list[int], name: str) -> None:
    bad = (x != x.floor() if x.is_floating_point() else torch.zeros_like(x, dtype=torch.bool)) | (
        (x < 0) | (x > _MOST_CODE)
    )
    if x.is_floating_point():
        bad &= x.isnan().logical_not()
    if bool(bad.any()):
        row, place = bad.nonzero()[0].tolist()
        value = x[row, place].item()
        raise ValueError(
            f"Input X must hold codes of categories, ints in the range [0, {_MOST_CODE}] or NaN, "
            f"in the columns that 'categorical_features' of {name} names. Got {value!r} in "
            f"feature {columns[place]} instead; make codes, for example, by OrdinalEncoder."
        )


def spread_categories(
    estimator, rows: Rows | Stream, held_out: torch.Tensor | None, *, unseen_is_nan: bool
) -> None:
    """Find the codes of the rows trained on, and make rows one-hot from now on."""
    mask = getattr(estimator, "is_categorical_", None)
    if mask is None or not mask.any():
        return
    columns, name = np.flatnonzero(mask).tolist(), type(estimator).__name__
    codes = _seen_codes(rows, columns, held_out, name)
    labels = estimator.categories_
    for i, seen in codes.items():
        # Labels that are no codes themselves: codes are places among these.
        if i not in labels or labels[i].dtype.kind != "O":
            labels[i] = seen
    estimator.categories_ = dict(sorted(labels.items()))
    made = OneHotCodes(len(mask), codes, unseen_is_nan=unseen_is_nan)
    tensor = rows.tensor if isinstance(rows, Rows) else None
    rows.spread(made if tensor is None else made.to(tensor.device))


def _seen_codes(
    rows: Rows | Stream, columns: list[int], held_out: torch.Tensor | None, name: str
) -> dict[int, np.ndarray]:
    found: dict[int, set[int]] = {i: set() for i in columns}
    start = 0
    for batch in rows.with_views(chunk_rows(rows.sample_shape)):
        part = batch[..., columns].cpu()
        _check_codes(part.reshape(-1, len(columns)), columns, name)
        if held_out is not None:
            numbers = torch.arange(start, start + len(part))
            part = part[torch.isin(numbers, held_out).logical_not()]
        start += len(batch)
        part = part.reshape(-1, len(columns))
        for i, values in zip(columns, part.double().unbind(1), strict=True):
            seen = values.unique()
            found[i].update(seen[seen.isfinite()].long().tolist())
            if len(found[i]) > _MOST_CATEGORIES:
                raise ValueError(
                    f"{name} takes {_MOST_CATEGORIES} categories in a column at most. Got more in "
                    f"feature {i}; group the rare ones, or leave the column out of "
                    "'categorical_features' and encode it first, for example by TargetEncoder."
                )
    for i, seen in found.items():
        if not seen:
            raise ValueError(
                f"Input X contains no value in feature {i}, only NaN, in the samples that are "
                f"trained on. {name} needs one value at least in each feature: drop the feature."
            )
    return {i: np.array(sorted(seen)) for i, seen in found.items()}
