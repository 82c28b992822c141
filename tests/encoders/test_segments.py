"""Means of segments: by hand, with masks, and in the default encoder for series."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from sslearn import VICReg
from sslearn.encoders import Concatenation, KernelBank, SegmentMeans, default_encoder


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_means_by_hand():
    samples = _noise(20, 2, 24)
    segments = SegmentMeans.from_samples(samples, 4)
    expected = samples.double().view(20, 2, 4, 6).mean(3).flatten(1)
    expected = (expected - expected.mean(0)) / samples.double().var(0, correction=0).mean().sqrt()
    torch.testing.assert_close(segments(samples).double(), expected, atol=1e-6, rtol=1e-5)
    assert segments.n_features == 8


def test_the_variance_of_noise_is_small_and_that_of_levels_is_what_was_asked():
    levels = _noise(500, 1, 1).expand(500, 1, 80)
    for samples, share in ((levels, 1.0), (_noise(500, 1, 80), 0.1)):
        segments = SegmentMeans.from_samples(samples, 8, total_variance=30)
        total = segments(samples).var(0, correction=0).sum()
        assert total == pytest.approx(30 * share, rel=0.15)


def test_a_masked_sample_is_as_a_shorter_one():
    samples = _noise(10, 3, 40)
    segments = SegmentMeans.from_samples(samples, 8)
    for length in (40, 37, 13, 8):
        mask = (torch.arange(40) < length).expand(10, 40)
        padded = samples.masked_fill(~mask[:, None], 1e6)
        short = segments(samples[..., :length])
        torch.testing.assert_close(segments(padded, mask), short, atol=1e-5, rtol=1e-5)
    # Of fewer steps than segments, a step is the mean of several; of none all is finite.
    few = segments.means(samples, (torch.arange(40) < 3).expand(10, 40)).view(10, 3, 8)
    assert torch.equal(few[..., :2], samples[..., :1].expand(10, 3, 2))
    assert torch.equal(few[..., 7], samples[..., 2])
    assert segments(samples, torch.zeros(10, 40, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("constant", ["samples", "channel"])
def test_what_does_not_vary_is_not_blown_up(constant):
    samples = torch.sin(torch.arange(40.0)).expand(10, 2, 40).clone()
    if constant == "channel":
        samples[:, 1] = _noise(10, 40)
    segments = SegmentMeans.from_samples(samples)
    assert segments(samples)[:, :8].abs().max() < 1e-4
    assert segments(1e30 * _noise(4, 2, 40)).abs().max() <= 10


@pytest.mark.parametrize(
    ("channels", "steps", "n_means"),
    [(1, 5, 5), (1, 100, 8), (9, 128, 72), (28, 50, 168), (60, 30, 120)],
)
def test_in_the_default_encoder_of_aligned_samples(channels, steps, n_means):
    samples = _noise(30, channels, steps) + torch.linspace(-2, 2, steps)
    encoder = default_encoder((channels, steps), None, samples)
    bank = encoder.stem.bank
    found = bank(samples)
    assert found.shape == (30, encoder.stem_width)
    assert found.shape[1] - bank["kernels"].n_features == n_means
    assert encoder.stem_width <= 1536
    assert encoder.eval()(samples).shape == (30, 2048)


@pytest.mark.parametrize("channels", [1, 9, 85, 200])
def test_not_in_that_of_windows(channels):
    # Cut anywhere from slow waves; or there are too many channels for two segments of each.
    phase = 6.28 * torch.rand(40, channels, 1, generator=torch.Generator().manual_seed(0))
    samples = torch.sin(torch.linspace(0, 6, 50) + phase)
    samples += torch.linspace(-2, 2, 50) if channels > 84 else 0
    encoder = default_encoder((channels, 50), None, samples)
    assert isinstance(encoder.stem.bank, KernelBank)
    assert encoder.stem_width == 1512


def test_the_common_course_by_hand():
    course = torch.tensor([1.0, -1.0]).repeat_interleave(10)
    segments = SegmentMeans(1, 2)
    assert segments.common_course(course.expand(5, 1, 20)) == pytest.approx(1)
    # With probability 3 in 4 up to down, else down to up: half of the course is common.
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0]).repeat(250)[:, None, None]
    assert segments.common_course(signs * course) == pytest.approx(0.25, abs=0.01)
    assert abs(segments.common_course(_noise(2000, 1, 20))) < 0.01
    few = [segments.common_course(_noise(30, 1, 20, seed=seed)) for seed in range(300)]
    assert abs(np.mean(few)) < 0.05
    assert segments.common_course(torch.zeros(3, 1, 20)) == 0


def test_what_happens_when_is_found():
    # A bump in noise, early or late: no share of time tells which.
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 1, 64)).astype(np.float32)
    y = np.arange(120) % 2
    for row, late in zip(X[:, 0], y, strict=True):
        row[10 + 30 * late : 22 + 30 * late] += 1.5
    features = VICReg(max_epochs=0, random_state=0, device="cpu").fit_transform(X)
    model = LogisticRegression(C=0.1, max_iter=1000).fit(features[:80], y[:80])
    assert model.score(features[80:], y[80:]) > 0.9


def test_mistakes():
    with pytest.raises(ValueError, match=r"expects samples of shape \(n, channels, time\)"):
        SegmentMeans.from_samples(torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"expects a batch of shape \(n, 2, time\)"):
        SegmentMeans(2)(torch.zeros(3, 1, 10))
    with pytest.raises(ValueError, match="'n_segments' parameter"):
        SegmentMeans(2, 0)


def test_it_prints_its_sizes_and_is_pickled():
    segments = SegmentMeans.from_samples(_noise(5, 2, 30), 4)
    assert repr(segments) == "SegmentMeans(in_channels=2, n_segments=4)"
    again = pickle.loads(pickle.dumps(segments))
    assert torch.equal(again(_noise(3, 2, 30)), segments(_noise(3, 2, 30)))


def test_a_concatenation_is_fixed_if_its_parts_are():
    parts = {"one": SegmentMeans(2, 4), "two": SegmentMeans(2, 3)}
    x = _noise(5, 2, 12)
    both = Concatenation(parts)
    assert both.is_fixed
    assert torch.equal(both(x), torch.cat([part(x) for part in parts.values()], dim=1))
    assert not Concatenation({"one": parts["one"], "own": torch.nn.Flatten()}).is_fixed
