"""A fit as scikit-learn's callbacks see it: one task, whose parts are the epochs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from .._process_state import StopOnInterrupt
from ._history import EpochListener, History, Interrupted

__all__ = ["SklearnCallbacks"]


class SklearnCallbacks(EpochListener):
    """Tells the callbacks of an estimator where its fit has come to.

    Parameters
    ----------
    estimator : BaseSSL
        What is fitted.
    X, y : any
        As they were given to ``fit``.
    n_epochs : int
        The most that there will be.
    device : torch.device
        Whose default generator is kept, with the CPU's, while callbacks run.
    fitted : callable
        From the history so far to the attributes of a fit that ends here; called only when a
        callback asks for a fitted estimator.
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
        self.told = {"estimator": estimator, "X": X, "y": y}
        self.fitted = fitted
        self.devices = [] if device.type == "cpu" else [device.index or 0]
        with self._generators_kept():
            self.task = estimator._init_callback_context(max_subtasks=n_epochs)
            self.task.call_on_fit_task_begin(**self.told)
        self.epoch: Any = None

    def _generators_kept(self):
        # What a callback draws must not change what is learned.
        return torch.random.fork_rng(self.devices)

    def begin_epoch(self) -> None:
        with self._generators_kept():
            self.epoch = self.task.subcontext(task_name="epoch")
            self.epoch.call_on_fit_task_begin(**self.told)

    def end_epoch(self, history: History) -> bool:
        """Tell that an epoch has ended; True when a callback wants it to be the last."""
        with self._generators_kept(), self.stop.raising(Interrupted):
            return self.epoch.call_on_fit_task_end(
                **self.told, reconstruction_attributes=lambda: self.fitted(history)
            )

    def scores(self, epoch: int) -> dict[str, float]:
        """Return the scores of online probes after an epoch: "probe_score", "probe_score_2"."""
        # Not known by their class, whose module imports this one.
        callbacks = getattr(self.told["estimator"], "_skl_callbacks", ())
        probes = [callback for callback in callbacks if hasattr(callback, "_score_after")]
        found = [probe._score_after(epoch) for probe in probes]
        names = ["probe_score", *(f"probe_score_{i}" for i in range(2, len(probes) + 1))]
        return {name: score for name, score in zip(names, found, strict=False) if score is not None}

    def end(self) -> None:
        """Tell that the fit has ended; its attributes are there."""
        # The weights are there by now: a signal ends the callback, and what was learned is kept.
        ended = contextlib.suppress(Interrupted), self.stop.raising(Interrupted)
        with self._generators_kept(), ended[0], ended[1]:
            self.task.call_on_fit_task_end(**self.told, reconstruction_attributes={})
