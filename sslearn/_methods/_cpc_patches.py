"""Cutting samples into patches, each of which an encoder sees separately."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import nn

from ..encoders import ResNet
from ..encoders._moments import with_rescaled

__all__ = ["PatchFeatures", "PatchGrid", "patch_encoder"]

_AXES = {1: ("time",), 2: ("height", "width"), 3: ("depth", "height", "width")}
# Strides along the longest axis, and in a patch, that the defaults make. A quarter of a
# signal is enough to recognise it; an image takes more.
_STRIDES, _IN_A_PATCH = {1: 16, 2: 8, 3: 4}, {1: 4, 2: 3, 3: 2}
# The shortest stride of the defaults: on tiny images a step of one pixel makes patches as many, and
# as alike, as pixels.
_LEAST = {1: 1, 2: 2, 3: 1}
# Values of a patch from which on convolutions pay; the hidden layers of a perceptron for fewer, and
# the width of the last layer of either.
_LARGE, _HIDDEN, _WIDTH = 4096, (512, 512), 256


class PatchGrid:
    """Positions of the patches of a sample.

    Parameters
    ----------
    sample_shape : tuple of int
        (channels, ...) with one to three axes after the channels.
    size, stride : int, sequence of int or None
        Size and stride of the patches along each axis; an int is for all of them. If both are
        None, a stride of a sixteenth of a series, an eighth of the longest axis of an image, 2 at
        least, or a quarter of a volume's, and patches of four, three or two strides. If one is
        None, it follows from the other by the same number of strides in a patch.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        size: int | Sequence[int] | None,
        stride: int | Sequence[int] | None,
    ) -> None:
        self.channels, *lengths = sample_shape
        names = _AXES[len(lengths)]
        strides = None if stride is None else _each(stride, len(lengths), "patch_stride")
        in_a_patch = _IN_A_PATCH[len(lengths)]
        if size is None:
            parts = _STRIDES[len(lengths)]
            default = max(_LEAST[len(lengths)], round(max(lengths) / parts))
            # Two patches at least along an axis, where there is room for them.
            strides = strides or [min(default, max(1, n // 2)) for n in lengths]
            sizes = [
                min(in_a_patch * s, max(1, n - s)) for s, n in zip(strides, lengths, strict=True)
            ]
        else:
            sizes = _each(size, len(lengths), "patch_size")
        self.size = tuple(sizes)
        self.stride = tuple(strides or [max(1, s // in_a_patch) for s in sizes])
        for name, length, patch in zip(names, lengths, self.size, strict=True):
            if patch > length:
                raise ValueError(
                    f"The 'patch_size' parameter must be at most the size of a sample along each "
                    f"axis. Got {patch} along {name}, where a sample has {length}."
                )
        #: Patches along each axis.
        self.shape = self.shape_of(lengths)
        #: Shape of the encoder's input.
        self.patch_shape = (self.channels, *self.size)
        #: The axis along which one patch follows another, and its size.
        self.axis, self.length = names[0], lengths[0]

    def shape_of(self, lengths: Sequence[int]) -> tuple[int, ...]:
        """Return the number of patches along each axis of a sample, (*lengths)."""
        return tuple(
            (n - p) // s + 1 for n, p, s in zip(lengths, self.size, self.stride, strict=True)
        )

    def pieces(self, x: torch.Tensor) -> torch.Tensor:
        """Return the patches of samples (n, *sample_shape): (n * positions, *patch_shape)."""
        n_axes = len(self.size)
        for axis, (size, stride) in enumerate(zip(self.size, self.stride, strict=True)):
            x = x.unfold(2 + axis, size, stride)
        # (n, channels, *grid, *size)
        grid = range(2, 2 + n_axes)
        x = x.permute(0, *grid, 1, *range(2 + n_axes, 2 + 2 * n_axes))
        return x.reshape(-1, *self.patch_shape)

    def on_grid(self, features: torch.Tensor, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Put the features of each patch (n * positions, d) on the grid: (n, d, *grid).

        A series that is longer than those of ``fit`` has a grid of another `shape`.
        """
        shape = self.shape if shape is None else shape
        grid = features.unflatten(0, (-1, math.prod(shape))).transpose(1, 2)
        return grid.unflatten(2, shape)


def _each(given: int | Sequence[int], n_axes: int, name: str) -> list[int]:
    values = list(given) if isinstance(given, Sequence) else [given] * n_axes
    if not all(isinstance(value, Integral) and int(value) > 0 for value in values):
        raise ValueError(f"The '{name}' parameter must hold positive ints. Got {given!r}.")
    if len(values) != n_axes:
        raise ValueError(
            f"The '{name}' parameter must be an int or hold one for each of {n_axes} axes. "
            f"Got {given!r}."
        )
    return [int(value) for value in values]


class PatchFeatures(nn.Module):
    """From samples to the features of their patches, at every position: (n, d, *grid).

    Parameters
    ----------
    grid : PatchGrid
        Positions of the patches.
    encoder : nn.Module
        Encoder of one patch: (n, *patch_shape) to (n, d).
    """

    def __init__(self, grid: PatchGrid, encoder: nn.Module) -> None:
        super().__init__()
        self.grid = grid
        self.encoder = encoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = self.grid.shape_of(x.shape[2:])
        return self.grid.on_grid(self.encoder(self.grid.pieces(x)), shape)


class PatchMLP(nn.Module):
    """Perceptron over the values of a patch.

    Each patch is normalised separately: the statistics of a batch would leak information between
    patches. For series it also sees the channels rescaled within the patch, as the default encoder
    does.

    Parameters
    ----------
    patch_shape : tuple of int
        (channels, ...).
    widths : sequence of int
        Widths of the layers.
    all_layers : bool
        Whether the features are those of all layers, with the level and scale that the rescaling
        removed, or those of the last layer alone.
    """

    def __init__(
        self, patch_shape: tuple[int, ...], widths: Sequence[int], all_layers: bool
    ) -> None:
        super().__init__()
        self.all_layers = all_layers
        self.rescale = len(patch_shape) == 2
        n_values = math.prod(patch_shape)
        if self.rescale:
            n_values = 2 * n_values + 2 * patch_shape[0]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width_in, width_out), nn.LayerNorm(width_out), nn.ReLU())
            for width_in, width_out in itertools.pairwise((n_values, *widths))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: list[torch.Tensor] = []
        if self.rescale:
            x, features = with_rescaled(x)
        x = torch.cat([x.flatten(1), *features], dim=1)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return torch.cat(features, dim=1) if self.all_layers else x


def patch_encoder(patch_shape: tuple[int, ...], embedding_dim: int | None) -> nn.Module:
    """Return an encoder of one patch.

    Layers end in a ReLU, since a mean over patches keeps more of features that are present or not.
    Patches are small, and overlap: a perceptron learns them as well as convolutions do, in a
    fraction of the time; for large ones it is a :class:`ResNet`.

    Parameters
    ----------
    patch_shape : tuple of int
        (channels, ...).
    embedding_dim : int or None
        Width of the last layer. If None, 256, and for series the features of all layers
        (for a :class:`ResNet`: mean and deviation of all stages).
    """
    channels, *sizes = patch_shape
    series = len(sizes) == 1
    # On images the last layer alone is better (MNIST), on series all are (HAR).
    all_layers = embedding_dim is None and series
    width = _WIDTH if embedding_dim is None else embedding_dim
    if math.prod(patch_shape) > _LARGE:
        return ResNet(
            channels,
            n_dims=len(sizes),
            embedding_dim=width,
            width=16,
            stem="strided" if max(sizes) > 64 else "small",
            norm="layer",
            pool="statistics" if all_layers else "mean",
            rescale=series,
        )
    return PatchMLP(patch_shape, (*_HIDDEN, width), all_layers)
