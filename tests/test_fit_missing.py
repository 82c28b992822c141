"""Tables with missing values, from X to the features of all methods; series for some of them."""

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, rows, small, trained_module
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sslearn._data import _batches
from sslearn.encoders import FillMissing, PiecewiseLinear

every_estimator = pytest.mark.parametrize("name", sorted(ESTIMATORS))


def _holes(X, share=0.1, seed=0):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


@every_estimator
@pytest.mark.parametrize("where", ["fit", "transform", "both"])
def test_every_method_takes_tables_with_missing_values(name, where):
    X = rows("table", dtype=np.float64)
    holes = _holes(X)
    model = small(name, max_epochs=1).fit(X if where == "transform" else holes)
    given = X if where == "fit" else holes
    features = model.transform(given)
    assert np.isfinite(features).all()
    assert np.isfinite(model.loss_curve_).all()
    # A row's features do not depend on the others.
    np.testing.assert_allclose(model.transform(given[3:4]), features[3:4], atol=1e-5)
    # What is missing is no longer seen.
    if where != "fit":
        assert np.abs(model.transform(X) - features).max() > 1e-3


@every_estimator
def test_the_tag_is_true_and_infinity_is_refused(name):
    assert small(name).__sklearn_tags__().input_tags.allow_nan
    own = small(name, encoder=nn.Linear(6, 8))
    assert not own.__sklearn_tags__().input_tags.allow_nan
    X = _holes(rows("table", dtype=np.float64))
    model = small(name, max_epochs=1).fit(X)
    for value in (np.inf, -np.inf):
        X[5, 3] = value
        place = "channel 0" if name in ("CPC", "AMDIM") else "feature 3"
        for call in (clone(model).fit, model.transform):
            with pytest.raises(ValueError, match=f"contains infinity, in {place}"):
                call(X)


@pytest.mark.parametrize("name", ["CPC", "AMDIM"])
def test_networks_get_filled_series_and_a_mask(name):
    X = rows("series", dtype=np.float64)
    holes = _holes(X)
    model = small(name, max_epochs=1).fit(holes)
    assert np.isfinite(model.transform(holes)).all()
    fills = [m for m in model.encoder_.modules() if isinstance(m, FillMissing)]
    assert [fill.mask for fill in fills] == [True]
    complete = small(name, max_epochs=1).fit(X)
    assert np.isfinite(complete.transform(holes)).all()
    fills = [m for m in complete.encoder_.modules() if isinstance(m, FillMissing)]
    assert [fill.mask for fill in fills] == [False]
    # A network that was trained is one that takes missing values.
    features = [m for m in model.encoder_.modules() if hasattr(m, "fill")][-1]
    again = small(name, max_epochs=1, encoder=features)
    assert again.__sklearn_tags__().input_tags.allow_nan
    assert np.isfinite(again.fit(holes).transform(holes)).all()


def test_layers_of_amdim_keep_their_names():
    X = rows("series", dtype=np.float64)
    model = small("AMDIM", feature_layers=["stages.1", "stages.0"], comparisons="00, 01, 12")
    assert np.isfinite(model.fit(_holes(X)).transform(X)).all()
    assert type(trained_module(model)).__name__ == "ResNet"


