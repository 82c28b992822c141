"""A multilayer perceptron, the encoder for tables."""

from collections.abc import Sequence
from math import prod
from numbers import Real

import torch
from torch import nn

from ._checks import check_int, check_ints

__all__ = ["MLP"]


class MLP(nn.Module):
    """Multilayer perceptron, the encoder for tables.

    Each hidden layer is a linear map without bias, batch normalisation, ReLU and dropout. The
    features are the output of a last linear map, or of the last hidden layer.

    Parameters
    ----------
    in_features : int
        Number of values in a sample.
    hidden_dims : sequence of int, default=(256, 256)
        Widths of the hidden layers. An empty sequence gives a linear encoder.
    embedding_dim : int or None, default=128
        Number of output features. If None, no linear map follows the last hidden layer.
    dropout : float, default=0.0
        Probability, in [0, 1), that a hidden activation is set to zero in training.

    See Also
    --------
    ResNet : Encoder for series, images and volumes.
    default_encoder : Choose and size an encoder from the shape of a sample.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import MLP
    >>> encoder = MLP(10, hidden_dims=(64,), embedding_dim=16)
    >>> encoder(torch.zeros(5, 10)).shape
    torch.Size([5, 16])
    """

    def __init__(
        self,
        in_features: int,
        *,
        hidden_dims: Sequence[int] = (256, 256),
        embedding_dim: int | None = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = check_int("MLP", "in_features", in_features)
        self.hidden_dims = check_ints("MLP", "hidden_dims", hidden_dims, may_be_empty=True)
        if embedding_dim is None and not self.hidden_dims:
            raise ValueError(
                "The 'embedding_dim' parameter of MLP must be an int where there is no hidden "
                "layer. Got None instead."
            )
        if embedding_dim is not None:
            embedding_dim = check_int("MLP", "embedding_dim", embedding_dim)
        self.embedding_dim = embedding_dim
        if isinstance(dropout, bool) or not isinstance(dropout, Real) or not 0 <= dropout < 1:
            raise ValueError(
                "The 'dropout' parameter of MLP must be a float in the range [0, 1). "
                f"Got {dropout!r} instead."
            )
        self.dropout = float(dropout)

        self.hidden: nn.ModuleList = nn.ModuleList()
        width = self.in_features
        for hidden_dim in self.hidden_dims:
            # The normalisation subtracts any constant, so a bias before it would do nothing.
            layers = [
                nn.Linear(width, hidden_dim, bias=False),
                nn.BatchNorm1d(hidden_dim),
                nn.ReLU(),
            ]
            if self.dropout > 0:
                layers.append(nn.Dropout(self.dropout))
            self.hidden.append(nn.Sequential(*layers))
            width = hidden_dim
        self.output: nn.Module = nn.Identity()
        if embedding_dim is not None:
            self.output = nn.Linear(width, embedding_dim)

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the activations of the hidden layers.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_features)
            A batch of samples, or anything that flattens to this shape.

        Returns
        -------
        list of torch.Tensor of shape (n, hidden_dims[i])
            One tensor per hidden layer, first to last.
        """
        if x.ndim < 2 or prod(x.shape[1:]) != self.in_features:
            raise ValueError(
                f"MLP expects a batch of shape (n, {self.in_features}), or one that flattens to "
                f"it. Got {tuple(x.shape)} instead."
            )
        x = x.flatten(1)
        maps = []
        for layer in self.hidden:
            x = layer(x)
            maps.append(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_features)
            A batch of samples, or anything that flattens to this shape.

        Returns
        -------
        torch.Tensor of shape (n, embedding_dim), or as wide as the last hidden layer
            The features.
        """
        maps = self.feature_maps(x)
        return self.output(maps[-1] if maps else x.flatten(1))
