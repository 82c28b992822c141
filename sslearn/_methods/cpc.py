"""CPC: predict from the context so far which patch comes next, among all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import nn

from .._base import BaseSSL
from .._modules import Features, build_module, takes_nan
from .._objective import Batch, Objective
from .._sklearn import Interval, StrOptions
from ._cpc_context import GRUContext, MaskedConvContext, check_causal
from ._cpc_patches import PatchFeatures, PatchGrid, patch_encoder
from ._docs import shared_docs
from ._heads import WIDTH, apply_pointwise
from ._losses import offset_nce

__all__ = ["CPC"]

# Offsets by default, where the grid has room for them.
_STEPS = 3


class _CPCObjective(Objective):
    n_views = 1

    def __init__(
        self,
        encoder: nn.Module,
        grid: PatchGrid,
        context: nn.Module,
        widths: tuple[int, int, int],
        offsets: Sequence[int],
        embed_scale: float,
        own_row: bool,
        pool: str,
    ) -> None:
        super().__init__(encoder)
        width, context_dim, target_dim = widths
        self.local = PatchFeatures(grid, encoder)
        self.context = context
        self.to_target = nn.Linear(width, target_dim)
        self.offsets = tuple(offsets)
        # One linear map for each offset: W_k of the paper's equation 3.
        self.predictors = nn.ModuleList(nn.Linear(context_dim, target_dim) for _ in self.offsets)
        self.embed_scale = embed_scale
        self.own_row = own_row
        self.pooled = _Pooled(self.local, context if pool == "context" else None)

    @property
    def features(self) -> nn.Module:
        return self.pooled

    def pieces(self, x: torch.Tensor) -> torch.Tensor:
        return self.local.grid.pieces(x)

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        if batch.groups is None:
            return super().batch_loss(batch)
        return self.loss(*batch.views, groups=batch.groups)

    def loss(self, *views: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        # Each patch is encoded separately, then put back in its place on the grid.
        local = self.local.grid.on_grid(self.encoder(views[0]))  # (n, d, h, ...)
        # The context at a position depends on patches up to it, never on later ones.
        seen = self.context(local)
        targets = apply_pointwise(self.to_target, local)
        losses = []
        for offset, predictor in zip(self.offsets, self.predictors, strict=True):
            # The last positions have no patch so far ahead, hence no prediction.
            predictions = apply_pointwise(predictor, seen[:, :, :-offset])
            losses.append(
                offset_nce(
                    predictions,
                    targets,
                    offset,
                    self.embed_scale,
                    own_row=self.own_row,
                    groups=groups,
                )
            )
        return torch.stack(losses).mean()

    def outputs(self, batch):
        local = self.local(batch.x)
        seen = self.context(local)
        predictions = [apply_pointwise(predictor, seen) for predictor in self.predictors]
        return {
            "features": self.pooled(batch.x),
            "patches": local,
            "contexts": seen,
            "targets": apply_pointwise(self.to_target, local),
            "predictions": dict(zip(self.offsets, predictions, strict=True)),
        }


class _Pooled(nn.Module):
    """From samples to features: the mean of their patches', or the last context."""

    def __init__(self, local: PatchFeatures, context: nn.Module | None) -> None:
        super().__init__()
        self.local = local
        self.context = context

    @property
    def takes_nan(self) -> bool:
        """Whether the encoder of patches takes NaN."""
        return takes_nan(self.local.encoder)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        local = self.local(x)
        if self.context is None:
            return local.flatten(2).mean(2)
        return self.context(local)[..., -1]