class _Own(nn.Module):
    """A projector that notes whether it is given NaN."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.seen = []

    def forward(self, x):
        self.seen.append(bool(x.isnan().any()))
        return x.nan_to_num(3.0) @ self.weight

    def __deepcopy__(self, memo):
        return self  # so that what it notes is seen


class _OwnTakesNaN(_Own):
    takes_nan = True


@pytest.mark.parametrize("kind", [_Own, _OwnTakesNaN])
def test_projectors_of_ones_own_get_filled_values(kind):
    torch.manual_seed(0)
    projectors = [kind() for _ in range(4)]
    model = small("LFR", projectors=projectors, n_targets=2, max_epochs=1)
    model.fit(_holes(rows("table", dtype=np.float64)))
    assert np.isfinite(model.loss_curve_).all()
    assert any(any(one.seen) for one in projectors) == (kind is _OwnTakesNaN)


def test_targets_on_series_see_the_mask():
    X = rows("series", dtype=np.float64)
    network = nn.Sequential(FillMissing(2), nn.Flatten(), nn.Linear(80, 8))
    model = small("LFR", encoder=network, max_epochs=1).fit(_holes(X))
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.transform(_holes(X))).all()


def test_views_leave_missing_values_missing(monkeypatch):
    drawn, found = [], _batches._augmented
    monkeypatch.setattr(
        _batches, "_augmented", lambda a, x, g: drawn.append((x, found(a, x, g))) or drawn[-1][1]
    )
    X = _holes(rows("table", n=200, dtype=np.float64))
    small("SimCLR", max_epochs=1).fit(X)
    assert drawn
    for x, view in drawn:
        assert torch.equal(x.isnan(), view.isnan())


def test_a_bin_of_its_own():
    X = rows("table", n=300, dtype=np.float64)
    X[::5, 2] = np.nan
    model = small("SimCLR", max_epochs=0).fit(X)
    bins = next(m for m in model.encoder_.modules() if isinstance(m, PiecewiseLinear))
    assert bins.flagged.tolist() == [2]


def test_one_hot_blocks_with_gaps_are_found():
    rng = np.random.default_rng(0)
    code, other = rng.integers(0, 3, 300), rng.normal(size=(300, 2))
    X = np.hstack([other, np.eye(3)[code]])
    X[::7, 2:] = np.nan
    assert small("SimCLR", max_epochs=1).fit(X).feature_groups_ == [[2, 3, 4]]


def test_pipelines_and_searches():
    X, y = rows("table", n=60, dtype=np.float64), np.arange(60) % 2
    pipeline = make_pipeline(small("VICReg", max_epochs=1), PCA(2), LogisticRegression())
    search = GridSearchCV(pipeline, {"vicreg__batch_size": [8, 16]}, cv=2, error_score="raise")
    for given in (_holes(X), X, _holes(X, seed=1)):  # fitted again, with and without
        assert search.fit(given, y).predict(_holes(X)).shape == (60,)
    model = pipeline[0]
    first = clone(model).fit(X).transform(X)
    np.testing.assert_array_equal(model.fit(_holes(X)).fit(X).transform(X), first)


# --- containers ----------------------------------------------------------------------------------


def _containers():
    rng = np.random.default_rng(0)
    X = np.round(_holes(5 * rng.normal(size=(40, 3))))
    X[0] = [np.nan, 1, 2]
    lists = [[None if v != v else v for v in column] for column in X.T.tolist()]
    yield "array", X, lambda: X
    yield "float32", X, lambda: X.astype(np.float32)
    yield "None", X, lambda: np.array(lists, dtype=object).T
    yield "object of NaN", X, lambda: X.astype(object)
    yield "lists", X, lambda: X.tolist()
    yield "tensor", X, lambda: torch.from_numpy(X)

    def pandas(kind):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(dict(zip("abc", X.T, strict=True)))
        if kind == "object":
            return frame.astype(object).where(frame.notna(), None)
        if kind == "object of NA":
            return frame.astype(object).where(frame.notna(), pd.NA)
        return frame if kind == "numpy" else frame.astype(kind)

    for kind in ("numpy", "Float64", "Float32", "Int64", "object", "object of NA"):
        yield f"pandas, {kind}", X, lambda kind=kind: pandas(kind)

    def polars(dtype):
        pl = pytest.importorskip("polars")
        columns = zip("abc", lists, strict=True)
        return pl.DataFrame(
            {n: pl.Series(c, dtype=getattr(pl, dtype), strict=False) for n, c in columns}
        )

    for dtype in ("Float64", "Int64"):
        yield f"polars, {dtype}", X, lambda dtype=dtype: polars(dtype)

    def mixed():
        pd = pytest.importorskip("pandas")
        frame = pandas("numpy")
        return frame.assign(
            b=frame["b"].astype("Int64"),
            c=frame["c"].astype(object).where(frame["c"].notna(), pd.NA),
        )

    yield "pandas, mixed", X, mixed


@pytest.mark.parametrize(
    ("X", "make"), [pytest.param(X, make, id=name) for name, X, make in _containers()]
)
def test_the_same_values_give_the_same_features(X, make):
    model = small("SimCLR", max_epochs=1)
    expected = clone(model).fit(X).transform(X)
    given = make()
    fitted = model.fit(given)
    np.testing.assert_allclose(fitted.transform(given), expected, atol=1e-5)
