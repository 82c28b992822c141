"""Encoding of each column of a table as several features, so that one layer sees thresholds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn

from ._checks import is_count
from ._missing import filled

__all__ = ["PiecewiseLinear"]

# Outputs in all, over which the bins are spread, and standard deviations below which an output is
# not scaled up any further: the noise of views would drown the rest in rare categories.
_OUTPUTS, _RARE = 1024, 0.1
# How far a column of two values continues beyond them, in units of their distance: as far as the
# noise of views moves them, and no farther.
_SLACK = 0.5
# Slope of a bin between neighbouring numbers, which float32 has to hold.
_STEEPEST = 1e30


class PiecewiseLinear(nn.Module):
    """Piecewise linear encoding of the columns of a table.

    A column is cut into bins at its quantiles, and becomes an output for each bin, which rises from
    0 to 1 within it. A linear map of the outputs is any piecewise linear function of the columns;
    skewed columns and outliers do no harm. Make it by :meth:`from_rows`, which also standardises
    and bounds all outputs: columns of two values stay as they are, up to half their distance
    beyond, and columns of one value give zero.

    NaN is a missing value, for which all outputs of a column are 0: their mean, after
    :meth:`from_rows`. A column in which values were missing there has one more output, behind all
    others: 1 where its value is missing and else 0, before it is standardised as well. Columns
    that miss values in the same rows share one, as those of a one-hot category do.

    Parameters
    ----------
    edges : sequence of sequences of float
        Increasing borders of the bins of each column. A column with fewer than two borders stays
        as it is.
    slack : float, default=0.0
        Distance beyond its borders over which the output of a column with a single bin continues,
        in widths of the bin.
    flagged : sequence of int, default=()
        Columns with an output that shows where a value is missing.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev, A. Babenko, "On Embeddings for Numerical Features in Tabular
       Deep Learning", NeurIPS 2022, arXiv:2203.05556.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import PiecewiseLinear
    >>> encoding = PiecewiseLinear([[0.0, 1.0, 3.0], []])
    >>> encoding(torch.tensor([[2.0, 7.0]]))
    tensor([[1.0000, 0.5000, 7.0000]])
    """

    #: NaN is a missing value, which estimators then accept.
    takes_nan = True

    column: torch.Tensor
    flagged: torch.Tensor
    low: torch.Tensor
    slope: torch.Tensor
    least: torch.Tensor
    most: torch.Tensor
    mean: torch.Tensor
    gain: torch.Tensor

    def __init__(
        self,
        edges: Sequence[Sequence[float]],
        *,
        slack: float = 0.0,
        flagged: Sequence[int] = (),
    ) -> None:
        super().__init__()
        # For each output: column, low border, slope, least and most.
        outputs: list[tuple[float, ...]] = []
        for i, borders in enumerate(edges):
            pairs = [(float(low), float(high)) for low, high in itertools.pairwise(borders)]
            if any(high <= low for low, high in pairs):
                raise ValueError(
                    "The 'edges' parameter of PiecewiseLinear must hold increasing numbers for "
                    f"each column. Got {list(borders)} for column {i}."
                )
            beyond = slack if len(pairs) == 1 else 0.0
            outputs += [
                (i, a, min(1 / (b - a), _STEEPEST), -beyond, 1.0 + beyond) for a, b in pairs
            ]
            if not pairs:
                outputs.append((i, 0.0, 1.0, -math.inf, math.inf))
        #: Numbers of input columns and of outputs.
        self.in_features, self.width = len(edges), len(outputs) + len(flagged)
        each = torch.tensor(outputs, dtype=torch.float64).T
        self.register_buffer("column", each[0].long())
        self.register_buffer("flagged", torch.tensor(flagged, dtype=torch.long))
        for name, values in zip(("low", "slope", "least", "most"), each[1:], strict=True):
            self.register_buffer(name, values.float())
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("gain", torch.ones(self.width))

    def extra_repr(self) -> str:
        """Name the numbers of columns and of outputs."""
        return f"in_features={self.in_features}, width={self.width}"

    @classmethod
    @torch.no_grad()
    def from_rows(cls, rows: torch.Tensor, n_bins: int = 16) -> PiecewiseLinear:
        """Put the borders at the quantiles of some rows, and standardise by them.

        Parameters
        ----------
        rows : torch.Tensor of shape (n, in_features)
            A few thousand training rows, standardised. NaN is a missing value.
        n_bins : int, default=16
            Maximum number of bins of a column. There are fewer where a column has fewer distinct
            values, or so many columns that they make more than 1024 outputs; with more columns than
            half of that, all stay as they are, bounded by their extremes.

        Returns
        -------
        PiecewiseLinear
            The encoding, on the CPU.
        """
        if not is_count(n_bins):
            raise ValueError(
                "The 'n_bins' parameter of PiecewiseLinear.from_rows must be an int in the range "
                f"[1, inf). Got {n_bins!r} instead."
            )
        rows = rows.detach().float().cpu()
        missing = rows.isnan()
        ordered = list(rows.sort(dim=0).values.T.contiguous())  # (in_features, n)
        if bool(missing.any()):
            # NaN comes last.
            counts = missing.sum(0).tolist()
            ordered = [line[: len(line) - n] for line, n in zip(ordered, counts, strict=True)]
        distinct = [torch.unique_consecutive(values) for values in ordered]
        n_cut = sum(len(values) > 2 for values in distinct)
        n_bins = min(n_bins, _OUTPUTS // max(n_cut, 1))
        found: list[list[float]] = []
        for values, different in zip(ordered, distinct, strict=True):
            if len(different) <= 2 or n_bins < 2:
                # One bin from end to end is the column itself, rescaled.
                found.append(different[[0, -1]].tolist() if len(different) > 1 else [])
            else:
                found.append(_borders(values, different, n_bins).tolist())
        made = cls(found, slack=_SLACK, flagged=_flagged(missing))
        made._standardize(rows)
        return made

    def _standardize(self, rows: torch.Tensor) -> None:
        """Bring the outputs to zero mean and unit deviation over rows, where they are known."""
        outputs = self._outputs(rows)
        known = outputs.isnan().logical_not()
        if bool(known.all()):
            mean, deviation = outputs.mean(0), outputs.std(0, correction=0)
        else:
            n_known = known.sum(0).clamp_min(1)
            mean = outputs.nansum(0) / n_known
            deviation = ((outputs - mean).square().nansum(0) / n_known).sqrt()
        self.mean.copy_(mean)
        # Columns of one value give zero.
        taught = self.most.isfinite()
        bounded = torch.cat((taught, taught.new_ones(len(self.flagged))))
        self.gain.copy_(bounded / deviation.clamp_min(_RARE))
        self.least.masked_fill_(~taught, 0.0)
        self.most.masked_fill_(~taught, 0.0)

    def _outputs(self, x: torch.Tensor) -> torch.Tensor:
        """Return all outputs before they are standardised, NaN where a value is missing."""
        columns = x.index_select(1, self.column)
        # Subtracted first, which is exact near the border, whatever the column's scale.
        found = ((columns - self.low) * self.slope).clamp(self.least, self.most)
        if not len(self.flagged):
            return found
        return torch.cat((found, x.index_select(1, self.flagged).isnan().to(x.dtype)), dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode rows (n, in_features): (n, `width`)."""
        x = x.flatten(1)
        if x.shape[1] != self.in_features:
            raise ValueError(
                f"PiecewiseLinear expects a batch of shape (n, {self.in_features}), or one that "
                f"flattens to it. Got samples of {x.shape[1]} values instead."
            )
        return filled(self._outputs(x).sub(self.mean).mul(self.gain))


def _flagged(missing: torch.Tensor) -> list[int]:
    """Return the columns that miss values; of those that do in the same rows, the first."""
    columns = missing.any(0).nonzero().flatten()
    if not len(columns):
        return []
    _, same = missing[:, columns].unique(dim=1, return_inverse=True)
    first: dict[int, int] = {}
    for column, kind in zip(columns.tolist(), same.tolist(), strict=True):
        first.setdefault(kind, column)
    return sorted(first.values())


def _borders(values: torch.Tensor, different: torch.Tensor, n_bins: int) -> torch.Tensor:
    """Return the borders of bins of sorted values, of which some are `different`."""
    if len(different) <= n_bins + 1:
        return different
    borders = torch.unique_consecutive(values[_places(len(values), n_bins)])
    if len(borders) <= n_bins // 2:
        # Most rows have one value: the values of the others are distinguished too.
        rest = different[_places(len(different), n_bins // 2)]
        borders = torch.cat((borders, rest)).unique()
    return borders


def _places(n: int, n_bins: int) -> torch.Tensor:
    return torch.linspace(0, n - 1, n_bins + 1).round().long()
