"""Categories of a table: which columns, their codes, and what views and encoders see of them."""

import functools

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, small
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn import SimCLR, VICReg
from sslearn._data import _batches
from sslearn._data._categories import OneHotCodes
from sslearn.augment import Compose, FeatureCorruption, GaussianNoise
from sslearn.encoders import FillMissing, default_encoder

CATEGORICAL = [1, 4]
LABELS = np.array(["Berlin", "Paris", "Rome", "Oslo"], dtype=object)


def _table(n=80, seed=0):
    """Three numbers and two categories, of which one is known by the numbers."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    X[:, 1] = rng.integers(0, 4, n)
    X[:, 4] = (X[:, 0] > 0) + (X[:, 2] > 1).astype(int)
    return X


def _one_hot(X):
    blocks = [
        X[:, [i]] == np.unique(X[:, i]) if i in CATEGORICAL else X[:, [i]]
        for i in range(X.shape[1])
    ]
    return np.hstack(blocks).astype(float)


def _frame(library, X, levels=LABELS):
    module = pytest.importorskip(library)
    columns = {name: X[:, i] for i, name in enumerate("abcde")}
    columns["b"] = [LABELS[int(code)] if code == code else None for code in X[:, 1]]
    frame = module.DataFrame(columns)
    if library == "pandas":
        return frame.assign(
            b=module.Categorical(frame["b"], levels), e=frame["e"].astype("category")
        )
    return frame.with_columns(module.col("b").cast(module.Enum(list(levels))))


@pytest.fixture
def views(monkeypatch):
    """All views that are drawn."""
    drawn = []
    found = _batches._augmented

    def kept(*args):
        drawn.append(found(*args))
        return drawn[-1]

    monkeypatch.setattr(_batches, "_augmented", kept)
    return drawn


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_codes_are_what_a_one_hot_encoding_is(dtype):
    X = (10 + 5 * _table()).astype(dtype) if np.dtype(dtype).kind in "iu" else _table()
    X = X.astype(dtype)
    found = VICReg(max_epochs=2, random_state=0, categorical_features=CATEGORICAL).fit(X)
    assert found.n_features_in_ == 5
    assert found.is_categorical_.tolist() == [False, True, False, False, True]
    for i in CATEGORICAL:
        np.testing.assert_array_equal(found.categories_[i], np.unique(X[:, i]))
    blocks = VICReg(max_epochs=2, random_state=0).fit(_one_hot(X))
    assert len(blocks.feature_groups_) == 2
    assert found.feature_groups_ == []
    np.testing.assert_allclose(found.transform(X), blocks.transform(_one_hot(X)), atol=1e-5)
    # The encoder alone maps codes to features.
    with torch.no_grad():
        np.testing.assert_allclose(
            found.encoder_(torch.from_numpy(X)), found.transform(X), atol=1e-5
        )


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_method_takes_codes(name):
    X = _table(40)
    X[::9, 1] = np.nan
    X[::7, 0] = np.nan
    model = small(name, max_epochs=1, categorical_features=CATEGORICAL).fit(X)
    features = model.transform(X)
    assert np.isfinite(features).all()
    # A category that fit has not seen is a missing one.
    unseen, missing = X.copy(), X.copy()
    unseen[:, 1], missing[:, 1] = 77, np.nan
    np.testing.assert_array_equal(model.transform(unseen), model.transform(missing))
    assert np.abs(model.transform(missing) - features).max() > 0
    np.testing.assert_allclose(model.transform(X[:1]), features[:1], atol=1e-5)


@pytest.mark.parametrize("augment", [None, FeatureCorruption(0.5), "composed"])
def test_a_view_replaces_a_category_as_a_whole(views, augment):
    X = _table(200)
    X[::10, 1] = np.nan
    if augment == "composed":
        augment = Compose([GaussianNoise(), FeatureCorruption(0.5, [[0, 1]])])
    model = small("SimCLR", augment=augment, max_epochs=1, categorical_features=CATEGORICAL).fit(X)
    standardize = model.encoder_.get_submodule("standardize")
    seen = torch.cat(views) + standardize.shift
    assert len(seen) > 300
    for block in (slice(1, 5), slice(7, 10)):
        missing = seen[:, block].isnan()
        assert torch.equal(missing.any(1), missing.all(1))
        known = seen[:, block][~missing.any(1)]
        assert bool(((known > 0.5).sum(1) == 1).all())
        assert len(known) > 150
    # Missing ones stay as many: none comes from another row.
    assert abs(float(seen[:, 1].isnan().float().mean()) - 0.1) < 0.04


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_categorical_dtypes(library):
    X = _table()
    X[3, 1] = np.nan
    frame, mixed = _frame(library, X), _frame(library, X, LABELS[[2, 0, 3, 1]])
    given = ["b", "e"] if library == "polars" else "from_dtype"
    model = small("SimCLR", categorical_features=given).fit(frame)
    assert model.categories_[1].tolist() == sorted(LABELS)
    assert model.categories_[4].tolist() == [0, 1, 2]
    features = model.transform(frame)
    # The order of the categories in the dtype does not count, nor does the kind of frame.
    np.testing.assert_array_equal(model.transform(mixed), features)
    again = small("SimCLR", categorical_features=[1, 4]).fit(mixed)
    np.testing.assert_array_equal(again.transform(frame), features)
    for other in ("pandas", "polars"):
        np.testing.assert_array_equal(model.transform(_frame(other, X)), features)
    # An array has the places of the sorted labels as codes.
    codes = X.copy()
    codes[:, 1] = [np.nan if c != c else sorted(LABELS).index(LABELS[int(c)]) for c in X[:, 1]]
    np.testing.assert_array_equal(
        small("SimCLR", categorical_features=[1, 4]).fit(codes).transform(codes), features
    )


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_labels_that_fit_has_not_seen_are_missing(library):
    X = _table()
    model = small("SimCLR", categorical_features=[1, 4]).fit(_frame(library, X[X[:, 1] < 3]))
    unseen, missing = X.copy(), X.copy()
    unseen[:, 1], missing[:, 1] = 3, np.nan
    np.testing.assert_array_equal(
        model.transform(_frame(library, unseen)), model.transform(_frame(library, missing))
    )


def test_a_frame_of_categories_alone():
    frame = _frame("pandas", _table())[["b", "e"]]
    model = small("LFR", categorical_features="from_dtype").fit(frame)
    assert model.transform(frame).shape == (80, 8)
    assert model.is_categorical_.tolist() == [True, True]


def test_streams_datasets_and_tensors():
    X = _table()
    expected = small("SimCLR", categorical_features=CATEGORICAL).fit(X)
    dataset = TensorDataset(torch.from_numpy(X))
    loader = DataLoader(dataset, batch_size=16)
    for given in (torch.from_numpy(X), dataset):
        model = small("SimCLR", categorical_features=CATEGORICAL).fit(given)
        np.testing.assert_array_equal(model.transform(given), expected.transform(X))
    model = small("SimCLR", categorical_features=CATEGORICAL).fit(loader)
    assert np.isfinite(model.transform(loader)).all()
    assert model.categories_.keys() == {1, 4}


def test_in_a_pipeline_and_a_search():
    X, y = _table(60), _table(60)[:, 4].astype(int) > 0
    X[::8, 1] = np.nan
    pipeline = make_pipeline(
        small("SimCLR", categorical_features=CATEGORICAL, augment=FeatureCorruption()),
        LogisticRegression(),
    )
    grid = {"simclr__augment__rate": [0.2, 0.4], "simclr__categorical_features": [None, [1, 4]]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert search.predict(X).shape == (60,)
    model = search.best_estimator_[0]
    assert not hasattr(clone(model).set_params(categorical_features=None).fit(X), "categories_")
    # The caller's own views are left as they are.
    assert pipeline[0].augment.feature_groups is None


def test_held_out_rows_have_no_categories_of_their_own():
    X = _table(60)
    X[7, 1] = 9
    model = small("SimCLR", categorical_features=[1], validation_fraction=0.5, random_state=1)
    model.set_params(max_epochs=0)
    seen = [set(clone(model).set_params(random_state=i).fit(X).categories_[1]) for i in range(12)]
    assert any(9 in found for found in seen)
    assert any(9 not in found for found in seen)


def test_encoders_of_ones_own():
    X = _table()
    plain = small("SimCLR", encoder=nn.Linear(10, 8), categorical_features=CATEGORICAL)
    model = plain.fit(X)
    unseen = X.copy()
    unseen[:, 1] = 50
    assert np.isfinite(model.transform(unseen)).all()
    for i in (1, 3):
        holes = X.copy()
        holes[0, i] = np.nan
        for call in (model.transform, clone(plain).fit):
            with pytest.raises(ValueError, match=rf"contains NaN, in feature {i} \(of 0 to 4\)"):
                call(holes)
    network = nn.Sequential(FillMissing(10), nn.Linear(20, 8))
    filled = small("SimCLR", encoder=network, categorical_features=CATEGORICAL).fit(X)
    unseen[0, 3], unseen[5, 1] = 0.0, np.nan
    assert np.isfinite(filled.transform(unseen)).all()
    shapes = []
    made = small(
        "SimCLR", encoder=functools.partial(_recorded, shapes), categorical_features=CATEGORICAL
    )
    made.fit(X)
    assert shapes == [(10,)]


def _recorded(shapes, shape):
    shapes.append(shape)
    return default_encoder(shape)


def test_from_dtype_on_an_array_names_none():
    # As in scikit-learn.
    X = _table()
    model = small("SimCLR", categorical_features="from_dtype").fit(X)
    assert not model.is_categorical_.any()
    np.testing.assert_array_equal(model.transform(X), small("SimCLR").fit(X).transform(X))


@pytest.mark.parametrize(
    ("value", "shown"), [(-1, "-1.0"), (2**40, "1099511627776.0"), (0.5, "0.5"), (np.inf, "inf")]
)
def test_what_is_no_code(value, shown):
    X = _table()
    model = small("SimCLR", categorical_features=CATEGORICAL).fit(X)
    X[5, 1] = value
    for call in (clone(model).fit, model.transform):
        with pytest.raises(ValueError, match="feature 1|infinity") as caught:
            call(X)
        assert "infinity" in str(caught.value) or f"Got {shown} in feature 1" in str(caught.value)


def test_integers_that_are_no_codes():
    X = _table().astype(np.int64)
    X[5, 1] = 2**40
    with pytest.raises(
        ValueError, match=r"ints in the range \[0, 16777215\].*Got 1099511627776 in"
    ):
        small("SimCLR", categorical_features=CATEGORICAL).fit(X)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([True, False], "mask of 2 values for 5 features"),
        ([1, 5], "index 5 for 5 features"),
        ([-1], "index -1 for 5 features"),
        (["b"], "names, .* without names of columns"),
        ([1.5], "Got .*1.5"),
        ([[1, 2]], "Got "),
        ([1, "b"], "Got "),
        ("auto", "must be .*from_dtype"),
        (3, "must be "),
    ],
)
def test_what_names_no_columns(given, message):
    with pytest.raises(ValueError, match="'categorical_features' parameter.*" + message):
        small("SimCLR", categorical_features=given).fit(_table())


def test_names_that_no_column_has():
    with pytest.raises(ValueError, match="Got 'z', which X has no column of"):
        small("SimCLR", categorical_features=["b", "z"]).fit(_frame("pandas", _table()))


@pytest.mark.parametrize("shape", [(20, 2, 10), (20, 1, 8, 8)])
def test_other_kinds_of_data_have_none(shape):
    with pytest.raises(ValueError, match="'categorical_features' parameter is for tables"):
        small("SimCLR", categorical_features=[0]).fit(np.zeros(shape))


def test_too_many_categories_and_none():
    X = np.random.default_rng(0).normal(size=(1200, 2))
    X[:, 1] = np.arange(1200)
    model = small("SimCLR", categorical_features=[1])
    with pytest.raises(ValueError, match="takes 1000 categories in a column at most.*feature 1;"):
        model.fit(X)
    assert not hasattr(model, "categories_")
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="no value in feature 1, only NaN"):
        model.fit(X)


def test_text_stays_an_error():
    frame = _frame("pandas", _table())
    frame["b"] = frame["b"].astype(object)
    for given in (None, "from_dtype", ["b"]):
        with pytest.raises(ValueError, match=r"text in \['b'\].*skrub.TableVectorizer"):
            SimCLR(max_epochs=1, categorical_features=given).fit(frame)
    with pytest.raises(ValueError, match="skrub.TableVectorizer or OneHotEncoder"):
        SimCLR(max_epochs=1).fit(frame[["b"]].to_numpy())


def test_one_hot_codes():
    codes = OneHotCodes(2, {1: np.array([3, 7])}, unseen_is_nan=True)
    x = torch.tensor([[0.5, 3], [0.25, 7], [1, 4], [float("nan"), float("nan")]])
    nan = float("nan")
    expected = [[0.5, 1, 0], [0.25, 0, 1], [1, nan, nan], [nan, nan, nan]]
    torch.testing.assert_close(codes(x), torch.tensor(expected), equal_nan=True)
    assert codes(x.double()).dtype == torch.float64
    assert codes(torch.ones(2, 2, dtype=torch.uint8)).dtype == torch.float32
    zeros = OneHotCodes(2, {1: np.array([3, 7])}, unseen_is_nan=False)
    assert zeros(x)[2].tolist() == [1, 0, 0]
    assert bool(zeros(x)[3].isnan().all())
    assert repr(codes) == "OneHotCodes(in_features=2, out_features=3, columns=[1])"
