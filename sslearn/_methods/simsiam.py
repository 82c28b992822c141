"""SimSiam: one view of a sample predicts the other, whose gradient is stopped."""

from __future__ import annotations

import torch
from torch import nn

from .._base import BaseSSL
from .._objective import Objective, jointly
from ._docs import shared_docs
from ._heads import HEAD, HIDDEN, WIDTH, make_siamese_heads
from ._losses import negative_cosine

__all__ = ["SimSiam"]


class _SimSiamObjective(Objective):
    def __init__(self, encoder: nn.Module, projector: nn.Module, predictor: nn.Module) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.predictor = predictor

    def loss(self, *views: torch.Tensor) -> torch.Tensor:
        z1, z2 = jointly(lambda x: self.projector(self.encoder(x)), views)  # (n, d) each
        p1, p2 = jointly(self.predictor, (z1, z2), copy=True)
        # Targets are constants: without this stop of the gradient the features collapse.
        return (negative_cosine(p1, z2.detach()) + negative_cosine(p2, z1.detach())) / 2

    def outputs(self, batch):
        h = self.encoder(batch.x)
        z = self.projector(h)
        return {"features": h, "projections": z, "predictions": self.predictor(z)}


@shared_docs
class SimSiam(BaseSSL):
    """Simple siamese representation learning.

    Two random views are drawn from every sample. A prediction head predicts the projection of
    one view from that of the other. The gradient of the target is stopped: this alone keeps the
    features from collapsing, without negatives and without a second network. ``transform``
    returns the encoder's features.

    Change first: ``augment`` (features ignore what a view may change), then
    ``max_epochs`` and ``learning_rate``. Watch ``embedding_rank_curve_`` for collapse.

    Parameters
    ----------
    projection_dim : int, default=128
        Width of the projections. Paper: 2048.
    projection_hidden_dim : int, or list or tuple of int, default=256
        Width of the two hidden layers of the projection head; a list gives the width of each of
        any number of layers. Paper: 2048.
    prediction_hidden_dim : int, or list or tuple of int, default=128
        Width of the hidden layer of the prediction head; a list gives the width of each of any
        number of layers. Paper: 512, a quarter of its ``projection_dim``; with small heads a wider
        one learns faster.
    projector : nn.Module or callable, default=None
        A projection head of your own: a module from (n, width of the encoder) to (n, d), or a
        callable that gets the width and returns one. If None, three linear layers, each followed
        by a batch norm, with ReLU between them; and a batch norm before the first. The outer batch
        norms have no scale and shift.
    predictor : nn.Module or callable, default=None
        A prediction head of your own, likewise, from (n, d) to (n, d). If None, linear, batch
        norm, ReLU, linear.

    See Also
    --------
    BYOL : The same with a slow copy of the network as the target.

    Notes
    -----
    Each network sees both views in one forward pass, so batch statistics are over both; the
    paper's code makes a pass for each. The paper keeps the learning rate of the prediction head
    constant; here it follows the schedule like the others. The paper's projection head has no batch
    norm before its first layer.

    References
    ----------
    Chen, He (2020). "Exploring Simple Siamese Representation Learning". arXiv:2011.10566.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sslearn import SimSiam
    >>> X, y = load_iris(return_X_y=True)
    >>> SimSiam(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (150, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "projection_dim": WIDTH,
        "projection_hidden_dim": HIDDEN,
        "prediction_hidden_dim": HIDDEN,
        "projector": HEAD,
        "predictor": HEAD,
    }

    def __init__(
        self,
        encoder=None,
        *,
        projection_dim=128,
        projection_hidden_dim=256,
        prediction_hidden_dim=128,
        projector=None,
        predictor=None,
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
        self.prediction_hidden_dim = prediction_hidden_dim
        self.projector = projector
        self.predictor = predictor
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
        projector, predictor = make_siamese_heads(self, encoder.width)
        return _SimSiamObjective(encoder, projector, predictor)
