"""Optimizers, by name or from the caller."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from .._calls import call

__all__ = [
    "LARS",
    "NOTHING_MOVES",
    "make_optimizer",
    "parameter_groups",
]

NOTHING_MOVES = (
    "There is nothing to train: all parameters of the encoder and of the heads are frozen"
)

# Normalisation layers, whose weights may have several axes; the last are batch and instance norms.
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)


class LARS(Optimizer):
    """SGD with momentum and a learning rate per layer (You et al. 2017, arXiv 1708.03888).

    The step of each weight is scaled by trust * |weight| / |gradient + decay * weight|. Groups
    with ``lars=False`` (biases and normalisation layers) are plain SGD with momentum.

    Parameters
    ----------
    params : iterable
        Parameters or groups.
    lr, momentum, weight_decay, trust : float
        ``trust`` is eta of the paper.
    """

    def __init__(
        self,
        params,
        lr: float = 0.3,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "lars": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = [p.grad for p in parameters]
            if group["weight_decay"]:
                gradients = list(
                    torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
                )
            if group["lars"]:
                weights = torch.stack(torch._foreach_norm(parameters))
                steps = torch.stack(torch._foreach_norm(gradients))
                ratio = torch.where(
                    (weights > 0) & (steps > 0),
                    group["trust"] * weights / steps.clamp_min(1e-30),
                    torch.ones_like(weights),
                )
                gradients = list(torch._foreach_mul(gradients, list(ratio.unbind())))
            moments = []
            for parameter in parameters:
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                moments.append(state["momentum"])
            torch._foreach_mul_(moments, group["momentum"])
            torch._foreach_add_(moments, gradients)
            torch._foreach_add_(parameters, moments, alpha=-group["lr"])
        return loss


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the parameters that can move: weights, and biases and norms, which do not decay."""
    exempt = {
        id(parameter)
        for owner in module.modules()
        for name, parameter in owner.named_parameters(recurse=False)
        if isinstance(owner, _NORMS) or parameter.ndim <= 1 or "bias" in name.split("_")
    }
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (plain if id(parameter) in exempt else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0, "lars": False},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(
    optimizer: str | Callable[[Iterable], Optimizer],
    groups: list[dict],
    learning_rate: float,
    *,
    fused: bool = True,
) -> Optimizer:
    """Make the optimizer that the ``optimizer`` parameter asks for; every group has its rate."""
    if not groups:
        raise ValueError(f"{NOTHING_MOVES}.")
    groups = [{**group, "lr": learning_rate} for group in groups]
    if optimizer == "lars":
        return LARS(groups, lr=learning_rate)
    groups = [{k: v for k, v in group.items() if k != "lars"} for group in groups]
    if callable(optimizer):
        words = (
            "is called with parameter groups, which hold learning rate and decay, and must return "
            "a torch.optim.Optimizer"
        )
        made = call(optimizer, "optimizer", groups, words=words)
        if not isinstance(made, Optimizer):
            raise TypeError(
                f"The 'optimizer' parameter {words}. Got {type(made).__name__} instead."
            )
        closure = inspect.signature(made.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise ValueError(
                f"The 'optimizer' parameter {words}, whose step() is called without a closure. Got "
                f"{type(made).__name__}, which needs one."
            )
        known = {id(p) for group in groups for p in group["params"]}
        if not all(id(p) in known for group in made.param_groups for p in group["params"]):
            raise ValueError(
                "The 'optimizer' parameter must return an optimizer of the parameter groups that "
                "it is called with. Got one of other parameters."
            )
        return made
    # Fused: one kernel for all parameters, three to four times faster than a loop over them.
    if optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)
    if optimizer == "adam":
        return torch.optim.Adam(groups, lr=learning_rate, fused=fused)
    return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, fused=fused)
