"""The stages of ``fit``: from X and the parameters of an estimator to its fitted attributes."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from torch import nn

from ._data._batches import Batches
from ._data._given_views import GivenRows, check_n_views
from ._data._held_out import check_held_out
from ._data._one_hot import find_one_hot
from ._data._reading import ReadData, read_data
from ._data._rows import Rows, Stream
from ._data._seeds import Seeds
from ._data._standardize import Standardize, is_grid, refuse_nan
from ._data._training_data import TrainingData
from ._data._validation import check_labels
from ._inference import Cost, measure_cost
from ._modules import (
    Features,
    Reshape,
    build_features,
    build_module,
    copy_module,
    encoder_of_samples,
    split_stem,
    takes_nan,
    windowed,
    windows_of,
)
from ._objective import Objective, check_objective
from ._process_state import isolated
from ._training._auto import (
    name_of,
    resolve_batch_size,
    resolve_cached_views,
    resolve_device,
    resolve_precision,
)
from ._training._history import History
from ._training._memory import ask_for_memory
from ._training._settings import Settings, most_batches
from ._training._sklearn_callbacks import SklearnCallbacks
from .augment import default_augment
from .augment._default import is_ours, noise_of
from .augment._tables import on_columns
from .encoders import FillMissing, KernelBank, PatchBank, ResNet, StemEncoder
from .encoders._layout import to_memory_format

__all__ = ["fit", "fitted_names", "forget"]

# Frames from the warning of noisy views up to the caller of an estimator's fit.
_TO_THE_CALLER = 8


@dataclass
class _Built:
    """What is trained, and what becomes ``encoder_``: the second stage."""

    objective: Objective
    batches: Batches
    features: Features
    encoder: nn.Module
    cost: Cost
    settings: Settings
    is_own_encoder: bool
    feature_groups: list[list[int]] | None

    def fitted(self, history: History) -> dict[str, Any]:
        """Return the attributes of an estimator whose fit ends here, apart from the encoder."""
        found = {
            "loss_curve_": list(history.loss_curve),
            "embedding_rank_curve_": list(history.rank_curve),
            "n_iter_": len(history.loss_curve),
            "n_steps_": history.n_steps,
            "batch_size_": history.batch_size,
            "learning_rate_": history.learning_rate,
            "device_": str(self.batches.data.device),
            "precision_": name_of(self.settings.autocast),
        }
        if history.validation_loss_curve:
            found["validation_loss_curve_"] = list(history.validation_loss_curve)
        if self.feature_groups is not None:
            found["feature_groups_"] = self.feature_groups
        return {"_cost": self.cost, **found}

    def published(self, encoder: nn.Module) -> nn.Module:
        """Turn the encoder, or a copy of it, into ``encoder_``: on the CPU, in eval mode."""
        data = self.batches.data
        if data.has_stem:
            features = encoder.get_submodule("features")
            assert isinstance(features, Features)
            # An encoder of the caller's may have been trained before.
            trained = self.settings.max_epochs > 0 or self.is_own_encoder
            encoder.to(data.device)  # where the stem is; what was trained has come back
            features.calibrate(data.reference_features(), trained=trained)
        to_memory_format(encoder.cpu().eval(), channels_last=False)
        return encoder

    def kept(self) -> Objective:
        """Turn the objective into ``objective_``, once the encoder is published."""
        *before, _ = self.encoder.children()  # all that comes before its features
        to_samples = before[0] if len(before) == 1 else nn.Sequential(*before)
        kept = self.objective.keep(to_samples, self.batches.data.stem)
        to_memory_format(kept, channels_last=False)
        return kept


def fit(estimator, X: Any, y: Any, groups: Any = None, X_val: Any = None) -> History:
    """Fit an estimator, and return the history of its training."""
    check_labels(y)
    device = resolve_device(estimator.device)
    autocast = resolve_precision(estimator.precision, device)
    estimator._check_relations()
    check_held_out(estimator, X_val)
    root = int(check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max))
    seeds = Seeds.from_root(root)
    with isolated(root, device) as stop:
        # Lightning costs seconds at its first import, which a process that only transforms never
        # pays. Signals wait for it: half imported, it could not be imported again.
        from ._training._trainer import check_arguments, train

        with stop.heard():
            check_arguments(estimator.trainer_params)
            # Read X: samples or a stream, a held-out part, statistics.
            read = read_data(
                estimator,
                X,
                groups,
                X_val,
                batch_size=resolve_batch_size(estimator.batch_size),
                most_batches=most_batches(estimator.trainer_params),
                device=device,
                seeds=seeds,
            )
            held_out = read.held_out
            # Build what is trained: the encoder, inside an objective that may ask for the data.
            built = _build(estimator, read, autocast, seeds)
            # The subsample in the statistics is large, and training has no use for it.
            del read
            # Train, and call scikit-learn's callbacks on the way.
            callbacks = SklearnCallbacks(
                estimator,
                X,
                y,
                built.settings.max_epochs,
                device,
                lambda history: {
                    "encoder_": built.published(copy_module(built.encoder)),
                    **built.fitted(history),
                },
                stop,
            )
            _ask_for_memory(estimator, built)
            try:
                history = train(
                    built.objective, built.batches, held_out, built.settings, seeds, stop, callbacks
                )
            finally:
                built.batches.release()
            # Keep the fitted attributes, all at once.
            estimator.encoder_ = built.published(built.encoder)
            for name, value in built.fitted(history).items():
                setattr(estimator, name, value)
            estimator._publish(built.objective)
            if getattr(estimator, "keep_objective", False):
                estimator.objective_ = built.kept()
            callbacks.end()
    history.interrupted = stop.cause
    return history


# --- building what is trained --------------------------------------------------------------------


def _build(estimator, read: ReadData, autocast: torch.dtype | None, seeds: Seeds) -> _Built:
    data, name = read.data, type(estimator).__name__
    encoder = _build_encoder(estimator, data)
    if data.where_missing and not encoder.takes_nan:
        refuse_nan(data.where_missing, len(data.sample_shape) + 1, name)
    # What does not change, at the encoder's beginning, is not part of what is trained.
    whole = estimator._keeps_encoder_whole or estimator._encoder_shape(data.sample_shape) != (
        data.sample_shape
    )
    split = None if whole else split_stem(encoder, data.sample_shape)
    trained = encoder if split is None else split.body
    if split is not None:
        # A network takes as many steps behind a stem as without one.
        network = any(isinstance(module, ResNet) for module in split.body.modules())
        data.put_stem(split.stem, split.input_shape, few_layers=not network)
    settings = Settings.from_estimator(
        estimator,
        autocast,
        len(data),
        few_layers=data.few_layers,
        is_table=len(data.sample_shape) == 1,
    )
    objective = check_objective(estimator._make_objective(trained, data), name)
    groups = _feature_groups(estimator, read, objective)
    batches = _make_batches(estimator, read, objective, settings, groups)
    features = _joined_features(objective.features, trained, encoder, data)
    features = windowed(estimator.encoder, features)
    # The cost is measured on the CPU, before anything moves; of windows that of a recording.
    whole = windows_of(estimator.encoder) is not None
    shape = estimator._sample_shape(estimator.input_shape_) if whole else data.sample_shape
    cost = measure_cost(features.eval(), shape)
    for module in (objective,) if split is None else (objective, split.stem, features):
        to_memory_format(module.to(data.device), channels_last=True)
    objective.prepare(data, torch.Generator().manual_seed(seeds.preparation))
    whole_encoder = _with_standardize(features, data.standardize, data.rows)
    own = encoder_of_samples(estimator.encoder) is not None
    return _Built(objective, batches, features, whole_encoder, cost, settings, own, groups)


def _joined_features(
    learned: nn.Module, trained: Features, encoder: Features, data: TrainingData
) -> Features:
    """Return what maps samples to features: what an objective publishes, behind the stem."""
    if learned is trained:
        return encoder
    if data.stem is not None:
        learned = nn.Sequential(data.stem, learned)
    elif isinstance(learned, Features):
        return learned
    return build_features(learned, data.sample_shape)


def _build_encoder(estimator, data: TrainingData) -> Features:
    """Return the caller's encoder, copied or called, or the default one."""
    shape = tuple(estimator._encoder_shape(data.sample_shape))
    given = encoder_of_samples(estimator.encoder)
    if given is not None:
        own = build_module(given, shape, name="encoder")
        return build_features(own, shape, trains=True)
    width = None if estimator.embedding_dim is None else int(estimator.embedding_dim)
    rows = data.reference_rows if shape == data.sample_shape else None
    made = estimator._default_encoder(shape, width, rows)
    if is_grid(data.sample_shape) or isinstance(made, StemEncoder) or takes_nan(made):
        return build_features(made, shape)
    # A network gets filled values, and where they are, if it can learn what that means.
    fill = FillMissing(shape[0], mask=data.where_missing is not None)
    if fill.mask:
        made = estimator._default_encoder(fill.filled_shape(shape), width, None)
    return build_features(made, shape, fill=fill)


