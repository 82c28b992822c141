"""SimCLR: two views of a sample agree, and differ from the views of all other samples."""

from __future__ import annotations

from numbers import Real

import torch
from torch import nn

from .._base import BaseSSL
from .._objective import Batch, Objective, jointly
from .._sklearn import Interval
from ._docs import shared_docs
from ._heads import HEAD, HIDDEN, WIDTH, hidden_widths, make_head
from ._losses import nt_xent

__all__ = ["SimCLR"]


class _SimCLRObjective(Objective):
    def __init__(self, encoder: nn.Module, projector: nn.Module, temperature: float) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.temperature = temperature

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        if batch.groups is None:
            return super().batch_loss(batch)
        return self.loss(*batch.views, groups=batch.groups)

    def loss(self, *views: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        # Both views in one pass: batch statistics are over both.
        z1, z2 = jointly(lambda x: self.projector(self.encoder(x)), views)  # (n, d) each
        return nt_xent(z1, z2, self.temperature, groups)

    def outputs(self, batch):
        h = self.encoder(batch.x)
        return {"features": h, "projections": self.projector(h)}


@shared_docs
class SimCLR(BaseSSL):
    """Simple framework for contrastive learning of representations.

    Two random views are drawn from every sample; an encoder and a projection head are trained so
    that the two projections of a sample are closer to each other than to those of all other
    samples of the batch (NT-Xent loss). ``transform`` returns the encoder's features.

    Change first: ``augment`` (features ignore what a view may change), then ``max_epochs`` and
    ``learning_rate``, then ``batch_size`` and ``temperature``.

    Parameters
    ----------
    projection_dim : int, default=128
        Width of the projections that are compared.
    projection_hidden_dim : int, or list or tuple of int, default=256
        Width of the hidden layer of the projection head; a list gives the width of each of any
        number of layers.
    projector : nn.Module or callable, default=None
        A projection head of your own: a module from (n, width of the encoder) to (n, d), or a
        callable that gets the width and returns one. If None, linear, batch norm, ReLU, linear.
    temperature : float, default=0.5
        T of the loss. Lower weights near negatives more. Paper: 0.1 (long training), 0.5 (short).
    batch_size : int or "auto", default="auto"
        Samples in a step, which gives ``2 * batch_size - 2`` negatives. "auto" depends on the
        number of samples, see 'What "auto" means' in the user guide.

    Notes
    -----
    As in the authors' code, batch statistics are over both views. Their head also ends in a batch
    norm; here it does not.

    References
    ----------
    Chen, Kornblith, Norouzi, Hinton (2020). "A Simple Framework for Contrastive Learning of
    Visual Representations". arXiv:2002.05709.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sslearn import SimCLR
    >>> X, y = load_iris(return_X_y=True)
    >>> SimCLR(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (150, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "projection_dim": WIDTH,
        "projection_hidden_dim": HIDDEN,
        "projector": HEAD,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        encoder=None,
        *,
        projection_dim=128,
        projection_hidden_dim=256,
        projector=None,
        temperature=0.5,
        embedding_dim=None,
        # views
        augment=None,
        cached_views="auto",
        positives="views",
        categorical_features=None,
        standardize=True,
        # training
        max_epochs="auto",
        batch_size="auto",
        learning_rate="auto",
        weight_decay=1e-4,
        optimizer="adamw",
        lr_schedule="cosine",
        warmup_fraction=0.05,
        # stopping
        validation_fraction=None,
        n_iter_no_change=None,
        # after training
        keep_objective=False,
        # device and log
        device="auto",
        precision="auto",
        trainer_params=None,
        random_state=None,
        verbose=0,
    ):
        self.encoder = encoder
        self.projection_dim = projection_dim
        self.projection_hidden_dim = projection_hidden_dim
        self.projector = projector
        self.temperature = temperature
        self.embedding_dim = embedding_dim
        # views
        self.augment = augment
        self.cached_views = cached_views
        self.positives = positives
        self.categorical_features = categorical_features
        self.standardize = standardize
        # training
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        self.warmup_fraction = warmup_fraction
        # stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        # after training
        self.keep_objective = keep_objective
        # device and log
        self.device = device
        self.precision = precision
        self.trainer_params = trainer_params
        self.random_state = random_state
        self.verbose = verbose

    def _make_objective(self, encoder, data):
        hidden = hidden_widths(self.projection_hidden_dim, 1, name="projection_hidden_dim")
        widths = (*hidden, self.projection_dim)
        projector = make_head(self.projector, encoder.width, widths, name="projector")
        return _SimCLRObjective(encoder, projector, self.temperature)
