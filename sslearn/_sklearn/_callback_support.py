"""Callbacks of estimators where scikit-learn has none: in versions below 1.9.

The protocol is that of ``sklearn.callback``, so that an ``OnlineProbe`` and callbacks of one's own
are written once. A fit is a task, its epochs are subtasks.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["CallbackSupport", "callbacks_ended"]

_HOOKS = ("setup", "teardown", "on_fit_task_begin", "on_fit_task_end")


class CallbackSupport:
    """Base of estimators, by which they have callbacks."""

    def set_callbacks(self, *callbacks):
        """Set the callbacks of the estimator, in place of those it has.

        Parameters
        ----------
        *callbacks : callbacks
            An :class:`sslearn.callbacks.OnlineProbe`, or others with its methods. None removes
            those that were set.

        Returns
        -------
        self : object
            The estimator.
        """
        for callback in callbacks:
            if isinstance(callback, type) or not all(hasattr(callback, hook) for hook in _HOOKS):
                raise TypeError(
                    "set_callbacks takes callbacks, objects with the methods "
                    f"{', '.join(_HOOKS)}. Got {callback!r} instead."
                )
        vars(self).pop("_skl_callbacks", None)
        if callbacks:
            self._skl_callbacks = list(callbacks)
        return self

    def _init_callback_context(self, *, max_subtasks: int = 0) -> Task:
        task = Task(getattr(self, "_skl_callbacks", []), "fit", 0, max_subtasks)
        begun: list[Any] = []
        self._callbacks_of_fit = begun, task
        for callback in task.callbacks:
            begun.append(callback)
            callback.setup(self, task)
        return task

    def __sklearn_clone__(self):
        # Clones share the callbacks themselves, which collect what all of them report.
        made = super().__sklearn_clone__()  # type: ignore[misc]
        if hasattr(self, "_skl_callbacks"):
            made._skl_callbacks = self._skl_callbacks
        return made


class Task:
    """A fit or an epoch, as callbacks see it.

    Attributes
    ----------
    task_name : str
        "fit" or "epoch".
    task_id : int
        Number of the task among those of its parent.
    max_subtasks : int
        Largest number of subtasks.
    """

    def __init__(self, callbacks: list, task_name: str, task_id: int, max_subtasks: int) -> None:
        self.callbacks = callbacks
        self.task_name = task_name
        self.task_id = task_id
        self.max_subtasks = max_subtasks
        self._n_begun = 0

    def subcontext(self, *, task_name: str) -> Task:
        """Return the next subtask."""
        self._n_begun += 1
        return Task(self.callbacks, task_name, self._n_begun - 1, 0)

    def call_on_fit_task_begin(self, *, estimator, **found) -> Task:
        """Call the callbacks when the task begins."""
        self._call("on_fit_task_begin", estimator, found)
        return self

    def call_on_fit_task_end(self, *, estimator, **found) -> bool:
        """Call the callbacks when the task ends; True if one of them ends the training."""
        return self._call("on_fit_task_end", estimator, found)

    def _call(self, hook: str, estimator, found: dict[str, Any]) -> bool:
        """Call a hook of all callbacks with the keyword arguments that each asks for."""
        attributes = found.pop("reconstruction_attributes", None)
        ends = False
        for callback in self.callbacks:
            called = getattr(callback, hook)
            parameters = inspect.signature(called).parameters.values()
            names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
            if "fitted_estimator" in names and "fitted_estimator" not in found:
                found["fitted_estimator"] = _fitted(estimator, attributes)
            given = {name: found.get(name) for name in names}
            ends |= bool(called(estimator, self, **given))
        return ends


def _fitted(estimator, attributes: dict | Callable[[], dict] | None):
    """Return the estimator as it would be if its fit ended now; a copy made only if asked for."""
    if attributes is None:
        return None
    made = copy.copy(estimator)
    vars(made).update(attributes() if callable(attributes) else attributes)
    return made


@contextlib.contextmanager
def callbacks_ended(estimator: Any) -> Iterator[None]:
    """Tear the callbacks down that a fit has set up here, on errors too."""
    try:
        yield
    finally:
        callbacks, task = vars(estimator).pop("_callbacks_of_fit", ((), None))
        for callback in callbacks:
            callback.teardown(estimator, task)
