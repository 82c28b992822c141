"""A linear map that makes views of a sample alike, in closed form."""

from __future__ import annotations

import torch
from torch import nn

from ._checks import check_int
from ._layout import linear

__all__ = ["ViewWhitening"]

# Samples whose views are added up at once, and those by which the result is scaled, at most.
_CHUNK, _SCALED_ON = 256, 1024
# Directions with less than this part of the largest variance are rounding.
_ROUNDING = 1e-12


class ViewWhitening(nn.Module):
    """Scale down the directions in which views of one sample differ from each other.

    Features are multiplied by (S + a I)^(-1/2), where S is the covariance of views of a sample
    about their mean, averaged over samples, and a its mean variance times `shrinkage`. Known from
    speaker recognition, where recordings of one speaker take the place of views [1]_. It is the
    closed form of what a linear layer learns that is to make views alike and stay informative.

    It is part of a stem: it has no parameters, does nothing until :meth:`fit`, and is fitted by an
    estimator before its first step, once. One that was fitted before stays as it is.

    Parameters
    ----------
    n_features : int
        Number of features, which stays.
    shrinkage : float, default=1.0
        Weight of all directions alike: the larger, the less is changed.
    rest : bool, default=False
        Whether there are features behind these, which stay as they are.

    References
    ----------
    .. [1] A. O. Hatch, S. Kajarekar, A. Stolcke, "Within-Class Covariance Normalization for
       SVM-based Speaker Recognition", Interspeech 2006.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import ViewWhitening
    >>> generator = torch.Generator().manual_seed(0)
    >>> samples = torch.randn(100, 1, 3, generator=generator)
    >>> noise = torch.randn(100, 4, 3, generator=generator)
    >>> views = samples + noise * torch.tensor([0.1, 0.1, 2.0])
    >>> whitening = ViewWhitening(3)
    >>> whitening.fit(views)
    >>> whitening(samples[:, 0]).std(0).argmin()  # the feature that views change
    tensor(2)
    """

    weight: torch.Tensor | None

    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(self, n_features: int, *, shrinkage: float = 1.0, rest: bool = False) -> None:
        super().__init__()
        self.n_features = check_int("ViewWhitening", "n_features", n_features)
        self.shrinkage = shrinkage
        self.rest = rest
        self.register_buffer("weight", None)

    @property
    def is_fitted(self) -> bool:
        """Whether there is a map; before, nothing is changed."""
        return self.weight is not None

    def extra_repr(self) -> str:
        rest = ", rest=True" if self.rest else ""
        return f"n_features={self.n_features}, shrinkage={self.shrinkage}{rest}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Whiten features (n, n_features), or the first ones of (n, d) with `rest`."""
        if self.weight is None:
            return x
        if not self.rest:
            return linear(x, self.weight)
        first, rest = x[:, : self.n_features], x[:, self.n_features :]
        return torch.cat((linear(first, self.weight), rest), dim=1)

    @torch.no_grad()
    def fit(self, views: torch.Tensor) -> None:
        """Set the map.

        Parameters
        ----------
        views : torch.Tensor of shape (n, n_views, n_features)
            Features of views of training samples; two views at least. With `rest` there may be
            more features, which are left aside.
        """
        views = views[..., : self.n_features]
        n, n_views, n_features = views.shape
        means, n_apart = views.float().mean(1), n * (n_views - 1)
        if n * n_views < n_features:
            # Of few views the directions are found among them.
            apart = _apart(views).double()
            values, vectors = torch.linalg.eigh(apart @ apart.T / n_apart)
            kept = values > _ROUNDING * values[-1].clamp_min(torch.finfo(torch.float64).tiny)
            values = values[kept]
            axes = apart.T @ (vectors[:, kept] / (n_apart * values).sqrt())
        else:
            within = torch.zeros(n_features, n_features, dtype=torch.float64, device=views.device)
            for part in views.split(_CHUNK):
                apart = _apart(part)
                within += apart.T @ apart
            values, axes = torch.linalg.eigh(within / n_apart)
            values = values.clamp_min(0)
        added = self.shrinkage * values.sum() / n_features
        if not added > _ROUNDING * means.double().square().mean():  # views are all alike
            return
        # All directions that were not found have the added variance alone.
        most = added.rsqrt()
        weight = (axes * ((values + added).rsqrt() - most)) @ axes.T
        weight.diagonal().add_(most)
        # The mean variance of what comes out is that of what goes in.
        some = means[:_SCALED_ON].double()
        after = (some @ weight).var(0, correction=0).sum()
        if after > 0:
            weight *= (some.var(0, correction=0).sum() / after).sqrt()
        self.weight = weight.float()


def _apart(views: torch.Tensor) -> torch.Tensor:
    """Return the views (n, n_views, d) less the mean of each sample, (n * n_views, d)."""
    views = views.float()
    return (views - views.mean(1, keepdim=True)).flatten(0, 1)
