"""Barlow Twins: two views of a row agree in every dimension, and no two dimensions say the same."""

from __future__ import annotations

from numbers import Real

import torch
from torch import nn

from .._base import BaseSSL
from .._objective import Objective, jointly
from .._sklearn import Interval
from ._heads import HEAD, WIDTH, make_head
from ._losses import barlow_twins

__all__ = ["BarlowTwins"]


class _BarlowTwinsObjective(Objective):
    def __init__(
        self, encoder: nn.Module, projector: nn.Module, off_diagonal_weight: float
    ) -> None:
        super().__init__(encoder)
        self.projector = projector
        self.off_diagonal_weight = off_diagonal_weight

    def loss(self, *views: torch.Tensor) -> torch.Tensor:
        z1, z2 = jointly(lambda x: self.projector(self.encoder(x)), views)  # (n, d) each
        return barlow_twins(z1, z2, self.off_diagonal_weight)


class BarlowTwins(BaseSSL):
    """Self-supervised learning via redundancy reduction.

    Two random views are drawn of every row. The cross-correlation of their projections over the
    batch is drawn to the identity: what one view says the other says too, and each dimension
    says something else. There are no negatives. ``transform`` returns the encoder's features.

    Change first: ``augment`` (what a view may change is what the features forget), then
    ``max_epochs`` and ``learning_rate``, then ``projection_dim``: this method gains from width.

    Parameters
    ----------
    encoder : nn.Module or callable, default=None
        Maps (n, ...) to one float tensor (n, ...), which is flattened. A module is
        copied and training starts from its weights; layers that are wholly frozen stay frozen.
        A callable is called as ``encoder(sample_shape)`` under the seed and returns a module.
        None: a default for the kind of input, see :func:`sslearn.encoders.default_encoder`.
    projection_dim : int, default=256
        Width of the projections, whose correlations are taken. Paper: 8192.
    projection_hidden_dim : int, default=256
        Width of the two hidden layers of the projection head. Paper: 8192.
    projector : nn.Module or callable, default=None
        A projection head of your own: a module from (n, width of the encoder) to (n, d), or a
        callable that gets the width and returns one. None: three linear layers, with batch norm
        and ReLU between, behind a batch norm without scale and shift.
    off_diagonal_weight : float, default=0.01
        lambda of the loss: the weight of the correlations between different dimensions. Paper:
        0.005.
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
        Rows in a step, over which correlations are taken. More rows than that and a last short
        batch is dropped; fewer rows make one batch. "auto" is an eighth of the rows, as a power
        of two between 32 and 256.
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
    VICReg : Keeps variance and covariance of each view by itself.
    sslearn.augment : The views, as objects.
    sslearn.encoders : The default encoders.
    sslearn.metrics.effective_rank : What ``score`` returns.

    Notes
    -----
    Both views go through the encoder and the projection head in one forward pass, so the batch
    statistics of their layers are over both; the paper's code makes a pass for each. The loss
    standardises each view by itself, as in the paper. The paper's projection head has no batch
    norm before its first layer.

    On the CPU an integer ``random_state`` gives the same bits again,
    for the same number of threads.

    References
    ----------
    Zbontar, Jing, Misra, LeCun, Deny (2021). "Barlow Twins: Self-Supervised Learning via Redundancy
    Reduction". arXiv:2103.03230.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sslearn import BarlowTwins
    >>> X, y = load_iris(return_X_y=True)
    >>> BarlowTwins(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (150, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "projection_dim": WIDTH,
        "projection_hidden_dim": WIDTH,
        "projector": HEAD,
        "off_diagonal_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        encoder=None,
        *,
        projection_dim=256,
        projection_hidden_dim=256,
        projector=None,
        off_diagonal_weight=0.01,
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
        self.projector = projector
        self.off_diagonal_weight = off_diagonal_weight
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
        widths = (hidden, hidden, self.projection_dim)
        projector = make_head(
            self.projector, encoder.width, widths, name="projector", norm_input=True
        )
        return _BarlowTwinsObjective(encoder, projector, self.off_diagonal_weight)
