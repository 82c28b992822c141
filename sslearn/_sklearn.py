"""scikit-learn's private names, imported once, so that their changes are handled in one place."""

from __future__ import annotations

import sklearn
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import _Booleans as Booleans
from sklearn.utils.validation import _check_feature_names as check_feature_names

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn below 1.9

    class _NoCallbacks:
        """A callback context without callbacks."""

        def subcontext(self, **kwargs) -> _NoCallbacks:
            return self

        def call_on_fit_task_begin(self, **kwargs) -> _NoCallbacks:
            return self

        def call_on_fit_task_end(self, **kwargs) -> bool:
            return False

    class CallbackSupportMixin:  # type: ignore[no-redef]
        def set_callbacks(self, *callbacks):
            """Raise an error: this version of scikit-learn has no callbacks."""
            raise ImportError(
                "set_callbacks needs scikit-learn 1.9 or newer, which has callbacks. Found "
                f"scikit-learn {sklearn.__version__}."
            )

        def _init_callback_context(self, **kwargs) -> _NoCallbacks:
            return _NoCallbacks()


__all__ = [
    "Booleans",
    "CallbackSupportMixin",
    "Interval",
    "StrOptions",
    "check_feature_names",
    "fit_context",
    "validate_parameter_constraints",
]
