"""Random networks, whose outputs LFR learns to predict."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .._data._standardize import is_grid
from .._data._training_data import TrainingData
from .._modules import Features, build_features, build_module, takes_nan
from ..encoders import FillMissing, PiecewiseLinear
from ..encoders._layout import ChannelsLast

__all__ = ["RandomProjector", "calibrate", "calibrated_outputs", "make_projectors"]

# Lengths of random kernels, and the filters that share one length and dilation.
_KERNELS = (5, 7, 9)
_FILTERS, _GROUPS = 16, 4
# Cells along each axis over which the answers of filters are averaged: the content of a window of
# a series does not depend on where it is cut, that of an image does.
_CELLS = {1: 1, 2: 4, 3: 2}
_CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOLS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
# Variance below which a hidden feature is not scaled up any further.
_RARE = 1e-3


class RandomProjector(nn.Module):
    """A random network for samples of a shape: (n, *sample_shape) to (n, `width`).

    A random linear map of random features: for tables a layer of 256 with ReLU, of the columns or
    of their piecewise linear encoding; for series, images
    and volumes the fraction of positions at which each of 64 random filters, of random length and
    dilation, exceeds a random threshold (ROCKET, arXiv 1910.13051). Features and outputs are
    standardised, see :func:`calibrate`: otherwise most of a network's output is the same for
    all samples, and hides their differences from the loss and from the selection.

    Parameters
    ----------
    sample_shape : tuple of int
        Shape of a sample.
    width : int
        Width of the output.
    encoding : PiecewiseLinear or None
        Encoding of the columns of a table.
    mask : bool
        Whether it sees where values are missing, next to the filled values; the encoding shows
        it itself.
    """

    #: NaN is a missing value.
    takes_nan = True

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        width: int,
        encoding: PiecewiseLinear | None = None,
        mask: bool = False,
    ) -> None:
        super().__init__()
        # Images and volumes have no missing values.
        can_miss = encoding is None and not is_grid(sample_shape)
        self.fill: nn.Module = nn.Identity()
        if can_miss:
            self.fill = FillMissing(sample_shape[0], mask)
            sample_shape = self.fill.filled_shape(sample_shape)
        if len(sample_shape) == 1:
            hidden = 256
            n_inputs = sample_shape[0] if encoding is None else encoding.width
            layers = [nn.Linear(n_inputs, hidden), nn.ReLU()]
            self.body: nn.Module = nn.Sequential(*([] if encoding is None else [encoding]), *layers)
        else:
            self.body = _RandomFilters(sample_shape)
            hidden = self.body.width
        self.centre = nn.BatchNorm1d(hidden, eps=_RARE, affine=False, momentum=None)
        self.mix = nn.Linear(hidden, width)
        self.scale = nn.BatchNorm1d(width, affine=False, momentum=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale(self.mix(self.centre(self.body(self.fill(x)))))


class _RandomFilters(ChannelsLast):
    """How often random filters exceed their thresholds: (n, channels, ...) to (n, `width`)."""

    def __init__(self, sample_shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, *sizes = sample_shape
        n_dims, shortest = len(sizes), min(sizes)
        kernels = [k for k in _KERNELS if k <= shortest] or [max(1, shortest - 1 + shortest % 2)]
        self.filters = nn.ModuleList(
            self._filters(channels, kernels, shortest, n_dims) for _ in range(_GROUPS)
        )
        cells = min(_CELLS[n_dims], shortest)
        self.pool = _POOLS[n_dims](cells)
        self.width = _GROUPS * _FILTERS * cells**n_dims

    @staticmethod
    @torch.no_grad()
    def _filters(channels: int, kernels: list[int], shortest: int, n_dims: int) -> nn.Module:
        kernel = kernels[int(torch.randint(len(kernels), ()))]
        most = math.log2(max((shortest - 1) / max(kernel - 1, 1), 1.0))
        dilation = int(2 ** (torch.rand(()).item() * most))
        conv = _CONVS[n_dims](
            channels, _FILTERS, kernel, dilation=dilation, padding=kernel // 2 * dilation
        )
        axes = tuple(range(2, 2 + n_dims))
        weight = torch.randn(conv.weight.shape)
        if kernel > 1:
            weight -= weight.mean(axes, keepdim=True)
        # Few channels each: filters that see all of them see nearly the same.
        n_seen = torch.randint(1, 1 + min(channels, 3), (_FILTERS, 1))
        seen = torch.rand(_FILTERS, channels).argsort(1).argsort(1) < n_seen
        weight *= seen.view(_FILTERS, channels, *(1,) * n_dims)
        weight /= weight.flatten(1).norm(dim=1).clamp_min(1e-6).view(-1, *(1,) * (n_dims + 1))
        conv.weight.copy_(weight)
        nn.init.uniform_(conv.bias, -1, 1)  # type: ignore[arg-type]
        return conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [self.pool((conv(x) > 0).to(x.dtype)).flatten(1) for conv in self.filters]
        return torch.cat(found, dim=1)


@torch.no_grad()
def calibrate(projector: nn.Module, sample: torch.Tensor) -> None:
    """Set the standardisation of a random projector from a sample; others stay as they are.

    Parameters
    ----------
    projector : nn.Module
        In eval mode, before and after.
    sample : Tensor of shape (n, ...)
        Standardised samples.
    """
    for module in projector.modules():
        if isinstance(module, RandomProjector) and len(sample) > 1:
            module.centre.train()
            module.scale.train()
            module(sample)
            module.eval()


@torch.no_grad()
def calibrated_outputs(projectors: nn.ModuleList, sample: torch.Tensor) -> list[torch.Tensor]:
    """Return the outputs of projectors, calibrated on the sample; they must be finite."""
    for projector in projectors:
        calibrate(projector, sample)
    outputs = [projector(sample) for projector in projectors]
    for i, output in enumerate(outputs):
        if not output.isfinite().all():
            raise ValueError(
                f"The 'projectors' parameter must return finite outputs. Candidate {i}, a "
                f"{type(projectors[i].module).__name__}, returns NaN or infinity on "
                f"some of {len(sample)} training samples."
            )
    return outputs


def make_projectors(
    given: Sequence[nn.Module] | Callable[[tuple[int, ...]], nn.Module] | None,
    n_candidates: int,
    width: int,
    data: TrainingData,
) -> list[Features]:
    """Return the projectors to choose from: the caller's, or random networks for None.

    Parameters
    ----------
    given : sequence of nn.Module, callable or None
        The ``projectors`` parameter; a callable gets the shape, `n_candidates` times, or nothing if
        it is a class, or a partial of one, that has all of its arguments.
    n_candidates : int
        How many, unless they are listed.
    width : int
        Output width of random networks.
    data : TrainingData
        Samples to train on. Random networks see where values are missing, if some are.
    """
    shape, mask = data.sample_shape, data.where_missing is not None
    if given is None:
        # Two kinds of random networks for tables: which one's outputs are the better
        # targets differs from table to table.
        encoding = PiecewiseLinear.from_rows(data.reference_rows()) if len(shape) == 1 else None
        made: list[nn.Module] = [
            RandomProjector(shape, width, encoding if i % 2 else None, mask)
            for i in range(n_candidates)
        ]
    else:
        listed = isinstance(given, list | nn.ModuleList)
        each: list[Any] = list(given) if listed else [given] * n_candidates  # type: ignore[arg-type]
        made = [build_module(one, *_arguments(one, shape), name="projectors") for one in each]
    return [_of_samples(module, shape) for module in made]


def _arguments(given: Any, shape: tuple[int, ...]) -> tuple:
    """Return what a callable is called with: the shape, unless it has all of its arguments."""
    made = given.func if isinstance(given, functools.partial) else given
    if not (isinstance(made, type) and issubclass(made, nn.Module)):
        return (shape,)
    try:
        inspect.signature(given).bind()
    except (TypeError, ValueError):
        return (shape,)
    return ()


def _of_samples(module: nn.Module, shape: tuple[int, ...]) -> Features:
    """Give a projector samples, or flattened samples if it takes no others.

    Missing values are filled first, unless it takes them: no target is NaN.
    """
    takes_all = is_grid(shape) or takes_nan(module)
    fill = None if takes_all else FillMissing(shape[0], mask=False)
    build = functools.partial(build_features, name="projectors", fill=fill)
    try:
        return build(module, shape)
    except ValueError:
        if len(shape) == 1:
            raise
        try:
            return build(nn.Sequential(nn.Flatten(), module), shape)
        except ValueError:
            pass
        raise
