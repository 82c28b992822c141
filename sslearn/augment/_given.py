"""Views that come with the samples, in place of views that are drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from ._base import Augmentation
from ._compose import Compose

__all__ = ["GivenViews", "adds_nothing", "takes_given_views"]


class GivenViews(Augmentation):
    """Take the views from X, which holds several of each sample, and draw none.

    With ``augment=GivenViews()`` an array or tensor X is read as (n, n_views, ...), with two or
    more views of each sample along its second axis. Items ``(v0, v1, ...)`` of a dataset that begin
    with two or more arrays of one shape, and batches of a loader that do, hold views too, and so
    does an item ``x`` or ``(x, ...)`` along the first axis of x. Items ``((v0, v1, ...), ...)``
    hold views in any case, and need no `GivenViews`.

    ``input_shape_`` and ``n_features_in_`` are those of one view. Of more views than a method
    takes, usually two, others are drawn for each sample and step. ``transform`` takes samples; of
    views it returns the features of the first. Called by itself it returns `x` unchanged; what
    follows it in a `Compose` is applied to each view.

    See Also
    --------
    Compose : Several augmentations, one after the other.
    default_augment : Draws the views, where none are given.

    Examples
    --------
    >>> import numpy as np
    >>> from sslearn import SimCLR
    >>> from sslearn.augment import GivenViews
    >>> rng = np.random.default_rng(0)
    >>> samples = rng.normal(size=(60, 1, 5))
    >>> X = samples + 0.1 * rng.normal(size=(60, 2, 5))  # two views of each
    >>> model = SimCLR(augment=GivenViews(), embedding_dim=8, max_epochs=2, random_state=0).fit(X)
    >>> model.n_features_in_, model.transform(samples[:, 0]).shape
    (5, (60, 8))
    """

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return x


def takes_given_views(augment: object) -> bool:
    """Return whether an augmentation says that X holds views."""
    if isinstance(augment, Compose):
        return any(map(takes_given_views, augment.augmentations))
    return isinstance(augment, GivenViews)


def adds_nothing(augment: object) -> bool:
    """Return whether given views are taken as they are."""
    if isinstance(augment, Compose):
        return all(map(adds_nothing, augment.augmentations))
    return augment is None or isinstance(augment, GivenViews)