def _feature_groups(estimator, read: ReadData, objective: Objective) -> list[list[int]] | None:
    """Return the columns of a table that the default views change together, if there are such.

    They are numbered as in X, and apart from those of its categories.
    """
    data = read.data
    has_default_views = objective.n_views and getattr(estimator, "augment", None) is None
    has_default_views = has_default_views and not data.rows.n_given
    is_table = estimator._encoder_shape(data.sample_shape) == data.sample_shape
    if not has_default_views or not is_table or len(data.sample_shape) > 1:
        return None
    return find_one_hot(read.statistics.subsample.values().flatten(1), data.rows.codes)


def _make_batches(
    estimator,
    read: ReadData,
    objective: Objective,
    settings: Settings,
    groups: list[list[int]] | None,
) -> Batches:
    """Return what makes batches; warn if a signal in X is lost in noise, or to kernels."""
    data = read.data
    banks = [] if data.stem is None else _banks(data.stem)
    kernels = any(isinstance(bank, KernelBank) for bank in banks)
    own = getattr(estimator, "augment", None)
    augment = own
    check_n_views(data.rows, objective.n_views, type(estimator).__name__)
    if augment is None and not data.rows.n_given:
        shape = estimator._encoder_shape(data.sample_shape)
        rgb = data.standardize.is_photograph
        augment = default_augment(shape, rgb=rgb, bank=bool(banks), feature_groups=groups or None)
    codes = data.rows.codes
    if codes is not None and len(data.sample_shape) == 1:
        augment = on_columns(augment, codes.owner.tolist())
    drowned = None
    if objective.n_views:
        noise = noise_of(augment)
        words = "the noise of the views, so that little can be learned"
        drowned = _faint(read, noise, words, ", or lower the noise by augment")
    if kernels and not drowned:
        words = "the kernels of the encoder distinguish, so that these give nearly equal features"
        _faint(read, KernelBank.ramp, words)
    return Batches(
        data,
        augment,
        objective.n_views,
        pieces=objective.pieces,
        pairs_of_groups=getattr(estimator, "positives", "views") == "group",
        n_kept=_n_kept(estimator, data, objective.n_views, settings, is_ours(augment)),
        watch=own is not None or data.rows.n_given > 0,
        drowned=drowned,
    )


