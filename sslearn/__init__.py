"""Self-supervised learning as scikit-learn estimators."""

from . import augment, callbacks, encoders, metrics
from ._amdim import AMDIM
from ._barlow_twins import BarlowTwins
from ._byol import BYOL
from ._cpc import CPC
from ._lfr import LFR
from ._moco import MoCo
from ._simclr import SimCLR
from ._simsiam import SimSiam
from ._vicreg import VICReg

__version__ = "0.1.0.dev0"

__all__ = [
    "AMDIM",
    "BYOL",
    "CPC",
    "LFR",
    "BarlowTwins",
    "MoCo",
    "SimCLR",
    "SimSiam",
    "VICReg",
    "augment",
    "callbacks",
    "encoders",
    "metrics",
]
