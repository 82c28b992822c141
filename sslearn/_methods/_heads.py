"""Projection and prediction heads: modules on top of the encoder during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import nn

from .._modules import Features, build_module, probe
from .._sklearn import Interval

__all__ = [
    "HEAD",
    "HIDDEN",
    "WIDTH",
    "ParallelHeads",
    "apply_pointwise",
    "hidden_widths",
    "make_head",
    "make_predictors",
    "make_siamese_heads",
    "mlp_head",
]

# Constraints of parameters that are a head, the width of a layer, or those of its hidden layers.
HEAD = [callable, None]
WIDTH = [Interval(Integral, 1, None, closed="left")]
HIDDEN = [*WIDTH, tuple, list]


def hidden_widths(given: int | Sequence[int], n_layers: int, *, name: str) -> tuple[int, ...]:
    """Return the widths of hidden layers: those that are listed, or one for each of `n_layers`."""
    if not isinstance(given, list | tuple):
        return (int(given),) * n_layers  # type: ignore[arg-type]
    if not all(isinstance(w, Integral) and not isinstance(w, bool) and int(w) > 0 for w in given):
        raise ValueError(
            f"The '{name}' parameter must be the width of each hidden layer, an int of at least 1, "
            f"or a list of such widths. Got {given!r} instead."
        )
    return tuple(map(int, given))


def mlp_head(
    width: int, widths: Sequence[int], *, norm_input: bool = False, norm_output: bool = False
) -> nn.Sequential:
    """Linear layers of `widths`, with batch norm and ReLU between them: (n, `width`) to (n, d).

    A linear layer before a batch norm has no bias, since the norm removes it.

    Parameters
    ----------
    width : int
        Features that come in.
    widths : sequence of int
        Output of each layer; the last is d.
    norm_input, norm_output : bool
        Put a batch norm, without scale and shift, also before the first layer, or after the last.
        Features that are never negative share most of their length; a loss of directions alone
        sees little else until this common part is removed.
    """
    *hidden, out = (int(w) for w in widths)
    layers: list[nn.Module] = [nn.BatchNorm1d(width, affine=False)] if norm_input else []
    for hidden_dim in hidden:
        layers += [
            nn.Linear(width, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
        ]
        width = hidden_dim
    layers.append(nn.Linear(width, out, bias=not norm_output))
    if norm_output:
        layers.append(nn.BatchNorm1d(out, affine=False))
    return nn.Sequential(*layers)


def make_head(
    given: nn.Module | Callable[[int], nn.Module] | None,
    width: int,
    widths: Sequence[int],
    *,
    name: str,
    out: int | None = None,
    **norms: bool,
) -> Features:
    """Return the head that a parameter of an estimator gives, or the default one.

    The default is linear layers with batch norm and ReLU between them.

    Parameters
    ----------
    given : nn.Module, callable or None
        Value of the parameter. A module is copied; a callable is called with `width` and returns
        a module. If None, the default head.
    width : int
        Number of features that come in.
    widths : sequence of int
        Widths of the default head's layers; the last is its output.
    name : str
        Name of the parameter, for messages.
    out : int, default=None
        Required width of the output. If None, any.
    **norms : bool
        ``norm_input=True`` and ``norm_output=True`` put a batch norm, without scale and shift,
        before the first layer of the default head and after its last.

    Returns
    -------
    nn.Module
        The head; ``.width`` is the width of its output.

    Raises
    ------
    ValueError
        When the caller's head does not take samples of `width` features, or gives another width.

    Examples
    --------
    >>> import torch
    >>> from sslearn.base import make_head
    >>> head = make_head(None, 32, (64, 16), name="projector")
    >>> head(torch.zeros(5, 32)).shape, head.width
    (torch.Size([5, 16]), 16)
    """
    if given is None:
        return Features(mlp_head(width, widths, **norms), int(widths[-1]))
    made = build_module(given, width, name=name)
    found = probe(made, (width,), name=name, trains=True)[0].numel()
    if out is not None and found != out:
        raise ValueError(
            f"The '{name}' parameter must map rows of {width} features to rows of {out}. Got "
            f"{found} features from {type(made).__name__}."
        )
    return Features(made, found)


def make_siamese_heads(estimator, width: int) -> tuple[Features, Features]:
    """Return projection and prediction head of a method that predicts one view from the other.

    Parameters
    ----------
    estimator : BYOL or SimSiam
        Its parameters give the heads, or their widths.
    width : int
        Features that come in.
    """
    hidden = hidden_widths(estimator.projection_hidden_dim, 2, name="projection_hidden_dim")
    projector = make_head(
        estimator.projector,
        width,
        (*hidden, estimator.projection_dim),
        name="projector",
        norm_input=True,
        norm_output=True,
    )
    hidden = hidden_widths(estimator.prediction_hidden_dim, 1, name="prediction_hidden_dim")
    predictor = make_head(
        estimator.predictor,
        projector.width,
        (*hidden, projector.width),
        name="predictor",
        out=projector.width,
    )
    return projector, predictor


def make_predictors(
    given: Sequence[nn.Module] | Callable[[int, int], nn.Module] | None,
    n_layers: int,
    width: int,
    target_widths: Sequence[int],
    *,
    chosen: Sequence[int],
    n_candidates: int,
) -> list[Features]:
    """Return a predictor for each target: the caller's, or `n_layers` linear ones for None.

    Parameters
    ----------
    given : sequence of nn.Module, callable or None
        The ``predictors`` parameter: one for each candidate, or for each target in the order of
        choice. A callable gets both widths.
    n_layers : int
        Layers of the default predictors.
    width : int
        Features that come in.
    target_widths : sequence of int
        Output width of each predictor.
    chosen : sequence of int
        Number of the candidate that is each target.
    n_candidates : int
        Candidates that there were.
    """
    n_targets = len(target_widths)
    each: list[Any] = [given] * n_targets
    if isinstance(given, list | nn.ModuleList):
        if len(given) not in (n_targets, n_candidates):
            raise ValueError(
                f"The 'predictors' parameter must hold one module for each of {n_candidates} "
                f"candidates, or for each of {n_targets} targets. Got {len(given)}."
            )
        # With as many targets as candidates too: the order of choice is not known beforehand.
        each = [given[i] for i in chosen] if len(given) == n_candidates else list(given)
    made = []
    for one, out in zip(each, target_widths, strict=True):
        if one is not None and not isinstance(one, nn.Module):
            one = build_module(one, width, out, name="predictors")
        widths = (*(width,) * (n_layers - 1), out)
        made.append(make_head(one, width, widths, name="predictors", out=out))
    return made


class ParallelHeads(nn.Module):
    """Several heads of the same features: (n, width) to their outputs, concatenated.

    Parameters
    ----------
    heads : sequence of Features
        As :func:`make_predictors` gives them.
    join : bool
        Join linear heads into one linear map: many small products take most of their time to
        start. Not for an optimizer that uses the norm of a whole layer, as LARS does: it would see
        one layer.
    """

    def __init__(self, heads: Sequence[Features], *, join: bool) -> None:
        super().__init__()
        #: Outputs of each.
        self.widths = [head.width for head in heads]
        joint = _one_map([_bare(head) for head in heads]) if join else None
        self.heads = nn.ModuleList(heads if joint is None else [joint])

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        found = [head(h) for head in self.heads]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def _bare(head: Features) -> nn.Module:
    module = head.module
    return module[0] if type(module) is nn.Sequential and len(module) == 1 else module


def _has_hooks(module: nn.Module) -> bool:
    """Return whether calling a module does more than its forward; spectral norm is a hook."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    return any(hooks) or any((module._backward_hooks, module._backward_pre_hooks))


def _one_map(modules: Sequence[nn.Module]) -> nn.Linear | None:
    """Return the rows of linear maps in one; None where not all are plain and free to move."""
    maps = [m for m in modules if type(m) is nn.Linear and not _has_hooks(m)]
    free = all(p.requires_grad for m in maps for p in m.parameters())
    if len(maps) < len(modules) or not free or len({m.bias is None for m in maps}) > 1:
        return None
    first = maps[0]
    joint = nn.Linear(
        first.in_features, sum(m.out_features for m in maps), bias=first.bias is not None
    )
    with torch.no_grad():
        joint.weight.copy_(torch.cat([m.weight for m in maps]))
        if joint.bias is not None:
            joint.bias.copy_(torch.cat([m.bias for m in maps]))
    return joint


def apply_pointwise(head: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Apply a head to the channels at every position: (n, c, ...) to (n, d, ...).

    Positions are adjacent in memory, as the losses that compare them want them.
    """
    rows = maps.flatten(2).mT.reshape(-1, maps.shape[1])  # (n * positions, c)
    return head(rows).unflatten(0, (len(maps), -1)).mT.unflatten(2, maps.shape[2:])