@shared_docs
class CPC(BaseSSL):
    """Contrastive predictive coding.

    Samples are cut into overlapping patches, and an encoder sees each of them separately. A
    context network summarises the patches so far: along time for series, from the top downwards
    for images, along depth for volumes. Each context predicts the features of patches a few steps
    ahead, which must be found among those of all other patches of the batch. A sample's features
    are the mean of its patches'.

    Change first: ``patch_size`` (a patch must contain enough to predict from, but not the whole
    signal), then ``max_epochs`` and ``learning_rate``, then ``augment``.

    Parameters
    ----------
    encoder : nn.Module or callable, default=None
        Maps patches (n, channels, ...) to one float tensor (n, ...), which is flattened. A module
        is copied and training starts from its weights; layers that are wholly frozen stay frozen.
        A callable is called with the shape of a patch, under the seed, and returns a module. Rows
        of a table are one channel. If None, the default described in Notes.
    patch_size : int or tuple of int, default=None
        Size of a patch, the encoder's input, along each axis; an int is for all axes. If None,
        four strides of a series, three of an image, two of a volume.
    patch_stride : int or tuple of int, default=None
        Steps from one patch to the next. If None, a sixteenth of a series, an eighth of the longest
        axis of an image (2 pixels at least), a quarter of a volume's or, where ``patch_size`` is
        given, a quarter, a third or half of it.
    context : {"auto", "gru", "masked_conv"}, nn.Module or callable, default="auto"
        The context network. "gru" is for series; "masked_conv", for all, sees its own row of
        patches and the rows above. "auto" is "gru" for series and "masked_conv" otherwise. A module
        of your own maps (n, d, h, ...) to (n, e, h, ...) and must not look ahead along h; a
        callable gets d and returns one.
    context_dim : int, default=128
        Width of the context of the default networks.
    n_steps : int, default=None
        Number of offsets that are predicted, each by its own linear map. If None, 3, or as many
        as there is room for.
    first_step : int, default=None
        The nearest offset, in patches along the first axis. If None, the first whose patch does
        not overlap with the current one, or the farthest possible.
    target_dim : int, default=64
        Width in which predictions and features are compared.
    embed_scale : float, default=0.1
        Factor on the products of predictions and features.
    negatives : {"auto", "all", "other_rows"}, default="auto"
        Which patches serve as negatives: "all" others of the batch, as in the paper, or those of
        other samples only, since the patches of one series are often alike. "auto" is "other_rows"
        for series and "all" otherwise.
    pool : {"mean", "context"}, default="mean"
        Output of ``transform``: the mean over all patches of the encoder's features, or the
        last context, for series only.
    embedding_dim : int, default=None
        Width of the default encoder's features. If None, 256; for series those of all its layers,
        and two for each channel: 1280, or 608 for patches of more than 4096 values.
    batch_size : int or "auto", default=64
        Samples in a step. All their patches are compared: time grows with its square. "auto"
        depends on the number of samples, see 'What "auto" means' in the user guide.

    See Also
    --------
    AMDIM : Contrasts positions of two views.
    SimCLR : Contrasts whole samples.

    Notes
    -----
    ``augment`` is applied to each patch separately, so that properties which all patches of a
    sample share (a level, an orientation) do not reveal the answer; the views have the size of a
    patch. Where X gives several views of each sample, each step takes one, drawn for each sample;
    its patches are then augmented only if ``augment`` is given. The default encoder of patches of
    up to 4096 values is a perceptron with layer norms, and a :class:`sslearn.encoders.ResNet` for
    larger ones: batch statistics would leak information between patches. For series it also sees
    each channel scaled to zero mean and unit deviation within the patch, and its features are those
    of all layers, with these means and deviations.

    References
    ----------
    van den Oord, Li, Vinyals (2018). "Representation Learning with Contrastive Predictive
    Coding". arXiv:1807.03748. Henaff et al. (2020). "Data-Efficient Image Recognition with
    Contrastive Predictive Coding". arXiv:1905.09272.

    Examples
    --------
    >>> import numpy as np
    >>> from sslearn import CPC
    >>> X = np.random.default_rng(0).normal(size=(40, 2, 64)).cumsum(axis=2)
    >>> CPC(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (40, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "patch_size": [*WIDTH, tuple, list, None],
        "patch_stride": [*WIDTH, tuple, list, None],
        "context": [StrOptions({"auto", "gru", "masked_conv"}), callable],
        "context_dim": WIDTH,
        "n_steps": [*WIDTH, None],
        "first_step": [*WIDTH, None],
        "target_dim": WIDTH,
        "embed_scale": [Interval(Real, 0, None, closed="neither")],
        "negatives": [StrOptions({"auto", "all", "other_rows"})],
        "pool": [StrOptions({"mean", "context"})],
    }
    del _parameter_constraints["cached_views"], _parameter_constraints["positives"]
    _univariate = True

    def __init__(
        self,
        encoder=None,
        *,
        patch_size=None,
        patch_stride=None,
        context="auto",
        context_dim=128,
        n_steps=None,
        first_step=None,
        target_dim=64,
        embed_scale=0.1,
        negatives="auto",
        pool="mean",
        embedding_dim=None,
        # views
        augment=None,
        categorical_features=None,
        standardize=True,
        # training
        max_epochs="auto",
        batch_size=64,
        learning_rate=1e-3,
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
        self.patch_size = patch_size
        self.patch_stride = patch_stride
        self.context = context
        self.context_dim = context_dim
        self.n_steps = n_steps
        self.first_step = first_step
        self.target_dim = target_dim
        self.embed_scale = embed_scale
        self.negatives = negatives
        self.pool = pool
        self.embedding_dim = embedding_dim
        # views
        self.augment = augment
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

    def _grid(self, sample_shape):
        return PatchGrid(sample_shape, self.patch_size, self.patch_stride)

    def _encoder_shape(self, sample_shape):
        return self._grid(sample_shape).patch_shape

    def _default_encoder(self, shape, width, rows):
        return patch_encoder(shape, width)

    def _offsets(self, grid):
        """Return the steps ahead that are predicted."""
        n = grid.shape[0]
        if n < 2:
            raise ValueError(
                f"CPC needs two patches or more along {grid.axis}, to predict one from another. "
                f"Got {n} patch(es) of patch_size={grid.size} and patch_stride={grid.stride} where "
                f"a sample has {grid.length} along {grid.axis} (a table is one channel, here of "
                f"n_features = {grid.length})."
            )
        first = self.first_step
        if first is None:
            # A patch that overlaps with the current one would partly be copied, not predicted.
            first = min(math.ceil(grid.size[0] / grid.stride[0]), n - 1)
        steps = min(_STEPS, max(n - first, 1)) if self.n_steps is None else self.n_steps
        if first + steps > n:
            raise ValueError(
                f"The 'first_step' and 'n_steps' parameters must stay within the {n} patches along "
                f"{grid.axis}: first_step + n_steps - 1 is at most {n - 1}. Got "
                f"first_step={first} and n_steps={steps}."
            )
        return range(first, first + steps)

    def _make_context(self, width, grid):
        n_dims = len(grid.shape)
        kind = self.context
        if kind == "auto":
            kind = "gru" if n_dims == 1 else "masked_conv"
        if kind == "gru" and n_dims > 1:
            raise ValueError(
                "The 'context' parameter is 'gru', which is for series. Got samples with "
                f"{n_dims} axes after the channels; use 'masked_conv' or 'auto'."
            )
        if kind == "gru":
            return GRUContext(width, self.context_dim), self.context_dim
        if kind == "masked_conv":
            return MaskedConvContext(width, self.context_dim, n_dims), self.context_dim
        # A caller's network that sees ahead would make the task trivial.
        own = build_module(kind, width, name="context")
        return own, check_causal(own, width, grid.shape)

    def _make_objective(self, encoder: Features, data):
        grid = self._grid(data.sample_shape)
        offsets = self._offsets(grid)
        series = len(grid.shape) == 1
        if self.pool == "context" and not series:
            raise ValueError(
                "The 'pool' parameter is 'context', which is for series: the last position of a "
                f"grid has not seen all of it. Got samples of shape {tuple(data.sample_shape)}."
            )
        context, context_dim = self._make_context(encoder.width, grid)
        # The patches of one series are often alike: no true negatives.
        own_row = not series if self.negatives == "auto" else self.negatives == "all"
        return _CPCObjective(
            encoder,
            grid,
            context,
            (encoder.width, context_dim, self.target_dim),
            offsets,
            self.embed_scale,
            own_row,
            self.pool,
        )
