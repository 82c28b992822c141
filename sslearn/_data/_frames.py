"""Columns of data frames of pandas, polars and pyarrow, by the attributes that these share."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np

__all__ = [
    "column_of",
    "dtypes_of",
    "is_categorical",
    "joined",
    "refuse_dates",
    "refuse_repeated_names",
    "refuse_values",
    "with_nan",
    "without_columns",
]

# First letters of the names of dtypes that are no numbers but would be converted to some: pandas'
# datetime64[ns], timedelta64[ns] and period[D], polars' Datetime, Date, Time and Duration,
# pyarrow's timestamp[us], date32[day], time64[us], duration[us] and month_day_nano_interval.
_DATES = ("date", "time", "period", "duration", "month_")
_CATEGORICAL = ("category", "categorical", "enum", "dictionary")
# Contents of a column that are no numbers, and the remedy.
_REMEDIES = {
    "text": (
        "encode text, for example by skrub.TableVectorizer, TfidfVectorizer or a "
        "ColumnTransformer with OneHotEncoder(sparse_output=False), or make categories a "
        "categorical dtype and set categorical_features='from_dtype'"
    ),
    "dates or times": "take numbers from dates, for example the year or the seconds since one",
    "lists or other objects": "spread lists over columns",
}
# Names that are printed.
_MOST_NAMES = 10


def dtypes_of(X: Any) -> list | None:
    """Return the dtypes of the columns of a data frame; None if X is not one."""
    dtypes = getattr(X, "dtypes", None)  # pandas, polars
    if dtypes is None or not hasattr(X, "columns"):  # pyarrow
        dtypes = getattr(getattr(X, "schema", None), "types", None)
    return None if dtypes is None else list(dtypes)


def is_categorical(dtype: Any) -> bool:
    """Return whether a dtype is that of categories: of pandas, polars (also Enum) or pyarrow."""
    return str(dtype).lower().startswith(_CATEGORICAL)


def _names_of(X: Any) -> list:
    return list(X.columns if hasattr(X, "dtypes") else X.schema.names)


def refuse_repeated_names(X: Any, error: Exception) -> None:
    """Explain why scikit-learn could not compare names of columns, if some are given twice."""
    repeated = [column for column, n in Counter(_names_of(X)).items() if n > 1]
    if repeated:
        raise ValueError(
            f"The columns of X must have different names. Got {_listed(repeated)} more than once "
            "instead."
        ) from error


def refuse_dates(name: str, X: Any, dtypes: list) -> None:
    """Refuse dates and times by their dtype: some would be converted, whatever their unit."""
    if any(map(_is_date, set(dtypes))):
        each = zip(_names_of(X), dtypes, strict=True)
        dates = [column for column, dtype in each if _is_date(dtype)]
        raise ValueError(_message(name, {"dates or times": dates}))


def _is_date(dtype: Any) -> bool:
    return str(dtype).lower().startswith(_DATES)


def refuse_values(name: str, X: Any, dtypes: list, error: Exception) -> None:
    """Refuse columns that could not be converted, with their names; `error` is the reason."""
    if not dtypes:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required by "
            f"{name}."
        ) from error
    if all(str(dtype).startswith("Sparse") for dtype in dtypes):
        raise TypeError(
            f"Sparse data was passed, but {name} needs dense rows: X.sparse.to_dense()."
        ) from error
    found: dict[str, list] = {}
    for i, column in enumerate(_names_of(X)):
        kind = _kind(column_of(X, i))
        if kind is not None:
            found.setdefault(kind, []).append(column)
    if found:
        raise ValueError(_message(name, found)) from error


def _message(name: str, found: dict[str, list]) -> str:
    got = " and ".join(f"{kind} in {_listed(names)}" for kind, names in found.items())
    remedy = ", and ".join(_REMEDIES[kind] for kind in found)
    return f"{name} needs columns of numbers. Got {got} instead; first {remedy}."


def _listed(names: list) -> str:
    more = len(names) - _MOST_NAMES
    return f"{names[:_MOST_NAMES]}" + (f" and {more} more" if more > 0 else "")


def column_of(X: Any, i: int) -> Any:
    """Return a column of a data frame by its number."""
    if hasattr(X, "iloc"):
        return X.iloc[:, i]
    return X.column(i) if hasattr(X, "column") else X[:, i]


def with_nan(X: Any) -> np.ndarray:
    """Return an array of objects in which NaN replaces ``pandas.NA``, which is no number."""
    array = np.array(X, dtype=object)
    is_missing = np.frompyfunc(lambda value: type(value).__name__ == "NAType", 1, 1)(array)
    array[is_missing.astype(bool)] = np.nan
    return array


def without_columns(X: Any, numbers: Collection[int]) -> Any:
    """Return a data frame without some of its columns; None if no others are left."""
    names = _names_of(X)
    dropped = [names[i] for i in numbers]
    if len(dropped) == len(names):
        return None
    return X.drop(columns=dropped) if hasattr(X, "iloc") else X.drop(dropped)


def joined(array: np.ndarray | None, columns: dict[int, np.ndarray]) -> np.ndarray:
    """Put columns in their places among those of an array, in float64."""
    n_others = 0 if array is None else array.shape[1]
    n_rows = len(next(iter(columns.values())))
    made = np.empty((n_rows, n_others + len(columns)))
    made[:, list(columns)] = np.stack(list(columns.values()), axis=1)
    if array is not None:
        made[:, [i for i in range(made.shape[1]) if i not in columns]] = array
    return made


def _kind(column: Any) -> str | None:
    """Return what a column holds instead of numbers: a key of `_REMEDIES`."""
    values = np.asarray(column)
    if values.dtype.kind == "O":
        values = with_nan(values)
    if values.ndim == 1 and values.dtype.kind in "biufc":
        return None
    if values.dtype.kind in "mM":
        return "dates or times"
    if values.ndim == 1:
        try:
            values.astype(np.float64)
        except (TypeError, ValueError):
            pass
        else:
            return None
    dates = datetime.date, datetime.time, datetime.timedelta
    known = next((value for value in values if isinstance(value, (str, bytes, *dates))), None)
    if isinstance(known, str | bytes):
        return "text"
    return "lists or other objects" if known is None else "dates or times"
