"""Self-supervised learning as scikit-learn estimators."""

from . import augment, base, callbacks, data, encoders, groups, metrics
from ._methods.amdim import AMDIM
from ._methods.barlow_twins import BarlowTwins
from ._methods.byol import BYOL
from ._methods.cpc import CPC
from ._methods.lfr import LFR
from ._methods.moco import MoCo
from ._methods.simclr import SimCLR
from ._methods.simsiam import SimSiam
from ._methods.vicreg import VICReg

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
    "base",
    "callbacks",
    "data",
    "encoders",
    "groups",
    "metrics",
]

# A pickle names the module of a class: that of the public name, which does not change.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
