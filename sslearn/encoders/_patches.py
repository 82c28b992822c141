"""A bank of whitened patches: the features of an image before anything is learned."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ._checks import check_batch, check_int, check_ints
from ._layout import Conv2d, Conv3d, as_channels_last

__all__ = ["PatchBank"]

# Patches that the whitening is computed from, and how many of each of its dimensions at least.
_N_DRAWN, _PER_DIMENSION = 50_000, 20
# Largest side of a patch, for images and for volumes, and its largest number of values. Volumes are
# often masks or smooth: what distinguishes them is in the surfaces, and small patches see these
# whole. (Masks of an organ, averaged over the whole, area under the curve: 3 voxels 84.9, 4 84.1,
# 5 81.1.)
_SIDE, _MAX_VALUES = {2: 6, 3: 3}, 256
# Positions along an axis from which on patches are taken at a stride, and side from which on an
# image is scaled down first, for images and for volumes.
_STRIDED_FROM, _SCALED_FROM = {2: 33, 3: 33}, {2: 96, 3: 64}
_SCALED_TO = {2: 48, 3: 32}
# Cells per axis in which responses are averaged.
_CELLS = {2: 3, 3: 2}
# Variance added to that of a patch before it is divided by it, for samples of unit deviation, and
# the variance that is added along the axes of patches, in units of their mean: what is less is
# mostly noise.
_CONTRAST, _FLOOR = 2.5e-3, 0.1
# Threshold of a response, in deviations.
_THRESHOLD = 0.5
# What is added to a mean response, so that its root does not magnify rounding near zero.
_ADDED = 1e-3
# Deviation of a feature that is believed, and magnitude beyond which features are clipped.
_LEAST_DEVIATION, _MOST = 1e-3, 10.0
# Magnitude at which values are clipped, so that their squares stay finite.
_LARGEST = 1e4
# Responses that are computed at once: few enough to stay in a cache.
_CHUNK = 2**21


class PatchBank(nn.Module):
    """Responses of whitened patches of training samples, averaged in cells of an image or volume.

    A patch of an image is compared with some hundred patches of the training samples, after both
    have been standardised and whitened [1]_. What exceeds a threshold, above and below zero, is
    averaged in 3 x 3 cells, and a feature is the root of such an average. Volumes have cells of
    2 x 2 x 2 and the whole, which is the mean of these; all cells together then vary as much as
    the whole. Nothing is learned, and no labels are needed: make the bank by
    :meth:`from_samples`, which also standardises the features.

    Parameters
    ----------
    in_channels : int
        Number of channels of the input.
    size : sequence of int
        Height and width of the samples; for volumes depth, height and width.
    n_patches : int, default=200
        Number of patches. Each has two features in each cell, and for volumes two in the whole.
    patch_size : sequence of int, default=None
        Size of a patch. If None, 6 along each axis for images and 3 for volumes, or less where
        samples are small or the values of a patch would be more than 256.

    See Also
    --------
    KernelBank : The counterpart for series.
    PrincipalAxes : Fewer features that keep the distances.

    Notes
    -----
    Large samples are first averaged to sides of about 48 (volumes: 32), and patches are taken at
    each second position where a side is still longer than 32: see `stride` and `scale`.

    References
    ----------
    .. [1] A. Coates, H. Lee, A. Y. Ng, "An Analysis of Single-Layer Networks in Unsupervised
       Feature Learning", AISTATS 2011.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import PatchBank
    >>> images = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> bank = PatchBank.from_samples(images, n_patches=50)
    >>> bank(images).shape
    torch.Size([20, 900])
    """

    mean: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    conv: Conv2d | Conv3d

    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(
        self,
        in_channels: int,
        size: Sequence[int],
        *,
        n_patches: int = 200,
        patch_size: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = check_int("PatchBank", "in_channels", in_channels)
        self.size = check_ints("PatchBank", "size", size, may_be_empty=False)
        n_dims = len(self.size)
        if n_dims not in _CELLS:
            raise ValueError(
                "The 'size' parameter of PatchBank must have 2 (images) or 3 (volumes) numbers. "
                f"Got {size!r} instead."
            )
        self.n_patches = check_int("PatchBank", "n_patches", n_patches)
        largest = max(self.size)
        #: Side of the cubes of values that are averaged first.
        self.scale = max(1, largest // _SCALED_TO[n_dims]) if largest >= _SCALED_FROM[n_dims] else 1
        scaled = tuple(max(1, side // self.scale) for side in self.size)
        if patch_size is None:
            patch_size = _patch_size(self.in_channels, scaled)
        self.patch_size = check_ints("PatchBank", "patch_size", patch_size, may_be_empty=False)
        if len(self.patch_size) != n_dims or any(map(operator.gt, self.patch_size, scaled)):
            raise ValueError(
                "The 'patch_size' parameter of PatchBank must have a number for each axis of "
                f"samples of size {scaled}, none larger. Got {patch_size!r} instead."
            )
        positions = [s - p + 1 for s, p in zip(scaled, self.patch_size, strict=True)]
        #: Distance of patches.
        self.stride = 2 if max(scaled) >= _STRIDED_FROM[n_dims] else 1
        self.cells: tuple[int, ...] = tuple(
            min(_CELLS[n_dims], -(-n // self.stride)) for n in positions
        )
        n_cells = math.prod(self.cells)
        #: Features of the whole, which come first; none for images.
        self.n_whole = 2 * self.n_patches if n_dims == 3 and n_cells > 1 else 0
        #: Number of features that come out.
        self.n_features = 2 * self.n_patches * n_cells + self.n_whole
        convolution: Any = Conv2d if n_dims == 2 else Conv3d
        # Without weights as drawn, which would take numbers from torch's generator.
        self.conv = nn.utils.skip_init(
            convolution,
            self.in_channels,
            self.n_patches,
            self.patch_size,
            stride=1 if self._of_points else self.stride,
            bias=False,
        ).requires_grad_(False)
        self.conv.weight.zero_()
        self.register_buffer("offset", torch.zeros(self.n_patches))
        self.register_buffer("mean", torch.zeros(self.n_features))
        self.register_buffer("gain", torch.ones(self.n_features))

    @property
    def _of_points(self) -> bool:
        """Whether patches are single positions, which are picked and then convolved at stride 1.

        The gradient of a strided 1 x 1 convolution of few channels writes past its memory, see
        ``_ONEDNN_BLOCK`` of the residual network.
        """
        return max(self.patch_size) == 1

    def extra_repr(self) -> str:
        return f"size={self.size}, scale={self.scale}, cells={self.cells}"

    @classmethod
    def from_samples(
        cls,
        samples: torch.Tensor,
        *,
        n_patches: int = 200,
        generator: torch.Generator | None = None,
    ) -> PatchBank:
        """Make a bank of patches of training samples.

        Parameters
        ----------
        samples : torch.Tensor of shape (n, channels, height, width)
            Standardised training samples, two at least; a few thousand are enough. Volumes have
            the shape (n, channels, depth, height, width).
        n_patches : int, default=200
            Number of patches.
        generator : torch.Generator, default=None
            Draws the patches. If None, torch's default generator does.

        Returns
        -------
        PatchBank
            On the CPU.
        """
        if samples.ndim not in (4, 5):
            raise ValueError(
                "PatchBank.from_samples expects samples of shape (n, channels, height, width) or "
                f"(n, channels, depth, height, width). Got {tuple(samples.shape)} instead."
            )
        samples = samples.detach().float().cpu()
        bank = cls(*_channels_and_size(samples), n_patches=n_patches)
        scaled = bank.scaled(samples)
        patch_size = _smaller(bank.patch_size, len(samples), *_channels_and_size(scaled))
        if patch_size != bank.patch_size:
            bank = cls(*_channels_and_size(samples), n_patches=n_patches, patch_size=patch_size)
        bank._choose_patches(_drawn(scaled, bank.patch_size, generator), generator)
        pooled = bank.pooled(samples)
        bank.mean.copy_(pooled.mean(0))
        bank.gain.copy_(1 / pooled.std(0, correction=0).clamp_min(_LEAST_DEVIATION))
        return bank

    def _choose_patches(self, patches: torch.Tensor, generator: torch.Generator | None) -> None:
        """Set the filters from patches (n, values), in float64."""
        patches = patches - patches.mean(1, keepdim=True)
        variance = patches.square().mean(1)
        # Patches without contrast are noise, however often they occur.
        kept = variance > _CONTRAST / 10
        if kept.sum() > self.n_patches:
            patches, variance = patches[kept], variance[kept]
        patches = patches / (variance + _CONTRAST).sqrt()[:, None]
        # Whiten: divide by the deviation along the axes of the patches, none of which is too small.
        center = patches.mean(0)
        patches = patches - center
        values, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
        values = values.clamp_min(0)
        floor = _FLOOR * values.mean().clamp_min(_LEAST_DEVIATION)
        whitening = (axes * (values + floor).rsqrt()) @ axes.T
        # Filters are whitened patches of unit length.
        chosen = torch.randperm(len(patches), generator=generator)
        chosen = chosen.repeat(-(-self.n_patches // len(chosen)))[: self.n_patches]
        filters = patches[chosen] @ whitening
        filters /= filters.norm(dim=1, keepdim=True).clamp_min(_LEAST_DEVIATION)
        filters = filters @ whitening
        self.offset.copy_(-(filters @ center))
        # The mean of a patch is not subtracted from it but from the filters.
        filters -= filters.mean(1, keepdim=True)
        self.conv.weight.copy_(filters.view(self.conv.weight.shape))

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        """Average a batch in cubes of `scale` values a side."""
        if self.scale == 1:
            return x
        average: Any = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
        return average(x, tuple(min(self.scale, side) for side in self.size))

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features before they are standardised.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, height, width)
            A batch of standardised samples; of volumes (n, in_channels, depth, height, width).

        Returns
        -------
        torch.Tensor of shape (n, n_features)
            Roots of the mean responses, for volumes in the whole and then in each cell: of all
            patches, and of their negatives.
        """
        axes = ("depth", "height", "width")[-len(self.size) :]
        check_batch("PatchBank", x, self.in_channels, *axes)
        # In single precision at least, in which all poolings are implemented. What is too large to
        # be squared is clipped; what is infinite becomes NaN.
        x = x.to(torch.promote_types(self.mean.dtype, torch.float32))
        x = self.scaled(x.clamp(-_LARGEST, _LARGEST) + 0 * x)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self._pooled(x)
        positions = math.prod(x.shape[2:]) // self.stride ** len(self.size)
        size = max(1, _CHUNK // (self.n_patches * positions))
        return torch.cat([self._pooled(part) for part in x.split(size)])

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        average: Any = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
        stride = self.stride
        if self._of_points:
            picked: Any = (..., *[slice(None, None, stride)] * len(self.size))
            x, stride = x[picked], 1
        x = as_channels_last(x)
        of_patch = [
            average(values.mean(1, keepdim=True), self.patch_size, stride)
            for values in (x, x.square())
        ]
        variance = (of_patch[1] - of_patch[0].square()).clamp_min(0)
        offset = self.offset.view(-1, *[1] * len(self.size))
        responses = self.conv._conv_forward(x, self.conv.weight.to(x.dtype), None)
        # In place, since the responses are by far the largest of what is computed here.
        responses.mul_((variance + _CONTRAST).rsqrt()).add_(offset - _THRESHOLD)
        above = _in_cells(responses.clamp_min(0), self.cells)
        if responses.requires_grad:  # what a gradient needs is not changed in place
            responses = responses.clone()
        below = _in_cells(responses.add_(2 * _THRESHOLD).clamp_max_(0), self.cells)
        means = torch.cat((above, -below), dim=1)
        in_whole = [means.flatten(2).mean(2)] if self.n_whole else []
        means = torch.cat((*in_whole, means.flatten(1)), dim=1)
        # Less the root of nothing, so that an image without contrast gives zeros.
        return (means + _ADDED).sqrt() - _ADDED**0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, height, width)
            A batch of standardised samples; of volumes (n, in_channels, depth, height, width).

        Returns
        -------
        torch.Tensor of shape (n, n_features)
            The features, standardised and in [-10, 10]; for volumes those of the cells are divided
            by the root of their number.
        """
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x)
        features = ((self.pooled(x) - self.mean) * self.gain).clamp(-_MOST, _MOST)
        if self.n_whole:
            whole, cells = features[:, : self.n_whole], features[:, self.n_whole :]
            features = torch.cat((whole, cells / math.prod(self.cells) ** 0.5), dim=1)
        return features.to(self.mean.dtype)


def _in_cells(x: torch.Tensor, cells: tuple[int, ...]) -> torch.Tensor:
    """Average maps in cells, as adaptive pooling does."""
    pool: Any = F.adaptive_avg_pool2d if x.ndim == 4 else F.adaptive_avg_pool3d
    if x.ndim == 4 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return pool(x, cells)
    # One axis after the other takes less than half of the time.
    for axis, n_cells in enumerate(cells, start=2):
        size = x.shape[axis]
        starts = [i * size // n_cells for i in range(n_cells)]
        ends = [-(-(i + 1) * size // n_cells) for i in range(n_cells)]
        parts = [
            x.narrow(axis, start, end - start).mean(axis, keepdim=True)
            for start, end in zip(starts, ends, strict=True)
        ]
        x = torch.cat(parts, dim=axis)
    return x


def _channels_and_size(x: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    return x.shape[1], tuple(x.shape[2:])


def _patch_size(in_channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the size of a patch: half of a small sample, and no more values than are whitened."""
    found = [min(_SIDE[len(size)], (side + 1) // 2) for side in size]
    while in_channels * math.prod(found) > _MAX_VALUES and max(found) > 1:
        found[found.index(max(found))] -= 1
    return tuple(found)


def _smaller(
    patch_size: tuple[int, ...], n_samples: int, in_channels: int, size: tuple[int, ...]
) -> tuple[int, ...]:
    """Shrink patches until samples have enough of them to tell their covariance."""
    found = list(patch_size)
    while max(found) > 1:
        positions = math.prod(s - p + 1 for s, p in zip(size, found, strict=True))
        if n_samples * positions >= _PER_DIMENSION * in_channels * math.prod(found):
            break
        found[found.index(max(found))] -= 1
    return tuple(found)


def _drawn(
    x: torch.Tensor, patch_size: tuple[int, ...], generator: torch.Generator | None
) -> torch.Tensor:
    """Draw patches of samples at random places: (n, values), in float64."""
    windows = x
    for axis, side in enumerate(patch_size):
        windows = windows.unfold(axis + 2, side, 1)
    counts = (len(x), *windows.shape[2 : 2 + len(patch_size)])
    n = min(_N_DRAWN, math.prod(counts))
    places = [torch.randint(count, (n,), generator=generator) for count in counts]
    # The channels come after the places, then the axes of a patch.
    windows = windows.movedim(1, len(counts))
    return windows[tuple(places)].flatten(1).double()
