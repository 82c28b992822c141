"""scikit-learn's private names, imported once, so that their changes are handled in one place."""

from __future__ import annotations

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import _Booleans as Booleans
from sklearn.utils.validation import _check_feature_names as check_feature_names

from ._callback_support import callbacks_ended

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn below 1.9
    from ._callback_support import CallbackSupport as CallbackSupportMixin

__all__ = [
    "Booleans",
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "callbacks_ended",
    "check_feature_names",
    "fit_context",
    "validate_parameter_constraints",
]
