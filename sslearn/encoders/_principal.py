"""Principal axes of features: fewer columns that keep the distances."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_int
from ._layout import linear

__all__ = ["PrincipalAxes"]


class PrincipalAxes(nn.Module):
    """Coordinates of features along their principal axes, not scaled.

    It is part of a stem and has nothing that learns: make it by :meth:`from_features`.

    Parameters
    ----------
    in_features : int
        Number of features that come in.
    out_features : int
        Number of axes, those along which training samples vary most.

    See Also
    --------
    PatchBank : Has many features, which are much alike.
    HadamardRotation : A random rotation.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import PrincipalAxes
    >>> features = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    >>> features[:, 1] *= 0.01
    >>> axes = PrincipalAxes.from_features(features, 2)
    >>> axes(features).var(0).sum() / features.var(0).sum() > 0.99
    tensor(True)
    """

    weight: torch.Tensor
    offset: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = check_int("PrincipalAxes", "in_features", in_features)
        self.out_features = check_int("PrincipalAxes", "out_features", out_features)
        if self.out_features > self.in_features:
            raise ValueError(
                f"The 'out_features' parameter of PrincipalAxes must be at most in_features = "
                f"{in_features}. Got {out_features!r} instead."
            )
        self.register_buffer("weight", torch.eye(self.out_features, self.in_features))
        self.register_buffer("offset", torch.zeros(self.out_features))

    @classmethod
    def from_features(cls, features: torch.Tensor, out_features: int) -> PrincipalAxes:
        """Find the axes of training samples.

        Parameters
        ----------
        features : torch.Tensor of shape (n, in_features)
            Features of training samples, more than `out_features`.
        out_features : int
            Number of axes.

        Returns
        -------
        PrincipalAxes
            On the CPU.
        """
        found = cls(features.shape[1], out_features)
        if len(features) <= out_features:
            raise ValueError(
                f"PrincipalAxes.from_features expects more samples than axes, {out_features}. Got "
                f"{len(features)} samples instead."
            )
        # A process that only transforms never imports it.
        from sklearn.decomposition import PCA

        # Of thousands of axes, those asked for alone: a third of the time that all take.
        solver = PCA(out_features, svd_solver="randomized", iterated_power=2, random_state=0)
        solver.fit(features.detach().float().cpu().numpy())
        axes = torch.from_numpy(solver.components_)
        found.weight.copy_(axes)
        found.offset.copy_(-(axes @ torch.from_numpy(solver.mean_)))
        return found

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features (n, in_features) to (n, out_features)."""
        return linear(x, self.weight, self.offset)
