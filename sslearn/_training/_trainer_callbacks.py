"""Callbacks of a Trainer: the caller's, lent for a fit, and those that a fit adds itself."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ._lightning import Callback, Checkpoint, ProgressBar, Tqdm, Trainer
from ._loop import TrainingLoop

__all__ = ["Bar", "EpochEnd", "Lent", "has_bar", "has_checkpoint"]

# Where a callback keeps what a fit has changed in it: for each attribute its value after the fit,
# and the one before it, if there was any.
_CHANGED = "_changed_by_a_fit"
# What leads back to the networks, and through them to the data.
_OF_TRAINING = (nn.Module, Trainer, Optimizer, LRScheduler)


def has_bar(callbacks: Iterable[Any]) -> bool:
    return any(isinstance(each, ProgressBar) for each in callbacks)


def has_checkpoint(callbacks: Iterable[Any]) -> bool:
    return any(isinstance(each, Checkpoint) for each in callbacks)


class Lent:
    """The caller's callbacks, for the time of a fit.

    Callbacks with a state begin each fit anew, also that of a clone, since counts of one fit must
    not end the next: a Trainer gets a copy, as it was before its first fit, and its state is copied
    to the caller's object after the fit. Callbacks without a state are passed as they are, since
    the caller may read their records.

    Parameters
    ----------
    given : list of Callback
        Callbacks of the caller.

    Attributes
    ----------
    callbacks : list of Callback
        Callbacks for the Trainer.
    """

    def __init__(self, given: list[Any]) -> None:
        self.given = given
        stateless = Callback.state_dict
        self.callbacks = [
            own if type(own).state_dict is stateless else _as_before(own) for own in given
        ]
        self._before = [
            None if own is used else vars(copy.deepcopy(used))
            for own, used in zip(given, self.callbacks, strict=True)
        ]

    def give_back(self) -> None:
        """Copy the states after the fit to the caller's objects."""
        for own, used, before in zip(self.given, self.callbacks, self._before, strict=True):
            # Lightning has set these; they lead to the data, which no pickle should carry.
            for name in ("log", "log_dict"):
                vars(used).pop(name, None)
            if before is None:
                if isinstance(own, ProgressBar):
                    own._trainer = None
                continue
            after = {k: v for k, v in vars(used).items() if not _leads_to_training(v)}
            vars(own).update(after)
            vars(own)[_CHANGED] = {
                name: (value, before[name]) if name in before else (value,)
                for name, value in after.items()
            }


def _as_before(callback: Any) -> Any:
    """Copy a callback as it was before its last fit; what was set since stays as it was set."""
    fresh = copy.deepcopy(callback)
    for name, (after, *before) in vars(fresh).pop(_CHANGED, {}).items():
        if vars(fresh).get(name) is not after:
            continue
        if before:
            vars(fresh)[name] = before[0]
        else:
            del vars(fresh)[name]
    return fresh


def _leads_to_training(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_leads_to_training, (*value, *value.values())))
    if isinstance(value, list | tuple | set):
        return any(map(_leads_to_training, value))
    return isinstance(value, _OF_TRAINING)


class EpochEnd(Callback):
    """Ends the epochs, and tells callbacks, loggers and bars what was measured."""

    def __init__(self, steps: TrainingLoop) -> None:
        self.steps = steps

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        if self.steps.end_epoch():
            trainer.should_stop = True
        if self.steps.settings.trainer_params:  # else nobody listens
            pl_module.log_dict(self.steps.measured, prog_bar=True)


class Bar(Callback):
    """One progress bar over all steps, with what was measured last."""

    def __init__(self, steps: TrainingLoop) -> None:
        self.steps = steps
        self._bar: Any = None

    def on_train_start(self, trainer, pl_module) -> None:
        self._bar = Tqdm(
            total=self.steps.n_steps,
            desc=f"[{self.steps.settings.name}]",
            unit="step",
            dynamic_ncols=True,
            file=sys.stdout,
        )

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self._show()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self._show()

    def _show(self) -> None:
        steps = self.steps
        known = {"loss": steps.running_loss.mean, **steps.measured}
        if known["loss"] == known["loss"]:  # nan: not read yet
            self._bar.set_postfix(known, refresh=False)
        self._bar.update(steps.step - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._show()
            self._bar.close()
