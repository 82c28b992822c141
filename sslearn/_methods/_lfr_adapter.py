"""The adapter of LFR: between the encoder's output and the predictors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .._modules import Features, build_module, copy_module, probe
from ._heads import make_head

__all__ = ["make_adapter"]


class FunctionOfTensors(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def make_adapter(
    given: nn.Module | Callable[[Any], Any] | None,
    encoder: Features,
    sample_shape: tuple[int, ...],
) -> Features:
    """Return the module between features and predictors: the caller's, or the identity.

    Parameters
    ----------
    given : nn.Module, callable or None
        The ``adapter`` parameter. A callable that returns a module for the width of the features
        makes one; any other is a function of tensors.
    encoder : Features
        Encoder whose output it gets: as the encoder returns it if it takes that, and flattened
        otherwise.
    sample_shape : tuple of int
        Shape of one input of the encoder.

    Returns
    -------
    Features
        From flattened features to what the predictors take.

    Raises
    ------
    ValueError
        When it takes neither.
    """
    if given is None:
        return make_head(nn.Identity(), encoder.width, (), name="adapter")
    own: Any = given
    if not isinstance(given, nn.Module):
        made = None if isinstance(given, type) else _made(given, encoder.width)
        if made is not None or isinstance(given, type):
            return make_head(made or given, encoder.width, (), name="adapter")
        own = FunctionOfTensors(given)
    shape = tuple(probe(encoder.module, sample_shape, name="encoder").shape[1:])
    if len(shape) == 1 or not _is_of_maps(own, shape):
        return make_head(own, encoder.width, (), name="adapter")
    copied = build_module(own, shape, name="adapter")
    width = probe(copied, shape, name="adapter", trains=True)[0].numel()
    return Features(nn.Sequential(nn.Unflatten(1, shape), copied), width)


def _made(given: Callable, width: int) -> nn.Module | None:
    """Return the module that a callable makes for a width; None if it makes none."""
    state = torch.get_rng_state()
    try:
        made = given(width)
    except Exception:  # functions of tensors take no int
        made = None
    if isinstance(made, nn.Module):
        return made
    torch.set_rng_state(state)
    return None


def _is_of_maps(own: nn.Module, shape: tuple[int, ...]) -> bool:
    """Return whether an adapter takes maps, and has another result for them if flattened."""
    maps = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    of_maps = _adapted(own, maps)
    of_features = _adapted(own, maps.flatten(1))
    if of_maps is None or of_features is None:
        return of_maps is not None
    same = of_maps.shape == of_features.shape
    return not (same and torch.allclose(of_maps, of_features, equal_nan=True))


@torch.no_grad()
def _adapted(own: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """Return the output for two samples, flattened; None if they are not taken."""
    # A copy, since lazy layers make their parameters here. Each call begins with the same draws.
    with torch.random.fork_rng([]):
        try:
            return copy_module(own).eval()(x.clone()).flatten(1)
        except Exception:
            return None
