"""AMDIM: local and global features of two views of a row agree, across scales."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Real

import torch
from torch import nn

from .._base import BaseSSL
from .._objective import Batch, Objective, joined
from .._sklearn import Interval
from ..encoders import default_encoder
from ._amdim_feature_maps import FeatureMaps
from ._docs import shared_docs
from ._heads import HEAD, WIDTH, apply_pointwise, make_head
from ._losses import feature_map_nce

__all__ = ["AMDIM"]


class _AMDIMObjective(Objective):
    def __init__(
        self,
        encoder: nn.Module,
        maps: FeatureMaps,
        heads: Sequence[nn.Module],
        comparisons: Sequence[tuple[int, int]],
        tclip: float,
        regularization: float,
        bidirectional: bool,
    ) -> None:
        super().__init__(encoder)
        self.maps = maps
        self.heads = nn.ModuleList(heads)
        self.comparisons = tuple(comparisons)
        self.tclip = tclip
        self.regularization = regularization
        self.bidirectional = bidirectional

    def embedded(self, views: tuple[torch.Tensor, ...]) -> list[tuple[torch.Tensor, ...]]:
        """Return the maps of each view, at every position map_dim wide."""
        # One pass gives features and intermediate maps; a head each brings them to one width.
        maps = [
            apply_pointwise(head, layer)
            for head, layer in zip(self.heads, self.maps(joined(views)), strict=True)
        ]
        return list(zip(*(m.chunk(len(views)) for m in maps), strict=True))

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        first, second = self.embedded(batch.views)
        # One loss for each comparison of scales, clipped and regularised as in section 3.4.
        losses = feature_map_nce(
            first,
            second,
            self.comparisons,
            clip=self.tclip,
            regularization=self.regularization,
            bidirectional=self.bidirectional,
            generator=batch.generator,
            groups=batch.groups,
        )
        return losses.mean()

    def outputs(self, batch):
        (maps,) = self.embedded((batch.x,))
        return {"features": self.encoder(batch.x), "maps": list(maps)}


def parse_comparisons(text: str, n_maps: int) -> list[tuple[int, int]]:
    """Read "01, 02, 11": pairs of maps, anchor and positive; 'r' is -1, a random one.

    Raises
    ------
    ValueError
        When a pair cannot be read, or names a map that is not there.
    """
    pairs = []
    for word in text.split(","):
        # Two single characters, or numbers of several digits with a hyphen.
        found = re.fullmatch(r"\s*(?:([\dr])([\dr])|(\d+|r)-(\d+|r))\s*", word)
        if found is None:
            raise ValueError(
                "The 'comparisons' parameter must be pairs of maps, such as '01, 02, 1r, 10-2': "
                "anchor and positive, each a number or r, with a hyphen between longer ones. "
                f"Got {word.strip()!r} in {text!r}."
            )
        anchor, positive = (-1 if i == "r" else int(i) for i in found.groups() if i is not None)
        if max(anchor, positive) >= n_maps:
            raise ValueError(
                "The 'comparisons' parameter must name maps from 0, the features, to "
                f"{n_maps - 1}, the last of feature_layers. Got {word.strip()!r} in {text!r}."
            )
        pairs.append((anchor, positive))
    return pairs


@shared_docs
class AMDIM(BaseSSL):
    """Augmented multiscale deep InfoMax.

    Two random views are drawn from every sample. The features of one view must be closer to the
    output of the encoder's intermediate layers at every position of the other view than to their
    output for other samples; so the features keep the information that its parts share.

    Change first: ``augment`` (features ignore what a view may change), then
    ``max_epochs`` and ``learning_rate``, then ``feature_layers`` and ``comparisons``.

    Parameters
    ----------
    encoder : nn.Module or callable, default=None
        Maps (n, ...) to one float tensor (n, ...), which is flattened. A module is
        copied and training starts from its weights; layers that are wholly frozen stay frozen.
        A callable is called as ``encoder(sample_shape)`` under the seed and returns a module. Rows
        of a table come as (n, 1, features). If None, a default for the kind of input, see
        :func:`sslearn.encoders.default_encoder`.
    feature_layers : sequence of str, default=None
        Names of layers of the encoder, as in ``named_modules``, whose outputs (n, channels, ...)
        are the maps 1, 2 and so on; map 0 is the features. If None, the last two layers with
        positions, the last one first; if there are fewer, the last map is repeated.
    map_dim : int, default=128
        Width in which positions are compared.
    projector : nn.Module or callable, default=None
        A head of your own, applied at every position of a map: a callable that gets the number of
        channels and returns a module to (n, map_dim), or a module, which then has to suit all
        maps. If None, linear, batch norm, ReLU, linear.
    comparisons : str, default="00, 01, 02, 11"
        Pairs of maps, anchor and positive: "02" finds from the features of one view the map 2 of
        the other. "r" is a random map in each step; numbers of several digits take a hyphen,
        "10-2". The paper has no "00", which compares the features of both views; ``transform``
        returns these, so they are trained directly here.
    tclip : float, default=20.0
        c of ``c * tanh(score / c)``, which keeps scores from growing. Paper: 20.
    regularization : float, default=0.05
        Weight of the regularizer: the mean squared score of each comparison, before ``tclip``
        bounds it, is added to that comparison's loss. Authors' code: 0.05.
    bidirectional : bool, default=True
        Whether each view is the anchor of the other. If False, the first of the second only.
    embedding_dim : int, default=None
        Width of the default encoder's features. If None, statistics of all its stages.
    batch_size : int or "auto", default=64
        Samples in a step. All their positions are compared: time grows with its square. "auto"
        depends on the number of samples, see 'What "auto" means' in the user guide.

    See Also
    --------
    CPC : Predicts patches from those before.
    SimCLR : Contrasts the features alone.

    Notes
    -----
    The regularizer has the paper's weight relative to the losses, for any number of comparisons:
    the mean over comparisons of the loss plus ``regularization`` times the mean squared score is
    minimised.

    Both views are encoded in one forward pass, so batch statistics are over both.

    References
    ----------
    Bachman, Hjelm, Buchwalter (2019). "Learning Representations by Maximizing Mutual Information
    Across Views". arXiv:1906.00910.

    Examples
    --------
    >>> import numpy as np
    >>> from sslearn import AMDIM
    >>> X = np.random.default_rng(0).normal(size=(40, 2, 64)).cumsum(axis=2)
    >>> AMDIM(embedding_dim=16, max_epochs=2, random_state=0).fit(X).transform(X).shape
    (40, 16)
    """

    _parameter_constraints: dict = {
        **BaseSSL._parameter_constraints,
        "feature_layers": [tuple, list, None],
        "map_dim": WIDTH,
        "projector": HEAD,
        "comparisons": [str],
        "tclip": [Interval(Real, 0, None, closed="neither")],
        "regularization": [Interval(Real, 0, None, closed="left")],
        "bidirectional": ["boolean"],
    }
    del _parameter_constraints["cached_views"]
    _univariate = True
    _keeps_encoder_whole = True

    def __init__(
        self,
        encoder=None,
        *,
        feature_layers=None,
        map_dim=128,
        projector=None,
        comparisons="00, 01, 02, 11",
        tclip=20.0,
        regularization=0.05,
        bidirectional=True,
        embedding_dim=None,
        # views
        augment=None,
        positives="views",
        categorical_features=None,
        standardize=True,
        # training
        max_epochs="auto",
        batch_size=64,
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
        self.feature_layers = feature_layers
        self.map_dim = map_dim
        self.projector = projector
        self.comparisons = comparisons
        self.tclip = tclip
        self.regularization = regularization
        self.bidirectional = bidirectional
        self.embedding_dim = embedding_dim
        # views
        self.augment = augment
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

    def _default_encoder(self, shape, width, rows):
        # A position of a map must see a part of the sample alone, so no kernels as long as it.
        return default_encoder(shape, width)

    def _make_objective(self, encoder, data):
        maps = FeatureMaps(encoder, self.feature_layers, data.sample_shape)
        widths = (self.map_dim, self.map_dim)
        # Maps have different numbers of channels, so each scale gets a head of its own.
        heads = [
            make_head(self.projector, channels, widths, name="projector", out=self.map_dim)
            for channels in maps.channels
        ]
        comparisons = parse_comparisons(self.comparisons, len(heads))
        return _AMDIMObjective(
            encoder,
            maps,
            heads,
            comparisons,
            self.tclip,
            self.regularization,
            self.bidirectional,
        )
