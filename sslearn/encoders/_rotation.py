"""A fixed random rotation that takes next to no memory."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ._checks import check_int

__all__ = ["HadamardRotation"]


class HadamardRotation(nn.Module):
    """Rotate features by a randomized Hadamard transform.

    The signs of the features are flipped at random and a Hadamard matrix is applied, so that each
    output column is a sum of all features with random signs. Distances between samples stay as
    they are, and with them ridge regression and nearest neighbours. A later scaler of the columns,
    fitted on few samples, does no harm: it would magnify a feature that is zero in most samples,
    since its deviation in a few of them is tiny, and no output column is such a feature. If there
    are more columns than `max_features`, a random subset of them is returned, which nearly keeps
    distances [1]_.

    Parameters
    ----------
    in_features : int
        Number of features that come in.
    max_features : int, default=2048
        Largest number of output columns, a power of 2. Below it, the number of output columns is
        `in_features` rounded up to a power of 2.
    generator : torch.Generator, default=None
        Draws the signs. If None, torch's default generator does.

    See Also
    --------
    KernelBank : Features of series, whose deviations differ.

    References
    ----------
    .. [1] J. A. Tropp, "Improved Analysis of the Subsampled Randomized Hadamard Transform",
       Advances in Adaptive Data Analysis 3, 2011, arXiv:1011.1595.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import HadamardRotation
    >>> rotation = HadamardRotation(3, generator=torch.Generator().manual_seed(0))
    >>> x = torch.tensor([[3.0, 0.0, 4.0]])
    >>> rotation(x).shape, rotation(x).norm()
    (torch.Size([1, 4]), tensor(5.))
    """

    sign: torch.Tensor
    columns: torch.Tensor | None
    left: torch.Tensor
    right: torch.Tensor

    def __init__(
        self,
        in_features: int,
        *,
        max_features: int = 2048,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_int("HadamardRotation", "in_features", in_features)
        most = check_int("HadamardRotation", "max_features", max_features)
        if most & (most - 1):
            raise ValueError(
                "The 'max_features' parameter of HadamardRotation must be a power of 2. Got "
                f"{max_features!r} instead."
            )
        n_bits = (self.in_features - 1).bit_length()
        #: Number of output columns.
        self.out_features = min(2**n_bits, most)
        sign = torch.randint(2, (self.in_features,), generator=generator) * 2 - 1
        self.register_buffer("sign", sign.float())
        columns = None
        if 2**n_bits > most:
            columns = torch.randperm(2**n_bits, generator=generator)[:most].sort().values
        self.register_buffer("columns", columns)
        # A large Hadamard matrix is the Kronecker product of two small ones, and so its product
        # with a sample is that of three small matrices.
        scale = self.out_features**-0.5
        self.register_buffer("left", _hadamard(n_bits // 2) * scale)
        self.register_buffer("right", _hadamard(n_bits - n_bits // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rotate features (n, in_features): (n, out_features)."""
        n_rows, n_columns = len(self.left), len(self.right)
        x = F.pad(x * self.sign, (0, n_rows * n_columns - self.in_features))
        x = (self.left @ x.unflatten(1, (n_rows, n_columns)) @ self.right).flatten(1)
        return x if self.columns is None else x[:, self.columns]


def _hadamard(n_bits: int) -> torch.Tensor:
    """Return the Hadamard matrix of 2**n_bits rows."""
    matrix = torch.ones(1, 1)
    for _ in range(n_bits):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix
