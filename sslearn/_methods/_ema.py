"""A copy of a network that follows it slowly: BYOL's target, MoCo's key encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn

from .._calls import call
from .._modules import copy_module
from .._sklearn import Interval, StrOptions

__all__ = ["DECAY", "DECAY_END", "DECAY_SCHEDULE", "DECAY_STEPS", "MomentumCopy"]

# Constraints of the parameters of an estimator that give a momentum copy.
DECAY = [Interval(Real, 0, 1, closed="both"), callable]
DECAY_END = [Interval(Real, 0, 1, closed="both")]
DECAY_SCHEDULE = [StrOptions({"constant", "cosine", "cyclic"})]
DECAY_STEPS = [Interval(Integral, 1, None, closed="left"), None]


class MomentumCopy(nn.Module):
    """An exponential moving average of a module's weights.

    It starts as a copy of the module. Only weights are averaged. Batch statistics are the copy's
    own: it normalises by those of the current batch in training, as in BYOL's and MoCo's
    papers, and its running ones are used for a validation loss only.

    Parameters
    ----------
    module : nn.Module
        The module that is followed. Its frozen weights are never updated.
    decay : float or callable
        tau_0 (BYOL) or m (MoCo), in [0, 1]: weight of the old values in an update. A callable takes
        (step, n_steps), 0-based, and returns the weight of that update.
    schedule : {"constant", "cosine", "cyclic"}, default="constant"
        "cosine": tau_k = tau_1 - (tau_1 - tau_0) (cos(pi k / K) + 1) / 2 in the update after
        optimizer step k of K, k from 0; the last is tau_{K-1}, before tau_1. "cyclic": the same
        with 2 pi, from tau_0 to tau_1 and back in K steps, again and again.
    end : float, default=1.0
        tau_1.
    steps : int, default=None
        K. If None, all steps of the training. "cosine" stays at tau_1 after them.
    name : str, default="decay"
        Name of the estimator's parameter that gives `decay`, for messages.

    Examples
    --------
    >>> import torch
    >>> from sslearn.base import MomentumCopy
    >>> online = torch.nn.Linear(2, 1)
    >>> target = MomentumCopy(online, decay=0.75)
    >>> with torch.no_grad():
    ...     _ = online.weight.zero_()
    >>> before = target.module.weight.clone()
    >>> target.follow(step=0, n_steps=10)  # in Objective.after_step
    >>> bool(torch.allclose(target.module.weight, 0.75 * before))
    True
    """

    def __init__(
        self,
        module: nn.Module,
        decay: float | Callable[[int, int], float],
        schedule: str = "constant",
        *,
        end: float = 1.0,
        steps: int | None = None,
        name: str = "decay",
    ) -> None:
        super().__init__()
        self.module = copy_module(module)
        self.decay = decay
        self.schedule = schedule
        self.end = end
        self.steps = steps
        self.name = name
        # Plain lists, which register nothing: walking a module's tree at every step takes longer
        # than the update of a small one.
        pairs = zip(module.parameters(), self.module.parameters(), strict=True)
        moving = [(followed, own) for followed, own in pairs if followed.requires_grad]
        self._followed: list[torch.Tensor] = [followed for followed, _ in moving]
        self._own: list[torch.Tensor] = [own for _, own in moving]
        self.module.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)

    def decay_at(self, step: int, n_steps: int) -> float:
        """Return tau of the update after an optimizer step (0-based)."""
        if callable(self.decay):
            return self._own_decay(self.decay, step, n_steps)
        if self.schedule == "constant":
            return self.decay
        cycles = step / (n_steps if self.steps is None else self.steps)
        angle = 2 * math.pi * cycles if self.schedule == "cyclic" else math.pi * min(cycles, 1.0)
        return self.end - (self.end - self.decay) * (math.cos(angle) + 1) / 2

    def _own_decay(self, decay: Callable[[int, int], float], step: int, n_steps: int) -> float:
        words = (
            "is called with (step, n_steps) and must return the weight of the old values, a number "
            "in [0, 1]"
        )
        given = call(decay, self.name, step, n_steps, words=words)
        try:
            found = math.nan if isinstance(given, str) else float(given)
        except (TypeError, ValueError):
            found = math.nan
        if not 0 <= found <= 1:
            raise ValueError(
                f"The '{self.name}' parameter {words}. Got {given!r} at step {step} of {n_steps}."
            )
        return found

    @torch.no_grad()
    def follow(self, step: int, n_steps: int) -> None:
        """Move towards the followed module, after an optimizer step, in one operation."""
        torch._foreach_lerp_(self._own, self._followed, 1 - self.decay_at(step, n_steps))
