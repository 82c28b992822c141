"""BYOL: one view of a row foretells what a slow copy of the network makes of the other."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

import torch
from torch import nn

from .._base import BaseSSL
from .._objective import Objective, jointly
from .._sklearn import Interval, StrOptions
from ._ema import MomentumCopy
from ._heads import HEAD, WIDTH, make_head
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
        ema_decay: float,
        ema_schedule: str,
    ) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.predictor = predictor
        self.compare = compare
        self.target = MomentumCopy(nn.Sequential(encoder, projector), ema_decay, ema_schedule)

    def loss(self, *views: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            z1, z2 = jointly(self.target, views, copy=True)  # (n, d) each, as the predictions
        p1, p2 = jointly(lambda x: self.predictor(self.projector(self.encoder(x))), views)
        return self.compare(p1, z2) + self.compare(p2, z1)

    def after_step(self, step: int, n_steps: int) -> None:
        self.target.follow(step, n_steps)

    def measured(self, step: int, n_steps: int) -> dict[str, float]:
        return {"ema_decay": self.target.decay_at(step, n_steps)}


class BYOL(BaseSSL):
    """Bootstrap your own latent.

    Two random views are drawn of every row. The online network (encoder, projection head,
    prediction head) foretells from one view what the target network makes of the other; the
    target is a slow moving average of the online encoder and projection head. There are no
    negatives, so small batches do. ``transform`` returns the online encoder's features.

    Change first: ``augment`` (what a view may change is what the features forget), then
    ``max_epochs`` and ``learning_rate``, then ``ema_decay``: nearer to 1 for long training.

    Parameters
    ----------
    encoder : nn.Module or callable, default=None
        Maps (n, ...) to one float tensor (n, ...), which is flattened. A module is
        copied and training starts from its weights; layers that are wholly frozen stay frozen.
        A callable is called as ``encoder(sample_shape)`` under the seed and returns a module.
        None: a default for the kind of input, see :func:`sslearn.encoders.default_encoder`.
    projection_dim : int, default=128
        Width of the projections, which the prediction head foretells. Paper: 256.
    projection_hidden_dim : int, default=256
        Width of the two hidden layers of the projection head. Paper: one, of 4096.
    prediction_hidden_dim : int, default=256
        Width of the hidden layer of the prediction head. Paper: 4096.
    projector : nn.Module or callable, default=None
        A projection head of your own: a module from (n, width of the encoder) to (n, d), or a
        callable that gets the width and returns one. An empty ``nn.Sequential()`` is a head too:
        none. None: three linear layers with batch norm and ReLU between, and a batch norm without
        scale and shift before the first and behind the last.
    predictor : nn.Module or callable, default=None
        A prediction head of your own, likewise, from (n, d) to (n, d). None: linear, batch norm,
        ReLU, linear.
    loss : "cosine" or callable, default="cosine"
        "cosine" is the squared distance of prediction and target on the unit sphere, 0 to 4. A
        callable takes (predictions, targets), each (n, d), and returns a scalar. Summed over
        both directions.
    ema_decay : float, default=0.97
        tau, in [0, 1]: the part of the target that is kept in an update, after each optimizer
        step. Paper: 0.996, for a hundred thousand steps and more.
    ema_schedule : {"cosine", "constant"}, default="cosine"
        "cosine" raises tau from ``ema_decay`` towards 1 over the steps of the fit.
    embedding_dim : int, default=None
        Width of the default encoder's features (None: 1024 for tables, statistics of all its
        stages otherwise).
    augment : callable, default=None
        Draws the views: ``augment(x, generator)`` on a whole batch, see :mod:`sslearn.augment`.
        None: the default for the kind of input. To search over its parameters
        (``augment__noise``), pass an object such as ``GaussianNoise()``.
    standardize : bool, default=True
        Standardise each feature of a table, each channel otherwise, with the statistics of the
        training rows. Features of zeros and ones are only centred, those that are constant in
        training become 0, and values far outside what nearly all rows have are clipped, in
        ``transform`` too. Images and volumes are brought to [0, 1] first: by 255 if their numbers
        fill a byte, whatever the dtype, otherwise by the range of each channel (of a photograph's
        three, by one for all). Views are drawn from that. With False, rows are only cast to
        float32, and images and volumes that fill a byte divided by 255; views see [0, 1] all the
        same.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. "auto" sees 220,000 rows in all, each at least 20 times and at most
        200 times. 0 gives the untrained encoder: its weights as they were drawn, after one pass
        for batch statistics.
    batch_size : int or "auto", default="auto"
        Rows in a step. More rows than that and a last short batch is dropped; fewer rows make
        one batch. "auto" is an eighth of the rows, as a power of two between 32 and 256.
    learning_rate : float or "auto", default="auto"
        Highest learning rate of the schedule. "auto" is 1e-3 for tables, and otherwise 15 divided
        by the number of steps, at least 1e-3 and at most 1e-2 (series: 3e-3); 0.1 for "sgd" and
        0.3 * batch_size / 256 for "lars".
    weight_decay : float, default=1e-4
        Decay of the weights, not of biases and normalisation layers. Decoupled for "adamw",
        added to the gradient otherwise.
    optimizer : {"adamw", "adam", "sgd", "lars"} or callable, default="adamw"
        A callable takes parameter groups, which hold learning rate and decay, and returns a
        ``torch.optim.Optimizer``; a ``functools.partial`` of a class carries betas or momentum.
    lr_schedule : {"cosine", "constant", "plateau"} or callable, default="cosine"
        Per step. A callable takes (step, n_steps) and returns the factor on the learning rate.
        "plateau" divides it by 10 after 10 epochs without a better (validation) loss.
    warmup_fraction : float, default=0.05
        Part of all steps over which the learning rate rises linearly; not for a callable.
    validation_fraction : float, default=None
        Part of the rows that is held out; their loss, on the same views each time, is kept in
        ``validation_loss_curve_``. None: train on all rows.
    n_iter_no_change : int, default=None
        Stop after so many epochs without a better validation loss, and restore the best
        weights. Needs ``validation_fraction``.
    device : str, default="auto"
        "cpu", "cuda" or "cuda:<number>"; "auto" is the first GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of training; the weights stay float32. "auto" is bfloat16 on a GPU that has it and
        float32 elsewhere, on every CPU too: "bfloat16" is faster on those that have it in hardware.
    trainer_params : dict, default=None
        Further arguments of ``lightning.Trainer`` (``accumulate_grad_batches``,
        ``gradient_clip_val``, ``callbacks``, ...), but for those that parameters here stand for.
        Callbacks, loggers and progress bars see, after each epoch, "loss", "validation_loss",
        "effective_rank" (now and then), "ema_decay" (BYOL, MoCo) and the "probe_score" of an
        ``OnlineProbe``. Callbacks that keep a state (EarlyStopping, ModelCheckpoint) begin each
        fit anew and can be read after it; a learning rate that a callback sets is left alone.
        Costs about half a millisecond a step.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, order and views. An int gives the same features each time on the CPU, with
        the same number of threads.
    verbose : int, default=0
        1: a line on what "auto" became, and a line per epoch; 2: a progress bar over all steps
        in place of the lines per epoch.

    Attributes
    ----------
    encoder_ : nn.Module
        The trained encoder behind its standardisation, in eval mode, on the CPU: raw rows in,
        features out.
    loss_curve_ : list of float
        Mean loss of each epoch.
    validation_loss_curve_ : list of float
        Loss of the held-out rows after each epoch; only with ``validation_fraction``.
    embedding_rank_curve_ : list of (int, float, float)
        Epoch, effective rank and mean standard deviation, at unit length, of the features of a
        sample of rows: before training, now and then, and after the last epoch.
    n_iter_ : int
        Epochs run.
    n_steps_ : int
        Optimizer steps made.
    batch_size_ : int
        Rows in a batch.
    learning_rate_ : float
        Highest learning rate of the schedule.
    device_ : str
        Where it was trained.
    precision_ : str
        "float32", "bfloat16" or "float16": that of training.
    input_shape_ : tuple of int
        Shape of one row.
    n_features_in_ : int
        ``input_shape_[0]``: features of a table, channels otherwise.
    feature_names_in_ : ndarray of str
        Names of the columns; only when X is a DataFrame whose column names are all strings.

    See Also
    --------
    SimSiam : The same without a target network.
    sslearn.augment : The views, as objects.
    sslearn.encoders : The default encoders.
    sslearn.metrics.effective_rank : What ``score`` returns.

    Notes
    -----
    Both views go through each network in one forward pass, so batch statistics are over both; the
    paper's code makes a pass for each view. The target starts as a copy of the online network,
    not from another seed. The paper's projection head has one hidden layer and no batch norm at
    its ends, which learns more slowly here. The target's weights follow the online ones, its
    batch norms use the batch before them and keep running statistics of their own, which only a
    validation loss uses. The update after optimizer step k of K (k from 0) keeps tau_k = 1 - (1 -
    tau_0) (cos(pi k / K) + 1) / 2.

    On the CPU an integer ``random_state`` gives the same bits again,
    for the same number of threads.

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
        "projection_hidden_dim": WIDTH,
        "prediction_hidden_dim": WIDTH,
        "projector": HEAD,
        "predictor": HEAD,
        "loss": [StrOptions({"cosine"}), callable],
        "ema_decay": [Interval(Real, 0, 1, closed="both")],
        "ema_schedule": [StrOptions({"cosine", "constant"})],
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
        embedding_dim=None,
        augment=None,
        standardize=True,
        max_epochs="auto",
        batch_size="auto",
        learning_rate="auto",
        weight_decay=1e-4,
        optimizer="adamw",
        lr_schedule="cosine",
        warmup_fraction=0.05,
        validation_fraction=None,
        n_iter_no_change=None,
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
        self.embedding_dim = embedding_dim
        self.augment = augment
        self.standardize = standardize
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        self.warmup_fraction = warmup_fraction
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.precision = precision
        self.trainer_params = trainer_params
        self.random_state = random_state
        self.verbose = verbose

    def _make_objective(self, encoder, data):
        hidden = self.projection_hidden_dim
        projector = make_head(
            self.projector,
            encoder.width,
            (hidden, hidden, self.projection_dim),
            name="projector",
            norm_input=True,
            norm_output=True,
        )
        predictor = make_head(
            self.predictor,
            projector.width,
            (self.prediction_hidden_dim, projector.width),
            name="predictor",
            out=projector.width,
        )
        compare = resolve_loss(self.loss, {"cosine": _squared_distance})
        return _BYOLObjective(
            encoder, projector, predictor, compare, self.ema_decay, self.ema_schedule
        )
