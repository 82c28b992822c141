"""Series of unequal length: as a list, an array of objects, or padded with NaN."""

import functools
import re

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, rows, small
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn._data._ragged import aligned, from_list, without_padding
from sslearn.encoders import FillMissing, ResNet

LENGTHS = [30, 7, 19, 30, 12, 9, 25, 1] * 3


def _list(lengths=LENGTHS, dtype=np.float32, channels=2, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(channels, n)).astype(dtype) for n in lengths]


def _padded(series, n_steps):
    array = np.full((len(series), len(series[0]), n_steps), np.nan, series[0].dtype)
    for row, one in zip(array, series, strict=True):
        row[:, : one.shape[1]] = one
    return array


def _objects(series):
    array = np.empty(len(series), dtype=object)
    array[:] = series
    return array


def _filling(shape):
    return nn.Sequential(
        FillMissing(shape[0]), ResNet(2 * shape[0], n_dims=1, width=8, depth=(1, 1))
    )


# In every form ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [*sorted(set(ESTIMATORS) - {"AMDIM", "CPC"}), pytest.param("AMDIM", marks=pytest.mark.slow)],
)
def test_all_forms_are_one_and_batches_change_nothing(name):
    encoder = _filling if name == "AMDIM" else None
    X = _list()
    fitted = small(name, max_epochs=1, encoder=encoder).fit(X)
    features = fitted.transform(X)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert fitted.input_shape_ == (2, 30)
    assert fitted.any_length_
    padded = _padded(X, 41)
    np.testing.assert_array_equal(fitted.transform(padded), features)
    again = small(name, max_epochs=1, encoder=encoder).fit(padded)
    np.testing.assert_array_equal(again.transform(X), features)
    for i in (1, 3, 7):
        np.testing.assert_array_equal(fitted.transform(X[i : i + 1])[0], features[i])
        np.testing.assert_array_equal(fitted.transform(X[i][None])[0], features[i])


@pytest.mark.parametrize(
    "form",
    [
        _objects,
        lambda X: _padded(X, 30),
        lambda X: torch.from_numpy(_padded(X, 41)),
        lambda X: [x.tolist() for x in X],
    ],
    ids=["objects", "padded", "tensor", "nested lists"],
)
def test_forms(form):
    X = _list()
    fitted = small("SimCLR", max_epochs=1).fit(X)
    again = small("SimCLR", max_epochs=1).fit(form(X))
    np.testing.assert_array_equal(fitted.transform(form(X)), fitted.transform(X))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def test_longer_series_than_in_fit_keep_their_features_in_any_batch():
    X, longer = _list(), _list([80, 31, 5, 80])
    for encoder in (None, _filling):
        fitted = small("SimCLR", max_epochs=1, encoder=encoder).fit(X)
        features = fitted.transform(longer)
        for i, series in enumerate(longer):
            np.testing.assert_array_equal(fitted.transform([series])[0], features[i])
        np.testing.assert_array_equal(fitted.transform(_padded(longer, 99)), features)
        np.testing.assert_array_equal(
            fitted.transform(DataLoader(TensorDataset(torch.tensor(_padded(longer, 99))), 3)),
            features,
        )
        np.testing.assert_array_equal(fitted.transform(longer[2:3] + X)[1:], fitted.transform(X))


def test_datasets_and_loaders_of_padded_series():
    X = _list()
    padded = TensorDataset(torch.from_numpy(_padded(X, 30)))
    expected = small("SimCLR").fit(X).transform(X)
    fitted = small("SimCLR").fit(padded)
    assert fitted.any_length_
    np.testing.assert_array_equal(fitted.transform(padded), expected)
    streamed = small("SimCLR").fit(DataLoader(padded, batch_size=8))
    assert streamed.any_length_
    np.testing.assert_array_equal(streamed.transform(padded), streamed.transform(X))


@pytest.mark.parametrize("form", [list, _objects, lambda X: _padded(X, 33)])
def test_pipelines_and_cross_validation(form):
    X, y = form(_list()), np.arange(24) % 2
    model = small("SimCLR", max_epochs=1)
    pipeline = make_pipeline(model, StandardScaler(), LogisticRegression())
    # Each fold holds the longest series, or does not.
    scores = cross_val_score(pipeline, X, y, cv=3, error_score="raise")
    assert scores.shape == (3,)
    search = GridSearchCV(model, {"max_epochs": [0, 1]}, cv=2, error_score="raise").fit(X)
    assert search.transform(X).shape[0] == 24
    assert 1 <= search.score(X) <= 25


