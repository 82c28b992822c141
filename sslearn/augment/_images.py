"""Views of images (n, channels, height, width) and volumes (n, channels, depth, height, width)."""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor

from .._sklearn import Interval, StrOptions
from ._base import IMAGES, NON_NEGATIVE, PROBABILITY, Augmentation, Pair
from ._draws import chance, uniform, window_positions

__all__ = ["GaussianBlur", "RandomAffine", "RandomResizedCrop", "Solarize"]


def _along_axes(x: Tensor, matrices: list[Tensor]) -> Tensor:
    """Multiply every spatial axis by its matrices, one of shape (n, size, size) per axis.

    Each product takes the last axis and puts it first, so that nothing is copied in between.
    """
    n, n_channels, *sizes = x.shape
    for size, matrix in zip(reversed(sizes), reversed(matrices), strict=True):
        x = torch.bmm(matrix, x.reshape(n, -1, size).mT)  # (n, size, everything else)
    return x.view(n, *sizes, n_channels).movedim(-1, 1)


def _interpolate(x: Tensor, positions: list[Tensor]) -> Tensor:
    """Read `x` at fractional pixels, positions of shape (n, size) for every spatial axis."""
    sizes = x.shape[2:]
    if len(sizes) == 2:
        # `grid_sample` wants columns before rows and the image's edges at -1 and 1.
        rows, columns = [(2 * at + 1) / size - 1 for at, size in zip(positions, sizes, strict=True)]
        rows = rows[:, :, None].expand(-1, *sizes)
        columns = columns[:, None, :].expand(-1, *sizes)
        grid = torch.stack((columns, rows), dim=-1)  # (n, height, width, 2)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    # For volumes on a CPU `grid_sample` takes ten times as long as one batched product per axis.
    matrices = []
    for at, size in zip(positions, sizes, strict=True):
        pixels = torch.arange(size, device=x.device, dtype=x.dtype)
        # Linear interpolation: a pixel's weight falls from 1 to 0 over one step on each side.
        distance = (at[:, :, None] - pixels).abs_()
        matrices.append((1 - distance).clamp_(min=0))  # (n, size, size)
    return _along_axes(x, matrices)


