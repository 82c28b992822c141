"""Views of series that end early or have gaps stay within their own length."""

import pytest
import torch
from batches import seeded
from torch.nn import functional as F

from sslearn.augment import (
    ChannelDropout,
    Compose,
    DifferenceNoise,
    GaussianNoise,
    Scaling,
    SegmentPermutation,
    TimeCropResize,
    TimeMask,
    TimeWarp,
    default_augment,
)
from sslearn.augment._own_time import has_gaps, known_as_complete

ALL = [
    TimeCropResize(),
    TimeWarp(),
    TimeMask(p=1.0),
    SegmentPermutation(p=1.0),
    ChannelDropout(rate=0.9),
    DifferenceNoise(),
    Scaling(),
    GaussianNoise(),
    default_augment((2, 60)),
    default_augment((2, 60), bank=True),
]


def _name(augment):
    return type(augment).__name__


def _padded(n=40, n_steps=60):
    lengths = torch.randint(1, n_steps + 1, (n,), generator=seeded(3))
    lengths[:4] = torch.tensor([1, 2, 3, n_steps])
    x = torch.randn(n, 2, n_steps, generator=seeded()).cumsum(2)
    return x.masked_fill(torch.arange(n_steps) >= lengths[:, None, None], torch.nan), lengths


@pytest.mark.parametrize("augment", ALL, ids=_name)
def test_views_have_the_length_of_their_series(augment):
    x, _lengths = _padded()
    view = augment(x, seeded())
    assert torch.equal(view.isnan(), x.isnan())
    assert not torch.equal(view.nan_to_num(), x.nan_to_num())
    # Nothing but the series itself is in a view.
    if not isinstance(augment, Compose | DifferenceNoise | GaussianNoise | Scaling):
        low = x.nan_to_num(0).amin(2).clamp_max(0)
        assert (view.nan_to_num(0).amin(2) >= low - 1e-4).all()


@pytest.mark.parametrize(
    "augment",
    [TimeCropResize(), TimeWarp(), ChannelDropout(0.5), DifferenceNoise(), Scaling()],
    ids=_name,
)
def test_a_complete_series_has_the_view_that_it_has_alone(augment):
    # In a batch with one that ends early, and drawn by the same generator.
    x = torch.randn(20, 2, 50, generator=seeded()).cumsum(2)
    incomplete = x.clone()
    incomplete[7, :, 30:] = torch.nan
    alone, among = augment(x, seeded(1)), augment(incomplete, seeded(1))
    others = torch.arange(20) != 7
    torch.testing.assert_close(among[others], alone[others], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("augment", [TimeCropResize((0.5, 0.5)), TimeWarp()], ids=_name)
def test_time_within_a_series_is_stretched_over_its_own_length(augment):
    lengths = torch.arange(2, 42)
    steps = torch.arange(60.0)
    x = (steps / (lengths[:, None] - 1))[:, None].repeat(1, 2, 1)
    x = x.masked_fill(steps >= lengths[:, None, None], torch.nan)
    view = augment(x, seeded())
    known = ~view.isnan()
    assert (view[known] >= 0).all()
    assert (view[known] <= 1 + 1e-6).all()
    assert (view.diff(dim=2)[known[:, :, 1:]] >= 0).all()
    last = view.gather(2, (lengths - 1)[:, None, None].expand(-1, 2, 1))[:, 0, 0]
    if isinstance(augment, TimeWarp):
        assert (view[:, :, 0] == 0).all()
        torch.testing.assert_close(last, torch.ones(40))
    else:
        # Half of the time, wherever that is.
        spans = (last - view[:, 0, 0])[5:]
        assert ((spans - 0.5).abs() < 0.1).all()


def test_a_mask_and_a_permutation_are_within_the_series():
    x, lengths = _padded()
    x = torch.where(x.isnan(), x, torch.arange(1.0, 61.0).expand(x.shape))
    masked = (TimeMask(fraction=0.25, p=1.0)(x, seeded()) == 0).sum(2)[:, 0]
    assert torch.equal(masked, (0.25 * lengths).long())
    permuted = SegmentPermutation(p=1.0)(x, seeded())
    assert torch.equal(permuted.nan_to_num(99).sort(2).values, x.nan_to_num(99).sort(2).values)
    changed = (permuted.nan_to_num() != x.nan_to_num()).any(2)[:, 0]
    assert changed[lengths > 5].float().mean() > 0.8


@pytest.mark.parametrize("augment", ALL, ids=_name)
def test_gaps_stay_gaps_and_do_not_spread(augment):
    x = torch.randn(200, 2, 60, generator=seeded()).cumsum(2)
    x[torch.rand(200, 60, generator=seeded(1)).gt(0.9)[:, None].expand(x.shape)] = torch.nan
    view = augment(augment(x, seeded(2)), seeded(3))
    share, before = view.isnan().float().mean(), x.isnan().float().mean()
    assert 0.8 * before < share < 1.2 * before
    if not isinstance(augment, TimeCropResize | TimeWarp | SegmentPermutation | Compose):
        assert torch.equal(view.isnan(), x.isnan())


def test_noise_is_that_of_the_known_differences():
    x = torch.linspace(0, 1, 101).repeat(8, 1, 1)
    x[:, :, 10:13] = torch.nan
    x[0, :, 1:] = torch.nan  # no difference is known
    change = (DifferenceNoise(noise=0.5)(x, seeded()) - x)[..., :10]
    assert round(float(change[1:].std()), 3) == 0.005
    assert change[0, 0, 0] == 0


def test_padding_changes_no_view_but_of_its_draws():
    # What has no draw for each step is drawn alike, however far a series is padded.
    x, _ = _padded()
    more = F.pad(x, (0, 13), value=torch.nan)
    for augment in (TimeCropResize(), TimeWarp(), TimeMask(p=1.0), SegmentPermutation(p=1.0)):
        view, padded = augment(x, seeded(5)), augment(more, seeded(5))
        assert torch.equal(padded[:, :, :60].nan_to_num(99), view.nan_to_num(99))


def test_complete_data_are_not_searched():
    x = torch.full((2, 1, 5), torch.nan)
    with known_as_complete():
        assert not has_gaps(x)
        with known_as_complete():
            pass
        assert not has_gaps(x)
    assert has_gaps(x)
