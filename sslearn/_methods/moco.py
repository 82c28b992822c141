"""MoCo: a view of a sample finds the other among the keys of many earlier samples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import nn

from .._base import BaseSSL
from .._objective import Batch, Objective, jointly
from .._sklearn import Interval
from ._docs import shared_docs
from ._ema import DECAY, DECAY_END, DECAY_SCHEDULE, DECAY_STEPS, MomentumCopy
from ._heads import HEAD, HIDDEN, WIDTH, hidden_widths, make_head
from ._losses import info_nce
from ._moco_queue import KeyQueue

__all__ = ["MoCo"]


class _MoCoObjective(Objective):
    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        queue: KeyQueue,
        temperature: float,
        follow: Callable[[nn.Module], MomentumCopy],
        symmetric: bool,
    ) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.queue = queue
        self.temperature = temperature
        self.symmetric = symmetric
        self.key_network = follow(nn.Sequential(encoder, projector))

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        # The paper's form: the first view is the query, the second the key.
        asking, answering = batch.views[:1], batch.views[1:]
        if self.symmetric:
            asking, answering = batch.views, batch.views[::-1]
        # Keys give no gradient: their network only follows that of the queries.
        with torch.no_grad():
            keys = jointly(self._keys, answering, copy=self.symmetric)
        queries = jointly(lambda x: self.projector(self.encoder(x)), asking)
        numbers = batch.index if batch.groups is None else batch.groups
        rows = self.queue.row_numbers(numbers, keys[0])

        # The queue holds keys of the same group, or of few samples the same one: no true negatives.
        def excluded(some: slice) -> torch.Tensor:
            return self.queue.same_row_mask(rows[some])

        losses = []
        for query, key in zip(queries, keys, strict=True):
            losses.append(info_nce(query, key, self.queue.keys, self.temperature, excluded))
            # A validation loss reads the queue, and must not change it.
            if self.training:
                self.queue.add(key, rows)
        return torch.stack(losses).mean()

    def _keys(self, x: torch.Tensor) -> torch.Tensor:
        # In float32 under autocast too: keys stay in the queue for many steps.
        return F.normalize(self.key_network(x).float(), dim=1)

    def after_step(self, step: int, n_steps: int) -> None:
        self.key_network.follow(step, n_steps)
        self.queue.advance()

    def measured(self, step: int, n_steps: int) -> dict[str, float]:
        return {"ema_decay": self.key_network.decay_at(step, n_steps)}

    def outputs(self, batch):
        h = self.encoder(batch.x)
        keys = self._keys(batch.x)
        return {"features": h, "projections": self.projector(h), "keys": keys}


@shared_docs
class MoCo(BaseSSL):
    """Momentum contrast, version 2.

    Two random views are drawn from every sample. The encoder and projection head map one to a
    query; a slow moving average of them maps the other to a key. A query must find its key among
    those of many other samples, which are kept in a queue, so that the number of negatives does
    not depend on the batch. ``transform`` returns the encoder's features.

    Change first: ``augment`` (features ignore what a view may change), then
    ``max_epochs`` and ``learning_rate``, then ``temperature`` and ``momentum``.

    Parameters
    ----------
    projection_dim : int, default=128
        Width of queries and keys. Paper: 128.
    projection_hidden_dim : int, or list or tuple of int, default=256
        Width of the hidden layer of the projection head; a list gives the width of each of any
        number of layers. Paper: 2048.
    projector : nn.Module or callable, default=None
        A projection head of your own: a module from (n, width of the encoder) to (n, d), or a
        callable that gets the width and returns one. If None, linear, batch norm, ReLU, linear.
    temperature : float, default=0.5
        tau of the loss. A lower one weights the nearest negatives more. Paper: 0.2.
    momentum : float or callable, default=0.95
        m, in [0, 1]: the weight of the old key network in an update, after each optimizer
        step. Paper: 0.999, for a hundred thousand steps and more. A callable takes (step, n_steps),
        as ``lr_schedule`` does, and returns m of that step; the three parameters below are then
        ignored.
    momentum_schedule : {"constant", "cosine", "cyclic"}, default="constant"
        "constant" keeps ``momentum``, as in the paper. "cosine" moves m to ``momentum_end`` over
        ``momentum_steps`` optimizer steps, after which it stays there. "cyclic" moves it there and
        back in as many, again and again.
    momentum_end : float, default=1.0
        The other end of m, in [0, 1].
    momentum_steps : int, default=None
        Optimizer steps of the schedule, or the period of "cyclic". If None, the steps of the fit.
    queue_size : int, default=4096
        Keys that are kept as negatives; no more than there are samples. Paper: 65536.
    symmetric : bool, default=True
        Whether both views are queries, and both keys. False is the paper's form: the first view
        is the query, the second the key, at half the cost and with half the gradients.

    See Also
    --------
    SimCLR : Takes its negatives from the batch.

    Notes
    -----
    With a thousand samples the queue holds earlier keys of the queries' own samples. These are
    excluded from the negatives of a sample, which the paper has no need to do, as are keys of its
    group where there are groups; in a stream, whose samples have no number, they cannot be. Until
    the queue is full it holds random directions.

    The paper shuffles the batch between devices so that the batch norms of the key network see
    other samples than those of the query network. On one device there is nothing to shuffle: both
    see the samples of the batch (with ``symmetric``, both views of them, in one forward pass).

    The paper's projection head has no batch norm: linear, ReLU, linear.

    References
    ----------
    Chen, Fan, Girshick, He (2020). "Improved Baselines with Momentum Contrastive Learning".
    arXiv:2003.04297. He, Fan, Wu, Xie, Girshick (2019). "Momentum Contrast for Unsupervised Visual
    Representation Learning". arXiv:1911.05722.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sslearn import MoCo
    >>> X, y = load_iris(return_X_y=True)
    >>> MoCo(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (150, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "projection_dim": WIDTH,
        "projection_hidden_dim": HIDDEN,
        "projector": HEAD,
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "momentum": DECAY,
        "momentum_schedule": DECAY_SCHEDULE,
        "momentum_end": DECAY_END,
        "momentum_steps": DECAY_STEPS,
        "queue_size": [Interval(Integral, 1, None, closed="left")],
        "symmetric": ["boolean"],
    }

    def __init__(
        self,
        encoder=None,
        *,
        projection_dim=128,
        projection_hidden_dim=256,
        projector=None,
        temperature=0.5,
        momentum=0.95,
        momentum_schedule="constant",
        momentum_end=1.0,
        momentum_steps=None,
        queue_size=4096,
        symmetric=True,
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
        self.momentum = momentum
        self.momentum_schedule = momentum_schedule
        self.momentum_end = momentum_end
        self.momentum_steps = momentum_steps
        self.queue_size = queue_size
        self.symmetric = symmetric
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
        # A longer queue would hold the same samples again.
        queue = KeyQueue(min(self.queue_size, len(data)), projector.width)
        follow = functools.partial(
            MomentumCopy,
            decay=self.momentum,
            schedule=self.momentum_schedule,
            end=self.momentum_end,
            steps=self.momentum_steps,
            name="momentum",
        )
        return _MoCoObjective(encoder, projector, queue, self.temperature, follow, self.symmetric)