def test_a_fold_may_hold_one_length_or_the_longest():
    X = _list([20] * 10 + [31])
    fitted = small("SimCLR", max_epochs=1).fit(X[:10])  # a list, of one length by chance
    assert fitted.any_length_
    assert fitted.transform(X[10:]).shape == (1, fitted.transform(X[:10]).shape[1])
    padded = _padded(X, 31)
    fitted = small("SimCLR", max_epochs=1).fit(padded[:10])
    assert fitted.input_shape_ == (2, 20)
    assert fitted.any_length_
    assert np.isfinite(fitted.transform(padded[10:])).all()


def test_held_out_series_and_own_trainers():
    X = _list()
    params = {"validation_fraction": 0.25, "n_iter_no_change": 1}
    fitted = small("VICReg", **params).fit(X)
    assert np.isfinite(fitted.validation_loss_curve_).all()
    other = small("VICReg", trainer_params={"enable_model_summary": False}, **params).fit(X)
    np.testing.assert_allclose(other.transform(X), fitted.transform(X), atol=1e-4)


# One length -------------------------------------------------------------------------------------


def test_lists_of_one_length_are_what_they_were():
    X = rows("series")
    expected = small("SimCLR").fit(X).transform(X)
    for given in (list(X), _objects(list(X)), [x.tolist() for x in X.astype(float)]):
        np.testing.assert_array_equal(small("SimCLR").fit(given).transform(given), expected)
    whole = rows("series", dtype=np.uint8)
    np.testing.assert_array_equal(
        small("SimCLR").fit(list(whole)).transform(whole),
        small("SimCLR").fit(whole).transform(whole),
    )


def test_after_one_length_an_array_of_another_is_refused():
    X = rows("series")
    fitted = small("SimCLR", max_epochs=1).fit(X)
    assert not fitted.any_length_
    message = r"samples of shape \(2, 13\).*expecting samples of shape \(2, 20\).*those of fit are"
    for given in (X[:, :, :13], torch.from_numpy(X[:, :, :13])):
        with pytest.raises(ValueError, match=message):
            fitted.transform(given)
    # A list says where a series ends, and so does padding; longer than in fit is none of both.
    shorter = _padded(list(X[:, :, :13]), 20)
    np.testing.assert_array_equal(fitted.transform(list(X[:, :, :13])), fitted.transform(shorter))
    with pytest.raises(ValueError, match=r"samples of shape \(2, 40\)"):
        fitted.transform([*X, np.zeros((2, 40))])


# Numbers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64, bool])
def test_dtypes_of_series(dtype):
    whole = [(40 * np.abs(x)).astype(np.uint8).astype(dtype) for x in _list()]
    expected = [x.astype(np.float32) for x in whole]
    np.testing.assert_array_equal(
        small("SimCLR").fit(whole).transform(whole),
        small("SimCLR").fit(expected).transform(expected),
    )
    narrow = dtype in (np.uint8, np.int16, np.float32, bool)
    assert from_list(whole, "SimCLR").dtype == (np.float32 if narrow else np.float64)


def test_time_stamps_keep_their_digits():
    series = _list(dtype=np.float64)
    stamps = [1.7e9 + 50 * x for x in series]
    untrained = small("SimCLR", max_epochs=0)
    found, expected = (untrained.fit(X).transform(X) for X in (stamps, series))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_gaps_within_a_series():
    X = _list([40] * 24)
    gappy = [x.copy() for x in X]
    for i, x in enumerate(gappy):
        x[:, i : i + 6] = np.nan
    fitted = small("SimCLR", embedding_dim=None).fit(gappy)
    features = fitted.transform(gappy)
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(fitted.transform([x.tolist() for x in gappy]), features)
    nothing = [[[None if np.isnan(v) else v for v in c] for c in x.tolist()] for x in gappy]
    np.testing.assert_array_equal(fitted.transform(nothing), features)
    # The features of a series with a gap are near those of the same one without, not of another.
    distance = np.linalg.norm(features[:, None] - fitted.transform(X)[None], axis=2)
    assert (distance.argmin(1) == np.arange(24)).mean() > 0.9


# What is refused --------------------------------------------------------------------------------


@functools.cache
def _fitted():
    return small("SimCLR", max_epochs=1).fit(_list())


def _message(X, error=ValueError, encoder=None, on=None):
    model = small("SimCLR", encoder=encoder)
    with pytest.raises(error) as caught:
        model.fit(X) if on is None else on().transform(X)
    assert not hasattr(model, "encoder_")
    return str(caught.value)


