"""scikit-learn's callbacks: a fit is one task, and its epochs are subtasks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from .._process_state import StopOnInterrupt
from ._history import EpochListener, History, Interrupted

__all__ = ["SklearnCallbacks"]


class SklearnCallbacks(EpochListener):
    """Calls the callbacks of an estimator during its fit.

    Parameters
    ----------
    estimator : BaseSSL
        The estimator that is fitted.
    X, y : any
        Arguments of ``fit``.
    n_epochs : int
        Largest number of epochs.
    device : torch.device
        Its default generator and that of the CPU are restored after each call.
    fitted : callable
        Maps the history so far to the attributes of a fit that ends now; called only if a
        callback needs a fitted estimator.
    stop : StopOnInterrupt
        The first signal also ends a callback that runs, a long probe for example.
    """

    def __init__(
        self,
        estimator,
        X: Any,
        y: Any,
        n_epochs: int,
        device: torch.device,
        fitted: Callable[[History], dict],
        stop: StopOnInterrupt,
    ) -> None:
        self.stop = stop
        self.arguments = {"estimator": estimator, "X": X, "y": y}
        self.fitted = fitted
        self.devices = [] if device.type == "cpu" else [device.index or 0]
        with self._generators_kept():
            self.task = estimator._init_callback_context(max_subtasks=n_epochs)
            self.task.call_on_fit_task_begin(**self.arguments)
        self.epoch: Any = None

    def _generators_kept(self):
        # Random draws of a callback must not change the training.
        return torch.random.fork_rng(self.devices)

    def begin_epoch(self) -> None:
        with self._generators_kept():
            self.epoch = self.task.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(**self.arguments)

    def end_epoch(self, history: History) -> bool:
        """Call the callbacks after an epoch; True if one of them ends the training."""
        with self._generators_kept(), self.stop.raising(Interrupted):
            return self.epoch.call_on_fit_task_end(
                **self.arguments, reconstruction_attributes=lambda: self.fitted(history)
            )

    def scores(self, epoch: int) -> dict[str, float]:
        """Return the scores of online probes after an epoch: "probe_score", "probe_score_2"."""
        # Found by their method, since the module of their class imports this one.
        callbacks = getattr(self.arguments["estimator"], "_skl_callbacks", ())
        probes = [callback for callback in callbacks if hasattr(callback, "_score_after")]
        found = [probe._score_after(epoch) for probe in probes]
        names = ["probe_score", *(f"probe_score_{i}" for i in range(2, len(probes) + 1))]
        return {name: score for name, score in zip(names, found, strict=False) if score is not None}

    def end(self) -> None:
        """Call the callbacks after the fit, whose attributes are set."""
        # The weights are set already: a signal ends the callback, and the fit is kept.
        ended = contextlib.suppress(Interrupted), self.stop.raising(Interrupted)
        with self._generators_kept(), ended[0], ended[1]:
            self.task.call_on_fit_task_end(**self.arguments, reconstruction_attributes={})
