"""The batches of an objective: samples, and random views of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from .._objective import Batch
from ..augment import Augmentation
from ._training_data import TrainingData, autocast_off

__all__ = ["Batches"]

# In a batch of fewer samples than this, all may have two equal views by chance.
_ENOUGH_SAMPLES = 8


class Batches:
    """Makes a batch from raw samples.

    Parameters
    ----------
    data : TrainingData
        Samples to train on.
    augment : callable or None
        ``augment(x, generator)`` on a whole batch. If None, views equal the samples.
    n_views : int
        Number of views of each sample.
    pieces : callable, optional
        Function whose output views are taken from, see :class:`Objective`; by default the samples.
    watch : bool
        Warn if the first batch has equal views: `augment` is the caller's.
    drowned : str or None
        Signals that the noise of the views drowns, in words.
    """

    def __init__(
        self,
        data: TrainingData,
        augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None,
        n_views: int,
        *,
        pieces: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        watch: bool = False,
        drowned: str | None = None,
    ) -> None:
        self.data = data
        self.augment = augment
        self.n_views = n_views
        self.pieces = pieces
        self.watch = watch
        self.drowned = drowned

    def make(
        self, raw: torch.Tensor, index: torch.Tensor | None, generator: torch.Generator
    ) -> Batch:
        """Return a batch whose views are drawn in one call: one draw per sample and view."""
        raw = self.data.to_device(raw)
        views: tuple[torch.Tensor, ...] = ()
        if self.n_views:
            with autocast_off(self.data.device):
                views = self._views(raw, generator).chunk(self.n_views)
            if self.watch:
                self.watch = False  # only once, since comparing waits for the device
                _warn_of_equal_views(views)
        return Batch(lambda: self.data.clean(raw), index, views, generator)

    def _views(self, raw: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return all views of raw samples, one view after the other, ready for the encoder."""
        standardize = self.data.standardize
        unit = self.pieces(standardize.unit(raw))
        if self.n_views > 1:
            unit = torch.cat((unit,) * self.n_views)  # repeat takes three times as long
        if self.augment is not None:
            unit = _augmented(self.augment, unit, generator)
        return standardize.normalize(unit).contiguous()


def _augmented(
    augment: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
    x: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the views of `x`; those of images may be smaller, those of a table may not."""
    try:
        views: Any = augment(x, generator)
    except Exception as error:
        if isinstance(augment, Augmentation) and isinstance(error, TypeError | ValueError):
            raise  # it names the parameter, or the property of x, that is wrong
        raise ValueError(f"{_called(x)}. Got {type(error).__name__}: {error}") from error
    if not isinstance(views, torch.Tensor):
        got = type(views).__name__
    elif views.ndim != x.ndim or views.shape[:2] != x.shape[:2]:
        got = f"shape {tuple(views.shape)}"
    else:
        return views.float()
    raise ValueError(f"{_called(x)}. Got {got} instead.")


def _called(x: torch.Tensor) -> str:
    kept = "rows and features" if x.ndim == 2 else "samples, channels and axes"
    return (
        "The 'augment' parameter is called as augment(x, generator) and must return a tensor with "
        f"the {kept} of x, shape {tuple(x.shape)}"
    )


def _warn_of_equal_views(views: tuple[torch.Tensor, ...]) -> None:
    first = views[0]
    if len(views) < 2 or len(first) < _ENOUGH_SAMPLES or first.amin() == first.amax():
        return
    if all(torch.equal(first, view) for view in views[1:]):
        warnings.warn(
            "The 'augment' parameter gave equal views of all samples in the first batch, so that "
            "training teaches no invariance. It changes nothing, or draws once for the whole "
            "batch; draw for each sample of x, as those of sslearn.augment do.",
            stacklevel=2,
        )