@pytest.mark.parametrize("on", [None, _fitted])
def test_bad_lists_get_one_sentence(on):
    X = _list()
    other = np.zeros((3, 5), np.float32)
    assert re.search(
        r"same number of channels.*\(channels, time\)\. Got \(3, 5\) after \(2, 30\)",
        _message([*X, other], on=on),
    )
    assert "same number of channels" in _message([x.T for x in X], on=on)
    empty = _message([*X, np.zeros((2, 0))], on=on)
    assert re.search(r"one step at least\. Got series 24 of shape \(2, 0\)", empty)
    assert "samples without any value" in _message([*X, np.full((2, 4), np.nan)], on=on)
    assert "series 24 of dtype <U" in _message([*X, np.array([["a"], ["b"]])], on=on)
    assert "series 24 of dtype complex" in _message([*X, np.ones((2, 3), complex)], on=on)
    assert "contains infinity, in channel 1" in _message(
        [*X, np.array([[1, 2], [np.inf, 3]])], on=on
    )
    assert "series 24 of X without a common length" in _message([*X, [[1.0], [1.0, 2.0]]], on=on)
    assert "All samples of X must have the same shape" in _message([*X, np.zeros(3)], on=on)
    assert "a minimum of" in _message([], on=on) or "Expected 2D array" in _message([], on=on)


def test_ragged_images_and_tables_are_refused():
    images = [np.zeros((3, 8, 8)), np.zeros((3, 9, 8))]
    message = (
        r"same shape\. Got \(3, 9, 8\) after \(3, 8, 8\); pad or crop all to one shape first\."
    )
    assert re.search(message, _message(images))
    assert re.search(r"Got \(3,\) after \(2,\)", _message([[1.0, 2.0], [1.0, 2.0, 3.0]]))
    tensors = [torch.zeros(2, 5), torch.zeros(2, 6)]
    assert "x.numpy() for x in X" in _message(tensors, TypeError)


def test_items_of_a_loader_of_several_lengths():
    class Items(torch.utils.data.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, i):
            return torch.from_numpy(_list()[i])

    assert "NaN at the end, or pass a list" in _message(Items())
    assert "NaN at the end, or pass a list" in _message(DataLoader(Items(), batch_size=8))


def test_an_encoder_that_takes_no_nan_is_named():
    encoder = ResNet(2, n_dims=1, width=4, depth=(1,))
    message = _message(_list(), encoder=encoder)
    assert re.search(r"contains NaN.*FillMissing.*unequal length are padded with NaN", message)


# Parts ------------------------------------------------------------------------------------------


def test_what_is_no_list_of_series_is_left_alone():
    for X in ([[1.0, 2.0]], [np.zeros(3)], np.zeros((2, 3, 4)), [], (np.zeros((2, 3)),), "a", None):
        assert from_list(X, "SimCLR") is None


def test_padding_of_all_series_is_cut_without_a_copy():
    X = np.zeros((3000, 2, 9), np.float32)
    assert without_padding(X) is X
    X[:, :, 6:] = np.nan
    cut = without_padding(X)
    assert cut.shape == (3000, 2, 6)
    assert np.shares_memory(cut, X)
    X[2999, 1, 8] = 0
    assert without_padding(X) is X
    for kept in (np.full((2, 1, 4), np.nan), np.zeros((4, 3)), np.zeros((2, 1, 4), int)):
        assert without_padding(kept) is kept


def test_series_are_aligned_to_those_of_fit():
    x = torch.from_numpy(_padded(_list([3, 9, 5, 9, 7]), 9))
    parts = list(aligned(x, 5))
    assert [series.shape for _, series in parts] == [(2, 2, 5), (1, 2, 7), (2, 2, 9)]
    assert torch.cat([places for places, _ in parts]).tolist() == [0, 2, 4, 1, 3]
    ((_places, series),) = aligned(torch.ones(2, 1, 3, dtype=torch.uint8), 5)
    assert series.shape == (2, 1, 5)
    assert series[:, :, 3:].isnan().all()


@pytest.mark.parametrize("name", ["CPC", "AMDIM"])
def test_networks_take_longer_series_than_those_of_fit(name):
    X = _list()
    longest = np.zeros((2, 2 * max(LENGTHS)), np.float32)
    fitted = ESTIMATORS[name](max_epochs=1, random_state=0).fit(X)
    assert np.isfinite(fitted.transform([longest, X[0]])).all()


@pytest.mark.parametrize("name", ["VICReg", "CPC"])
def test_held_out_series_may_be_shorter_and_not_longer(name):
    X = _list()
    estimator = ESTIMATORS[name](max_epochs=1, random_state=0)
    assert np.isfinite(estimator.fit(X, X_val=[x[:, :6] for x in X[:8]]).validation_loss_curve_)
    longer = [np.concatenate([x, x, x, x, x], axis=1) for x in X[:8]]
    with pytest.raises(ValueError, match=r"X_val.* Found series of \d+ steps, while the longest"):
        estimator.fit(X, X_val=longer)
