"""Views of table rows, and noise for any data."""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import NON_NEGATIVE, PROBABILITY, TABLES, Augmentation
from ._draws import chance, integers, normal

__all__ = ["FeatureCorruption", "GaussianNoise"]


class FeatureCorruption(Augmentation):
    """Replace random entries of a row by the same feature of other rows of the batch.

    Every entry is replaced with probability `rate`, and every replaced entry comes from another
    row, drawn separately for it, so that each feature keeps its marginal distribution. A batch of
    one row has no other row and stays as it is.

    Parameters
    ----------
    rate : float, default=0.6
        Probability that an entry is replaced, between 0 and 1.

    References
    ----------
    .. [1] D. Bahri, H. Jiang, Y. Tay, D. Metzler, "SCARF: Self-Supervised Contrastive Learning
       using Random Feature Corruption", ICLR 2022, arXiv:2106.15147.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import FeatureCorruption
    >>> x = torch.arange(6.0).reshape(3, 2)
    >>> view = FeatureCorruption(rate=0.5)(x, torch.Generator().manual_seed(0))
    >>> bool((view % 2 == x % 2).all())  # even numbers stay in the first column
    True
    """

    _constraints = {"rate": PROBABILITY}
    _accepts = TABLES

    def __init__(self, rate: float = 0.6) -> None:
        self.rate = rate

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        n, n_features = x.shape
        if n < 2:
            return x
        replaced = chance(x, n_features, p=self.rate, generator=generator)
        # At least one and at most n - 1 rows further on: never the row itself, though possibly its
        # copy, where two views are drawn in one call.
        distance = integers(x, n_features, low=1, high=n, generator=generator)
        donor = (torch.arange(n, device=x.device)[:, None] + distance) % n  # (n, features)
        return torch.where(replaced, x.gather(0, donor), x)


class GaussianNoise(Augmentation):
    """Add normal noise to every entry; for series also known as jitter.

    Takes tables, series, images and volumes: a batch of any number of dimensions.

    Parameters
    ----------
    noise : float, default=0.1
        Standard deviation of the noise, in units of the input: of the standard deviation of each
        feature or channel where the data are standardised.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import GaussianNoise
    >>> GaussianNoise(noise=0.2)(torch.zeros(8, 3, 50)).shape
    torch.Size([8, 3, 50])
    """

    _constraints = {"noise": NON_NEGATIVE}

    def __init__(self, noise: float = 0.1) -> None:
        self.noise = noise

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return normal(x, *x.shape[1:], generator=generator).mul_(self.noise).add_(x)
