"""Features of tables that are fixed: the columns, random features, and neighbours."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_int
from ._diffusion import DiffusionMap
from ._laplace import LaplaceFeatures
from ._rotation import HadamardRotation

__all__ = ["TableBank"]

# Columns up to which they stay as they are; more are mixed at random, in as many.
_MOST_COLUMNS = 1024
# Deviation below which a feature is not scaled up any further, and the largest magnitude of one.
_RARE, _MOST = 0.05, 10.0


class TableBank(nn.Module):
    """A bank of fixed features of tables, which look at the training rows and not at labels.

    There are three blocks: the columns themselves, :class:`LaplaceFeatures` of them, which make a
    linear map flexible, and a :class:`DiffusionMap`, which distinguishes groups of rows. The random
    features are standardised, and the smoothest coordinate has a deviation of 1. Make it by
    :meth:`from_rows`; it has nothing that learns.

    Parameters
    ----------
    columns : torch.nn.Module
        Maps rows to the columns that come out.
    laplace : LaplaceFeatures
        The random features.
    diffusion : DiffusionMap
        The coordinates on the graph of neighbours.

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
    (5, 384, 64)
    >>> bank(rows).shape
    torch.Size([200, 453])
    """

    mean: torch.Tensor
    gain: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(
        self, columns: nn.Module, laplace: LaplaceFeatures, diffusion: DiffusionMap
    ) -> None:
        super().__init__()
        self.columns = columns
        self.laplace = laplace
        self.diffusion = diffusion
        n_columns = getattr(columns, "out_features", laplace.in_features)
        #: Number of features of each block.
        self.widths = (n_columns, laplace.out_features, diffusion.out_features)
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
        n_random: int = 384,
        n_coordinates: int = 64,
        generator: torch.Generator | None = None,
    ) -> TableBank:
        """Make a bank that suits training rows.

        Parameters
        ----------
        rows : torch.Tensor of shape (n, n_columns)
            A few thousand training rows, standardised; two at least.
        n_random : int, default=384
            Number of random features, an even number.
        n_coordinates : int, default=64
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
        columns: nn.Module = nn.Identity()
        if rows.shape[1] > _MOST_COLUMNS:
            columns = HadamardRotation(
                rows.shape[1], max_features=_MOST_COLUMNS, generator=generator
            )
        laplace = LaplaceFeatures.from_samples(rows, n_random, generator=generator)
        diffusion = DiffusionMap.from_samples(rows, n_coordinates, generator=generator)
        made = cls(columns, laplace, diffusion)
        features = made(rows)
        made.mean.copy_(features.mean(0))
        made.gain.copy_(1 / features.std(0, correction=0).clamp_min(_RARE))
        # Columns keep the scale that they have: rare categories are not scaled up. And so do
        # coordinates, among each other: the smoother one is, the larger.
        made.gain[: made.widths[0]] = 1.0
        smooth = made.gain[-made.widths[2] :]
        smooth.fill_(smooth.min())
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode standardised rows (n, n_columns): (n, n_features)."""
        if torch.is_autocast_enabled(x.device.type):
            # Distances and angles need single precision.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float())
        x = x.flatten(1)
        features = torch.cat((self.columns(x), self.laplace(x), self.diffusion(x)), dim=1)
        return ((features - self.mean) * self.gain).clamp(-_MOST, _MOST)
