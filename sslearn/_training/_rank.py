"""Monitors during training whether the features still distinguish samples."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .._data._rows import sample_rows
from .._data._training_data import TrainingData
from .._objective import Objective
from ..metrics import effective_rank
from ._settings import Settings

__all__ = ["RankMonitor", "collapse_message"]

# Share of the training time that measuring may take. Times are estimated from shapes, in
# operations: those of a clock would make two equal fits differ.
_SHARE = 0.01
# Cost of a step or a measurement in addition to its products, in operations: about a millisecond.
# And how many times faster a GPU computes products; work on the CPU stays as it is.
_OVERHEAD, _GPU_SPEED = 25e6, 100
# A backward pass costs as much as two forward passes.
_PASSES = 3
# Features have collapsed when they use fewer directions than this part of what the untrained
# encoder used: healthy ones were seen down to a fifth of it, on rows of few kinds.
_RANK_LEFT = 0.1
# Or when unit vectors spread by less than this part of 1 / sqrt(d), the spread of those that point
# everywhere in d dimensions, and use less than that part of the directions: they are then one and
# the same. Means over many patches spread little from the start, without any collapse.
_SPREAD_LEFT, _RANK_LEFT_TOO = 0.1, 0.3


class _Products(TorchDispatchMode):
    """Counts the operations of products and convolutions; thread-local, unlike hooks on modules."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=output)
        return output


class RankMonitor:
    """Effective rank and spread of the features of a fixed sample, every few epochs.

    Parameters
    ----------
    objective : Objective
        The objective that is trained, on the device of the data.
    data : TrainingData
        Source of the sample.
    seed : int
        Seed of the sample.
    n_steps, batch_size : int, float
        Steps in an epoch, and samples in a step.

    Attributes
    ----------
    points : list of (int, float, float)
        Epoch (0: before the first), effective rank, and mean over the features of the standard
        deviation over the samples, after the features of each sample were normalised to unit
        length.
    """

    def __init__(
        self,
        objective: Objective,
        data: TrainingData,
        seed: int,
        n_steps: int,
        batch_size: float,
    ) -> None:
        self.features = objective.features
        self.devices = [data.device.index or 0] if data.device.type == "cuda" else []
        generator = torch.Generator().manual_seed(seed)
        self.sample = data.inputs(data.sample(sample_rows(data.sample_shape), generator))
        self.points: list[tuple[int, float, float]] = []
        self.width = 1
        products = _Products()
        with products:
            features = self._forward()
        self._add(0, features)
        forward = products.operations / (_GPU_SPEED if self.devices else 1)
        n = len(self.sample)
        short, long = sorted((n, self.width))
        # The Gram matrix, and its eigenvalues.
        cost = _OVERHEAD + forward + 2 * short**2 * long + 12 * short**3
        passes = _PASSES * max(objective.n_views, 1) * batch_size / n
        self._every = math.ceil(cost / (_SHARE * n_steps * (_OVERHEAD + passes * forward)))

    def end_epoch(self, epoch: int) -> None:
        """Measure, if enough has been trained for it to cost little."""
        if epoch % self._every == 0:
            self.look(epoch)

    def end(self, epoch: int, *, restored: bool = False) -> None:
        """Look after the last epoch, at the weights that are kept (`restored`: earlier ones)."""
        known = self.points[-1][0] == epoch
        if known and restored:
            del self.points[-1]
        if restored or not known:
            self.look(epoch)

    def look(self, epoch: int) -> None:
        """Add a point. Leaves the features in eval mode: a phase sets modes when it begins."""
        self._add(epoch, self._forward())

    @torch.no_grad()
    def _forward(self) -> torch.Tensor:
        # An encoder may draw in eval mode too.
        with torch.random.fork_rng(self.devices):
            return self.features.eval()(self.sample).flatten(1).detach()

    def _add(self, epoch: int, features: torch.Tensor) -> None:
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


def collapse_message(
    curve: list[tuple[int, float, float]],
    settings: Settings,
    learning_rate: float,
    drowned: str | None,
) -> str:
    """Return the warning of a collapse, with what to change first.

    Parameters
    ----------
    curve : list of (int, float, float)
        Epoch, effective rank and spread; the first before training.
    settings : Settings
        Parameters shared by all estimators.
    learning_rate : float
        Highest rate of the schedule.
    drowned : str or None
        Signals that the noise of the views drowns, in words.
    """
    (_, before, _), *_, (epoch, rank, spread) = curve
    remedy = (
        f"In X {drowned} by less than the noise of the views: scale X first, or weaken the "
        "augmentation"
        if drowned
        else "Weaken the augmentation if two views of a sample have nothing in common, lower "
        f"learning_rate (it is {learning_rate:g}) or raise warmup_fraction (it is "
        f"{settings.warmup_fraction:g})"
    )
    return (
        f"The representation of {settings.name} has collapsed: after epoch {epoch} the features "
        f"of all samples are nearly alike (effective rank {rank:.1f}, {before:.1f} before "
        f"training; standard deviation {spread:.2g} at unit length). {remedy}; "
        "embedding_rank_curve_ shows when it happened."
    )
