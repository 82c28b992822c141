"""Records of a training, early stopping, and errors that end a training."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import nn

__all__ = ["Diverged", "EpochListener", "History", "Interrupted", "Patience", "RunningLoss"]


@dataclass
class History:
    """Records of a training, apart from the weights."""

    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    rank_curve: list[tuple[int, float, float]] = field(default_factory=list)
    batch_size: int = 0
    learning_rate: float = 0.0
    n_steps: int = 0
    interrupted: str | None = None
    collapse: str | None = None

    def measured(self, epoch: int) -> dict[str, float]:
        """Return the measurements of an epoch, by the names that callbacks and loggers see."""
        found = {"loss": self.loss_curve[-1]}
        if self.validation_loss_curve:
            found["validation_loss"] = self.validation_loss_curve[-1]
        measured_at, rank, _ = self.rank_curve[-1]
        if measured_at == epoch:
            found["effective_rank"] = rank
        return found


class RunningLoss:
    """Sum of the losses of the current epoch, on the device: reading it waits for the device.

    Attributes
    ----------
    mean : float
        Mean loss, as of the last reading.
    count : int
        Losses in the sum.
    """

    # Seconds between two readings, at least.
    _PAUSE = 0.25

    def __init__(self, device: torch.device) -> None:
        self.mean = math.nan
        self.count = 0
        self._total = torch.zeros((), dtype=torch.float64, device=device)
        self._last_read = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it has not been read for a while."""
        return time.monotonic() - self._last_read > self._PAUSE

    def add(self, loss: torch.Tensor) -> None:
        """Add the loss of a step."""
        self._total += loss.detach()
        self.count += 1

    def read(self) -> float:
        """Return the sum."""
        total = float(self._total)
        self._last_read = time.monotonic()
        self.mean = total / max(1, self.count)
        return total

    def reset(self) -> None:
        """Begin an epoch; the mean of the last one stays until the first reading."""
        self._total.zero_()
        self.count = 0


class EpochListener:
    """Listens to the epochs of a training; by default it does nothing."""

    def begin_epoch(self) -> None:
        """Hear that an epoch begins."""

    def end_epoch(self, history: History) -> bool:
        """Hear that an epoch has ended; True ends the training."""
        return False

    def scores(self, epoch: int) -> dict[str, float]:
        """Return scores of the features after an epoch, by name."""
        return {}


class Interrupted(Exception):
    """The end of a training that a signal has requested, raised through Lightning."""


class Diverged(ValueError):
    """The loss is NaN or infinite."""

    @classmethod
    def in_epoch(cls, epoch: int, loss: float, settings, learning_rate: float) -> Diverged:
        """Return the error, with what to change first."""
        return cls(
            f"The loss of {settings.name} became {'nan' if math.isnan(loss) else 'infinite'} in "
            f"epoch {epoch} of {settings.max_epochs}. If X holds extreme values, scale it "
            f"first; otherwise lower learning_rate (it is {learning_rate:g}) or raise "
            f"warmup_fraction (it is {settings.warmup_fraction:g})."
        )


class Patience:
    """Early stopping: keeps the best weights, and says when to stop.

    Parameters
    ----------
    n_iter_no_change : int or None
        Epochs without improvement after which to stop. If None, training does not stop early and
        no weights are kept.
    """

    def __init__(self, n_iter_no_change: int | None) -> None:
        self.limit = n_iter_no_change
        self.best = float("inf")
        self.waited = 0
        self.weights: dict[str, torch.Tensor] | None = None

    def update(self, loss: float, module: nn.Module) -> bool:
        """Note the loss after an epoch; True when it is time to stop."""
        if self.limit is None:
            return False
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.limit

    def restore(self, module: nn.Module) -> bool:
        """Load the best weights, and return whether there are any."""
        if self.weights is not None:
            module.load_state_dict(self.weights)
        return self.weights is not None
