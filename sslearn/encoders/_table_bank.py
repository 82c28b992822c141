"""Features of tables that are fixed: the columns, coordinates of neighbours, bins."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_int
from ._diffusion import DiffusionMap
from ._missing import filled
from ._piecewise import PiecewiseLinear
from ._rotation import HadamardRotation

__all__ = ["TableBank"]

# Columns up to which they stay as they are; more are mixed at random, in as many.
_MOST_COLUMNS = 1024
# Deviation below which a feature is not scaled up any further, and the largest magnitude of one.
_RARE, _MOST = 0.05, 10.0
# A column has a long tail if at least this part of the rows has one value, and the largest distance
# to it, in deviations, is above this; and the least unit of distances, that of the views' noise.
_COMMON, _LONG, _LEAST_UNIT = 0.5, 8.0, 0.1


class LogTails(nn.Module):
    """Logarithms of columns in which most rows have one value and a few lie far from it.

    Counts and amounts that are mostly zero: their few large values would decide all distances. The
    distance to the common value becomes its logarithm, in units of its median over the other rows.

    Parameters
    ----------
    rows : torch.Tensor of shape (n, n_columns)
        Training rows, standardised.
    """

    is_long: torch.Tensor
    middle: torch.Tensor
    unit: torch.Tensor
    mean: torch.Tensor
    gain: torch.Tensor

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        # Of the values that are known, here and below; NaN are missing and stay so.
        known = rows.isnan().logical_not()
        n_known = known.sum(0).clamp_min(1)
        middle = filled(rows.nanmedian(0).values)
        distance = filled((rows - middle).abs())
        common = (distance == 0) & known
        is_long = (common.sum(0) / n_known >= _COMMON) & (distance.amax(0) > _LONG)
        unit = torch.ones_like(middle)
        for i in is_long.nonzero().flatten().tolist():
            others = known[:, i] & ~common[:, i]
            unit[i] = distance[:, i][others].median().clamp_min(_LEAST_UNIT)
        self.register_buffer("is_long", is_long)
        self.register_buffer("middle", middle)
        self.register_buffer("unit", unit)
        logarithm = self._logarithm(rows)
        mean, deviation = logarithm.mean(0), logarithm.std(0, correction=0)
        if not bool(known.all()):
            mean = logarithm.nansum(0) / n_known
            deviation = ((logarithm - mean).square().nansum(0) / n_known).sqrt()
        self.register_buffer("mean", mean)
        self.register_buffer("gain", 1 / deviation.clamp_min(_RARE))

    def _logarithm(self, x: torch.Tensor) -> torch.Tensor:
        x = x - self.middle
        return x.sign() * (x.abs() / self.unit).log1p()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take the logarithm of the columns with long tails, (n, n_columns) to the same shape."""
        return torch.where(self.is_long, (self._logarithm(x) - self.mean) * self.gain, x)


class TableBank(nn.Module):
    """A bank of fixed features of tables, which look at the training rows and not at labels.

    There are three blocks: the columns themselves, a :class:`DiffusionMap` of them, which
    distinguishes groups of rows, and a :class:`PiecewiseLinear` encoding, by which a linear map
    sees thresholds. The smoothest coordinate has a deviation of 1. Make it by :meth:`from_rows`; it
    has nothing that learns. Missing values, NaN, come out as the mean of a column and of its bins,
    and a bin of their own shows where they are, see :class:`PiecewiseLinear`.

    Parameters
    ----------
    tails : torch.nn.Module
        Maps rows to rows, before all else: logarithms of columns with long tails.
    columns : torch.nn.Module
        Maps rows to the columns that come out.
    diffusion : DiffusionMap
        The coordinates on the graph of neighbours.
    bins : PiecewiseLinear
        The encoding of the columns.

    See Also
    --------
    StemEncoder : Has this as its stem, in :func:`default_encoder`.
    KernelBank : A bank for series.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import TableBank
    >>> rows = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    >>> bank = TableBank.from_rows(rows)
    >>> bank.widths
    (5, 32, 80)
    >>> bank(rows).shape
    torch.Size([200, 117])
    """

    mean: torch.Tensor
    gain: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True
    #: NaN is a missing value, which estimators then accept.
    takes_nan = True

    def __init__(
        self,
        tails: nn.Module,
        columns: nn.Module,
        diffusion: DiffusionMap,
        bins: PiecewiseLinear,
    ) -> None:
        super().__init__()
        self.tails = tails
        self.columns = columns
        self.diffusion = diffusion
        self.bins = bins
        n_columns = getattr(columns, "out_features", bins.in_features)
        #: Number of features of each block.
        self.widths = (n_columns, diffusion.out_features, bins.width)
        #: Number of features.
        self.n_features = sum(self.widths)
        self.register_buffer("mean", torch.zeros(self.n_features))
        self.register_buffer("gain", torch.ones(self.n_features))

    @classmethod
    @torch.no_grad()
    def from_rows(
        cls,
        rows: torch.Tensor,
        *,
        n_coordinates: int = 32,
        generator: torch.Generator | None = None,
    ) -> TableBank:
        """Make a bank that suits training rows.

        Parameters
        ----------
        rows : torch.Tensor of shape (n, n_columns)
            A few thousand training rows, standardised; two at least. NaN is a missing value.
        n_coordinates : int, default=32
            Number of coordinates on the graph of neighbours.
        generator : torch.Generator, default=None
            Source of all random numbers. If None, torch's default generator.

        Returns
        -------
        TableBank
            On the CPU.
        """
        rows = rows.detach().float().cpu()
        n_coordinates = check_int("TableBank.from_rows", "n_coordinates", n_coordinates)
        tails = LogTails(rows)
        given, rows = rows, tails(rows)
        columns: nn.Module = nn.Identity()
        if rows.shape[1] > _MOST_COLUMNS:
            columns = HadamardRotation(
                rows.shape[1], max_features=_MOST_COLUMNS, generator=generator
            )
        diffusion = DiffusionMap.from_samples(rows, n_coordinates, generator=generator)
        bins = PiecewiseLinear.from_rows(rows)
        made = cls(tails, columns, diffusion, bins)
        features = made(given)
        made.mean.copy_(features.mean(0))
        # Columns and bins keep the scale that they have: rare categories are not scaled up. And so
        # do coordinates, among each other: the smoother one is, the larger.
        smooth = features.split(made.widths, dim=1)[1]
        scale = smooth.std(0, correction=0).max().clamp_min(_RARE)
        made.gain[made.widths[0] :][: made.widths[1]] = 1 / scale
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode standardised rows (n, n_columns): (n, n_features)."""
        if torch.is_autocast_enabled(x.device.type):
            # Distances and angles need single precision.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float())
        x = self.tails(x.flatten(1))
        known = filled(x)
        blocks = (self.columns(known), self.diffusion(known), self.bins(x))
        features = torch.cat(blocks, dim=1)
        return ((features - self.mean) * self.gain).clamp(-_MOST, _MOST)
