"""VICReg: two views of a sample agree, while every dimension varies and stays informative."""

from __future__ import annotations

from numbers import Real

import torch
from torch import nn

from .._base import BaseSSL
from .._objective import Objective, jointly
from .._sklearn import Interval
from ._docs import shared_docs
from ._heads import HEAD, HIDDEN, WIDTH, hidden_widths, make_head
from ._losses import vicreg

__all__ = ["VICReg"]


class _VICRegObjective(Objective):
    def __init__(
        self, encoder: nn.Module, projector: nn.Module, weights: tuple[float, float, float]
    ) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.weights = weights

    def loss(self, *views: torch.Tensor) -> torch.Tensor:
        z1, z2 = jointly(lambda x: self.projector(self.encoder(x)), views)  # (n, d) each
        return vicreg(z1, z2, *self.weights)

    def outputs(self, batch):
        h = self.encoder(batch.x)
        return {"features": h, "projections": self.projector(h)}


@shared_docs
class VICReg(BaseSSL):
    """Variance-invariance-covariance regularisation.

    Two random views are drawn from every sample. Their projections are made equal (invariance),
    each dimension is kept at a standard deviation of 1 over the batch (variance), and different
    dimensions are decorrelated (covariance). There are no negatives. ``transform`` returns the
    encoder's features.

    Change first: ``augment`` (features ignore what a view may change), then
    ``max_epochs`` and ``learning_rate``, then ``projection_dim``.

    Parameters
    ----------
    projection_dim : int, default=256
        Width of the projections (the paper's expander). Paper: 8192.
    projection_hidden_dim : int, or list or tuple of int, default=256
        Width of the two hidden layers of the projection head; a list gives the width of each of
        any number of layers. Paper: 8192.
    projector : nn.Module or callable, default=None
        A projection head of your own: a module from (n, width of the encoder) to (n, d), or a
        callable that gets the width and returns one. If None, three linear layers, with batch
        norm and ReLU between them.
    invariance_weight : float, default=25.0
        lambda: weight of the squared distance of the two views. Paper: 25.
    variance_weight : float, default=25.0
        mu: weight of the hinge that keeps the standard deviation above 1. Paper: 25.
    covariance_weight : float, default=1.0
        nu: weight of the squared covariances between dimensions. Paper: 1.
    batch_size : int or "auto", default="auto"
        Samples in a step, over which variances are taken. "auto" depends on the number of samples,
        see 'What "auto" means' in the user guide.

    See Also
    --------
    BarlowTwins : Correlates the two views instead.

    Notes
    -----
    The encoder and the projection head see both views in one forward pass, so the batch
    statistics of their layers are over both; the paper's code makes a pass for each. Variances
    and covariances are computed for each view separately. The terms are those of the authors'
    code, for which the published weights were chosen: the invariance is a mean over the
    dimensions, the variance a mean of both views.

    References
    ----------
    Bardes, Ponce, LeCun (2021). "VICReg: Variance-Invariance-Covariance Regularization for
    Self-Supervised Learning". arXiv:2105.04906.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sslearn import VICReg
    >>> X, y = load_iris(return_X_y=True)
    >>> VICReg(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (150, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "projection_dim": WIDTH,
        "projection_hidden_dim": HIDDEN,
        "projector": HEAD,
        "invariance_weight": [Interval(Real, 0, None, closed="left")],
        "variance_weight": [Interval(Real, 0, None, closed="left")],
        "covariance_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        encoder=None,
        *,
        projection_dim=256,
        projection_hidden_dim=256,
        projector=None,
        invariance_weight=25.0,
        variance_weight=25.0,
        covariance_weight=1.0,
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
        self.invariance_weight = invariance_weight
        self.variance_weight = variance_weight
        self.covariance_weight = covariance_weight
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
        hidden = hidden_widths(self.projection_hidden_dim, 2, name="projection_hidden_dim")
        widths = (*hidden, self.projection_dim)
        projector = make_head(self.projector, encoder.width, widths, name="projector")
        weights = (self.invariance_weight, self.variance_weight, self.covariance_weight)
        return _VICRegObjective(encoder, projector, weights)
