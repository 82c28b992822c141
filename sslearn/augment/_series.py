"""Views of series (n, channels, time)."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor
from torch.nn import functional as F

from .._sklearn import Interval
from . import _own_time
from ._base import NON_NEGATIVE, PROBABILITY, SERIES, Augmentation, Pair
from ._draws import chance, integers, normal, uniform, window_positions
from ._own_time import has_gaps

__all__ = [
    "ChannelDropout",
    "DifferenceNoise",
    "Scaling",
    "SegmentPermutation",
    "TimeCropResize",
    "TimeMask",
    "TimeWarp",
]


class Scaling(Augmentation):
    """Multiply every channel by a random factor near 1.

    Parameters
    ----------
    sigma : float, default=0.2
        Standard deviation of the factors. One factor is drawn from N(1, sigma) for every sample
        and channel.

    References
    ----------
    .. [1] T. T. Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease
       Monitoring using Convolutional Neural Networks", ICMI 2017, arXiv:1706.00527.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import Scaling
    >>> view = Scaling(sigma=0.1)(torch.ones(8, 3, 50))
    >>> bool((view == view[:, :, :1]).all())  # one factor for all steps of a channel
    True
    """

    _constraints = {"sigma": NON_NEGATIVE}
    _accepts = SERIES

    def __init__(self, sigma: float = 0.2) -> None:
        self.sigma = sigma

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        factor = normal(x, x.shape[1], 1, generator=generator).mul_(self.sigma).add_(1)
        return x * factor


class TimeCropResize(Augmentation):
    """Stretch a random window of the series to its full length.

    Values between two steps are interpolated linearly. All channels share the window.

    Parameters
    ----------
    scale : tuple of two floats, default=(0.5, 1.0)
        Smallest and largest fraction of the time that the window covers, above 0 and at most 1.

    References
    ----------
    .. [1] A. Le Guennec, S. Malinowski, R. Tavenard, "Data Augmentation for Time Series
       Classification using Convolutional Neural Networks", ECML/PKDD Workshop on Advanced
       Analytics and Learning on Temporal Data, 2016 ("window slicing").

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import TimeCropResize
    >>> x = torch.linspace(0, 1, 50).expand(8, 1, 50)
    >>> view = TimeCropResize(scale=(0.5, 0.5))(x)
    >>> bool((view.diff() <= x.diff() + 1e-6).all())  # half the speed
    True
    """

    _constraints = {"scale": Pair(1.0)}
    _accepts = SERIES

    def __init__(self, scale: tuple[float, float] = (0.5, 1.0)) -> None:
        self.scale = scale

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        time = x.shape[2]
        low, high = self.scale
        fraction = uniform(x, low=low, high=high, generator=generator)
        start = uniform(x, generator=generator)
        if has_gaps(x):
            return _own_time.read(x, _own_time.window(x, start, fraction))
        return _read(x, window_positions(start, fraction, time)[:, None])


class TimeWarp(Augmentation):
    """Play parts of the series faster and others slower; its ends stay where they are.

    Values between two steps are interpolated linearly. All channels share the speed.

    Parameters
    ----------
    sigma : float, default=0.3
        Standard deviation of the logarithm of the speed, which is drawn at `n_knots` evenly spaced
        places, and in between is linear.
    n_knots : int, default=6
        Number of these places, from the first to the last step; 2 at least.

    References
    ----------
    .. [1] T. T. Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease
       Monitoring using Convolutional Neural Networks", ICMI 2017, arXiv:1706.00527.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import TimeWarp
    >>> x = torch.linspace(0, 1, 50).expand(8, 1, 50)
    >>> view = TimeWarp(sigma=0.5)(x)
    >>> bool((view.diff() >= 0).all())  # time never runs backwards
    True
    >>> bool((view[..., 0] == 0).all())
    True
    """

    _constraints = {
        "sigma": NON_NEGATIVE,
        "n_knots": Interval(Integral, 2, None, closed="left"),
    }
    _accepts = SERIES

    def __init__(self, sigma: float = 0.3, n_knots: int = 6) -> None:
        self.sigma = sigma
        self.n_knots = n_knots

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        time = x.shape[2]
        if time < 2:
            return x
        logarithms = normal(x, 1, self.n_knots, generator=generator).mul_(self.sigma)
        if has_gaps(x):
            return _own_time.read(x, _own_time.warped(x, logarithms[:, 0]))
        speed = F.interpolate(logarithms, size=time - 1, mode="linear", align_corners=True).exp_()
        passed = F.pad(speed.cumsum(2), (1, 0))
        # The whole time is passed at the end, whatever the mean speed.
        return _read(x, passed * ((time - 1) / passed[..., -1:]))


def _read(x: Tensor, positions: Tensor) -> Tensor:
    """Read series at positions (n, 1, time), in steps, between which values are linear."""
    last = x.shape[2] - 1
    # Two reads per step: an interpolation matrix as for images would have time^2 entries.
    before = positions.long().clamp_(max=last)
    after = (before + 1).clamp_(max=last)
    return torch.lerp(
        x.gather(2, before.expand(x.shape)),
        x.gather(2, after.expand(x.shape)),
        positions - before,
    )


class TimeMask(Augmentation):
    """Set one random span of time to 0 in all channels: the mean, if the data are standardised.

    Parameters
    ----------
    fraction : float, default=0.25
        Length of the span as a fraction of the time, rounded down to whole steps.
    p : float, default=0.5
        Probability that a sample is masked.

    References
    ----------
    .. [1] D. S. Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech
       Recognition", Interspeech 2019, arXiv:1904.08779.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import TimeMask
    >>> view = TimeMask(fraction=0.2, p=1.0)(torch.ones(4, 3, 50))
    >>> (view == 0).sum(dim=2)[0]
    tensor([10, 10, 10])
    """

    _constraints = {"fraction": PROBABILITY, "p": PROBABILITY}
    _accepts = SERIES

    def __init__(self, fraction: float = 0.25, p: float = 0.5) -> None:
        self.fraction = fraction
        self.p = p

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        time = x.shape[2]
        length = int(self.fraction * time)
        masked = chance(x, 1, 1, p=self.p, generator=generator)
        if has_gaps(x):
            inside = _own_time.span(x, self.fraction, uniform(x, generator=generator))
            return x.masked_fill(inside[:, None] & masked & ~x.isnan(), 0)
        start = integers(x, 1, 1, low=0, high=time - length + 1, generator=generator)
        steps = torch.arange(time, device=x.device)
        span = (steps >= start) & (steps < start + length)  # (n, 1, time)
        return x.masked_fill(span & masked, 0)


class SegmentPermutation(Augmentation):
    """Cut the series at random steps and join the segments in random order.

    All channels are cut and permuted alike. A series of one step stays as it is.

    Parameters
    ----------
    max_segments : int, default=5
        Each sample is cut into 2 to `max_segments` segments.
    p : float, default=0.5
        Probability that a sample is permuted.

    References
    ----------
    .. [1] T. T. Um et al., "Data Augmentation of Wearable Sensor Data for Parkinson's Disease
       Monitoring using Convolutional Neural Networks", ICMI 2017, arXiv:1706.00527.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import SegmentPermutation
    >>> x = torch.arange(50.0).expand(4, 1, 50)
    >>> view = SegmentPermutation(max_segments=3, p=1.0)(x)
    >>> bool((view.sort().values == x).all())
    True
    """

    _constraints = {
        "max_segments": Interval(Integral, 2, None, closed="left"),
        "p": PROBABILITY,
    }
    _accepts = SERIES

    def __init__(self, max_segments: int = 5, p: float = 0.5) -> None:
        self.max_segments = max_segments
        self.p = p

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        time = x.shape[2]
        if time < 2:
            return x
        most = self.max_segments
        permuted = chance(x, 1, p=self.p, generator=generator)
        n_cuts = integers(x, 1, low=1, high=most, generator=generator)
        has_own_lengths = has_gaps(x)
        if has_own_lengths:
            cuts = uniform(x, most - 1, generator=generator)
        else:
            cuts = integers(x, most - 1, low=1, high=time, generator=generator)
        order = uniform(x, most, generator=generator)

        # Every sample draws all cuts and moves those beyond its number out of the series, which
        # keeps the shapes fixed. Two cuts at one step leave one segment less.
        used = (torch.arange(most - 1, device=x.device) < n_cuts) & permuted
        if has_own_lengths:
            taken = _own_time.order_of_steps(x, cuts, used, order)
            return x.gather(2, taken[:, None].expand(x.shape))
        cuts = cuts.masked_fill(~used, time)
        steps = torch.arange(time, device=x.device)
        segment = (steps[:, None] >= cuts[:, None]).sum(2)  # (n, time)
        # Sorting the steps by the random number of their segment; stable: segments stay whole.
        taken = order.gather(1, segment).sort(dim=1, stable=True).indices
        return x.gather(2, taken[:, None].expand(x.shape))


class ChannelDropout(Augmentation):
    """Set whole channels to 0: the mean, if the data are standardised.

    At least one channel of every sample is kept, so a series of one channel stays as it is.

    Parameters
    ----------
    rate : float, default=0.1
        Probability that a channel is dropped, between 0 and 1.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import ChannelDropout
    >>> view = ChannelDropout(rate=1.0)(torch.ones(4, 3, 50))
    >>> view[:, :, 0].sum(dim=1)
    tensor([1., 1., 1., 1.])
    """

    _constraints = {"rate": PROBABILITY}
    _accepts = SERIES

    def __init__(self, rate: float = 0.1) -> None:
        self.rate = rate

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        draw = uniform(x, x.shape[1], 1, generator=generator)
        # The channel with the largest draw is always kept.
        kept = (draw >= self.rate) | (draw == draw.amax(1, keepdim=True))
        if has_gaps(x):
            kept = kept | x.isnan()
        return x.masked_fill(~kept, 0)


class DifferenceNoise(Augmentation):
    """Add normal noise in units of the differences between neighbouring steps.

    Noise of a tenth of a series' deviation is many times the steps of a smooth series, and hides
    from short kernels all that they could respond to. This noise is as small as the series is
    smooth.

    Parameters
    ----------
    noise : float, default=0.3
        Standard deviation of the noise, as a fraction of the root mean square of the differences
        between neighbouring steps, of each sample and channel.

    See Also
    --------
    GaussianNoise : Noise of one deviation for all samples.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import DifferenceNoise
    >>> x = torch.linspace(0, 1, 101).expand(8, 1, 101)  # steps of 0.01
    >>> change = DifferenceNoise(noise=0.5)(x, torch.Generator().manual_seed(0)) - x
    >>> round(float(change.std()), 3)
    0.005
    """

    _constraints = {"noise": NON_NEGATIVE}
    _accepts = SERIES

    def __init__(self, noise: float = 0.3) -> None:
        self.noise = noise

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if x.shape[2] < 2:
            return x
        if has_gaps(x):
            size = _own_time.mean_square_of_steps(x).sqrt_().mul_(self.noise)
        else:
            size = x.diff(dim=2).square_().mean(2, keepdim=True).sqrt_().mul_(self.noise)
        return torch.addcmul(x, normal(x, *x.shape[1:], generator=generator), size)
