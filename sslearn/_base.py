"""BaseSSL: what every estimator is to scikit-learn. Validate, seed, fit, transform, tags."""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from numbers import Integral, Real

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ._calls import check_call
from ._data._training_data import TrainingData
from ._data._validation import check_order, validate_rows
from ._fit import fit, fitted_names, forget
from ._inference import encode
from ._modules import Features, clonable, encoder_of_samples, least_steps, takes_nan
from ._objective import Objective
from ._pickling import HASH_PROTOCOL, by_value, with_versions, without_versions
from ._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    callbacks_ended,
    fit_context,
    validate_parameter_constraints,
)
from ._training._auto import PRECISIONS, resolve_batch_size, resolve_device
from ._training._history import History
from ._training._memory import out_of_memory_explained
from ._training._schedules import check_schedule
from ._training._settings import check_trainer_params
from .encoders import default_encoder
from .metrics import effective_rank

__all__ = ["BaseSSL"]

# The paper's number: more rows change the rank little, and the time of an SVD a lot.
_RANK_ROWS = 25_600
# What the callables among the parameters are called with, and the value that they must return;
# those that make modules aside.
_CALLED_WITH = {
    "augment": (("x", "generator"), "the views of x, a tensor"),
    "loss": (("predictions", "targets"), "a scalar tensor"),
    "ema_decay": (("step", "n_steps"), "the weight of the old target, a number"),
    "momentum": (("step", "n_steps"), "the weight of the old key network, a number"),
    "optimizer": (("parameter_groups",), None),  # which a class makes
}


