"""A copy of a network that follows it slowly: BYOL's target, MoCo's key encoder."""

from __future__ import annotations

import math

import torch
from torch import nn

from .._modules import copy_module

__all__ = ["MomentumCopy"]


class MomentumCopy(nn.Module):
    """An exponential moving average of a module's weights.

    It starts as a copy of the module. Only weights are averaged. Batch statistics are the copy's
    own: it normalises by those of the current batch in training, as in BYOL's and MoCo's
    papers, and its running ones are used for a validation loss only.

    Parameters
    ----------
    module : nn.Module
        The module that is followed. Its frozen weights are never updated.
    decay : float
        tau_0 (BYOL) or m (MoCo), in [0, 1]: weight of the old values in an update.
    schedule : {"cosine", "constant"}, default="constant"
        "cosine": tau_k = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2 in the update after optimizer
        step k of K, k from 0; the last is tau_{K-1}, below 1.

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

    def __init__(self, module: nn.Module, decay: float, schedule: str = "constant") -> None:
        super().__init__()
        self.module = copy_module(module)
        self.decay = decay
        self.schedule = schedule
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
        if self.schedule == "constant":
            return self.decay
        return 1 - (1 - self.decay) * (math.cos(math.pi * step / n_steps) + 1) / 2

    @torch.no_grad()
    def follow(self, step: int, n_steps: int) -> None:
        """Move towards the followed module, after an optimizer step, in one operation."""
        torch._foreach_lerp_(self._own, self._followed, 1 - self.decay_at(step, n_steps))
