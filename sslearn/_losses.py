"""Losses as plain functions. Paper symbols are mapped to names where they are used.

All are computed in float32 at least, whatever the precision of their input and also under
autocast: a similarity divided by a temperature of 0.1 keeps two digits in bfloat16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["nt_xent"]


def nt_xent(z1: torch.Tensor, z2: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    """Normalised temperature-scaled cross entropy of SimCLR (arXiv 2002.05709, equation 1).

    Row i of `z1` and row i of `z2` are each other's positive; the other 2 n - 2 rows are the
    negatives. Computed as one matrix product and one log-softmax, never in exp space: with
    T = 0.01, exp(1 / T) overflows float32.

    Parameters
    ----------
    z1, z2 : Tensor of shape (n, d)
        Projections of the two views; normalised here.
    temperature : float
        T of the paper, above 0.

    Returns
    -------
    Tensor
        Scalar, the mean over the 2 n rows.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0. Got {temperature!r} instead.")
    if z1.shape != z2.shape or z1.ndim != 2:
        raise ValueError(
            "nt_xent needs two projections of the same shape (n, d). "
            f"Got {tuple(z1.shape)} and {tuple(z2.shape)} instead."
        )
    n = len(z1)
    with torch.autocast(z1.device.type, enabled=False):
        z = torch.cat((z1, z2))
        z = F.normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=1)  # (2n, d)
        z = z * temperature**-0.5  # cheaper on (2n, d) than dividing (2n, 2n)
        similarity = z @ z.T  # (2n, 2n)
        similarity.fill_diagonal_(float("-inf"))
        positive = torch.arange(2 * n, device=z.device).roll(n)  # i <-> i + n
        return F.cross_entropy(similarity, positive)
