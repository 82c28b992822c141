"""Self-supervised learning as scikit-learn estimators."""

from . import augment, encoders, metrics
from ._simclr import SimCLR

__version__ = "0.1.0.dev0"

__all__ = ["SimCLR", "augment", "encoders", "metrics"]
