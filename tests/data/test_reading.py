"""X and X_val where several of the forms of data meet."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn import CPC, VICReg
from sslearn.augment import GivenViews
from sslearn.encoders import Windows

RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 3, size=(40, 2)).astype(float)
SERIES = RNG.normal(size=(40, 2, 32)).astype(np.float32)


def _small(**params):
    return VICReg(max_epochs=1, random_state=0, device="cpu", **params)


def _own(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8))


def test_a_sample_of_unseen_categories_alone_may_be_held_out():
    X_val = CODES[:4].copy()
    X_val[0] = 7
    fitted = _small(categorical_features=[0, 1]).fit(CODES, X_val=X_val)
    assert np.isfinite(fitted.validation_loss_curve_).all()


def test_held_out_categories_are_checked_and_named_as_in_X():
    X = np.column_stack((CODES, RNG.normal(size=40)))
    estimator = _small(categorical_features=[0, 1])
    X_val = X[:6].copy()
    X_val[0, 1] = -7
    with pytest.raises(ValueError, match=r"X_val.*codes of categories.*Got -7.0 in feature 1"):
        estimator.fit(X, X_val=X_val)
    X_val = X[:6].copy()
    X_val[0, 2] = np.inf
    with pytest.raises(ValueError, match=r"X_val.*infinity, in feature 2"):
        estimator.fit(X, X_val=X_val)
    X_val = X[:6] + [0, 0, 1e4]
    with pytest.warns(UserWarning, match=r"off those of X in feature 2,"):
        estimator.fit(X, X_val=X_val)


def test_categories_of_all_given_views_are_read():
    views = np.stack((CODES, CODES), axis=1)
    views[:, 1, 0] = 0.5
    estimator = _small(augment=GivenViews(), categorical_features=[0, 1])
    with pytest.raises(ValueError, match="Got 0.5 in feature 0"):
        estimator.fit(views)
    views[:, 1, 0] = 5
    assert estimator.fit(views).categories_[0].tolist() == [0, 1, 2, 5]


def test_labels_of_categories_are_looked_up_in_every_frame():
    labels = RNG.choice([-5, 3, 10], size=40)
    frame = pd.DataFrame({"a": pd.Categorical(labels), "b": RNG.normal(size=40)})
    fitted = _small(categorical_features="from_dtype").fit(frame)
    plain = frame.astype({"a": "int64"})
    np.testing.assert_array_equal(fitted.transform(plain), fitted.transform(frame))


def test_given_views_of_a_table_are_no_series():
    views = RNG.normal(size=(40, 2, 5))
    views[:, :, 4] = np.nan
    estimator = _small(augment=GivenViews())
    with pytest.raises(ValueError, match="no value in feature 4"):
        estimator.fit(views)
    views = list(RNG.normal(size=(40, 2, 5)))
    assert not estimator.fit(views).any_length_


def test_windows_of_a_table_are_refused():
    estimator = CPC(Windows(16, _own), max_epochs=1)
    with pytest.raises(ValueError, match=r"Windows for series.*Got samples of shape \(64,\)"):
        estimator.fit(RNG.normal(size=(40, 64)))


def test_what_was_trained_on_windows_is_not_kept():
    with pytest.raises(ValueError, match="'keep_objective' parameter must be False"):
        _small(encoder=Windows(16, _own), keep_objective=True).fit(SERIES)


def test_windows_need_no_more_than_a_window():
    fitted = _small(encoder=Windows(16, _own)).fit(SERIES)
    assert fitted.transform(SERIES[:, :, :24]).shape == (40, 8)
    several = [x[:, :n] for x, n in zip(SERIES, range(16, 32), strict=False)]
    assert np.isfinite(fitted.transform(several)).all()


def test_held_out_recordings_may_have_gaps_and_be_short():
    X, X_val = SERIES.copy(), SERIES[:8].copy()
    X[:5, :, 20:] = np.nan
    X_val[0, :, 6:28] = np.nan
    for held_out in (X_val, SERIES[:8, :, :10]):
        fitted = _small(encoder=Windows(16)).fit(X, X_val=held_out)
        assert np.isfinite(fitted.validation_loss_curve_).all()


@pytest.mark.parametrize(("n_steps", "message"), [(48, "cut them"), (16, "pad them")])
def test_a_loader_of_held_out_series_of_another_length_is_refused(n_steps, message):
    X = SERIES.copy()
    X[:5, :, 20:] = np.nan
    loader = DataLoader(TensorDataset(torch.zeros(12, 2, n_steps)), batch_size=6)
    with pytest.raises(ValueError, match=f"X_val.*{n_steps} steps.*{message}"):
        _small().fit(X, X_val=loader)
