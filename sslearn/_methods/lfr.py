"""LFR: learning features from the outputs of random networks."""

from __future__ import annotations

import functools
from numbers import Integral, Real

import torch
from torch import nn

from .._base import BaseSSL
from .._sklearn import Interval, StrOptions
from ._docs import shared_docs
from ._heads import HEAD, WIDTH, ParallelHeads, make_predictors
from ._lfr_adapter import make_adapter
from ._lfr_objective import LFRObjective
from ._lfr_projectors import make_projectors
from ._losses import batchwise_barlow, negative_cosine, resolve_loss

__all__ = ["LFR"]


@shared_docs
class LFR(BaseSSL):
    """Learning from randomness.

    The projectors are random networks, which are never trained; the encoder learns features from
    which one predictor for each projector predicts its output. There are no views, so no
    augmentation has to be chosen. From many random projectors the few that differ most are
    selected by a determinantal point process. ``transform`` returns the encoder's features.

    Change first: ``max_epochs``, ``n_targets`` and ``projectors``; ``alternate=False,
    predictor_epochs=0`` trains encoder and predictors together, in about two thirds of the time.

    Parameters
    ----------
    n_targets : int, default=6
        Projectors whose outputs are predicted, chosen from the candidates. If None, all, without a
        choice. A shorter list of ``projectors`` is used whole.
    n_candidates : int, default=60
        Random projectors to choose from. A list of ``projectors`` has its own number.
    projectors : callable or list of nn.Module, default=None
        A callable gets the shape of a sample and returns a module; it is called ``n_candidates``
        times under the seed, without the shape if it is a class or ``functools.partial`` that has
        all of its arguments. Modules are copied, frozen and kept in eval mode; they take samples,
        or flattened samples, and their output is flattened. If None, random networks for the kind
        of input, standardised on the samples of the selection: for tables a layer of ReLUs, in
        turn on the columns and on their piecewise linear encoding, and otherwise random filters,
        counting how often each exceeds its threshold (ROCKET's features, arXiv 1910.13051).
    projection_dim : int, default=64
        Width of the outputs of the default projectors.
    predictors : callable or list of nn.Module, default=None
        One for each target, from the features to the output of its projector. A list holds one for
        each candidate, those of the chosen ones are taken, or one for each target, in the order of
        choice. A callable gets both widths and returns a module. If None, see ``predictor_layers``.
    predictor_layers : int, default=1
        Linear layers of a predictor, as wide as the features, with batch norm and ReLU between
        them.
    predictor_epochs : int, default=1
        Passes over the samples that train the predictors alone, after each pass for the encoder,
        which is then frozen and in eval mode.
    alternate : bool, default=True
        Whether the predictors are frozen while the encoder learns, as in the paper. If False, both
        learn in the encoder's passes.
    off_diagonal_weight : float, default=0.01
        lambda of the loss: weight of the cosines between different samples (and groups, if any).
    loss : {"barlow", "cosine"} or callable, default="barlow"
        "barlow" is the paper's batch-wise Barlow Twins loss, "cosine" minus the cosine of
        prediction and target. A callable takes (predictions, targets), each (n, d), and returns a
        scalar. Averaged over the targets.
    selection_batch_size : int, default=128
        Training samples on which candidates are compared; all, if there are fewer.
    max_encoder_steps : int, default=None
        End training after this many steps of the encoder, if the epochs do not end it earlier.
    adapter : nn.Module or callable, default=None
        A module, or a function of tensors, between the encoder and the predictors, trained and
        frozen with the encoder, and discarded after ``fit`` (see ``keep_objective``). It gets what
        the encoder returns, maps (n, channels, ...) too; if it does not take these, or has the same
        result, it gets them flattened, (n, width). A callable that returns a module for an int is
        called with the width instead; its module gets flattened features. If None, there is none.
    optimizer : {"adamw", "adam", "sgd", "lars"} or callable, default=None
        A callable takes parameter groups, which hold learning rate and decay, and returns a
        ``torch.optim.Optimizer``; a ``functools.partial`` of a class carries betas or momentum.
        If None, Adam with the paper's betas (0.9, 0.99).

    Attributes
    ----------
    target_indices_ : ndarray of shape (n_targets,), int
        Numbers of the chosen candidates, in the order of choice.
    target_kernel_ : ndarray of shape (n_targets, n_targets)
        Similarity of the chosen ones, 1 on the diagonal; only if there was a choice.

    See Also
    --------
    SimCLR : Learns from views.

    Notes
    -----
    ``max_epochs`` counts the passes for the encoder; with ``predictor_epochs`` each costs more.
    Targets are computed once for all samples, and features once for all passes of the predictors,
    and then looked up, if samples have numbers (not those of a stream) and the values take at most
    1 GiB; targets only if a projector maps the same samples to the same output twice. The choice
    is made in float64 and is the same for the same ``random_state``. If fewer than ``n_targets``
    candidates differ on the samples on which they are compared, the choice is completed by
    candidates that add nothing new, the first ones first, and ``fit`` warns.

    References
    ----------
    Sui, Wu, Cresswell, Wu, Stein, Huang, Zhang, Volkovs (2024). "Self-supervised Representation
    Learning From Random Data Projectors". ICLR 2024. arXiv:2310.07756.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sslearn import LFR
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LFR(embedding_dim=16, max_epochs=2, random_state=0).fit(X)
    >>> model.transform(X).shape, len(model.target_indices_)
    ((150, 16), 6)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "n_targets": [Interval(Integral, 1, None, closed="left"), None],
        "n_candidates": WIDTH,
        "projectors": [callable, list, None],
        "projection_dim": WIDTH,
        "predictors": [callable, list, None],
        "predictor_layers": WIDTH,
        "predictor_epochs": [Interval(Integral, 0, None, closed="left")],
        "alternate": ["boolean"],
        "off_diagonal_weight": [Interval(Real, 0, None, closed="left")],
        "loss": [StrOptions({"barlow", "cosine"}), callable],
        "selection_batch_size": [Interval(Integral, 2, None, closed="left")],
        "max_encoder_steps": [Interval(Integral, 1, None, closed="left"), None],
        "adapter": HEAD,
        "optimizer": [*BaseSSL._parameter_constraints["optimizer"], None],
    }
    del _parameter_constraints["augment"], _parameter_constraints["cached_views"]
    del _parameter_constraints["positives"]

    def __init__(
        self,
        encoder=None,
        *,
        n_targets=6,
        n_candidates=60,
        projectors=None,
        projection_dim=64,
        predictors=None,
        predictor_layers=1,
        predictor_epochs=1,
        alternate=True,
        off_diagonal_weight=0.01,
        loss="barlow",
        selection_batch_size=128,
        max_encoder_steps=None,
        adapter=None,
        embedding_dim=None,
        # input
        categorical_features=None,
        standardize=True,
        # training
        max_epochs="auto",
        batch_size="auto",
        learning_rate=3e-3,
        weight_decay=1e-4,
        optimizer=None,
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
        self.n_targets = n_targets
        self.n_candidates = n_candidates
        self.projectors = projectors
        self.projection_dim = projection_dim
        self.predictors = predictors
        self.predictor_layers = predictor_layers
        self.predictor_epochs = predictor_epochs
        self.alternate = alternate
        self.off_diagonal_weight = off_diagonal_weight
        self.loss = loss
        self.selection_batch_size = selection_batch_size
        self.max_encoder_steps = max_encoder_steps
        self.adapter = adapter
        self.embedding_dim = embedding_dim
        # input
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

    def _check_relations(self):
        super()._check_relations()
        if self.alternate and not self.predictor_epochs:
            raise ValueError(
                "The 'predictor_epochs' parameter is 0 and alternate=True: the predictors would "
                "never learn. Set predictor_epochs to 1 or more, or alternate to False."
            )
        listed = isinstance(self.projectors, list | nn.ModuleList)
        if listed and not len(self.projectors):
            raise ValueError(
                "The 'projectors' parameter is an empty list. Give one module or more, or None for "
                "random networks."
            )
        if not listed and self.n_targets is not None and self.n_targets > self.n_candidates:
            raise ValueError(
                f"The 'n_targets' parameter must be at most the number of candidates. Got "
                f"n_targets={self.n_targets} and n_candidates={self.n_candidates}."
            )

    def _optimizer(self):
        if self.optimizer is None:
            fused = self.precision != "float16"  # whose gradient scaler and fused steps collide
            return functools.partial(torch.optim.Adam, betas=(0.9, 0.99), fused=fused)
        return self.optimizer

    def _make_objective(self, encoder, data):
        candidates = make_projectors(self.projectors, self.n_candidates, self.projection_dim, data)
        n_targets = self.n_targets and min(self.n_targets, len(candidates))
        adapter = make_adapter(self.adapter, encoder, data.input_shape)
        barlow = functools.partial(batchwise_barlow, off_diagonal_weight=self.off_diagonal_weight)
        learning = "encoder" if self.alternate else "joint"
        return LFRObjective(
            encoder,
            adapter,
            candidates,
            functools.partial(self._make_predictors, adapter.width),
            resolve_loss(self.loss, {"barlow": barlow, "cosine": negative_cosine}),
            isinstance(self.loss, str),
            isinstance(self.loss, str) and self.loss == "barlow",
            (learning,) + ("predictors",) * self.predictor_epochs,
            n_targets,
            self.selection_batch_size,
            self.max_encoder_steps,
        )

    def _make_predictors(self, width, target_widths, **candidates):
        heads = make_predictors(
            self.predictors, self.predictor_layers, width, target_widths, **candidates
        )
        # These move each weight by itself; of a callable's optimizer that is not known.
        return ParallelHeads(heads, join=self.optimizer in (None, "adamw", "adam", "sgd"))

    def _publish(self, objective):
        self.target_indices_ = objective.chosen
        if objective.kernel is not None:
            self.target_kernel_ = objective.kernel
