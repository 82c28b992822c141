"""Random views of whole batches: augmentations as objects with parameters.

Each takes a batch of tensors, on any device, and returns another of the same shape, dtype and
device, with one random draw per sample. As scikit-learn's estimators they have ``get_params`` and
``set_params``, so their strengths can be searched. Series may have missing values, NaN, after
their end and within: views stay within the length of each series, and gaps stay gaps.
"""

from ._base import Augmentation
from ._color import ColorJitter, RandomGrayscale
from ._compose import Compose
from ._default import default_augment
from ._given import GivenViews
from ._images import GaussianBlur, RandomAffine, RandomResizedCrop, Solarize
from ._series import (
    ChannelDropout,
    DifferenceNoise,
    Scaling,
    SegmentPermutation,
    TimeCropResize,
    TimeMask,
    TimeWarp,
)
from ._tables import FeatureCorruption, GaussianNoise

__all__ = [
    "Augmentation",
    "ChannelDropout",
    "ColorJitter",
    "Compose",
    "DifferenceNoise",
    "FeatureCorruption",
    "GaussianBlur",
    "GaussianNoise",
    "GivenViews",
    "RandomAffine",
    "RandomGrayscale",
    "RandomResizedCrop",
    "Scaling",
    "SegmentPermutation",
    "Solarize",
    "TimeCropResize",
    "TimeMask",
    "TimeWarp",
    "default_augment",
]

# What is stored names the module of a class: that of the public name, which does not change.
for _name in __all__:
    globals()[_name].__module__ = __name__
