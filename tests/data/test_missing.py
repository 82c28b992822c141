"""Missing values, NaN, from X to the encoder."""

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sslearn import SimCLR
from sslearn._data._statistics import Statistics
from sslearn.encoders import FillMissing


def _holes(shape, *, seed=0, dtype=np.float64):
    """Return values far from zero, and the same with a tenth of them missing."""
    generator = np.random.default_rng(seed)
    complete = (1000 + 3 * generator.normal(size=shape)).astype(dtype)
    return complete, np.where(generator.random(shape) < 0.1, np.nan, complete).astype(dtype)


def _layer(x, size=7):
    statistics = Statistics(x.shape[1:])
    for part in torch.from_numpy(x).split(size):
        statistics.update(part, has_missing=bool(part.isnan().any()))
    return statistics.layer()


@pytest.mark.parametrize("shape", [(300, 4), (60, 3, 20)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_statistics_are_those_of_the_known_values(shape, dtype):
    _, x = _holes(shape, dtype=dtype)
    axes = (0, *range(2, x.ndim))
    layer = _layer(x)
    np.testing.assert_allclose(layer.shift.flatten(), np.nanmean(x, axes, np.float64), rtol=1e-12)
    deviation = np.nanstd(x.astype(np.float64), axes)
    np.testing.assert_allclose(1 / layer.gain.flatten(), deviation, rtol=1e-9)
    out = layer(torch.from_numpy(x)).numpy()
    assert np.array_equal(np.isnan(out), np.isnan(x))


def test_limits_are_those_of_the_known_values():
    # An error of one sample is clipped, with gaps as well as without.
    complete, x = _holes((400, 2))
    complete[5, 1] = x[5, 1] = 1e9
    found, expected = _layer(x), _layer(complete)
    assert float(found.most[1]) < 2000
    torch.testing.assert_close(found.most, expected.most, rtol=0.05, atol=0)
    assert 900 < float(found.shift[1]) < 1100


def test_a_channel_whose_first_values_are_missing():
    _, x = _holes((50, 2))
    x[:20, 1] = np.nan
    np.testing.assert_allclose(_layer(x).shift, np.nanmean(x, 0), rtol=1e-12)


def test_a_constant_and_zeros_and_ones_stay_what_they_are():
    x = np.tile([[0.1 + 0.2, 1.0], [0.1 + 0.2, 0.0]], (30, 1))
    x[3:9] = np.nan
    x[:2] = [[np.nan, 0.0], [0.3, np.nan]]
    layer = _layer(x)
    assert torch.equal(layer.gain, torch.ones(2, dtype=torch.float64))
    assert bool((layer(torch.from_numpy(x)).nan_to_num()[:, 0] == 0).all())


def _own(n_channels, **kwargs):
    network = nn.Sequential(FillMissing(n_channels), nn.Flatten(), nn.LazyLinear(6))
    return SimCLR(encoder=network, max_epochs=1, batch_size=16, random_state=0, **kwargs)


@pytest.mark.parametrize("shape", [(60, 4), (40, 3, 20)])
def test_an_encoder_that_says_so_takes_missing_values(shape):
    _, x = _holes(shape)
    fitted = _own(shape[1]).fit(x)
    features = fitted.transform(x)
    assert np.isfinite(features).all()
    # As it is in the batch of others, so it is alone, and in a stream.
    np.testing.assert_allclose(fitted.transform(x[3:4]), features[3:4], atol=1e-5)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x))
    np.testing.assert_allclose(fitted.transform(dataset), features, atol=1e-5)
    loader = torch.utils.data.DataLoader(dataset, batch_size=20)
    np.testing.assert_allclose(fitted.transform(loader), features, atol=1e-5)
    assert np.isfinite(_own(shape[1]).fit(loader).transform(x)).all()
    # Missing in `transform` alone.
    complete, _ = _holes(shape)
    assert np.isfinite(_own(shape[1]).fit(complete).transform(x)).all()


def test_an_encoder_of_its_own_is_passed_on():
    _, x = _holes((60, 4))
    fitted = _own(4).fit(x)
    again = SimCLR(encoder=fitted.encoder_.features, max_epochs=0).fit(x)
    np.testing.assert_array_equal(again.transform(x), fitted.transform(x))


def test_an_encoder_that_does_not_say_so_takes_none():
    complete, x = _holes((60, 4))
    own = SimCLR(encoder=nn.Linear(4, 6), max_epochs=1)
    message = r"contains NaN, in feature \d.*SimpleImputer.*FillMissing"
    with pytest.raises(ValueError, match=message):
        own.fit(x)
    assert not hasattr(own, "n_features_in_")
    with pytest.raises(ValueError, match=message):
        own.fit(complete).transform(x)
    # In held-out samples alone.
    complete[:2] = np.nan
    complete[:2, 0] = 1.0
    with pytest.raises(ValueError, match=message):
        SimCLR(encoder=nn.Linear(4, 6), max_epochs=1, validation_fraction=0.5).fit(complete)


def test_the_tag_is_that_of_the_encoder():
    assert _own(4).__sklearn_tags__().input_tags.allow_nan
    assert not SimCLR(encoder=nn.Linear(4, 6)).__sklearn_tags__().input_tags.allow_nan


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_all_the_same(value):
    _, x = _holes((60, 4))
    fitted = _own(4).fit(x)
    x[7, 2] = value
    for call in (_own(4).fit, fitted.transform):
        with pytest.raises(ValueError, match="contains infinity, in feature 2"):
            call(x)


def test_what_has_no_value_at_all_is_named():
    _, x = _holes((60, 4))
    x[:, 2] = np.nan
    with pytest.raises(ValueError, match=r"no value in feature 2, only NaN.*drop the feature"):
        _own(4).fit(x)
    _, x = _holes((60, 3, 5))
    fitted = _own(3).fit(x)
    x[7] = np.nan
    for call in (_own(3).fit, fitted.transform):
        with pytest.raises(ValueError, match=r"samples without any value, all NaN: 1 of \d+"):
            call(x)
    _, x = _holes((60, 3, 5))
    x[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"no value in channel 1, only NaN"):
        _own(3).fit(x)


def test_images_and_volumes_take_none():
    for shape in ((20, 1, 8, 8), (20, 1, 8, 8, 8)):
        _, x = _holes(shape)
        with pytest.raises(ValueError, match="contains NaN, in channel 0.*fill them in first") as e:
            SimCLR(max_epochs=1).fit(x)
        assert "FillMissing" not in str(e.value)


def test_a_warning_of_faint_signals_leaves_gaps_out():
    # Three channels, of which one is far below the noise of the views in most samples.
    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 2, 30))
    x[4:, 1] = 1e-4 * x[4:, 1]
    x[:4, 1] *= 100
    x[:, 0, 10:14] = np.nan
    own = _own(2, augment=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        own.fit(x)
    found = [str(w.message) for w in caught if "channel" in str(w.message)]
    assert found
    assert re.search("channel 1", found[0])


def test_fill_missing():
    x = torch.tensor([[[1.0, float("nan")], [2.0, 3.0]]])
    out = FillMissing(2)(x)
    assert out.tolist() == [[[1.0, 0.0], [2.0, 3.0], [0.0, 1.0], [0.0, 0.0]]]
    assert FillMissing(2, mask=False)(x).tolist() == [[[1.0, 0.0], [2.0, 3.0]]]
    assert FillMissing(2).out_channels == 4
    assert repr(FillMissing(2, mask=False)) == "FillMissing(2, mask=False)"
    with pytest.raises(ValueError, match="in_channels"):
        FillMissing(0)
