"""Missing values before networks that take none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ._checks import check_int

__all__ = ["FillMissing", "filled", "takes_nan"]


def takes_nan(module: nn.Module | Callable | None) -> bool:
    """Return whether an encoder, or the first module in it, says that it takes NaN."""
    if type(module) is nn.Sequential and len(module):
        return takes_nan(module[0])
    return bool(getattr(module, "takes_nan", False))


def filled(x: torch.Tensor) -> torch.Tensor:
    """Replace NaN by 0, in a single pass."""
    return x.nan_to_num(0.0, math.inf, -math.inf)


class FillMissing(nn.Module):
    """Fill missing values with 0, and show where they were.

    A value that is missing is NaN. Samples are standardised before an encoder, so that 0 is the
    mean of a feature or channel. Place it in front of a network of your own,
    ``nn.Sequential(FillMissing(9), network)``: estimators then accept NaN.

    Parameters
    ----------
    in_channels : int
        Number of features of a table, or of channels.
    mask : bool, default=True
        Whether a mask comes out as well, as further features or channels: 1 where a value is
        missing, and else 0. If False, the filled values come out alone.

    Attributes
    ----------
    out_channels : int
        Number of features or channels that come out: twice `in_channels` with a mask.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import FillMissing
    >>> x = torch.tensor([[0.5, float("nan")], [1.0, -2.0]])
    >>> FillMissing(2)(x)
    tensor([[ 0.5000,  0.0000,  0.0000,  1.0000],
            [ 1.0000, -2.0000,  0.0000,  0.0000]])
    """

    #: NaN is a missing value, which estimators then accept.
    takes_nan = True

    def __init__(self, in_channels: int, mask: bool = True) -> None:
        super().__init__()
        self.in_channels = check_int("FillMissing", "in_channels", in_channels)
        self.mask = bool(mask)
        self.out_channels = self.in_channels * (1 + self.mask)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, mask={self.mask}"

    def filled_shape(self, sample_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a filled sample: that of a sample, with more channels for a mask."""
        return (self.out_channels, *sample_shape[1:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Fill a batch (n, in_channels, ...), to (n, out_channels, ...)."""
        if not self.mask:
            return filled(x)
        return torch.cat((filled(x), x.isnan().to(x.dtype)), dim=1)
