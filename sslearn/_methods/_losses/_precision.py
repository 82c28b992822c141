"""Losses see float32 at least, whatever the precision of their input."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

__all__ = ["averaged_over_targets", "in_full_precision", "promote"]


def in_full_precision(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Decorate a loss so that it is computed in float32 at least, with autocast off.

    In half precision a similarity that is divided by a small temperature keeps two digits.

    Parameters
    ----------
    loss : callable
        Function of two tensors of the same shape (n, d), and more arguments.

    Returns
    -------
    callable
        The loss, which also checks the two shapes.

    Examples
    --------
    >>> import torch
    >>> from sslearn.base import in_full_precision
    >>> @in_full_precision
    ... def squared_distance(a, b):
    ...     return (a - b).square().sum(1).mean()
    >>> a = torch.zeros(4, 3, dtype=torch.bfloat16)
    >>> squared_distance(a, a).dtype
    torch.float32
    """
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
