"""Pixels of small images among the features of a stem, and back."""

from __future__ import annotations

import math

import torch
from torch import nn

__all__ = ["BankAndPixels", "Flat", "LastValues"]


class Flat(nn.Flatten):
    """Samples, flattened: as part of a stem, which leaves them to the body."""

    #: Nothing in it moves during training.
    is_fixed = True


class BankAndPixels(nn.Sequential):
    """A stem of features of a bank, with the pixels behind them, of which the body takes the last.

    The first part, ``bank``, is a `Concatenation` that ends with ``pixels``.
    """

    @property
    def shortcut(self) -> nn.Module:
        """Part of the stem that is enough for the body: the bank is not computed to train."""
        return self.get_submodule("bank.pixels")


class LastValues(nn.Module):
    """The last features of each sample, in a shape: (n, d) to (n, *shape).

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample; at most d values.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def extra_repr(self) -> str:
        return f"{self.shape}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reshape a batch."""
        return x[:, -math.prod(self.shape) :].unflatten(1, self.shape)
