"""Projection and prediction heads: what stands on the encoder while it is trained."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ._build import build_module, probe

__all__ = ["make_head", "mlp_head"]


def mlp_head(width: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear: (n, `width`) to (n, `out_dim`).

    The first linear layer has no bias, since the batch norm behind it takes any bias away.
    """
    return nn.Sequential(
        nn.Linear(width, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, out_dim),
    )


def make_head(
    head: nn.Module | Callable[[int], nn.Module] | None,
    width: int,
    hidden_dim: int,
    out_dim: int,
    *,
    name: str,
) -> nn.Module:
    """Return the caller's head (a copy, or made for `width`), or an :func:`mlp_head` for None.

    Raises
    ------
    ValueError
        When the caller's head does not take rows of `width` features.
    """
    if head is None:
        return mlp_head(width, hidden_dim, out_dim)
    made = build_module(head, width, name=name)
    probe(made, (width,), name=name)
    return made
