"""Encoders: the networks that turn one sample into one row of features.

An encoder is any :class:`torch.nn.Module` that maps a batch to a float tensor (n, width). Those
here cover arrays of every kind that the estimators read: :class:`MLP`, behind a
:class:`PiecewiseLinear` encoding of the columns, for tables, and :class:`ResNet` for series, images
and volumes. :func:`default_encoder` picks and sizes one.
"""

from ._default import default_encoder
from ._kernels import KernelBank
from ._mlp import MLP
from ._piecewise import PiecewiseLinear
from ._resnet import ResNet
from ._rotation import HadamardRotation

__all__ = ["MLP", "HadamardRotation", "KernelBank", "PiecewiseLinear", "ResNet", "default_encoder"]
