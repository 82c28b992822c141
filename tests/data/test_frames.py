"""Data frames of three libraries: what their columns hold, and whose word comes first."""

import datetime
import decimal

import numpy as np
import pytest
from estimators import rows, small

from sslearn._data._frames import dtypes_of, refuse_dates, refuse_values

DAYS = [datetime.datetime(2020, 1, 1, 12) + datetime.timedelta(days=i) for i in range(24)]
LIBRARIES = ["pandas", "polars", "pyarrow"]


def _frame(library, columns):
    module = pytest.importorskip(library)
    return module.table(columns) if library == "pyarrow" else module.DataFrame(columns)


def _renamed(frame, names):
    if hasattr(frame, "rename_columns"):
        return frame.rename_columns(names)
    frame = frame[:]
    frame.columns = names
    return frame


def _numbers(names="abc"):
    X = rows("table", dtype=np.float64)
    return {name: X[:, i] for i, name in enumerate(names)}


def _message_of(X, fitted=None):
    with pytest.raises((ValueError, TypeError)) as caught:
        small("SimCLR").fit(X) if fitted is None else fitted.transform(X)
    return str(caught.value)


@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_are_like_arrays(library):
    columns = _numbers()
    frame, X = _frame(library, columns), np.stack(list(columns.values()), axis=1)
    estimator = small("SimCLR").fit(frame)
    assert list(estimator.feature_names_in_) == list(columns)
    assert estimator.n_features_in_ == 3
    np.testing.assert_array_equal(estimator.transform(frame), small("SimCLR").fit(X).transform(X))
    mixed = {"a": np.arange(20), "b": np.linspace(0, 1, 20), "c": np.arange(20) % 2 == 0}
    mixed = _frame(library, mixed)
    assert small("SimCLR").fit(mixed).transform(mixed).shape == (20, 8)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["datetime", "date", "time", "duration"])
def test_dates_are_refused_by_name_before_anything_is_converted(library, kind):
    values = {
        "datetime": DAYS,
        "date": [day.date() for day in DAYS],
        "time": [day.time() for day in DAYS],
        "duration": [day - DAYS[0] for day in DAYS],
    }[kind]
    expected = "Got dates or times in ['when', 'then'] instead; first take numbers from dates"
    message = _message_of(_frame(library, {**_numbers(), "when": values, "then": values}))
    assert expected in message
    assert "OneHotEncoder" not in message
    assert "in ['when'] instead" in _message_of(_frame(library, {"when": values}))


@pytest.mark.parametrize(
    "dtype",
    ["timestamp[us][pyarrow]", "date32[pyarrow]", "time64[us][pyarrow]", "duration[us][pyarrow]"]
    + ["datetime64[ns, UTC]", "timedelta64[s]", "period[D]"],
)
def test_every_dtype_of_dates_that_pandas_has(dtype):
    pandas = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    values = [day.time() for day in DAYS] if dtype.startswith("time64") else DAYS
    if dtype.startswith(("duration", "timedelta")):
        values = [day - DAYS[0] for day in DAYS]
    if dtype.startswith("date32"):
        values = [day.date() for day in DAYS]
    if dtype.startswith("datetime64"):
        values = [day.replace(tzinfo=datetime.UTC) for day in DAYS]
    if dtype.startswith("period"):
        values = pandas.period_range("2020-01-01", periods=24, freq="D")
    frame = pandas.DataFrame({**_numbers(), "when": pandas.Series(values, dtype=dtype)})
    assert "dates or times in ['when']" in _message_of(frame)
    objects = pandas.DataFrame({**_numbers(), "when": pandas.Series(DAYS, dtype=object)})
    assert "dates or times in ['when']" in _message_of(objects)


class _Table:
    """What pyarrow's tables and ours have in common."""

    class schema:
        names = ["a", "when", "job"]
        types = ["double", "timestamp[us]", "string"]

    columns = [np.arange(4.0), np.arange(4), np.array(["x", "y", "1", "2"], dtype=object)]

    def column(self, i):
        return self.columns[i]


