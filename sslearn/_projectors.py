"""Random networks, whose outputs LFR learns to foretell."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["random_projector"]

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