class RandomResizedCrop(Augmentation):
    """Cut a random box out of an image, resize it to the full size, and perhaps flip it.

    Crop and flip are one bilinear (trilinear) interpolation. The box always lies inside the image
    and its edges need not fall on pixels. Volumes are flipped along their last axis only.

    Parameters
    ----------
    scale : tuple of two floats, default=(0.2, 1.0)
        Smallest and largest fraction of the area (volume) that the box covers, above 0 and at
        most 1.
    ratio : tuple of two floats, default=(3 / 4, 4 / 3)
        Smallest and largest aspect ratio of the box, width to height, relative to that of the
        image; drawn log-uniformly. For volumes also that of the depth to the geometric mean of
        height and width. A box that would not fit is made less elongated and keeps its area.
    flip : float, default=0.5
        Probability that the last axis is mirrored; use 0 where left and right differ in meaning.

    See Also
    --------
    ColorJitter : Colour changes, often combined with crops.

    References
    ----------
    .. [1] C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv:1409.4842.
    .. [2] T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive
       Learning of Visual Representations", ICML 2020, arXiv:2002.05709.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import RandomResizedCrop
    >>> RandomResizedCrop(scale=(0.4, 1.0), flip=0.0)(torch.rand(8, 3, 32, 32)).shape
    torch.Size([8, 3, 32, 32])
    """

    _constraints = {"scale": Pair(1.0), "ratio": Pair(), "flip": PROBABILITY}
    _accepts = IMAGES

    def __init__(
        self,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
    ) -> None:
        self.scale = scale
        self.ratio = ratio
        self.flip = flip

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        sizes = x.shape[2:]
        fraction = self._box_sides(x, generator)  # (n, axes)
        start = uniform(x, len(sizes), generator=generator)  # (n, axes)
        mirror = chance(x, p=self.flip, generator=generator)  # (n,)
        last = len(sizes) - 1
        positions = [
            window_positions(
                start[:, axis], fraction[:, axis], size, mirror=mirror if axis == last else None
            )
            for axis, size in enumerate(sizes)
        ]
        return _interpolate(x, positions)

    def _box_sides(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw the sides of each box as fractions of the image's, of shape (n, axes)."""
        n_axes = x.ndim - 2
        low, high = self.scale
        side = uniform(x, low=low, high=high, generator=generator).log_() / n_axes
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        plane = uniform(x, low=low, high=high, generator=generator) / 2
        stretch = [-plane, plane]
        if n_axes == 3:
            depth = uniform(x, low=low, high=high, generator=generator) / 3
            stretch = [2 * depth, -plane - depth, plane - depth]
        by_axis = torch.stack(stretch, dim=1)  # logarithms that sum to 0: the area stays
        # A smaller stretch, where needed, keeps the longest side within the image.
        longest = by_axis.amax(1).clamp_(min=1e-12)
        shrink = (-side / longest).clamp_(max=1)
        return torch.exp(side[:, None] + by_axis * shrink[:, None]).clamp_(max=1)


class RandomAffine(Augmentation):
    """Rotate, resize, shear and shift an image or volume slightly, by one interpolation.

    For images that the object fills, such as characters: a crop would remove parts of it that
    distinguish it from others.

    Parameters
    ----------
    rotation : float, default=10.0
        Largest angle in degrees, to either side. Volumes are rotated about each of the three axes.
    scale : float, default=0.15
        Each axis is resized by a factor drawn log-uniformly from [1 / (1 + scale), 1 + scale].
    shift : float, default=0.1
        Largest distance by which the image is shifted along each axis, as a fraction of its side.
    shear : float, default=0.15
        Largest sideways shift of a row, as a fraction of its distance from the middle. In volumes
        each axis is shifted along those before it.
    padding : {"zeros", "border", "reflection"}, default="zeros"
        Values outside the image.
    interpolation : {"linear", "nearest"}, default="linear"
        Whether a value is interpolated between its neighbours, or is that of the nearest one. The
        nearest keeps masks binary and edges sharp.

    See Also
    --------
    RandomResizedCrop : For photographs, where the object is a part of the image.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import RandomAffine
    >>> RandomAffine(rotation=15.0)(torch.rand(8, 1, 28, 28)).shape
    torch.Size([8, 1, 28, 28])
    """

    _constraints = {
        "rotation": Interval(Real, 0, 180, closed="both"),
        "scale": NON_NEGATIVE,
        "shift": NON_NEGATIVE,
        "shear": NON_NEGATIVE,
        "padding": StrOptions({"zeros", "border", "reflection"}),
        "interpolation": StrOptions({"linear", "nearest"}),
    }
    _accepts = IMAGES

    def __init__(
        self,
        rotation: float = 10.0,
        scale: float = 0.15,
        shift: float = 0.1,
        shear: float = 0.15,
        padding: str = "zeros",
        interpolation: str = "linear",
    ) -> None:
        self.rotation = rotation
        self.scale = scale
        self.shift = shift
        self.shear = shear
        self.padding = padding
        self.interpolation = interpolation

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        matrix = (self._of_images if x.ndim == 4 else self._of_volumes)(x, generator)
        grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
        mode = "nearest" if self.interpolation == "nearest" else "bilinear"
        return F.grid_sample(x, grid, mode, padding_mode=self.padding, align_corners=False)

    # From where in the sample each point of the view comes. Halves of a side are the unit of
    # `affine_grid`, hence ratios of sides off the diagonal, and the last axis is its first.

    def _of_images(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        height, width = x.shape[2:]
        angle, wide, high, slant, right, down = uniform(
            x, 6, low=-1, high=1, generator=generator
        ).unbind(1)
        angle = angle * math.radians(self.rotation)
        wide, high = ((draw * math.log1p(self.scale)).exp_() for draw in (wide, high))
        slant = slant * self.shear
        rows = [
            wide * angle.cos(),
            (slant - high * angle.sin()) * (height / width),
            2 * self.shift * right,
            wide * angle.sin() * (width / height),
            high * angle.cos(),
            2 * self.shift * down,
        ]
        return torch.stack(rows, dim=1).view(-1, 2, 3)

    def _of_volumes(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        draws = uniform(x, 12, low=-1, high=1, generator=generator)
        angles, sizes, slants, shifts = draws.view(-1, 4, 3).unbind(1)
        sides = x.new_tensor(x.shape[:1:-1])
        # The exponential of a skew-symmetric matrix is a rotation.
        skew = x.new_zeros(len(x), 3, 3)
        shear = torch.eye(3, dtype=x.dtype, device=x.device).repeat(len(x), 1, 1)
        for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
            skew[:, i, j] = angles[:, k] * math.radians(self.rotation)
            skew[:, j, i] = -skew[:, i, j]
            shear[:, i, j] = slants[:, k] * self.shear
        turned = torch.linalg.matrix_exp(skew) @ shear
        turned = turned * (sizes * math.log1p(self.scale)).exp()[:, None, :]
        turned = turned * (sides[None, :] / sides[:, None])
        return torch.cat((turned, 2 * self.shift * shifts[:, :, None]), dim=2)


class GaussianBlur(Augmentation):
    """Blur an image with a Gaussian whose width is drawn for each sample.

    The kernel is as wide as the image, so nothing is cut off; at the edges the weights that fall
    outside are distributed over those inside.

    Parameters
    ----------
    sigma : tuple of two floats, default=(0.1, 2.0)
        Smallest and largest standard deviation of the Gaussian, in pixels.
    p : float, default=0.5
        Probability that a sample is blurred.

    References
    ----------
    .. [1] T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive
       Learning of Visual Representations", ICML 2020, arXiv:2002.05709.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import GaussianBlur
    >>> x = torch.rand(8, 3, 32, 32)
    >>> view = GaussianBlur(sigma=(1.0, 1.0), p=1.0)(x)
    >>> bool((view.std() < x.std()).item())
    True
    """

    _constraints = {"sigma": Pair(zero=True), "p": PROBABILITY}
    _accepts = IMAGES

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5) -> None:
        self.sigma = sigma
        self.p = p

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        blurred = chance(x, 1, 1, p=self.p, generator=generator)
        low, high = self.sigma
        sigma = uniform(x, 1, 1, low=low, high=high, generator=generator)
        # At a twentieth of a pixel the neighbours' weights underflow to 0: the identity.
        sigma = torch.where(blurred, sigma, 0).clamp_(min=0.05)  # (n, 1, 1)
        matrices = {}
        for size in set(x.shape[2:]):
            pixels = torch.arange(size, device=x.device, dtype=x.dtype)
            distance = pixels[:, None] - pixels
            exponent = (distance / sigma).square_().mul_(-0.5)  # (n, size, size)
            # exp(-30) is lost against 1, and denormal weights would slow the products tenfold.
            weight = exponent.masked_fill_(exponent < -30, -math.inf).exp_()
            matrices[size] = weight / weight.sum(2, keepdim=True)
        return _along_axes(x, [matrices[size] for size in x.shape[2:]])


class Solarize(Augmentation):
    """Invert the values above a threshold.

    Parameters
    ----------
    threshold : float, default=0.5
        Values at or above it become 1 - value; between 0 and 1, like the values of the image.
    p : float, default=0.2
        Probability that a sample is solarised.

    References
    ----------
    .. [1] J.-B. Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised
       Learning", NeurIPS 2020, arXiv:2006.07733.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import Solarize
    >>> Solarize(threshold=0.5, p=1.0)(torch.tensor([[[[0.25, 0.75, 1.0]]]]))
    tensor([[[[0.2500, 0.2500, 0.0000]]]])
    """

    _constraints = {"threshold": PROBABILITY, "p": PROBABILITY}
    _accepts = IMAGES

    def __init__(self, threshold: float = 0.5, p: float = 0.2) -> None:
        self.threshold = threshold
        self.p = p

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        ones = [1] * (x.ndim - 1)
        solarised = chance(x, *ones, p=self.p, generator=generator)
        return torch.where(solarised & (x >= self.threshold), 1 - x, x)
