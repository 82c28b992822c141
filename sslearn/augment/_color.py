"""Colour changes of images and volumes, as one affine map of the channels per image.

Brightness, contrast, saturation, hue and grayscale are all affine in the three channels of a
pixel, so any chain of them is a matrix and an offset per image, and the pixels are touched once.
Bands that are not red, green and blue share one factor per image, and have an offset each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from numbers import Real

import torch
from torch import Tensor

from .._sklearn import Interval
from ._base import BOOLEAN, IMAGES, NON_NEGATIVE, PROBABILITY, Augmentation
from ._draws import chance, uniform

__all__ = ["ColorJitter", "ColorOperation", "RandomGrayscale", "recolor"]


@functools.cache  # a copy to the device in every step would stall a GPU
def _planes(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that every colour map is made of, each of shape (3, 3).

    The projection on the grey axis (luma), the projection on the chroma plane of YIQ, and a
    quarter turn of that plane: a change of hue by an angle is
    grey + cos(angle) * chroma + sin(angle) * quarter turn.
    """
    luma = [0.299, 0.587, 0.114]
    yiq = torch.tensor(
        [luma, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], dtype=torch.float64
    )
    grey = torch.tensor([luma] * 3, dtype=torch.float64)
    chroma = torch.eye(3, dtype=torch.float64) - grey
    rotation = torch.zeros(3, 3, dtype=torch.float64)
    rotation[1, 2], rotation[2, 1] = -1.0, 1.0  # I to Q, Q to -I
    turn = torch.linalg.solve(yiq, rotation @ yiq)
    return grey.to(device, dtype), chroma.to(device, dtype), turn.to(device, dtype)


class ColorOperation(Augmentation):
    """An augmentation that is one affine map of the channels per image."""

    _accepts = IMAGES

    def _mixes(self, n_channels: int) -> bool:
        """Return whether channels are mixed as colours are, or each band is mapped by itself."""
        return n_channels == 3

    def _color_map(
        self, mean: Tensor, mixes: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Draw a map and an offset (n, channels, 1) per image.

        The map is a matrix (n, 3, 3) where the operation `mixes` the channels, and a factor
        (n, 1, 1) where each band is mapped by itself. `mean` of shape (n, channels, 1) is the mean
        colour of each image.
        """
        raise NotImplementedError

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return recolor(x, [self], generator)


def recolor(
    x: Tensor, operations: Sequence[ColorOperation], generator: torch.Generator | None
) -> Tensor:
    """Apply colour operations, fused into one map per image, and clamp to [0, 1] after the last."""
    pixels = x.flatten(2)  # (n, channels, pixels)
    mean = pixels.mean(2, keepdim=True)
    mixes = all(operation._mixes(x.shape[1]) for operation in operations)
    product: Callable[..., Tensor] = torch.bmm if mixes else torch.mul
    transformed: Callable[..., Tensor] = torch.baddbmm if mixes else torch.addcmul
    matrix, offset = operations[0]._color_map(mean, mixes, generator)
    for operation in operations[1:]:
        # An affine map of the pixels maps their mean alike: no second pass over the pixels.
        mean_now = transformed(offset, matrix, mean)
        next_matrix, next_offset = operation._color_map(mean_now, mixes, generator)
        matrix = product(next_matrix, matrix)
        offset = transformed(next_offset, next_matrix, offset)
    return transformed(offset, matrix, pixels).clamp_(0, 1).view(x.shape)


class ColorJitter(ColorOperation):
    """Change brightness, contrast, saturation and hue of images with values in [0, 1].

    The four changes are drawn for each image and applied as one affine map of its channels: hue
    turns the chroma plane of YIQ, contrast is relative to the image's mean luma. Without clamping
    in between, the order of the four does not matter. The result is clamped to [0, 1]. Unless there
    are three channels, and these are red, green and blue, only brightness and contrast change: by
    one factor each for all bands, contrast relative to each band's own mean.

    Parameters
    ----------
    brightness, contrast, saturation : float, default=0.4
        Strengths s: each factor is drawn from [max(0, 1 - s), 1 + s].
    hue : float, default=0.1
        The hue is turned by a fraction of the full circle drawn from [-hue, hue]; between 0 and
        0.5.
    p : float, default=0.8
        Probability that an image is changed.
    rgb : bool, default=True
        Whether three channels are red, green and blue. If False, they are independent bands.

    See Also
    --------
    RandomGrayscale : Remove the colour of some images.
    Compose : Fuses neighbouring colour operations.

    References
    ----------
    .. [1] T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive
       Learning of Visual Representations", ICML 2020, arXiv:2002.05709.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import ColorJitter
    >>> ColorJitter(hue=0.0)(torch.rand(8, 3, 32, 32)).shape
    torch.Size([8, 3, 32, 32])
    """

    _constraints = {
        "brightness": NON_NEGATIVE,
        "contrast": NON_NEGATIVE,
        "saturation": NON_NEGATIVE,
        "hue": Interval(Real, 0, 0.5, closed="both"),
        "p": PROBABILITY,
        "rgb": BOOLEAN,
    }

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        p: float = 0.8,
        rgb: bool = True,
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self.p = p
        self.rgb = rgb

    def _mixes(self, n_channels: int) -> bool:
        return self.rgb and n_channels == 3

    def _color_map(
        self, mean: Tensor, mixes: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        changed = chance(mean, 1, 1, p=self.p, generator=generator)
        draws = uniform(mean, 4, 1, 1, low=-1, high=1, generator=generator) * changed[:, None]
        brightness = (1 + self.brightness * draws[:, 0]).clamp_(min=0)
        contrast = (1 + self.contrast * draws[:, 1]).clamp_(min=0)
        saturation = (1 + self.saturation * draws[:, 2]).clamp_(min=0)
        if not mixes:
            return contrast * brightness, (1 - contrast) * brightness * mean
        angle = (2 * math.pi * self.hue) * draws[:, 3]
        grey, chroma, turn = _planes(mean.device, mean.dtype)
        hue_and_saturation = saturation * (angle.cos() * chroma + angle.sin() * turn)
        matrix = (contrast * brightness) * (grey + hue_and_saturation)  # (n, bands, bands)
        luma = torch.matmul(grey, mean)  # (n, bands, 1); hue and saturation do not change it
        return matrix, (1 - contrast) * brightness * luma


class RandomGrayscale(ColorOperation):
    """Remove the colour of some images, keeping their luma; the channels stay three.

    Images of another number of channels stay as they are. Values are in [0, 1].

    Parameters
    ----------
    p : float, default=0.2
        Probability that an image becomes grey.

    See Also
    --------
    ColorJitter : Change the colours.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import RandomGrayscale
    >>> view = RandomGrayscale(p=1.0)(torch.rand(8, 3, 32, 32))
    >>> torch.allclose(view[:, 0], view[:, 2])
    True
    """

    _constraints = {"p": PROBABILITY}

    def __init__(self, p: float = 0.2) -> None:
        self.p = p

    def _color_map(
        self, mean: Tensor, mixes: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        colour_kept = ~chance(mean, 1, 1, p=self.p, generator=generator)
        if not mixes:
            return mean.new_ones(len(mean), 1, 1), torch.zeros_like(mean)
        grey, chroma, _ = _planes(mean.device, mean.dtype)
        return grey + colour_kept * chroma, torch.zeros_like(mean)
