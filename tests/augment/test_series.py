"""Augmentations of series: slow obvious twins, rates, tiny series."""

import numpy as np
import pytest
import torch
from batches import batch, seeded

from sslearn.augment import (
    ChannelDropout,
    DifferenceNoise,
    Scaling,
    SegmentPermutation,
    TimeCropResize,
    TimeMask,
    TimeWarp,
    default_augment,
)


def test_scaling():
    x = batch(500, (4, 10)) + 1
    factor = Scaling(sigma=0.2)(x, seeded()) / x
    torch.testing.assert_close(factor, factor[:, :, :1].expand_as(factor))
    assert factor[:, :, 0].std().item() == pytest.approx(0.2, rel=0.05)
    assert factor[:, :, 0].mean().item() == pytest.approx(1.0, abs=0.02)


def test_difference_noise_is_as_small_as_a_series_is_smooth():
    time = torch.linspace(0, 1, 400)
    x = torch.stack((torch.sin(6 * time), 100 * time, torch.zeros(400))).expand(50, 3, 400)
    change = DifferenceNoise(noise=0.5)(x, seeded()) - x
    expected = 0.5 * x[0].diff(dim=1).square().mean(1).sqrt()
    torch.testing.assert_close(change.std((0, 2)), expected, rtol=0.03, atol=0)
    assert not change[:, 2].any()
    single = torch.ones(3, 2, 1)
    assert torch.equal(DifferenceNoise()(single, seeded()), single)


def test_time_warp_against_interp():
    n, time = 200, 40
    x = torch.randn(n, 2, time, generator=seeded())
    x[:, 0] = torch.arange(time)  # this channel tells where each value was read
    view = TimeWarp(sigma=0.4, n_knots=4)(x, seeded(1))
    positions = view[:, 0]
    for row in range(n):
        expected = np.interp(positions[row], np.arange(time), x[row, 1])
        np.testing.assert_allclose(view[row, 1], expected, atol=1e-4)
    assert not positions[:, 0].any()
    torch.testing.assert_close(positions[:, -1], torch.full((n,), time - 1.0))
    # The logarithm of the speed is linear between four places, and varies as asked for at these.
    log_speed = positions.diff(dim=1).log()
    bends = log_speed.diff(n=2, dim=1).abs() > 1e-3
    assert bends.sum(1).float().mean() < 6
    centred = log_speed - log_speed.mean(1, keepdim=True)
    assert centred[:, 0].std().item() == pytest.approx(0.4 * (1 - 1 / 4) ** 0.5, rel=0.15)
    torch.testing.assert_close(TimeWarp(sigma=0.0)(x, seeded()), x, rtol=0, atol=1e-4)


def test_default_views_for_kernels():
    weak = default_augment((2, 50), bank=True)
    assert [type(part).__name__ for part in weak.augmentations] == [
        "TimeCropResize",
        "TimeWarp",
        "Scaling",
        "ChannelDropout",
        "DifferenceNoise",
    ]
    assert repr(default_augment((6,), bank=True)) == repr(default_augment((6,)))


def test_time_crop_against_interp():
    n, time = 200, 40
    x = torch.randn(n, 2, time, generator=seeded())
    x[:, 0] = torch.arange(time)  # this channel tells where each value was read
    view = TimeCropResize(scale=(0.3, 0.9))(x, seeded(1))
    positions = view[:, 0]
    for row in range(n):
        expected = np.interp(positions[row], np.arange(time), x[row, 1])
        np.testing.assert_allclose(view[row, 1], expected, atol=1e-5)
    speed = positions.diff(dim=1)
    inner = speed[:, time // 2]
    torch.testing.assert_close(speed[:, 4:-4], inner[:, None].expand(-1, time - 9))
    assert 0.3 <= inner.min() < 0.33
    assert 0.87 < inner.max() <= 0.9
    assert positions.min() < 1
    assert positions.max() > time - 2


def test_whole_windows_change_nothing():
    x = torch.randn(5, 3, 21, generator=seeded())
    assert torch.equal(TimeCropResize(scale=(1.0, 1.0))(x), x)


def test_time_mask():
    x = torch.ones(600, 3, 40)
    zero = TimeMask(fraction=0.25, p=0.6)(x, seeded()) == 0
    assert (zero == zero[:, :1]).all()  # all channels alike
    zero = zero[:, 0]
    masked = zero.any(1)
    assert masked.float().mean().item() == pytest.approx(0.6, abs=0.06)
    assert (zero[masked].sum(1) == 10).all()
    assert (zero[masked].float().diff(dim=1).abs().sum(1) <= 2).all()  # one span
    starts = zero[masked].float().argmax(1)
    assert starts.min() == 0
    assert starts.max() == 30
    assert (TimeMask(fraction=1.0, p=1.0)(x) == 0).all()
    assert torch.equal(TimeMask(fraction=0.0, p=1.0)(x), x)


def test_segment_permutation():
    n, time = 600, 30
    x = torch.arange(float(time)).expand(n, 2, time)
    view = SegmentPermutation(max_segments=4, p=1.0)(x, seeded())
    assert torch.equal(view[:, 0], view[:, 1])
    view = view[:, 0]
    assert torch.equal(view.sort(1).values, x[:, 0])  # a permutation
    breaks = (view.diff(dim=1) != 1).sum(1)
    assert breaks.max() == 3  # four segments
    assert breaks.unique().tolist() == [0, 1, 2, 3]  # 0: the order drawn was the old one
    two = SegmentPermutation(max_segments=2, p=1.0)(x, seeded())[:, 0]
    swapped = two[:, 0] > 0
    assert swapped.float().mean().item() == pytest.approx(0.5, abs=0.07)
    assert (two[:, 0].unique()).numel() > 20  # cut anywhere
    some = SegmentPermutation(max_segments=5, p=0.3)(x, seeded())
    changed = (some != x).flatten(1).any(1).float().mean().item()
    assert 0.18 < changed < 0.3


def test_channel_dropout():
    x = torch.ones(800, 5, 7)
    view = ChannelDropout(rate=0.3)(x, seeded())
    kept = view[:, :, 0]
    assert torch.equal(view, kept[:, :, None].expand_as(view))  # whole channels
    assert (1 - kept).mean().item() == pytest.approx(0.3, abs=0.02)
    kept = ChannelDropout(rate=1.0)(x, seeded())[:, :, 0]
    assert (kept.sum(1) == 1).all()  # never all of them
    assert (kept.sum(0) > 100).all()  # any channel may be the last
    assert torch.equal(ChannelDropout(rate=1.0)(x[:, :1]), x[:, :1])


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize(
    "augment",
    [
        Scaling(),
        TimeCropResize((0.01, 0.02)),
        TimeMask(0.5, 1.0),
        SegmentPermutation(9, 1.0),
        ChannelDropout(0.9),
        default_augment((1, 1)),
    ],
    ids=repr,
)
def test_tiny_series(augment, shape):
    view = augment(torch.ones(3, *shape), seeded())
    assert view.shape == (3, *shape)
    assert view.isfinite().all()
