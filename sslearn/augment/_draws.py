"""Random numbers, one draw per sample, and the windows made from them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["chance", "integers", "normal", "uniform", "window_positions"]

# All draws are made in float32 and then cast, so that one seed gives one view in every precision.


def uniform(
    x: Tensor,
    *shape: int,
    low: float = 0.0,
    high: float = 1.0,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw numbers from [low, high), of the given shape for each sample of `x`."""
    draw = torch.rand(len(x), *shape, generator=generator, device=x.device)
    return draw.mul_(high - low).add_(low).to(x.dtype)


def normal(x: Tensor, *shape: int, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal numbers, of the given shape for each sample of `x`."""
    return torch.randn(len(x), *shape, generator=generator, device=x.device).to(x.dtype)


def integers(
    x: Tensor, *shape: int, low: int, high: int, generator: torch.Generator | None
) -> Tensor:
    """Draw integers from low to high - 1, of the given shape for each sample of `x`."""
    return torch.randint(low, high, (len(x), *shape), generator=generator, device=x.device)


def chance(x: Tensor, *shape: int, p: float, generator: torch.Generator | None) -> Tensor:
    """Draw booleans, true with probability `p`, of the given shape for each sample of `x`."""
    return torch.rand(len(x), *shape, generator=generator, device=x.device) < p


def window_positions(
    start: Tensor, fraction: Tensor, size: int, *, mirror: Tensor | None = None
) -> Tensor:
    """Return the positions of the points of a resized window on an axis, in units of its steps.

    Parameters
    ----------
    start, fraction : Tensor of shape (n,)
        Start of the window, as a fraction of the rest of the axis, and the fraction of the axis
        that it covers.
    size : int
        Number of steps of the axis, the same before and after.
    mirror : Tensor of shape (n,) or None, default=None
        Windows to read backwards. If None, none of them.

    Returns
    -------
    Tensor of shape (n, size)
        Positions in [0, size - 1]. A window over the whole axis gives 0, 1, ..., exactly.
    """
    steps = torch.arange(size, device=start.device, dtype=start.dtype)
    if mirror is not None:
        steps = torch.where(mirror[:, None], size - 1 - steps, steps)
    first = start * (1 - fraction) * size
    # A step is a cell of width one with its centre at one half.
    positions = first[:, None] + fraction[:, None] * (steps + 0.5) - 0.5  # (n, size)
    return positions.clamp_(0, size - 1)
