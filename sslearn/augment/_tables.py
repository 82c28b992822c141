"""Views of table rows, and noise for any data."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._base import NON_NEGATIVE, PROBABILITY, TABLES, Augmentation
from ._compose import Compose
from ._draws import chance, integers, normal

__all__ = ["FeatureCorruption", "GaussianNoise"]


class _Groups:
    """The constraint of groups of features, apart from how many features there are."""

    def is_satisfied_by(self, val: Any) -> bool:
        if val is None:
            return True
        if isinstance(val, np.ndarray):
            return val.ndim == 1 and val.dtype.kind in "iu" and not (val < 0).any()
        return isinstance(val, list | tuple) and all(map(_is_list_of_indices, val))

    def __str__(self) -> str:
        return (
            "None, an array of group numbers of shape (n_features,), or a list of lists of column "
            "indices, all ints in the range [0, inf)"
        )


def _is_list_of_indices(item: Any) -> bool:
    if isinstance(item, np.ndarray):
        return item.ndim == 1 and item.dtype.kind in "iu" and not (item < 0).any()
    return isinstance(item, list | tuple | range) and all(
        isinstance(index, Integral) and not isinstance(index, bool) and int(index) >= 0
        for index in item
    )


class FeatureCorruption(Augmentation):
    """Replace random features of a row by the same features of other rows of the batch.

    Every feature is replaced with probability `rate`, and every replaced one comes from another
    row, drawn separately for it, so that each feature keeps its marginal distribution. Features of
    a group are replaced together, all from one row: the columns of a category that is one-hot
    encoded stay one-hot. A batch of one row has no other row and stays as it is.

    A missing value, NaN, stays missing, and never replaces another value; a group of features with
    one in either row stays as it is.

    Parameters
    ----------
    rate : float, default=0.6
        Probability that a feature, or a group of features, is replaced, between 0 and 1.
    feature_groups : array of shape (n_features,) or list of lists of int, default=None
        Features that are replaced together: the number of each feature's group, or the indices of
        the features of each group, where features in no list are groups of their own. If None, all
        are. With ``augment=None`` the methods find the blocks of one-hot columns themselves.

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

    Three columns of one category, and a number:

    >>> x = torch.tensor([[1.0, 0, 0, 0.3], [0, 1, 0, 0.7], [0, 0, 1, 0.1]])
    >>> view = FeatureCorruption(rate=0.5, feature_groups=[[0, 1, 2]])(x)
    >>> view[:, :3].sum(1)
    tensor([1., 1., 1.])
    """

    _constraints = {"rate": PROBABILITY, "feature_groups": _Groups()}
    _accepts = TABLES

    def __init__(
        self,
        rate: float = 0.6,
        feature_groups: np.ndarray | Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.rate = rate
        self.feature_groups = feature_groups

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        n, n_features = x.shape
        group = None
        if self.feature_groups is not None:
            group, n_features = _numbered(self.feature_groups, n_features)
            group = group.to(x.device)
        if n < 2:
            return x
        replaced = chance(x, n_features, p=self.rate, generator=generator)
        # At least one and at most n - 1 rows further on: never the row itself, though possibly its
        # copy, where two views are drawn in one call.
        distance = integers(x, n_features, low=1, high=n, generator=generator)
        if group is not None:
            replaced, distance = replaced[:, group], distance[:, group]
        donor = (torch.arange(n, device=x.device)[:, None] + distance) % n  # (n, features)
        given = x.gather(0, donor)
        if _may_miss(x):
            known = (x.isnan() | given.isnan()).logical_not_()
            if group is not None:
                # All features of a group are known, or none is replaced.
                index = group.expand(n, -1)
                every = known.new_ones(n, n_features).to(x.dtype)
                known = every.scatter_reduce(1, index, known.to(x.dtype), "amin").bool()[:, group]
            replaced = replaced & known
        return torch.where(replaced, given, x)


def _may_miss(x: Tensor) -> bool:
    """Return whether values of `x` may be NaN; a device is not waited for."""
    return x.device.type != "cpu" or math.isnan(float(x.sum()))


def _numbered(groups: np.ndarray | Sequence[Sequence[int]], n_features: int) -> tuple[Tensor, int]:
    """Return the number of each feature's group, and how many groups there are."""
    if isinstance(groups, np.ndarray):
        if len(groups) != n_features:
            raise ValueError(
                "The 'feature_groups' parameter of FeatureCorruption must have one number for "
                f"each of the {n_features} features. Got {len(groups)} numbers instead."
            )
        numbers, group = np.unique(groups, return_inverse=True)
        return torch.from_numpy(group), len(numbers)
    listed = [int(index) for indices in groups for index in indices]
    if listed and max(listed) >= n_features:
        raise ValueError(
            "The 'feature_groups' parameter of FeatureCorruption must hold indices below the "
            f"number of features, {n_features}. Got {max(listed)} instead."
        )
    if len(set(listed)) < len(listed):
        twice = next(index for i, index in enumerate(listed) if index in listed[:i])
        raise ValueError(
            "The 'feature_groups' parameter of FeatureCorruption must name each feature once at "
            f"most. Got feature {twice} twice."
        )
    # A group has the number of its smallest feature, until the numbers are made consecutive.
    first = np.arange(n_features)
    for indices in groups:
        if len(indices):
            first[list(indices)] = min(indices)
    numbers, group = np.unique(first, return_inverse=True)
    return torch.from_numpy(group), len(numbers)


def on_columns(augment: Any, owner: Sequence[int]) -> Any:
    """Make an augmentation of the features of X one of the columns that these have become.

    Columns of one feature, those of a category, are replaced together, as the features of a group
    are. Callables of other kinds stay as they are.

    Parameters
    ----------
    augment : callable or None
        Augmentation, or a :class:`Compose` of some.
    owner : sequence of int
        For each column the number of its feature.
    """
    if isinstance(augment, Compose):
        made = copy.copy(augment)
        made.augmentations = [on_columns(part, owner) for part in augment.augmentations]
        return made
    if type(augment) is not FeatureCorruption:
        return augment
    group = np.asarray(owner)
    if augment.feature_groups is not None:
        numbers, _ = _numbered(augment.feature_groups, max(owner) + 1)
        group = numbers.numpy()[group]
    return FeatureCorruption(augment.rate, group)


class GaussianNoise(Augmentation):
    """Add normal noise to every entry; for series also known as jitter.

    Takes tables, series, images and volumes: a batch of any number of dimensions. A missing value,
    NaN, stays missing.

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
