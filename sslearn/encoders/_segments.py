"""Means of the segments of a series: its coarse course, and where in time it is."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ._checks import check_batch, check_int
from ._own_length import at_own_length, has_missing, own_lengths

__all__ = ["SegmentMeans"]

# Least mean variance of a step about the mean sample that is believed, for standardised samples.
_LEAST_VARIANCE = 1e-4
# Deviations of a step beyond which means are clipped.
_MOST = 10.0


class SegmentMeans(nn.Module):
    """Means of equal segments of each channel, known as piecewise aggregate approximation [1]_.

    A :class:`KernelBank` counts responses over all of a series: it tells what happens, not when.
    Where samples are aligned, as trials that begin with a stimulus or days that begin at midnight,
    their course over the segments is what distinguishes them, often more than anything else.

    Where samples are windows, cut anywhere, they only add noise: see :meth:`common_course`.

    NaN is a missing value: segments are parts of a series up to its last known step, and gaps
    before that are filled by straight lines.

    It is part of a stem and has nothing that learns: make it by :meth:`from_samples`. Means are
    in units of the deviation of a step, so that segments of noise, whose means are all near zero,
    get little weight among other features.

    Parameters
    ----------
    in_channels : int
        Number of channels of the input.
    n_segments : int, default=8
        Number of segments, which overlap by a step where the length is not a multiple.

    See Also
    --------
    KernelBank : The features that it completes.
    Concatenation : Joins both.

    References
    ----------
    .. [1] E. Keogh, K. Chakrabarti, M. Pazzani, S. Mehrotra, "Dimensionality Reduction for Fast
       Similarity Search in Large Time Series Databases", Knowledge and Information Systems 3, 2001.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import SegmentMeans
    >>> series = torch.randn(20, 3, 100, generator=torch.Generator().manual_seed(0))
    >>> means = SegmentMeans.from_samples(series, n_segments=8)
    >>> means(series).shape
    torch.Size([20, 24])
    """

    mean: torch.Tensor
    gain: torch.Tensor
    weight: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True
    #: NaN is a missing value, which estimators then accept.
    takes_nan = True

    def __init__(self, in_channels: int, n_segments: int = 8) -> None:
        super().__init__()
        self.in_channels = check_int("SegmentMeans", "in_channels", in_channels)
        self.n_segments = check_int("SegmentMeans", "n_segments", n_segments)
        #: Number of features that come out.
        self.n_features = self.in_channels * self.n_segments
        self.register_buffer("mean", torch.zeros(self.n_features))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("weight", torch.ones(()))

    @classmethod
    def from_samples(
        cls, samples: torch.Tensor, n_segments: int = 8, *, total_variance: float | None = None
    ) -> SegmentMeans:
        """Take means and a scale from training samples.

        Parameters
        ----------
        samples : torch.Tensor of shape (n, channels, time)
            Standardised training samples.
        n_segments : int, default=8
            Number of segments; a series of fewer steps has as many as steps.
        total_variance : float, default=None
            Sum of the variances of the features if the means of segments varied as single steps
            do, which is more than they can. If None, `n_features`.

        Returns
        -------
        SegmentMeans
            On the CPU.
        """
        if samples.ndim != 3:
            raise ValueError(
                "SegmentMeans.from_samples expects samples of shape (n, channels, time). Got "
                f"{tuple(samples.shape)} instead."
            )
        samples = samples.detach().float().cpu()
        of_steps = samples.var(0, correction=0)
        if has_missing(samples):
            samples = samples[:, :, : int(own_lengths(samples).max())]
            of_steps = (samples - samples.nanmean(0)).square().nanmean(0)
            of_steps = of_steps[~of_steps.isnan()]
        found = cls(samples.shape[1], min(n_segments, samples.shape[2]))
        found.mean.copy_(found.means(samples).mean(0))
        of_a_step = of_steps.mean().clamp_min(_LEAST_VARIANCE)
        found.gain.copy_(of_a_step.rsqrt())
        if total_variance is not None:
            found.weight.fill_(math.sqrt(total_variance / found.n_features))
        return found

    def common_course(self, samples: torch.Tensor) -> float:
        """Return how much of the variance of the means over segments all samples have in common.

        Near 0 if samples are windows, cut wherever it happened to be: no step of them is special,
        and their mean is flat. 1 if all samples have the same course.

        Parameters
        ----------
        samples : torch.Tensor of shape (n, in_channels, time)
            Standardised samples, two at least.

        Returns
        -------
        float
            At most 1. What few samples have in common by chance is subtracted, so it may be
            slightly below 0.
        """
        means = self.means(samples.detach().float().cpu()).double()
        means = means.unflatten(1, (self.in_channels, self.n_segments))
        means = means - means.mean((0, 2), keepdim=True)
        total, common = means.square().mean(), means.mean(0).square().mean()
        by_chance = (total - common) / max(len(means) - 1, 1)
        return float((common - by_chance) / total.clamp_min(_LEAST_VARIANCE))

    def extra_repr(self) -> str:
        return f"in_channels={self.in_channels}, n_segments={self.n_segments}"

    def means(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the means as they are, (n, n_features); the parameters are those of a call."""
        check_batch("SegmentMeans", x, self.in_channels, "time")
        x = x.to(self.mean.dtype)
        if mask is None and has_missing(x):
            return at_own_length(lambda series, _: self._pooled(series), x)
        if mask is None:
            return self._pooled(x)
        x = x.masked_fill(~mask[:, None], 0.0)
        return torch.einsum("nct,nst->ncs", x, self._share_of_steps(mask)).flatten(1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Encode a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, time)
            A batch of standardised samples.
        mask : torch.Tensor of shape (n, time), default=None
            True at the steps that are part of a sample; its segments are equal parts of these.
            If None, all are.

        Returns
        -------
        torch.Tensor of shape (n, n_features)
            The means in deviations of a step, in [-10, 10] times the weight, a channel's together.
        """
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x, mask)
        return ((self.means(x, mask) - self.mean) * self.gain).clamp(-_MOST, _MOST) * self.weight

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool1d(x, self.n_segments).flatten(1)

    def _share_of_steps(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the weight of each step in each segment: (n, n_segments, time)."""
        count = mask.sum(1).clamp_min(1)[:, None, None]
        place = (mask.cumsum(1) - 1)[:, None]
        segment = torch.arange(self.n_segments, device=mask.device)[:, None]
        # As adaptive pooling has them: from the step below a limit to the one above the next.
        first = segment * count // self.n_segments
        last = -(-(segment + 1) * count // self.n_segments)
        inside = (place >= first) & (place < last) & mask[:, None]
        return inside / inside.sum(2, keepdim=True).clamp_min(1)
