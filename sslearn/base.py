"""For authors of methods: the base of estimators and of objectives, and parts of both."""

from ._base import BaseSSL
from ._methods._ema import MomentumCopy
from ._methods._heads import make_head
from ._methods._losses._precision import in_full_precision
from ._objective import Batch, Objective, jointly

__all__ = [
    "BaseSSL",
    "Batch",
    "MomentumCopy",
    "Objective",
    "in_full_precision",
    "jointly",
    "make_head",
]

# What is stored names the module of a class: that of the public name, which does not change.
for _name in __all__:
    globals()[_name].__module__ = __name__
