"""Attributes of estimators: the parameters that a constructor assigns, and what a fit sets."""

from __future__ import annotations

from collections.abc import Iterable

from sklearn.base import BaseEstimator

__all__ = ["check_assigned", "fitted_names", "forget"]


def check_assigned(estimator: BaseEstimator, shared: Iterable[str]) -> None:
    """Refuse a method whose ``__init__`` leaves out a parameter, with a sentence for its author."""
    # Methods without views, or not for tables, leave some out; those whose heads are of no use
    # later, the last.
    optional = ("augment", "cached_views", "positives", "categorical_features", "keep_objective")
    needed = [name for name in shared if name not in optional]
    for name in (*estimator._get_param_names(), *needed):
        if not hasattr(estimator, name):
            raise AttributeError(
                f"{type(estimator).__name__}.__init__ must take all parameters that estimators "
                "share and assign each of its parameters to an attribute of the same name. It "
                f"has assigned none named {name!r}."
            )


def forget(estimator: BaseEstimator, fitted: Iterable[str]) -> None:
    """Delete attributes that a fit has set, and none of a subclass or of the caller."""
    for name in fitted:
        if name in vars(estimator):
            delattr(estimator, name)


def fitted_names(estimator: BaseEstimator) -> set[str]:
    """Return the names of the attributes that a fit has set."""
    return {name for name in vars(estimator) if name.endswith("_") or name == "_cost"}
