"""The batches of an objective: samples, and random views of them."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .._modules import shortcut_of
from .._objective import Batch
from ..augment import Augmentation
from ..augment._own_time import known_as_complete
from ..encoders import ViewWhitening
from ._given_views import some_views
from ._held_out import HeldOut
from ._rows import Rows
from ._stem_cache import CACHE_BYTES, StemCache, chosen_views
from ._training_data import TrainingData, autocast_off

__all__ = ["Batches"]

# Samples, and views of each, that a whitening is fitted on where none are kept.
_WHITENED_SAMPLES, _WHITENED_VIEWS, _WHITENED_AT_ONCE = 1024, 4, 128
# In a batch of fewer samples than this, all may have two equal views by chance.
_ENOUGH_SAMPLES = 8


class Batches:
    """Makes batches of an objective.

    Parameters
    ----------
    data : TrainingData
        Samples to train on.
    augment : callable or None
        ``augment(x, generator)`` on a whole batch. If None, views equal the samples, or are those
        that are given.
    n_views : int
        Number of views of each sample.
    pieces : callable, optional
        Function whose output views are taken from, see :class:`Objective`; by default the samples.
    pairs_of_groups : bool
        Take the views of a sample but the first from other samples of its group.
    n_kept : int
        Views of each sample of which the stem's features are computed once; 0 draws new views at
        each step. Without views it is 1, the samples themselves, or 0.
    watch : bool
        Warn if the first batch has equal views: `augment` or the views are the caller's.
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
        pairs_of_groups: bool = False,
        n_kept: int = 0,
        watch: bool = False,
        drowned: str | None = None,
    ) -> None:
        self.data = data
        self.n_given = data.rows.n_given
        self.augment = augment
        self.n_views = n_views
        self.pieces = pieces
        self.pairs_of_groups = pairs_of_groups
        self.n_kept = n_kept
        self.watch = watch
        self.drowned = drowned
        self._cache: StemCache | None = None
        self._held_out: list[tuple[torch.Tensor, ...]] = []

    @property
    def cached_bytes(self) -> int:
        """Memory of the features that are computed once."""
        return 2 * self.n_kept * len(self.data) * math.prod(self.data.input_shape)

    def prepare(self, block: int, generator: torch.Generator, check: Callable[[], None]) -> None:
        """Compute the features that are kept, before the first step.

        Parameters
        ----------
        block : int
            Samples of which views are drawn at once, as in a step.
        generator : torch.Generator
            Source of the views.
        check : callable
            Called for each block; may raise, which ends the computation.
        """
        if self.n_kept:

            def draw(places: torch.Tensor) -> torch.Tensor:
                check()
                index = places if self.data.index is None else self.data.index[places]
                if not self.n_views:
                    return self.data.inputs(self.data.clean(self._raw(index)))
                return self._views(self._with_views(index), generator, n_views=at_once)

            at_once = self.n_given if self.n_given and self.n_views else 1
            order = torch.Generator().manual_seed(generator.initial_seed())
            self._cache = StemCache(draw, len(self.data), self.n_kept, block, order, at_once)
        if not self.n_views:
            self.data.kept_inputs = None if self._cache is None else self._cache.values[:, 0]
        elif self.data.has_stem:
            self._fit_whitening(generator, check)
        if self.watch and self._cache is not None:
            self.watch = False
            views = self._cache.values[:block, :2].float().unbind(1)
            _warn_of_equal_views(views, are_given=bool(self.n_given))

    def _fit_whitening(self, generator: torch.Generator, check: Callable[[], None]) -> None:
        """Fit the part of the stem that goes by views, and bring those that are kept up to date."""
        assert self.data.stem is not None
        for module in self.data.stem.modules():
            if not isinstance(module, ViewWhitening) or module.is_fitted:
                continue
            if self._cache is not None and shortcut_of(self.data.stem) is self.data.stem:
                module.fit(self._cache.values)
                self._cache.apply(module)
                continue
            # Some samples, since whatever is not kept has to be computed for this alone.
            views = []
            for drawn, n_views in self._some_views(generator):
                check()
                views.append(torch.stack(drawn.chunk(n_views), dim=1))
            module.fit(torch.cat(views))

    def _some_views(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield views of some samples, and how many of each."""
        data = self.data
        if self.n_given:
            given = some_views(data.rows, data.index, _WHITENED_SAMPLES, data.reference_seed)
            n_views = min(self.n_given, _WHITENED_VIEWS)
            for part in given.split(_WHITENED_AT_ONCE):
                raw = data.to_device(part)
                yield self._views(raw, generator, n_views, data.stem_features), n_views
            return
        for part in data.reference_rows()[:_WHITENED_SAMPLES].split(_WHITENED_AT_ONCE):
            unit = data.standardize.denormalize(part)
            views = self._views_of(unit, generator, _WHITENED_VIEWS, data.stem_features)
            yield views, _WHITENED_VIEWS

    def release(self) -> None:
        """Free what was computed once."""
        self._cache = self.data.kept_inputs = None
        self._held_out = []

    def make(self, item: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return a batch of samples that are trained on.

        Parameters
        ----------
        item : Tensor
            Numbers of the samples; for a stream, raw samples.
        generator : torch.Generator
            Source of the views and of an objective's draws.
        """
        if self.data.is_stream:
            return self._drawn(item, None, generator)
        if self._cache is None:
            return self._drawn(self._with_views(item), item, generator)
        if self.pairs_of_groups:
            each = [self.data.places(i) for i in (item, *self._partners(item, generator))]
            kept = tuple(self._cache.views(places, 1, generator)[0] for places in each)
        else:
            kept = self._cache.views(self.data.places(item), max(self.n_views, 1), generator)
        if self.n_views:
            return self._batch(functools.partial(self._raw, item), item, kept, generator)
        return Batch(
            lambda: self.data.clean(self._raw(item)),
            item,
            (),
            generator,
            lambda: kept[0],
            groups=self._groups(item),
        )

    def held_out(self, samples: HeldOut, batch_size: int, seed: int) -> Iterator[tuple[int, Batch]]:
        """Iterate over batches of held-out samples and their sizes, on the same views each time.

        Parameters
        ----------
        samples : HeldOut
            The held-out samples.
        batch_size : int
            Samples in a batch.
        seed : int
            Seed of the views and of an objective's draws.
        """
        generator = torch.Generator(self.data.device).manual_seed(seed)
        n_values = len(samples) * self.n_views * math.prod(self.data.input_shape)
        parts = samples.parts(batch_size)
        if not self.data.has_stem or 4 * n_values > CACHE_BYTES:
            for raw, index, n in parts:
                yield n, self._drawn(self._given_or(raw, index), index, generator)
            return
        if not self._held_out:
            self._held_out = [
                self._drawn(self._given_or(raw, index), index, generator).views
                for raw, index, _ in samples.parts(batch_size)
            ]
        # An objective's draws come after those of all views here, in the first epoch too.
        generator.manual_seed(seed)
        for (raw, index, n), views in zip(parts, self._held_out, strict=True):
            yield n, self._batch(raw, index, views, generator)

    def _raw(self, index: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.data.rows, Rows)
        return self.data.to_device(self.data.rows.take(index))

    def _with_views(self, index: torch.Tensor) -> torch.Tensor:
        """Return raw samples, or all views that are given of them."""
        assert isinstance(self.data.rows, Rows)
        return self.data.to_device(self.data.rows.views(index))

    def _given_or(
        self, raw: Callable[[], torch.Tensor], index: torch.Tensor | None
    ) -> torch.Tensor:
        """Return held-out samples, or all views that X gives of them."""
        return raw() if index is None or not self.n_given else self._with_views(index)

    def _drawn(
        self, raw: torch.Tensor, index: torch.Tensor | None, generator: torch.Generator
    ) -> Batch:
        """Return a batch whose views are drawn in one call: one draw per sample and view."""
        raw = self.data.to_device(raw)
        views: tuple[torch.Tensor, ...] = ()
        if self.n_views:
            drawn_of, n_views = raw, self.n_views
            if self.pairs_of_groups and index is not None:
                others = self._partners(index, generator)
                drawn_of, n_views = torch.cat((raw, *map(self._raw, others))), 1
            views = self._views(drawn_of, generator, n_views).chunk(self.n_views)
            if self.watch:
                self.watch = False  # only once, since comparing waits for the device
                _warn_of_equal_views(views, are_given=bool(self.n_given))
        return self._batch(lambda: raw[:, 0] if self.n_given else raw, index, views, generator)

    def _batch(
        self,
        raw: Callable[[], torch.Tensor],
        index: torch.Tensor | None,
        views: tuple[torch.Tensor, ...],
        generator: torch.Generator,
    ) -> Batch:
        def samples() -> torch.Tensor:
            return self.data.clean(raw())

        return Batch(
            samples,
            index,
            views,
            generator,
            lambda: self.data.inputs(samples()),
            groups=self._groups(index),
        )

    def _groups(self, index: torch.Tensor | None) -> torch.Tensor | None:
        """Return the groups of some samples, on the device; None where they have none."""
        if self.data.groups is None or index is None:
            return None
        return self.data.groups.of(index).to(self.data.device)

    def _partners(self, index: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
        """Draw other samples of the groups of some samples, for each view but the first."""
        assert self.data.groups is not None
        return [self.data.groups.partners(index, generator) for _ in range(self.n_views - 1)]

    def _views(
        self,
        raw: torch.Tensor,
        generator: torch.Generator,
        n_views: int,
        encode: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return views of raw samples, one view after the other, as what is trained takes them.

        With `encode`, as that makes them.
        """
        if self.n_given:
            raw, n_views = chosen_views(raw, n_views, generator), 1
        with autocast_off(self.data.device):
            return self._views_of(self.data.standardize.unit(raw), generator, n_views, encode)

    def _views_of(
        self,
        unit: torch.Tensor,
        generator: torch.Generator,
        n_views: int,
        encode: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return views of samples that are as views take them."""
        with autocast_off(self.data.device):
            unit = self.pieces(unit)
            if n_views > 1:
                unit = torch.cat((unit,) * n_views)  # repeat takes three times as long
            if self.augment is not None:
                # A search for missing values in each view would only find what is known.
                complete = self.data.where_missing is None
                with known_as_complete() if complete else contextlib.nullcontext():
                    unit = _augmented(self.augment, unit, generator)
            normalized = self.data.standardize.normalize(unit)
            return (encode or self.data.inputs)(normalized.contiguous())


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


def _warn_of_equal_views(views: tuple[torch.Tensor, ...], *, are_given: bool) -> None:
    first = views[0]
    if len(views) < 2 or len(first) < _ENOUGH_SAMPLES or bool((first == first[:1]).all()):
        return
    if not all(torch.equal(first, view) for view in views[1:]):
        return
    if are_given:
        warnings.warn(
            "The views that X gives are equal for all samples of the first batch, so that training "
            "teaches no invariance.",
            stacklevel=2,
        )
    else:
        warnings.warn(
            "The 'augment' parameter gave equal views of all samples in the first batch, so that "
            "training teaches no invariance. It changes nothing, or draws once for the whole "
            "batch; draw for each sample of x, as those of sslearn.augment do.",
            stacklevel=2,
        )
