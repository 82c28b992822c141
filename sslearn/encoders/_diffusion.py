"""Coordinates of samples on the graph of their neighbours, for new samples too."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_int
from ._layout import linear
from ._missing import filled

__all__ = ["DiffusionMap"]

# The distance to this neighbour is the width of a sample's kernel, at least a part of the median
# width: many rows of a table may be equal.
_NEIGHBOUR, _NARROWEST = 10, 0.1
# Eigenvalues below this are rounding, and weights of a sample that is far from all landmarks.
_LEAST, _FAR, _LOWEST = 1e-6, 1e-12, -60.0


class DiffusionMap(nn.Module):
    """Diffusion coordinates: the smoothest functions on the graph of neighbouring samples.

    Some training samples, the landmarks, are joined by weights exp(-d^2 / (s t)), where d is the
    distance of two of them and s and t are their distances to their tenth neighbours. The leading
    eigenvectors of this graph vary slowly along it and distinguish its clusters, so that few
    labels are enough for groups of any shape. A sample's coordinates are the means of those of the
    landmarks, by its weights to them. Make it by :meth:`from_samples`; it has nothing that learns.
    Missing values, NaN, are taken to be 0, the mean of standardised samples.

    Parameters
    ----------
    in_features : int
        Number of features that come in.
    n_landmarks : int
        Number of landmarks.
    n_coordinates : int
        Number of coordinates.

    See Also
    --------
    TableBank : Has them among its features.

    References
    ----------
    .. [1] R. R. Coifman, S. Lafon, "Diffusion Maps", Applied and Computational Harmonic Analysis
       21, 2006.
    .. [2] L. Zelnik-Manor, P. Perona, "Self-Tuning Spectral Clustering", NIPS 2004.

    Examples
    --------
    Two rings, one within the other, which no linear function of x and y distinguishes:

    >>> import torch
    >>> from sslearn.encoders import DiffusionMap
    >>> angle = torch.linspace(0, 6.28, 200)
    >>> ring = torch.stack((angle.cos(), angle.sin()), dim=1)
    >>> coordinates = DiffusionMap.from_samples(torch.cat((ring, 5 * ring)))
    >>> first = coordinates(torch.cat((0.9 * ring, 5.1 * ring)))[:, 0]
    >>> bool((first[:200] > 0).all() != (first[200:] > 0).all())
    True
    """

    landmarks: torch.Tensor
    squares: torch.Tensor
    width: torch.Tensor
    narrowest: torch.Tensor
    coordinates: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True
    #: NaN is a missing value, which estimators then accept.
    takes_nan = True

    def __init__(self, in_features: int, n_landmarks: int, n_coordinates: int) -> None:
        super().__init__()
        self.in_features = check_int("DiffusionMap", "in_features", in_features)
        n_landmarks = check_int("DiffusionMap", "n_landmarks", n_landmarks)
        self.out_features = check_int("DiffusionMap", "n_coordinates", n_coordinates)
        self.neighbour = min(_NEIGHBOUR, n_landmarks - 1) + 1
        self.register_buffer("landmarks", torch.zeros(n_landmarks, self.in_features))
        self.register_buffer("squares", torch.zeros(n_landmarks))
        self.register_buffer("width", torch.ones(n_landmarks))
        self.register_buffer("narrowest", torch.ones(()))
        self.register_buffer("coordinates", torch.zeros(n_landmarks, self.out_features))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, n_landmarks={len(self.landmarks)}, "
            f"n_coordinates={self.out_features}"
        )

    @classmethod
    @torch.no_grad()
    def from_samples(
        cls,
        samples: torch.Tensor,
        n_coordinates: int = 32,
        *,
        n_landmarks: int = 1024,
        generator: torch.Generator | None = None,
    ) -> DiffusionMap:
        """Choose landmarks among training samples, and find their coordinates.

        Parameters
        ----------
        samples : torch.Tensor of shape (n, in_features)
            Training samples, standardised.
        n_coordinates : int, default=32
            Number of coordinates; those beyond the number of landmarks are zero.
        n_landmarks : int, default=1024
            Largest number of landmarks, random samples.
        generator : torch.Generator, default=None
            Draws them. If None, torch's default generator does.

        Returns
        -------
        DiffusionMap
            On the CPU.
        """
        samples = filled(samples.detach().float().cpu())
        chosen = torch.randperm(len(samples), generator=generator)[:n_landmarks].sort().values
        found = cls(samples.shape[1], len(chosen), n_coordinates)
        found.landmarks.copy_(samples[chosen])
        found.squares.copy_(found.landmarks.square().sum(1))
        distances = found._squared_distances(found.landmarks)
        width = found._widths(distances)
        found.narrowest.copy_(_NARROWEST * width.median().clamp_min(_LEAST))
        found.width.copy_(width.maximum(found.narrowest))
        weights = (-distances / (found.width[:, None] * found.width)).exp().double()
        degree = weights.sum(1)
        root = degree.sqrt()
        # The symmetric matrix that is similar to the one of the transitions, without its constant
        # coordinate: where groups are not joined at all, others have the same eigenvalue.
        constant = root / degree.sum().sqrt()
        matrix = weights / (root[:, None] * root) - constant[:, None] * constant
        _, vectors = torch.linalg.eigh(matrix)
        n = min(n_coordinates, len(chosen) - 1)
        vectors = vectors.flip(1)[:, :n] / constant[:, None]
        # A mean over neighbours has the eigenvalue as a factor: a smooth coordinate has more of it.
        found.coordinates[:, :n] = vectors.float()
        return found

    def _squared_distances(self, x: torch.Tensor) -> torch.Tensor:
        """Return the squared distances of samples to the landmarks, (n, n_landmarks)."""
        products = linear(x, -2 * self.landmarks, self.squares)
        return (products + x.square().sum(1, keepdim=True)).clamp_min(0.0)

    def _widths(self, distances: torch.Tensor) -> torch.Tensor:
        # A third of the time that kthvalue takes.
        return distances.topk(self.neighbour, dim=1, largest=False).values[:, -1].sqrt()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map samples (n, in_features) to coordinates (n, n_coordinates)."""
        distances = self._squared_distances(filled(x))
        width = self._widths(distances).maximum(self.narrowest)
        # Numbers near the least that float32 has take ten times as long.
        weights = (-distances / (width[:, None] * self.width)).clamp_min(_LOWEST).exp()
        total = weights.sum(1, keepdim=True).clamp_min(_FAR)
        return linear(weights, self.coordinates.T) / total
