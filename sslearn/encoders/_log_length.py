"""The length of a series, as a feature."""

from __future__ import annotations

import math

import torch
from torch import nn

from ._checks import check_batch, check_int
from ._own_length import own_lengths

__all__ = ["LogLength"]

# Least deviation of the logarithm that is believed: 5% of the length. And the deviations beyond
# which a length counts as one at this distance.
_LEAST_DEVIATION, _MOST = 0.05, 3.0


class LogLength(nn.Module):
    """Logarithm of the number of steps up to the last known one, standardised.

    The features of a :class:`KernelBank` are shares of the steps of a series, and so do not show
    how many there are. Where series differ in length, that is often informative: of a gesture, a
    word, a visit.

    It is part of a stem and has nothing that learns: make it by :meth:`from_samples`.

    Parameters
    ----------
    in_channels : int
        Number of channels of the input.
    n_features : int, default=1
        Number of columns in which it comes out, all equal.

    See Also
    --------
    KernelBank : The features that it completes.
    Concatenation : Joins both.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import LogLength
    >>> series = torch.zeros(3, 1, 100)
    >>> series[1, :, 50:] = series[2, :, 25:] = torch.nan
    >>> LogLength.from_samples(series)(series)[[0, 2]]
    tensor([[ 1.2247],
            [-1.2247]])
    """

    mean: torch.Tensor
    gain: torch.Tensor
    weight: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True
    #: NaN is a missing value, which estimators then accept.
    takes_nan = True

    def __init__(self, in_channels: int, n_features: int = 1) -> None:
        super().__init__()
        self.in_channels = check_int("LogLength", "in_channels", in_channels)
        self.n_features = check_int("LogLength", "n_features", n_features)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("weight", torch.ones(()))

    @classmethod
    def from_samples(
        cls, samples: torch.Tensor, n_features: int = 1, *, total_variance: float = 1.0
    ) -> LogLength:
        """Take mean and deviation from training samples.

        Parameters
        ----------
        samples : torch.Tensor of shape (n, channels, time)
            Training samples that end in NaN where they are shorter.
        n_features : int, default=1
            Number of columns.
        total_variance : float, default=1.0
            Sum of the variances of the columns.

        Returns
        -------
        LogLength
            On the CPU.
        """
        if samples.ndim != 3:
            raise ValueError(
                "LogLength.from_samples expects samples of shape (n, channels, time). Got "
                f"{tuple(samples.shape)} instead."
            )
        found = cls(samples.shape[1], n_features)
        logarithms = own_lengths(samples.detach().cpu()).float().log()
        found.mean.copy_(logarithms.mean())
        found.gain.copy_(1 / logarithms.std(correction=0).clamp_min(_LEAST_DEVIATION))
        found.weight.fill_(math.sqrt(total_variance / n_features))
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode a batch (n, in_channels, time): (n, n_features)."""
        check_batch("LogLength", x, self.in_channels, "time")
        logarithms = own_lengths(x).to(self.mean.dtype).clamp_min(1).log()
        found = ((logarithms - self.mean) * self.gain).clamp(-_MOST, _MOST) * self.weight
        return found[:, None].repeat(1, self.n_features)
