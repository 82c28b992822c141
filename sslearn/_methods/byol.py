"""BYOL: one view of a sample predicts the projection of the other by a slow copy of the network."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import nn

from .._base import BaseSSL
from .._objective import Objective, jointly
from .._sklearn import StrOptions
from ._docs import shared_docs
from ._ema import DECAY, DECAY_END, DECAY_SCHEDULE, DECAY_STEPS, MomentumCopy
from ._heads import HEAD, HIDDEN, WIDTH, make_siamese_heads
from ._losses import negative_cosine, resolve_loss

__all__ = ["BYOL"]


def _squared_distance(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Squared distance of unit vectors, the paper's equation 2."""
    return 2 + 2 * negative_cosine(p, z)


class _BYOLObjective(Objective):
    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        predictor: nn.Module,
        compare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        follow: Callable[[nn.Module], MomentumCopy],
    ) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.predictor = predictor
        self.compare = compare
        self.target = follow(nn.Sequential(encoder, projector))

    def loss(self, *views: torch.Tensor) -> torch.Tensor:
        # The target gives no gradient: it only follows the online weights, after each step.
        with torch.no_grad():
            z1, z2 = jointly(self.target, views, copy=True)  # (n, d) each, as the predictions
        p1, p2 = jointly(lambda x: self.predictor(self.projector(self.encoder(x))), views)
        # Each view predicts the other (the paper's symmetrised loss, below equation 2).
        return self.compare(p1, z2) + self.compare(p2, z1)

    def after_step(self, step: int, n_steps: int) -> None:
        self.target.follow(step, n_steps)

    def measured(self, step: int, n_steps: int) -> dict[str, float]:
        return {"ema_decay": self.target.decay_at(step, n_steps)}

    def outputs(self, batch):
        h = self.encoder(batch.x)
        z = self.projector(h)
        return {
            "features": h,
            "projections": z,
            "predictions": self.predictor(z),
            "targets": self.target(batch.x),
        }


@shared_docs
class BYOL(BaseSSL):
    """Bootstrap your own latent.

    Two random views are drawn from every sample. The online network (encoder, projection head,
    prediction head) predicts from one view the projection of the other by the target network, a
    slow moving average of the online encoder and projection head. There are no negatives, so
    small batches suffice. ``transform`` returns the online encoder's features.

    Change first: ``augment`` (features ignore what a view may change), then
    ``max_epochs`` and ``learning_rate``, then ``ema_decay``: nearer to 1 for long training.

    Parameters
    ----------
    projection_dim : int, default=128
        Width of the projections, which the prediction head predicts. Paper: 256.
    projection_hidden_dim : int, or list or tuple of int, default=256
        Width of the two hidden layers of the projection head; a list gives the width of each of
        any number of layers. Paper: one, of 4096.
    prediction_hidden_dim : int, or list or tuple of int, default=256
        Width of the hidden layer of the prediction head; a list gives the width of each of any
        number of layers. Paper: 4096.
    projector : nn.Module or callable, default=None
        A projection head of your own: a module from (n, width of the encoder) to (n, d), or a
        callable that gets the width and returns one. An empty ``nn.Sequential()`` gives no head.
        If None, three linear layers with batch norm and ReLU between them, and a batch norm
        without scale and shift before the first and after the last.
    predictor : nn.Module or callable, default=None
        A prediction head of your own, likewise, from (n, d) to (n, d). If None, linear, batch
        norm, ReLU, linear.
    loss : "cosine" or callable, default="cosine"
        "cosine" is the squared distance of prediction and target on the unit sphere, 0 to 4. A
        callable takes (predictions, targets), each (n, d), and returns a scalar. Summed over
        both directions.
    ema_decay : float or callable, default=0.97
        tau, in [0, 1]: the weight of the old target in an update, after each optimizer
        step. Paper: 0.996, for a hundred thousand steps and more. A callable takes (step, n_steps),
        as ``lr_schedule`` does, and returns tau of that step; the three parameters below are then
        ignored.
    ema_schedule : {"cosine", "cyclic", "constant"}, default="cosine"
        "cosine" moves tau from ``ema_decay`` to ``ema_decay_end`` over ``ema_steps`` optimizer
        steps, after which it stays there. "cyclic" moves it there and back in as many, again and
        again. "constant" keeps ``ema_decay``.
    ema_decay_end : float, default=1.0
        The other end of tau, in [0, 1].
    ema_steps : int, default=None
        Optimizer steps of the schedule, or the period of "cyclic". If None, the steps of the fit.

    See Also
    --------
    SimSiam : The same without a target network.

    Notes
    -----
    Each network sees both views in one forward pass, so batch statistics are over both; the
    paper's code makes a pass for each view. The target starts as a copy of the online network,
    not from another seed. The paper's projection head has one hidden layer and no batch norm at
    its ends, which learns more slowly here. The target's weights follow the online ones, its
    batch norms use the current batch and keep running statistics of their own, which only a
    validation loss uses. The update after optimizer step k of K = ``ema_steps`` (k from 0) keeps
    tau_k = tau_1 - (tau_1 - tau_0) (cos(pi k / K) + 1) / 2, where tau_1 is ``ema_decay_end``.

    References
    ----------
    Grill, Strub, Altche, Tallec, Richemond et al. (2020). "Bootstrap Your Own Latent: A New
    Approach to Self-Supervised Learning". arXiv:2006.07733.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sslearn import BYOL
    >>> X, y = load_iris(return_X_y=True)
    >>> BYOL(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (150, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "projection_dim": WIDTH,
        "projection_hidden_dim": HIDDEN,
        "prediction_hidden_dim": HIDDEN,
        "projector": HEAD,
        "predictor": HEAD,
        "loss": [StrOptions({"cosine"}), callable],
        "ema_decay": DECAY,
        "ema_schedule": DECAY_SCHEDULE,
        "ema_decay_end": DECAY_END,
        "ema_steps": DECAY_STEPS,
    }

    def __init__(
        self,
        encoder=None,
        *,
        projection_dim=128,
        projection_hidden_dim=256,
        prediction_hidden_dim=256,
        projector=None,
        predictor=None,
        loss="cosine",
        ema_decay=0.97,
        ema_schedule="cosine",
        ema_decay_end=1.0,
        ema_steps=None,
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
        self.loss = loss
        self.ema_decay = ema_decay
        self.ema_schedule = ema_schedule
        self.ema_decay_end = ema_decay_end
        self.ema_steps = ema_steps
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
        compare = resolve_loss(self.loss, {"cosine": _squared_distance})
        follow = functools.partial(
            MomentumCopy,
            decay=self.ema_decay,
            schedule=self.ema_schedule,
            end=self.ema_decay_end,
            steps=self.ema_steps,
            name="ema_decay",
        )
        return _BYOLObjective(encoder, projector, predictor, compare, follow)
