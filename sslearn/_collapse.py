"""Watches, while an objective is trained, whether its features still tell rows apart."""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F

from ._data import sample_rows
from ._objective import Objective
from ._training_data import TrainingData
from .metrics import effective_rank

__all__ = ["RankCurve"]

# The part of the training time that looking may take.
_SHARE = 0.01
# Features have collapsed when they use fewer directions than this part of what the untrained
# encoder used: healthy ones were seen down to a fifth of it, on rows of few kinds.
_RANK_LEFT = 0.1
# Or when unit vectors spread by less than this part of 1 / sqrt(d), the spread of those that point
# everywhere in d dimensions, and use less than that part of the directions: they are then one and
# the same. Means over many patches spread little from the start, without any collapse.
_SPREAD_LEFT, _RANK_LEFT_TOO = 0.1, 0.3


class RankCurve:
    """Effective rank and spread of the features of a fixed sample, every few epochs.

    Parameters
    ----------
    objective : Objective
        What is trained, on the device of the data.
    data : TrainingData
        What the sample is taken from.
    seed : int
        Of the sample.

    Attributes
    ----------
    points : list of (int, float, float)
        Epoch (0: before the first), effective rank, and mean over the features of the standard
        deviation over the rows, after those of each row were normalised to unit length.
    """

    def __init__(self, objective: Objective, data: TrainingData, seed: int) -> None:
        self.features = objective.features
        self.devices = [data.device.index or 0] if data.device.type == "cuda" else []
        generator = torch.Generator().manual_seed(seed)
        self.sample = data.sample(sample_rows(data.sample_shape), generator)
        self.points: list[tuple[int, float, float]] = []
        self.width = 1
        self._begun = time.monotonic()
        self.look(0)
        self._cost = time.monotonic() - self._begun
        self._every = 0

    def end_epoch(self, epoch: int) -> None:
        """Look, if enough has been trained for a look to cost little."""
        if not self._every:
            seconds = max(time.monotonic() - self._begun - self._cost, 1e-9)
            self._every = math.ceil(self._cost / (_SHARE * seconds))
        if epoch % self._every == 0:
            self.look(epoch)

    def end(self, epoch: int, *, restored: bool = False) -> None:
        """Look after the last epoch, at the weights that are kept (`restored`: earlier ones)."""
        known = self.points[-1][0] == epoch
        if known and restored:
            del self.points[-1]
        if restored or not known:
            self.look(epoch)

    @torch.no_grad()
    def look(self, epoch: int) -> None:
        """Add a point. Leaves the features in eval mode: a phase sets modes when it begins."""
        # An encoder may draw in eval mode too, and how often this looks depends on the clock.
        with torch.random.fork_rng(self.devices):
            features = self.features.eval()(self.sample).flatten(1)
        features = F.normalize(features.double(), dim=1).cpu()
        self.width = features.shape[1]
        rank = spread = math.nan
        if bool(features.isfinite().all()):
            rank = effective_rank(features.numpy())
            spread = float(features.std(dim=0, correction=0).mean())
        self.points.append((epoch, rank, spread))

    @property
    def collapsed(self) -> bool:
        """Whether training has made the features nearly the same for all rows."""
        (_, first, _), *_, (_, rank, spread) = self.points
        rows_differ = bool((self.sample != self.sample[:1]).any())
        alike = spread < _SPREAD_LEFT / math.sqrt(self.width) and rank < _RANK_LEFT_TOO * first
        return rows_differ and (rank < _RANK_LEFT * first or alike)
