"""Losses see float32 at least, whatever the precision of their input."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

__all__ = ["averaged_over_targets", "in_full_precision", "promote"]


def in_full_precision(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Compute a loss of two tensors of the same shape (n, d) in float32 at least, autocast off."""
    return _checked(loss, most_axes=2)


def averaged_over_targets(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """As :func:`in_full_precision`, also for tensors (k, n, d): k targets at once."""
    return _checked(loss, most_axes=3)


def _checked(loss: Callable[..., torch.Tensor], most_axes: int) -> Callable[..., torch.Tensor]:
    @functools.wraps(loss)
    def checked(a: torch.Tensor, b: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if a.shape != b.shape or not 2 <= a.ndim <= most_axes:
            raise ValueError(
                f"{loss.__name__} needs two projections of the same shape (n, d). "
                f"Got {tuple(a.shape)} and {tuple(b.shape)} instead."
            )
        with torch.autocast(a.device.type, enabled=False):
            return loss(*promote(a, b), *args, **kwargs)

    return checked


def promote(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Cast to one dtype that holds them all, float32 at least."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)
    return [t.to(dtype) for t in tensors]