def _banks(stem: nn.Module) -> list[nn.Module]:
    """Return the banks of fixed features in a stem, for which there are views of their own."""
    return [module for module in stem.modules() if isinstance(module, KernelBank | PatchBank)]


def _faint(read: ReadData, noise: float, words: str, remedy: str = "") -> str | None:
    """Name signals in X that are below a noise, and warn of them."""
    found = read.statistics.drowned(read.data.standardize, noise)
    if found:
        warnings.warn(
            f"In X {found} by less than {words}: few values, or a unit of their own, make the "
            "others look small. Scale X first (each channel by itself, or by a logarithm)"
            f"{remedy}.",
            stacklevel=_TO_THE_CALLER,
        )
    return found


def _n_kept(
    estimator, data: TrainingData, n_views: int, settings: Settings, views_are_ours: bool
) -> int:
    """Return of how many views of each sample the stem's features are computed once."""
    cached = getattr(estimator, "cached_views", "auto")
    if not data.has_stem or data.is_stream:
        return 0
    # What a callable of the caller's draws may depend on more than a sample and the generator.
    if n_views and cached == "auto" and not (views_are_ours and data.rows.is_fixed):
        return 0
    if not (n_views or data.rows.is_fixed):
        return 0
    # A network learns more from views that it has not seen (digits, 5 labels a class, held-out
    # samples: 97.7 instead of 96.7 from eight views of each).
    if n_views and cached == "auto" and not data.few_layers:
        return 0
    kept = resolve_cached_views(
        cached,
        max_epochs=settings.max_epochs,
        n_views=n_views,
        n_samples=len(data),
        input_shape=data.input_shape,
    )
    if 0 < kept < n_views:
        raise ValueError(
            "The 'cached_views' parameter must be 0 or at least the number of views of "
            f"{type(estimator).__name__}, {n_views}. Got {kept} instead."
        )
    if n_views and isinstance(data.rows, GivenRows):
        augment = getattr(estimator, "augment", None)
        return data.rows.n_kept(augment, kept, data.input_shape, at_any_size=cached != "auto")
    return kept


def _with_standardize(
    features: nn.Module, standardize: Standardize, rows: Rows | Stream
) -> nn.Sequential:
    """Return ``encoder_``: from raw samples, in the shape in which X has them, to features."""
    parts = OrderedDict(standardize=standardize, features=features)
    if rows.sample_shape != rows.read_shape:
        parts["shape"] = Reshape(rows.sample_shape)
        parts.move_to_end("shape", last=False)
    if rows.codes is not None:
        parts["categories"] = rows.codes
        parts.move_to_end("categories", last=False)
    return nn.Sequential(parts)


# --- before training -----------------------------------------------------------------------------


def _ask_for_memory(estimator, built: _Built) -> None:
    # Views of the caller's may be smaller than samples: what the features keep is not known then.
    own_views = getattr(estimator, "augment", None) is not None
    ask_for_memory(built.objective, built.batches, built.settings, views_may_be_smaller=own_views)


# --- attributes of the estimator -----------------------------------------------------------------


def forget(estimator: BaseEstimator, fitted: Iterable[str]) -> None:
    """Delete attributes that a fit has set, and none of a subclass or of the caller."""
    for name in fitted:
        if name in vars(estimator):
            delattr(estimator, name)


def fitted_names(estimator: BaseEstimator) -> set[str]:
    """Return the names of the attributes that a fit has set."""
    return {name for name in vars(estimator) if name.endswith("_") or name == "_cost"}
