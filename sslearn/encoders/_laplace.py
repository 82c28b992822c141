"""Random features of the Laplace kernel."""

from __future__ import annotations

import math

import torch
from torch import nn

from ._checks import check_int
from ._layout import linear

__all__ = ["LaplaceFeatures"]

# Pairs of samples whose median distance is the width of the kernel, and the highest frequency, in
# units of that width: above it rounding would decide.
_PAIRS, _HIGHEST = 2000, 50.0
_LEAST_WIDTH = 1e-3


class LaplaceFeatures(nn.Module):
    """Random cosines and sines whose products are nearly exp(-|x - y|_1 / width) of two samples.

    That kernel, of the sum of the absolute differences, sees the thresholds of single columns as
    trees do, so that a linear map of the features is a flexible function of the columns. The width
    is the median distance of training samples. Make it by :meth:`from_samples`; it has nothing
    that learns.

    Parameters
    ----------
    in_features : int
        Number of features that come in.
    n_features : int
        Number of features, an even number: half of them are cosines.
    width : float, default=1.0
        Width of the kernel.
    generator : torch.Generator, default=None
        Draws the frequencies. If None, torch's default generator does.

    See Also
    --------
    TableBank : Has them among its features.

    References
    ----------
    .. [1] A. Rahimi, B. Recht, "Random Features for Large-Scale Kernel Machines", NIPS 2007.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import LaplaceFeatures
    >>> generator = torch.Generator().manual_seed(0)
    >>> features = LaplaceFeatures(2, 4096, width=1.0, generator=generator)
    >>> x, y = torch.tensor([[0.0, 0.0], [0.5, -0.2]])
    >>> product = (features(x[None]) * features(y[None])).sum() / 2048
    >>> abs(product - torch.tensor(-0.7).exp()) < 0.05
    tensor(True)
    """

    weight: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(
        self,
        in_features: int,
        n_features: int,
        *,
        width: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_int("LaplaceFeatures", "in_features", in_features)
        self.out_features = check_int("LaplaceFeatures", "n_features", n_features)
        if self.out_features % 2:
            raise ValueError(
                "The 'n_features' parameter of LaplaceFeatures must be an even number. Got "
                f"{n_features!r} instead."
            )
        self.width = width
        # The Fourier transform of the kernel is a product of Cauchy distributions.
        share = torch.rand(self.out_features // 2, self.in_features, generator=generator)
        frequency = torch.tan(math.pi * (share - 0.5)).clamp_(-_HIGHEST, _HIGHEST)
        self.register_buffer("weight", frequency / width)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, n_features={self.out_features}, "
            f"width={self.width:.3g}"
        )

    @classmethod
    @torch.no_grad()
    def from_samples(
        cls, samples: torch.Tensor, n_features: int, *, generator: torch.Generator | None = None
    ) -> LaplaceFeatures:
        """Draw features whose width is the median distance of training samples.

        Parameters
        ----------
        samples : torch.Tensor of shape (n, in_features)
            Training samples, standardised.
        n_features : int
            Number of features, an even number.
        generator : torch.Generator, default=None
            Draws pairs of samples and the frequencies. If None, torch's default generator does.

        Returns
        -------
        LaplaceFeatures
            On the CPU.
        """
        samples = samples.detach().float().cpu()
        one, other = torch.randint(len(samples), (2, _PAIRS), generator=generator)
        distances = (samples[one] - samples[other]).abs().sum(1)
        distances = distances[distances > 0]
        width = float(distances.median()) if len(distances) else 1.0
        width = max(width, _LEAST_WIDTH)
        return cls(samples.shape[1], n_features, width=width, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map samples (n, in_features) to features (n, n_features), between -1 and 1."""
        angle = linear(x, self.weight)
        return torch.cat((angle.cos(), angle.sin()), dim=1)
