"""Encoders: the networks that map each sample to a vector of features.

An encoder is any :class:`torch.nn.Module` that maps a batch to a float tensor (n, width). Those
here cover every kind of array that the estimators take: a :class:`StemEncoder` on a
:class:`TableBank` for tables, on a :class:`KernelBank` and :class:`SegmentMeans` for series and on
a :class:`PatchBank` for images and volumes; an :class:`MLP`, also after a :class:`PiecewiseLinear`
encoding of the columns, for tables, and a :class:`ResNet` for all others. :func:`default_encoder`
chooses and sizes one. :class:`FillMissing` in front of a network makes it take missing values.
:class:`Windows` is for long recordings.
"""

from ._default import default_encoder
from ._diffusion import DiffusionMap
from ._kernels import KernelBank
from ._log_length import LogLength
from ._missing import FillMissing
from ._mlp import MLP
from ._patches import PatchBank
from ._piecewise import PiecewiseLinear
from ._principal import PrincipalAxes
from ._resnet import ResNet
from ._rotation import HadamardRotation
from ._segments import SegmentMeans
from ._stem import Concatenation, StemEncoder
from ._table_bank import TableBank
from ._whitening import ViewWhitening
from ._windows import Windows

__all__ = [
    "MLP",
    "Concatenation",
    "DiffusionMap",
    "FillMissing",
    "HadamardRotation",
    "KernelBank",
    "LogLength",
    "PatchBank",
    "PiecewiseLinear",
    "PrincipalAxes",
    "ResNet",
    "SegmentMeans",
    "StemEncoder",
    "TableBank",
    "ViewWhitening",
    "Windows",
    "default_encoder",
]

# What is stored names the module of a class: that of the public name, which does not change.
for _name in __all__:
    globals()[_name].__module__ = __name__
