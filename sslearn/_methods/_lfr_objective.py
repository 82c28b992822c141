"""The objective of LFR: an encoder, and predictors of the outputs of random networks."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn

from .._modules import Features
from .._objective import Batch, Objective
from ._heads import ParallelHeads
from ._lfr_projectors import calibrated_outputs
from ._lfr_row_cache import RowCache
from ._lfr_selection import most_diverse

__all__ = ["LFRObjective"]

# Calls between `fit` and `prepare`, for a warning in the name of whoever called `fit`.
_TO_THE_CALLER = 8


class LFRObjective(Objective):
    """Encoder, frozen projectors, and the predictors of their outputs.

    Parameters
    ----------
    encoder : nn.Module
        The encoder.
    adapter : Features
        Between its features and the predictors.
    candidates : list of Features
        Projectors to choose from.
    make_predictors : callable
        Returns the predictors of targets whose widths it gets.
    compare : callable
        The loss of predictions and targets.
    at_once : bool
        Whether `compare` takes several targets of one width.
    in_pairs : bool
        Whether `compare` compares different samples, and takes their groups.
    phases : tuple of str
        "encoder" or "joint", then "predictors" as often as they have passes of their own.
    n_targets : int or None
        Candidates to choose. If None, all.
    selection_batch_size : int
        Samples on which candidates are compared.
    max_encoder_steps : int or None
        Steps of the encoder after which training ends.
    """

    n_views = 0

    def __init__(
        self,
        encoder: nn.Module,
        adapter: Features,
        candidates: list[Features],
        make_predictors: Callable[..., ParallelHeads],
        compare: Callable[..., torch.Tensor],
        at_once: bool,
        in_pairs: bool,
        phases: tuple[str, ...],
        n_targets: int | None,
        selection_batch_size: int,
        max_encoder_steps: int | None,
    ) -> None:
        super().__init__(encoder)
        self.adapter = adapter
        self.projectors = nn.ModuleList(candidates).requires_grad_(False)
        self.make_predictors = make_predictors
        self.compare = compare
        self.at_once = at_once
        self.in_pairs = in_pairs
        self.phases = phases
        self.n_targets = n_targets
        self.selection_batch_size = selection_batch_size
        self.max_encoder_steps = max_encoder_steps
        self.chosen = np.arange(len(candidates))
        self.kernel: np.ndarray | None = None
        self.frozen_encoder = False  # True in phases of the predictors
        self._features: RowCache | None = None

    @torch.no_grad()
    def prepare(self, data, generator: torch.Generator) -> None:
        """Choose the targets, compute them once, and make their predictors."""
        self.projectors.eval()
        # Every candidate sees the same samples, so that outputs can be compared.
        sample = data.sample(self.selection_batch_size, generator)
        outputs = calibrated_outputs(self.projectors, sample)
        n_candidates = len(outputs)
        # The k most diverse by a determinantal point process, section 3 of the paper.
        if self.n_targets is not None:
            self.chosen, self.kernel, n_different = most_diverse(outputs, self.n_targets)
            if n_different < self.n_targets:
                warnings.warn(
                    f"Only {n_different} of the {self.n_targets} targets of LFR (n_targets) differ "
                    f"on the {len(sample)} training samples on which the candidates are compared "
                    "(selection_batch_size); the others are candidates that add nothing new. Pass "
                    "projectors that differ more, raise selection_batch_size or lower n_targets.",
                    stacklevel=_TO_THE_CALLER,
                )
            candidates = list(self.projectors)
            self.projectors = nn.ModuleList([candidates[i] for i in self.chosen])
        widths = [outputs[i].shape[1] for i in self.chosen]
        self.at_once &= len(set(widths)) == 1
        self.predictors = self.make_predictors(
            widths, chosen=self.chosen.tolist(), n_candidates=n_candidates
        ).to(sample.device)
        # Dropout that stays active, or other randomness: targets then differ at each call.
        again = [projector(sample) for projector in self.projectors]
        same = all(torch.equal(outputs[i], again[j]) for j, i in enumerate(self.chosen))
        self.targets = RowCache(data, self._project, sum(widths), deterministic=same)

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([projector(x) for projector in self.projectors], dim=1)

    def _encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.adapter(self.encoder(x))

    def start_phase(self, phase: str, data) -> Iterable[nn.Parameter] | None:
        self.train()
        self.frozen_encoder = phase == "predictors"
        if not self.frozen_encoder:
            # The encoder moves again, so features that were looked up are out of date.
            self._features = None
            return (
                None
                if phase == "joint"
                else [*self.encoder.parameters(), *self.adapter.parameters()]
            )
        # Frozen in these passes, features are the same in each: computed once for all of them.
        self.encoder.eval()
        self.adapter.eval()
        if self._features is None:
            self._features = RowCache(data, self._encode, self.adapter.width, of_samples=False)
        return self.predictors.parameters()

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        targets = self.targets(batch, trained_on=self.training)
        if self.frozen_encoder and self._features is not None:
            h = self._features(batch, trained_on=self.training)
        else:
            h = self._encode(batch.x)
        predictions, widths = self.predictors(h), self.predictors.widths
        compare = self.compare
        if self.in_pairs and batch.groups is not None:
            compare = functools.partial(compare, groups=batch.groups)
        if self.at_once:
            # All targets in one call: k small losses take most of their time to start.
            each = (x.unflatten(1, (len(widths), -1)) for x in (predictions, targets))
            return compare(*(x.transpose(0, 1) for x in each))  # (k, n, d)
        pairs = zip(predictions.split(widths, 1), targets.split(widths, 1), strict=True)
        return torch.stack([compare(p, z) for p, z in pairs]).mean()

    def outputs(self, batch):
        adapted = self._encode(batch.x)
        return {
            "features": self.encoder(batch.x),
            "adapted": adapted,
            "predictions": list(self.predictors(adapted).split(self.predictors.widths, 1)),
            "targets": [projector(batch.samples) for projector in self.projectors],
        }

    def release(self) -> None:
        # Caches lead to the data, and what makes predictors to the estimator.
        del self.targets, self._features, self.make_predictors

    def train(self, mode: bool = True) -> LFRObjective:
        """Set the mode; projectors never change, so they stay in eval mode."""
        super().train(mode)
        self.projectors.eval()
        return self

    def max_steps(self, steps_per_phase: int) -> int | None:
        """Return where training ends: with the last of ``max_encoder_steps``."""
        if self.max_encoder_steps is None:
            return None
        # An epoch has one phase of the encoder, and as many steps for each of the predictors.
        epochs, rest = divmod(self.max_encoder_steps - 1, steps_per_phase)
        return epochs * steps_per_phase * len(self.phases) + rest + 1
