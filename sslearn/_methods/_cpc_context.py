"""Context networks of CPC: a summary of the features so far, at every position of a grid.

Each maps (n, d, h, ...) to (n, e, h, ...). The output at a position must not depend on
positions further along the first axis.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .._modules import probe
from ..encoders._layout import ChannelsLast

__all__ = ["GRUContext", "MaskedConvContext", "check_causal"]


class GRUContext(nn.Module):
    """A recurrent network along the one axis of a series.

    Parameters
    ----------
    width : int
        Features that come in.
    context_dim : int
        Features that come out.
    """

    def __init__(self, width: int, context_dim: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, context_dim, batch_first=True)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.gru(z.transpose(1, 2))[0].transpose(1, 2)


class MaskedConvContext(ChannelsLast):
    """Residual blocks that look sideways along their own row, then up (arXiv 1905.09272, A.2).

    The grid is padded with zeros. With each block a position sees one row more above, and one
    column more to either side.

    Parameters
    ----------
    width : int
        Features that come in.
    context_dim : int
        Features that come out.
    n_dims : int
        Axes of the grid, 1 to 3.
    n_blocks : int
        Residual blocks.
    """

    def __init__(self, width: int, context_dim: int, n_dims: int, n_blocks: int = 3) -> None:
        super().__init__()
        conv = getattr(nn, f"Conv{n_dims}d")
        sideways = (3,) * (n_dims - 1)
        self.widen = conv(width, context_dim, 1) if width != context_dim else nn.Identity()
        self.across = nn.ModuleList(
            conv(context_dim, context_dim, (1, *sideways), padding=(0, *(1 for _ in sideways)))
            for _ in range(n_blocks)
        )
        self.up = nn.ModuleList(
            conv(context_dim, context_dim, (2, *(1 for _ in sideways))) for _ in range(n_blocks)
        )
        # One row of zeros on top; F.pad counts from the last axis.
        self.top = (0, 0) * (n_dims - 1) + (1, 0)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = self.widen(z)
        for across, up in zip(self.across, self.up, strict=True):
            # Sideways within the same row; then from the row above, never from one below.
            z = z + up(F.pad(F.relu(across(F.relu(z))), self.top))
        return F.relu(z)


def check_causal(context: nn.Module, width: int, grid: tuple[int, ...]) -> int:
    """Return the width of a context network; raise if it sees what it has to predict.

    Parameters
    ----------
    context : nn.Module
        In eval mode afterwards.
    width : int
        Features that come in.
    grid : tuple of int
        Sizes of the grid.

    Raises
    ------
    ValueError
        When it fails, returns another grid, or an earlier output depends on a later position.
    """
    probe(context, (width, *grid), name="context", trains=True)
    # Causal where no gradient flows from the first output back to later inputs.
    z = torch.randn(1, width, *grid, requires_grad=True)
    seen = context(z)
    if seen.shape[2:] != z.shape[2:]:
        raise ValueError(
            "The 'context' parameter must map (n, d, *grid) to (n, e, *grid). Got "
            f"{tuple(seen.shape)} for {tuple(z.shape)}."
        )
    if seen.requires_grad:
        (gradient,) = torch.autograd.grad(seen[:, :, 0].sum(), z, allow_unused=True)
        if gradient is not None and gradient[:, :, 1:].any():
            raise ValueError(
                "The 'context' parameter must not see ahead along the first axis: its first "
                "output depends on later positions, which it has to predict."
            )
    return seen.shape[1]
