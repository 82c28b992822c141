"""Windows of long recordings: random ones in fit, the mean of all in transform."""

import pickle
import re

import numpy as np
import pytest
import torch
from estimators import small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn._data._rows import Rows
from sslearn._data._windows import WindowedRows
from sslearn.encoders import FillMissing, ResNet, Windows


def _recordings(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(2, length)).astype(np.float32) for length in lengths]


def _tiny(channels=2):
    return ResNet(channels, n_dims=1, width=8, depth=(1, 1), embedding_dim=16)


class Ends(nn.Module):
    """The first and the last step of a window."""

    takes_nan = True

    def forward(self, x):
        return torch.stack((x[:, 0, 0], x[:, 0].nan_to_num(-1)[:, -1]), dim=1)


def test_windows_cover_a_recording_from_its_first_step_to_its_last():
    steps = torch.arange(10.0)[None, None]
    for stride, starts in ((None, [0, 4, 6]), (2, [0, 2, 4, 6]), (100, [0, 6])):
        found = Windows(4, Ends(), stride=stride)(steps)
        expected = torch.tensor(starts).float().mean()
        torch.testing.assert_close(found, torch.stack((expected, expected + 3))[None])
    for length in (10, 11):
        assert Windows(length, Ends())(steps).tolist() == [[0.0, 9.0]]
    short = steps.repeat(2, 1, 1)
    short[0, :, 7:] = torch.nan  # windows of its own: 0 and 3
    short[1, :, 4:8] = torch.nan  # in a gap nothing is known
    found = Windows(4, Ends())(short)
    assert found[0].tolist() == [1.5, 4.5]
    assert found[1].tolist() == [(0 + 6) / 2, (3 + 9) / 2] or found[1, 1] == 6


@pytest.mark.parametrize("n_windows", [1, 3, 700])
def test_many_windows_are_as_each_alone(n_windows):
    encoder = _tiny().eval()
    x = torch.randn(3, 2, 16 * n_windows, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = Windows(16, encoder)(x)
        windows = x.unfold(2, 16, 16).transpose(1, 2)
        expected = torch.stack([encoder(of_one).mean(0) for of_one in windows])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["VICReg", "LFR", "MoCo"])
def test_features_are_the_mean_over_windows(name):
    X = _recordings([70, 64, 80, 33, 64, 100, 64, 64] * 2)
    # "small" makes the layer that learns narrow; a width of its own goes with windows too.
    fitted = clone(small(name, encoder=Windows(32), max_epochs=1)).fit(X)
    features = fitted.transform(X)
    assert fitted.input_shape_ == (2, 100)
    window = fitted.encoder_.get_submodule("features").module.encoder
    scaled = fitted.encoder_.get_submodule("standardize")(torch.from_numpy(X[1][None]))
    with torch.no_grad():
        expected = window(torch.cat((scaled[:, :, :32], scaled[:, :, 32:]))).mean(0)
    np.testing.assert_allclose(features[1], expected, atol=1e-5)
    for i in (0, 3, 5):
        np.testing.assert_array_equal(fitted.transform(X[i : i + 1])[0], features[i])
    # Longer ones than in fit, too, and as padded arrays.
    assert fitted.transform(_recordings([300])).shape == (1, features.shape[1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(X), features)
    assert 1 <= fitted.score(X) < len(X) + 1
    again = small(name, encoder=Windows(32), max_epochs=1).fit(X)
    np.testing.assert_array_equal(again.transform(X), features)


def test_each_step_draws_other_windows_and_held_out_ones_stay():
    X = np.arange(100.0)[None, None].repeat(6, 0)
    rows = WindowedRows(Rows(X), 10, 0, torch.tensor([4]), has_missing=False)
    index = torch.arange(6)
    seen = torch.stack([rows.take(index)[:, 0] for _ in range(200)])
    assert (seen.diff(dim=2) == 1).all()
    assert seen[:, :4, 0].unique().numel() == 91  # from 0 to 90, and no other
    assert seen[:, 4, 0].unique().tolist() == [45.0]
    assert rows.sample_shape == (1, 10)
    assert sum(map(len, rows.slices(4))) == 6


def test_windows_lie_within_a_recording():
    X = np.full((3, 1, 50), np.nan)
    for x, length in zip(X, (50, 20, 5), strict=True):
        x[0, :length] = np.arange(length)
    rows = WindowedRows(Rows(X), 10, 0, None, has_missing=True)
    seen = torch.stack([rows.take(torch.arange(3))[:, 0] for _ in range(300)])
    assert seen[:, 0].max() == 49
    assert seen[:, 1].min() == 0
    assert seen[:, 1].max() == 19
    assert (seen[:, 2, :5] == torch.arange(5)).all()
    assert seen[:, 2, 5:].isnan().all()


def test_an_encoder_of_ones_own_and_its_width():
    X = np.stack(_recordings([90] * 12))
    fitted = small("VICReg", encoder=Windows(30, _tiny()), max_epochs=1, validation_fraction=0.3)
    features = fitted.fit(X).transform(X)
    assert features.shape == (12, 16)
    np.testing.assert_array_equal(fitted.transform(X[3:4])[0], features[3])
    assert fitted.transform(np.stack(_recordings([95] * 2))).shape == (2, 16)
    made = small("VICReg", encoder=Windows(30, lambda shape: _tiny(shape[0])), max_epochs=1)
    assert made.fit(X).transform(X).shape == (12, 16)
    # A window that a recording does not fill has missing steps.
    with pytest.raises(ValueError, match=r"contains NaN.*FillMissing"):
        fitted.fit(_recordings([90, 20] * 6))
    filled = nn.Sequential(FillMissing(2), _tiny(4))
    model = small("VICReg", encoder=Windows(30, filled), max_epochs=1)
    model.fit(_recordings([90, 20] * 6))
    assert model.transform(_recordings([7])).shape == (1, 16)


def test_a_search_over_lengths():
    X = _recordings([40, 60, 80, 50] * 4)
    grid = {"encoder": [Windows(16), Windows(32)]}
    search = GridSearchCV(small("SimCLR", encoder=Windows(8), max_epochs=1), grid, cv=2)
    assert search.set_params(error_score="raise").fit(X).best_params_["encoder"].length in (16, 32)


def test_mistakes():
    X = torch.randn(12, 2, 40)
    for bad in (0, 1.5, "8"):
        with pytest.raises(ValueError, match=r"'length' parameter of Windows must be an int"):
            Windows(bad)
    with pytest.raises(ValueError, match="'stride' parameter of Windows"):
        Windows(8, stride=0)
    with pytest.raises(ValueError, match="makes one. Got encoder=None instead"):
        Windows(8)(X)
    for given, got in (
        (X[:, 0], re.escape("samples of shape (40,)")),
        (DataLoader(TensorDataset(X), batch_size=4), "a stream"),
    ):
        with pytest.raises(ValueError, match=f"may be Windows for series.*Got {got}"):
            small("SimCLR", encoder=Windows(8)).fit(given)
