"""Random networks, whose outputs LFR learns to foretell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ._build import Features, build_features, build_module

__all__ = ["make_projectors", "random_projector"]

_KERNELS = (3, 5, 9, 15, 25)
_CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def random_projector(sample_shape: tuple[int, ...], width: int, number: int) -> nn.Module:
    """Return a random network for samples of a shape: (n, *sample_shape) to (n, `width`).

    Tables get one hidden layer of 256. Series, images and volumes get convolutions whose maximum
    and mean over all positions are mapped to the output, so that it does not hang on where
    something is; every other candidate has two of them. Candidates differ in the scale they look
    at, since networks that differ in their weights alone say nearly the same of rows.

    Parameters
    ----------
    sample_shape : tuple of int
        Shape of a row.
    width : int
        Features that come out.
    number : int
        Of the candidate.
    """
    n_dims = len(sample_shape) - 1
    if n_dims == 0:
        return nn.Sequential(nn.Linear(sample_shape[0], 256), nn.ReLU(), nn.Linear(256, width))
    conv, shortest = _CONVS[n_dims], min(sample_shape[1:])
    kernels = [k for k in _KERNELS if k <= shortest] or [1]
    if n_dims > 1:
        kernels = kernels[:3]
    kernel = kernels[number % len(kernels)]
    channels, layers = sample_shape[0], nn.Sequential()
    for out_channels in (64,) if number // len(kernels) % 2 == 0 else (32, 64):
        layers.extend([conv(channels, out_channels, kernel, padding=kernel // 2), nn.ReLU()])
        channels = out_channels
    return nn.Sequential(layers, _Pool(), nn.Linear(2 * channels, width))


class _Pool(nn.Module):
    """Maximum and mean over all positions: (n, channels, ...) to (n, 2 * channels)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(2)
        return torch.cat((x.amax(2), x.mean(2) * math.sqrt(x.shape[2])), dim=1)


def make_projectors(
    given: Sequence[nn.Module] | Callable[[tuple[int, ...]], nn.Module] | None,
    n_candidates: int,
    width: int,
    shape: tuple[int, ...],
) -> list[Features]:
    """Return the projectors to choose from: the caller's, or random networks for None.

    Parameters
    ----------
    given : sequence of nn.Module, callable or None
        The ``projectors`` parameter; a callable gets the shape, `n_candidates` times.
    n_candidates : int
        How many, unless they are listed.
    width : int
        Of what random networks give.
    shape : tuple of int
        Of a row.
    """
    if given is None:
        made = [random_projector(shape, width, number) for number in range(n_candidates)]
    else:
        listed = isinstance(given, list | nn.ModuleList)
        each: list[Any] = list(given) if listed else [given] * n_candidates  # type: ignore[arg-type]
        made = [build_module(one, shape, name="projectors") for one in each]
    return [_of_rows(module, shape) for module in made]


def _of_rows(module: nn.Module, shape: tuple[int, ...]) -> Features:
    """Let a projector have rows, or flat rows where it takes no others."""
    try:
        return build_features(module, shape, name="projectors")
    except ValueError:
        if len(shape) == 1:
            raise
        try:
            return build_features(nn.Sequential(nn.Flatten(), module), shape, name="projectors")
        except ValueError:
            pass
        raise