def test_tables_of_pyarrow_are_read_by_their_schema():
    dtypes = dtypes_of(_Table())
    assert dtypes == ["double", "timestamp[us]", "string"]
    with pytest.raises(ValueError, match=r"dates or times in \['when'\] instead"):
        refuse_dates("SimCLR", _Table(), dtypes)
    with pytest.raises(ValueError, match=r"Got text in \['job'\] instead; first encode text"):
        refuse_values("SimCLR", _Table(), dtypes, ValueError())
    assert dtypes_of(np.zeros((4, 3))) is dtypes_of([[1.0]]) is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_text_and_objects_are_named(library):
    columns = {**_numbers(), "job": list("ab" * 12), "level": ["1", "2"] * 12, "list": [[1.0]] * 24}
    message = _message_of(_frame(library, columns))
    assert (
        "Got text in ['job'] and lists or other objects in ['list'] instead; first encode"
        in message
    )
    assert "OneHotEncoder(sparse_output=False)" in message
    assert "TfidfVectorizer" in message
    many = _frame(library, {f"c{i}": list("ab" * 12) for i in range(300)})
    assert "'c8', 'c9'] and 290 more instead" in _message_of(many)


@pytest.mark.parametrize("library", LIBRARIES)
def test_numbers_of_any_kind_are_taken(library):
    # Text that scikit-learn reads as numbers is read as numbers here too.
    columns = {**_numbers(), "digits": ["1", "2"] * 12, "money": [decimal.Decimal("1.5")] * 24}
    columns["flag"] = [True, False] * 12
    frame = _frame(library, columns)
    assert small("SimCLR").fit(frame).transform(frame).shape == (24, 8)


def test_categories_of_numbers_are_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({**_numbers(), "level": pandas.Categorical([1, 2] * 12)})
    assert small("SimCLR").fit(frame).n_features_in_ == 4
    frame["level"] = pandas.Categorical(["low", "high"] * 12)
    assert "Got text in ['level'] instead" in _message_of(frame)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("beside", ["numbers", "text", "dates"])
def test_what_scikit_learn_says_of_names_comes_first(library, beside):
    columns = _numbers()
    fitted = small("SimCLR").fit(_frame(library, columns))
    # A column that changed its kind, or one too many.
    extra = {"numbers": columns["a"], "text": list("xy" * 12), "dates": DAYS}[beside]
    changed = {**columns, "b": extra}
    frames = {
        "reordered": _frame(library, {name: changed[name] for name in "cba"}),
        "missing": _frame(library, {name: changed[name] for name in "ab"}),
        "renamed": _renamed(_frame(library, changed), ["A", "b", "c"]),
        "extra": _frame(library, {**columns, "id": extra}),
    }
    for case, frame in frames.items():
        message = _message_of(frame, fitted)
        assert message.startswith("The feature names should match those that were passed"), case
        assert "columns of numbers" not in message, case
    # Without names there is still their number.
    nameless = small("SimCLR").fit(np.stack(list(columns.values()), axis=1))
    with pytest.warns(UserWarning, match="has feature names, but SimCLR was fitted without"):
        message = _message_of(_frame(library, {**columns, "id": extra}), nameless)
    assert message == "X has 4 features, but SimCLR is expecting 3 features as input."


def test_mixed_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({**_numbers(), "job": "x"})
    assert "only supported if all input features have string" in _message_of(
        frame.set_axis(["a", "b", 2, 3], axis=1)
    )


def test_names_that_are_given_twice():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows("table"), columns=list("aabbcd"))
    expected = "The columns of X must have different names. Got ['a', 'b'] more than once instead."
    assert _message_of(frame) == expected
    frame["b"] = "text"
    assert _message_of(frame) == expected
    fitted = small("SimCLR").fit(frame.set_axis(list("uvwxyz"), axis=1).assign(w=1.0, x=2.0))
    assert _message_of(frame, fitted) == expected


def test_frames_without_numbers_to_read():
    pandas = pytest.importorskip("pandas")
    assert "0 feature(s) (shape=(24, 0))" in _message_of(pandas.DataFrame(index=range(24)))
    thin = pandas.DataFrame({name: pandas.arrays.SparseArray([0.0, 1.0] * 12) for name in "ab"})
    assert "X.sparse.to_dense()" in _message_of(thin)
    thin = thin.astype(pandas.SparseDtype(float, np.nan))
    assert "X.sparse.to_dense()" in _message_of(thin)


def test_a_lazy_frame_is_to_be_collected():
    polars = pytest.importorskip("polars")
    lazy = polars.DataFrame(_numbers()).lazy()
    assert "Got LazyFrame instead; pass X.collect()." in _message_of(lazy)
    fitted = small("SimCLR").fit(lazy.collect())
    assert "pass X.collect()" in _message_of(lazy, fitted)
