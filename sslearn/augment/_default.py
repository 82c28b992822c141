"""An augmentation for every kind of data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._base import Augmentation
from ._color import ColorJitter, RandomGrayscale
from ._compose import Compose
from ._images import GaussianBlur, RandomAffine, RandomResizedCrop
from ._series import ChannelDropout, DifferenceNoise, Scaling, TimeCropResize, TimeMask, TimeWarp
from ._tables import FeatureCorruption, GaussianNoise

__all__ = ["default_augment", "is_ours", "noise_of"]


def default_augment(
    sample_shape: tuple[int, ...],
    *,
    rgb: bool = True,
    bank: bool = False,
    feature_groups: np.ndarray | Sequence[Sequence[int]] | None = None,
) -> Augmentation:
    """Return the default augmentation for samples of a shape.

    The strengths suit 10^2 to 10^5 samples and depend on the shape alone. Tables and series
    are expected standardised, images and volumes with values in [0, 1].

    Parameters
    ----------
    sample_shape : tuple of int
        (features,), (channels, time), (channels, height, width) or
        (channels, depth, height, width).
    rgb : bool, default=True
        Whether three channels of an image are red, green and blue. If False, or with another
        number of channels, each channel is an independent band that is not mixed with the others.
    bank : bool, default=False
        Whether the views are for an encoder that begins with a
        :class:`~sslearn.encoders.KernelBank` or a :class:`~sslearn.encoders.PatchBank`. Those of
        series are then weaker, those of images of 16 pixels or more have no noise, since noise
        and edges would hide from short kernels and small patches what they respond to, and those of
        volumes are moved slightly and without interpolation, which would change all small patches.
    feature_groups : array of shape (n_features,) or list of lists of int, default=None
        Features of a table that change together, see :class:`FeatureCorruption`. If None, each
        changes by itself.

    Returns
    -------
    Augmentation
        A `Compose`, whose parts can be changed by ``set_params``.

    Examples
    --------
    >>> from sslearn.augment import default_augment
    >>> default_augment((30,))
    Compose(augmentations=[FeatureCorruption(rate=0.3), GaussianNoise()])
    >>> default_augment((3, 16, 16)).get_params()["randomresizedcrop__scale"]
    (0.3, 1.0)
    """
    parts = {2: _for_series, 3: _for_images, 4: _for_volumes}
    shape = tuple(sample_shape)
    if not 1 <= len(shape) <= 4:
        raise ValueError(
            "default_augment takes samples of shape (features,), (channels, time), (channels, "
            f"height, width) and (channels, depth, height, width). Got {shape} instead."
        )
    if len(shape) == 1:
        # Half of the paper's rate: better on Adult and Covertype.
        return Compose([FeatureCorruption(0.3, feature_groups), GaussianNoise()])
    if len(shape) == 2 and bank:
        return Compose(_for_kernels())
    if len(shape) == 4 and bank:
        return Compose(_for_patches_of_volumes())
    made = Compose(parts[len(shape)](shape))
    if len(shape) == 3 and bank and min(shape[1:]) >= 16:
        made = Compose([part for part in made.augmentations if not isinstance(part, GaussianNoise)])
    if len(shape) == 3 and shape[0] == 3 and not rgb:
        bands = ColorJitter(saturation=0.0, hue=0.0, rgb=False)
        found = [bands if isinstance(part, ColorJitter) else part for part in made.augmentations]
        return Compose([part for part in found if not isinstance(part, RandomGrayscale)])
    return made


def _for_series(shape: tuple[int, ...]) -> list[Augmentation]:
    return [TimeCropResize(), Scaling(), ChannelDropout(), TimeMask(), GaussianNoise()]


def _for_kernels() -> list[Augmentation]:
    views = [TimeCropResize((0.85, 1.0)), TimeWarp(), Scaling(0.1), ChannelDropout()]
    return [*views, DifferenceNoise()]


def _for_images(shape: tuple[int, ...]) -> list[Augmentation]:
    n_channels, *sizes = shape
    smallest, largest = min(sizes), max(sizes)
    flip = _flip(n_channels)
    parts: list[Augmentation]
    if smallest < 32 and n_channels == 1:
        # Characters and the like, which fill their image: a crop removes what distinguishes them.
        parts = [RandomAffine(), ColorJitter(), GaussianNoise(0.1)]
    elif smallest < 32:
        # A fifth of a digit no longer shows which digit it is; it may be wider or narrower
        # though, and there are too few pixels for colours alone to hide their noise.
        crop = RandomResizedCrop(scale=(0.3, 1.0), ratio=(0.5, 2.0), flip=flip)
        parts = [crop, ColorJitter(), GaussianNoise(0.1)]
    else:
        parts = [RandomResizedCrop(flip=flip), ColorJitter()]
    if n_channels == 3:
        parts.insert(2, RandomGrayscale())
    if largest > 64:
        # The widest blur of SimCLR is 2 pixels of 224; on smaller images it is scaled down.
        parts.append(GaussianBlur(sigma=(0.1, round(2 * largest / 224, 2))))
    return parts


def _for_volumes(shape: tuple[int, ...]) -> list[Augmentation]:
    n_channels, *sizes = shape
    # A box of 0.3 of the volume has two thirds of each side.
    scale = (0.3 if min(sizes) >= 16 else 0.5, 1.0)
    return [
        RandomResizedCrop(scale=scale, flip=_flip(n_channels)),
        ColorJitter(saturation=0.0, hue=0.0, rgb=False),
    ]


def _for_patches_of_volumes() -> list[Augmentation]:
    # Size and place often are what matters in a volume, so there are no crops. (Masks of an organ,
    # a tenth of the labels, area under the curve of the stem, whitened: 76.6; interpolated 75.6;
    # crops from 0.3 on 74.0.)
    moved = RandomAffine(scale=0.1, shift=0.05, shear=0.0, interpolation="nearest")
    return [moved, ColorJitter(saturation=0.0, hue=0.0, rgb=False)]


def _flip(n_channels: int) -> float:
    # One channel: often characters, spectrograms or scans, where left and right differ.
    return 0.0 if n_channels == 1 else 0.5


def noise_of(augment: object) -> float:
    """Return the standard deviation of the noise that an augmentation adds to every value."""
    if isinstance(augment, Compose):
        return math.hypot(*(noise_of(part) for part in augment.augmentations))
    return float(augment.noise) if isinstance(augment, GaussianNoise) else 0.0


def is_ours(augment: object) -> bool:
    """Return whether an augmentation is made of those of this package alone, or of none."""
    if augment is None:
        return True
    if isinstance(augment, Compose):
        return all(map(is_ours, augment.augmentations))
    own = __name__.rpartition(".")[0]
    return isinstance(augment, Augmentation) and type(augment).__module__.startswith(own)