class BaseSSL(
    CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, ABC
):
    """Base of all estimators. A method gives a signature, a docstring and an objective.

    A subclass must

    - assign every parameter of its ``__init__``, the shared ones included, and nothing else;
    - add its own parameters to ``_parameter_constraints``;
    - implement :meth:`_make_objective`.

    It may override :meth:`_sample_shape`, :meth:`_encoder_shape`, :meth:`_default_encoder`,
    :meth:`_optimizer` and :meth:`_publish`. A method without views leaves ``augment`` and
    ``cached_views`` out, one without pairs of views ``positives``, and one that is not for tables
    ``categorical_features``.
    """

    _parameter_constraints: dict = {
        "encoder": [callable, None],
        "embedding_dim": [Interval(Integral, 1, None, closed="left"), None],
        "augment": [callable, None],
        "cached_views": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "positives": [StrOptions({"views", "group"})],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "standardize": ["boolean"],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 2, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "optimizer": [StrOptions({"adamw", "adam", "sgd", "lars"}), callable],
        "lr_schedule": [StrOptions({"cosine", "constant", "plateau"}), callable, dict],
        "warmup_fraction": [Interval(Real, 0, 1, closed="both")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "keep_objective": ["boolean"],
        "device": [str],
        "precision": [StrOptions({"auto", *PRECISIONS})],
        "trainer_params": [dict, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # Whether the method reads the rows of a table as series of one channel.
    _univariate = False
    # Whether the method needs all layers of the encoder, also those that do not change.
    _keeps_encoder_whole = False

    # --- hooks -----------------------------------------------------------------------------

    @abstractmethod
    def _make_objective(self, encoder: Features, data: TrainingData) -> Objective:
        """Return what is trained, with the encoder inside.

        Called once in ``fit``, on the CPU; torch's default generator is seeded, so that weights
        may be drawn from it.

        Parameters
        ----------
        encoder : nn.Module
            Maps a float32 tensor (n, ...) of the shape ``data.input_shape`` (of a patch, if
            ``_encoder_shape`` says so) to features of shape (n, ``encoder.width``). An encoder's
            stem, which does not change, is not in it.
        data : TrainingData
            What may be asked of X: ``data.sample_shape``, ``len(data)``, ``data.n_rows``,
            ``data.is_stream`` and more, see "Write your own method".

        Returns
        -------
        Objective
            The loss, and what learns beside the encoder.
        """

    def _sample_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in which a sample of X of the given shape is read."""
        return (1, *shape) if self._univariate and len(shape) == 1 else shape

    def _encoder_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of what the encoder sees: a sample, or one patch of it."""
        return sample_shape

    def _default_encoder(
        self, shape: tuple[int, ...], width: int | None, rows: Callable[[], torch.Tensor] | None
    ) -> nn.Module:
        """Return the encoder that is used if ``encoder`` is None.

        Parameters
        ----------
        shape : tuple of int
            Shape of what it sees.
        width : int or None
            ``embedding_dim``.
        rows : callable or None
            Returns some training samples, standardised. None if the encoder sees something else.
        """
        return default_encoder(shape, width, rows() if rows else None)

    def _publish(self, objective: Objective) -> None:
        """Set the fitted attributes that only this method has."""

    def _optimizer(self):
        """Return the optimizer's name or maker."""
        return self.optimizer

    # --- scikit-learn's contract -----------------------------------------------------------

    def fit(self, X, y=None, *, groups=None, X_val=None):
        """Pretrain the encoder on X.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, torch Dataset or DataLoader
            Table (n, features), series (n, channels, time), images (n, channels, height, width) or
            volumes (n, channels, depth, height, width), of any real dtype. In tables NaN is a
            missing value (``None``, ``pandas.NA`` or null in a data frame), in series a gap. Series
            of unequal length are a list of arrays (channels, time_i), or padded with NaN at the
            end. Encoders take NaN that say ``takes_nan = True``; the default ones of tables and
            series do. Items of a dataset or loader are ``x`` or ``(x, ...)`` with one array or
            tensor ``x``, from which the views are drawn by ``augment``, or ``((v0, v1, ...), ...)``
            with two views or more, which are taken instead. With
            :class:`augment=GivenViews() <sslearn.augment.GivenViews>` items ``(v0, v1, ...)`` and
            arrays (n, n_views, ...) hold views too; otherwise of an item ``(v0, v1)`` only ``v0``
            is used. ``LFR``, which has no views, takes the first, and ``CPC`` one, drawn for each
            sample and step. An IterableDataset or DataLoader is iterated once to count the samples,
            and then once per epoch (by ``LFR`` once for each of its passes); one without end needs
            ``trainer_params={"limit_train_batches": n}`` (an int) or ``max_steps``, which also
            limit what is counted.
        y : Ignored
            Never trained on; passed to callbacks that ask for it. Not a dataset or loader: pass
            samples to validate on as ``X_val``.
        groups : array-like of shape (n_samples,), default=None
            Labels of the patients, sites or recordings that the samples are of: numbers or
            strings, not for a stream. Samples of one group are no negatives of each other in
            ``SimCLR``, ``MoCo``, ``CPC``, ``AMDIM`` and ``LFR(loss="barlow")``; the other methods
            have no negatives. ``validation_fraction`` holds out whole groups, and
            ``positives="group"`` takes the views of a pair from two samples of a group.
        X_val : same types as X, default=None
            Held-out samples, in place of ``validation_fraction``: their loss, on the same views
            each time, is kept in ``validation_loss_curve_``. A DataLoader must not shuffle.
            They have no groups. In a pipeline they are transformed like X only if it is made with
            ``transform_input=["X_val"]``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or X is not acceptable, or if the loss diverges. The estimator is then
            not fitted, even if it was before.
        MemoryError
            If memory does not suffice; on a GPU ``torch.OutOfMemoryError``.
        """
        _check_assigned(self)
        forget(self, self.__dict__.pop("_set_by_fit", ()))
        before = fitted_names(self)
        try:
            with out_of_memory_explained(self), callbacks_ended(self):
                history = self._fit(X, y, groups, X_val)
            # Raised, where warnings are errors, they leave nothing fitted either.
            if history.interrupted:
                warnings.warn(f"Training interrupted by {history.interrupted}.", stacklevel=2)
            if history.collapse:
                warnings.warn(history.collapse, ConvergenceWarning, stacklevel=2)
            self._set_by_fit = sorted(fitted_names(self) - before)
        except BaseException:
            forget(self, fitted_names(self) - before)
            raise
        return self

    def fit_transform(self, X, y=None, *, groups=None, X_val=None):
        """Pretrain the encoder on X and return its features of X.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, torch Dataset or DataLoader
            Data as in ``fit``. A DataLoader must not shuffle.
        y : Ignored
            Not used, present by convention.
        groups, X_val : optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            Features, in the order of X.
        """
        check_order(X)  # before the training, not after it
        return self.fit(X, y, groups=groups, X_val=X_val).transform(X)

    @fit_context(prefer_skip_nested_validation=True)
    def _fit(self, X, y, groups, X_val) -> History:
        """Fit, and return the history of the training."""
        return fit(self, X, y, groups, X_val)

    def transform(self, X):
        """Return the encoder's features of X.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, torch Dataset or DataLoader
            Samples of the shape seen in ``fit``, where values may be missing as in ``fit``, or
            views of each as in ``fit``, of which the first is taken; series of any length if
            ``any_length_``. A DataLoader must not shuffle.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out), float32
            Features, in the order of X. The features of a sample do not depend on the others.
        """
        return self._encode(X)

    def score(self, X, y=None):
        """Return the effective rank of the features of X: RankMe, arXiv 2210.02885.

        The exponential of the entropy of the normalised singular values, between 1 (collapsed)
        and the number of features. Where the encoder has a stem, which does not learn, the
        features behind it count alone. It needs no labels, so that
        ``GridSearchCV(estimator, grid).fit(X)`` works without any. It measures how many
        directions the features use, not whether these are useful. It misleads when features of
        different width are compared (more features, higher rank), and it gives a high value to an
        untrained encoder or to noise: check it against a few labels, or against neighbours. With
        more than 25,600 samples, evenly spaced ones are used.

        Parameters
        ----------
        X : array-like, DataFrame, Tensor, torch Dataset or DataLoader
            Samples of the shape seen in ``fit``.
        y : Ignored
            Not used, present by convention.

        Returns
        -------
        float
            The effective rank; searches take higher as better.
        """
        features = self._encode(X, learned=True)
        return effective_rank(features[:: math.ceil(len(features) / _RANK_ROWS)])

    def _encode(self, X, *, learned: bool = False):
        """Return features of X; with `learned` without what a stem gives to them."""
        check_is_fitted(self)
        self._check_set("device", "batch_size")
        device = resolve_device(self.device)
        check_order(X)
        rows = validate_rows(self, X, reset=False, batch_size=resolve_batch_size(self.batch_size))
        encoder = self.encoder_
        if "categories" not in encoder._modules:  # these see features as X has them
            rows.view_as(self._sample_shape(rows.sample_shape))
        features = encoder.get_submodule("features")
        if learned and features.learned is not features:
            features = features.learned
            parts = OrderedDict(encoder.named_children()) | {"features": features}
            encoder = nn.Sequential(OrderedDict(parts))
        return encode(
            encoder,
            rows,
            width=features.width,
            cost=self._cost,
            device=device,
            name=type(self).__name__,
            n_steps=least_steps(self.encoder, self._sample_shape(self.input_shape_)[-1]),
        )

    def __sklearn_clone__(self):
        # scikit-learn copies modules by copy.deepcopy, which some of them refuse.
        stand_in = copy.copy(self)
        for name, value in self.get_params(deep=False).items():
            setattr(stand_in, name, clonable(value))
        return super(BaseSSL, stand_in).__sklearn_clone__()

    def __reduce_ex__(self, protocol):
        # joblib.hash, hence Pipeline(memory=...), finds an estimator again by its pickled state.
        made = super().__reduce_ex__(protocol)
        if protocol != HASH_PROTOCOL:
            return made
        make, arguments, state, *more = made
        state = {name: by_value(value) for name, value in state.items()}
        return (make, arguments, state, *more)

    def __getstate__(self):
        return with_versions(super().__getstate__())

    def __setstate__(self, state):
        super().__setstate__(without_versions(state, type(self).__name__))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "encoder_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.encoder is None or takes_nan(self.encoder)
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return self.encoder_.get_submodule("features").width

    def _check_set(self, *names: str) -> None:
        """Check parameters that may have been set since fit has checked them."""
        validate_parameter_constraints(
            {name: self._parameter_constraints[name] for name in names},
            {name: getattr(self, name) for name in names},
            caller_name=type(self).__name__,
        )

    # --- parts of fit ----------------------------------------------------------------------

    def _check_relations(self) -> None:
        """Check what single parameters cannot: how they go together."""
        own = encoder_of_samples(self.encoder)
        if own is not None and self.embedding_dim is not None:
            raise ValueError(
                "The 'embedding_dim' parameter is the width of the default encoder. Got "
                f"embedding_dim={self.embedding_dim} together with an encoder of your own, "
                "which sets its own width: leave one of them None."
            )
        check_trainer_params(self.trainer_params, type(self).__name__)
        check_schedule(self.lr_schedule)
        for name, (arguments, value) in _CALLED_WITH.items():
            given = getattr(self, name, None)
            if callable(given):
                check_call(given, name, *arguments, value=value)


def _check_assigned(estimator: BaseSSL) -> None:
    """Refuse a method whose ``__init__`` leaves out a parameter, with a sentence for its author."""
    # Methods without views, or not for tables, leave some out; those whose heads are of no use
    # later, the last.
    optional = ("augment", "cached_views", "positives", "categorical_features", "keep_objective")
    needed = [name for name in BaseSSL._parameter_constraints if name not in optional]
    for name in (*estimator._get_param_names(), *needed):
        if not hasattr(estimator, name):
            raise AttributeError(
                f"{type(estimator).__name__}.__init__ must take all parameters that estimators "
                "share and assign each of its parameters to an attribute of the same name. It "
                f"has assigned none named {name!r}."
            )
