"""Series that end early or have gaps: the same features however they are padded."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sslearn.encoders import KernelBank, SegmentMeans, default_encoder
from sslearn.encoders._own_length import fill_gaps, has_missing, own_lengths, own_series

LENGTHS = [*range(1, 12), 40, 40, 41, 64, 90]


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _padded(n_channels=2, n_steps=90):
    """Series of the lengths above, and which lengths these are."""
    lengths = torch.tensor(LENGTHS)
    x = _noise(len(lengths), n_channels, n_steps).cumsum(2) / 4
    return x.masked_fill(torch.arange(n_steps) >= lengths[:, None, None], torch.nan), lengths


def _with_gaps():
    x, lengths = _padded()
    x[12, :, 5:9] = torch.nan
    x[13, 0, 20:30] = torch.nan
    x[14, :, 0:3] = torch.nan
    x[15, 1] = torch.nan
    return x, lengths


def test_own_lengths_end_with_the_last_value_of_any_channel():
    x, lengths = _padded()
    assert torch.equal(own_lengths(x), lengths)
    x[15, 1, 10:] = torch.nan
    assert torch.equal(own_lengths(x), lengths)
    assert own_lengths(torch.full((1, 2, 3), torch.nan)).tolist() == [0]


def test_gaps_are_filled_as_numpy_fills_them():
    x, _ = _with_gaps()
    found = fill_gaps(x)
    steps = np.arange(x.shape[2])
    for line, given in zip(found.flatten(0, 1).numpy(), x.flatten(0, 1).numpy(), strict=True):
        known = ~np.isnan(given)
        expected = np.interp(steps, steps[known], given[known]) if known.any() else 0 * steps
        np.testing.assert_allclose(line, expected, atol=1e-6)
        np.testing.assert_array_equal(line[known], given[known])


def test_series_come_at_their_own_length_and_each_once():
    x, lengths = _with_gaps()
    seen = []
    for places, series, known in own_series(x):
        assert series.isfinite().all()
        assert (lengths[places] == series.shape[2]).all()
        missing = x[places, :, : series.shape[2]].isnan()
        assert (known is None) == (not missing.any())
        if known is not None:
            assert torch.equal(known, ~missing.all(1))
        seen += places.tolist()
    assert sorted(seen) == list(range(len(x)))


@pytest.mark.parametrize("make", [KernelBank, SegmentMeans])
@pytest.mark.parametrize("n_channels", [1, 2, 12])
def test_padding_and_the_other_series_change_no_bit(make, n_channels):
    x, lengths = _padded(n_channels)
    module = make.from_samples(_noise(30, n_channels, 90, seed=1))
    features = module(x)
    assert features.isfinite().all()
    assert torch.equal(module(F.pad(x, (0, 37), value=torch.nan)), features)
    for series, length, found in zip(x, lengths, features, strict=True):
        assert torch.equal(module(series[None, :, :length])[0], found)
    some = [3, 11, 15]
    assert torch.equal(module(x[some]), features[some])


def test_long_series_are_counted_at_a_stride_of_their_own_length():
    bank = KernelBank.from_samples(_noise(10, 1, 1100))
    x = _noise(2, 1, 1100, seed=1)
    x[1, :, 700:] = torch.nan
    padded = F.pad(x, (0, 4000), value=torch.nan)
    assert torch.equal(bank(padded), torch.cat((bank(x[:1]), bank(x[1:, :, :700]))))


@pytest.mark.parametrize("make", [KernelBank, SegmentMeans])
def test_a_module_made_of_padded_samples_is_that_of_the_samples(make):
    samples = _noise(30, 2, 50)
    features = []
    for given in (samples, F.pad(samples, (0, 20), value=torch.nan)):
        torch.manual_seed(0)
        features.append(make.from_samples(given)(samples))
    torch.testing.assert_close(*features, atol=1e-5, rtol=1e-5)


def test_missing_steps_are_not_counted():
    # In a gap of two thirds, filled by a line, nothing happens: it would dilute all shares.
    bank = KernelBank.from_samples(_noise(30, 1, 300))
    x = _noise(1, 1, 300, seed=1)
    gappy = x.clone()
    gappy[:, :, 100:299] = torch.nan
    counted = bank.shares(fill_gaps(gappy))
    difference = (bank.shares(gappy) - bank.shares(x)).abs().mean()
    assert difference < 0.6 * (counted - bank.shares(x)).abs().mean()


def test_means_of_segments_of_samples_with_gaps():
    samples = _noise(200, 2, 64).cumsum(2)
    gappy = samples.masked_fill(_noise(200, 1, 64, seed=3) > 1.3, torch.nan)
    of_complete, of_gappy = SegmentMeans.from_samples(samples), SegmentMeans.from_samples(gappy)
    assert (of_gappy(gappy) - of_complete(samples)).abs().mean() < 0.05
    for shift in (0.0, 3.0):  # a course that all have in common
        common = torch.linspace(0, shift, 64)
        found, expected = (of_gappy.common_course(x + common) for x in (gappy, samples))
        assert abs(found - expected) < 0.02


def test_the_default_encoder_of_incomplete_series():
    x, _ = _with_gaps()
    encoder = default_encoder((2, 90), rows=x).eval()
    assert encoder.takes_nan
    encoder.calibrate(encoder.stem(x))
    features = encoder(x)
    assert features.isfinite().all()
    assert torch.equal(encoder(F.pad(x, (0, 5), value=torch.nan)), features)


def test_series_without_any_value_are_finite():
    # A view, or a window, may lie in a gap.
    x = torch.cat((_noise(9, 2, 30), torch.full((1, 2, 30), torch.nan)))
    for module in (KernelBank.from_samples(x[:9]), SegmentMeans.from_samples(x[:9])):
        assert module(x).isfinite().all()


def test_missing_values_are_found_wherever_they_are():
    x = _noise(5, 2, 30)
    assert not has_missing(x)
    assert not has_missing(torch.tensor([[[torch.inf, -torch.inf]]]))
    x[4, 1, 29] = torch.nan
    assert has_missing(x)
