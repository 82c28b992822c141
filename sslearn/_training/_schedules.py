"""Learning rate schedules: by name, a function of the step, or a scheduler of torch."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from .._calls import call, check_call

__all__ = ["LearningRate", "check_schedule"]

# Epochs without a better loss after which the plateau schedule lowers the rate.
_PATIENCE = 10
_INTERVALS = ("epoch", "step")
_MAKES = "is called with the optimizer and must return a scheduler of it"


def check_schedule(given: Any) -> None:
    """Refuse a value of ``lr_schedule`` that is neither kind of callable, before any work."""
    if isinstance(given, dict):
        given = _of_dict(given)[0]
        if not callable(given):
            raise TypeError(
                "The 'lr_schedule' parameter must hold a scheduler of torch as its 'scheduler' if "
                "it is a dict: a class of torch.optim.lr_scheduler, a functools.partial of one, or "
                f"a function of the optimizer. Got {given!r} instead."
            )
    elif not callable(given):
        return  # a name
    elif not _makes_scheduler(given):
        value = "the factor on the learning rate, a number"
        check_call(given, "lr_schedule", "step", "n_steps", value=value)
        return
    check_call(given, "lr_schedule", "optimizer")


def _of_dict(given: dict) -> tuple[Any, str]:
    """Return what makes the scheduler, and its interval, of Lightning's form."""
    interval = given.get("interval", "epoch")
    if "scheduler" not in given or set(given) - {"scheduler", "interval"}:
        raise ValueError(
            "The 'lr_schedule' parameter must have the keys 'scheduler' and, if the scheduler is "
            f"not for epochs, 'interval', if it is a dict. Got the keys {sorted(map(str, given))}."
        )
    if interval not in _INTERVALS:
        raise ValueError(
            "The 'lr_schedule' parameter must have 'epoch' or 'step' as its 'interval'. Got "
            f"{interval!r} instead."
        )
    return given["scheduler"], interval


def _makes_scheduler(given: Callable) -> bool:
    """Return whether a callable takes an optimizer; others take (step, n_steps).

    Classes of schedulers do, and what takes one argument and not two.
    """
    made = given.func if isinstance(given, functools.partial) else given
    if isinstance(made, type) and issubclass(made, LRScheduler):
        return True
    return _takes(given, 1) and not _takes(given, 2)


def _takes(given: Callable, n: int) -> bool:
    try:
        inspect.signature(given).bind(*range(n))
    except (TypeError, ValueError):  # ValueError: some built-in functions have no signature
        return False
    return True


def _make_scheduler(given: Callable, optimizer: Optimizer, interval: str) -> LRScheduler:
    made = call(given, "lr_schedule", optimizer, words=_MAKES)
    if not isinstance(made, LRScheduler) or made.optimizer is not optimizer:
        got = "one of another optimizer" if isinstance(made, LRScheduler) else type(made).__name__
        raise TypeError(
            f"The 'lr_schedule' parameter {_MAKES}, a torch.optim.lr_scheduler.LRScheduler. Got "
            f"{got} instead."
        )
    if interval == "step" and isinstance(made, ReduceLROnPlateau):
        raise ValueError(
            "The 'lr_schedule' parameter must have 'epoch' as its 'interval' for a "
            "ReduceLROnPlateau, which goes by the loss of an epoch. Got 'step' instead."
        )
    return made


class LearningRate:
    """Sets the learning rate of every optimizer step.

    Named schedules and functions are per step, schedulers of torch per epoch or per step. A group
    whose rate somebody else has set (weight averaging does) is left alone from then on.

    Parameters
    ----------
    optimizer : Optimizer
        Its groups' rates at this moment are the base rates.
    schedule : {"cosine", "constant", "plateau"}, callable or dict
        A callable takes the optimizer and returns a scheduler of torch, or takes (step, n_steps),
        0-based, and returns the factor, see :func:`check_schedule`; neither has a warm-up but its
        own. A dict holds a "scheduler" and its "interval", "epoch" or "step".
    n_steps : int
        Optimizer steps that will really run.
    warmup_fraction : float
        The part of them over which the rate rises linearly.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: str | Callable | dict,
        n_steps: int,
        warmup_fraction: float,
    ) -> None:
        self.optimizer = optimizer
        self.n_steps = n_steps
        self.n_warmup = round(warmup_fraction * n_steps) if isinstance(schedule, str) else 0
        self.base = [group["lr"] for group in optimizer.param_groups]
        self.interval = "epoch"
        self.scheduler: LRScheduler | None = None
        self.schedule = schedule
        if schedule == "plateau":
            # Its own threshold is relative: a negative loss that stands still would be better.
            self.scheduler = ReduceLROnPlateau(
                optimizer, patience=_PATIENCE - 1, threshold=0.0, threshold_mode="abs"
            )
        elif isinstance(schedule, dict):
            maker, self.interval = _of_dict(schedule)
            self.scheduler = _make_scheduler(maker, optimizer, self.interval)
        elif callable(schedule) and _makes_scheduler(schedule):
            self.scheduler = _make_scheduler(schedule, optimizer, self.interval)
        # The rate last written to each group that is left to the schedule, by its number. A
        # scheduler may have begun with another one than the base rate.
        self._written = {i: float(g["lr"]) for i, g in enumerate(optimizer.param_groups)}

    def factor(self, step: int) -> float | None:
        """Return the factor on the base rates at a step. If None, they stay as they are."""
        if step < self.n_warmup:
            return (step + 1) / self.n_warmup
        if self.scheduler is not None:
            return None
        if callable(self.schedule):
            return self._own_factor(self.schedule, step)
        if self.schedule == "cosine":
            progress = (step - self.n_warmup) / max(1, self.n_steps - self.n_warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return 1.0

    def _own_factor(self, schedule: Callable[[int, int], float], step: int) -> float:
        words = (
            "is called with (step, n_steps) and must return the factor on the learning rate, a "
            "finite number that is not negative"
        )
        given = call(schedule, "lr_schedule", step, self.n_steps, words=words)
        try:
            factor = math.nan if isinstance(given, str) else float(given)
        except (TypeError, ValueError):
            factor = math.nan
        if not 0 <= factor < math.inf:
            raise ValueError(
                f"The 'lr_schedule' parameter {words}. Got {given!r} at step {step} of "
                f"{self.n_steps}."
            )
        return factor

    def set(self, step: int) -> None:
        """Set the rates of a step, from 0 to `n_steps` - 1."""
        if step and self.interval == "step":
            self._advance()
        factor = self.factor(step)
        if factor is None:
            return
        groups = self.optimizer.param_groups
        for i in self._own_groups():
            groups[i]["lr"] = rate = self.base[i] * factor
            self._written[i] = float(rate)

    def end_epoch(self, loss: float, step: int) -> None:
        """Pass the loss of an epoch, after which `step` steps were made, to a scheduler."""
        # After the last epoch there is no rate to set; some schedulers refuse more steps.
        if self.interval == "epoch" and self.n_warmup <= step < self.n_steps:
            self._advance(loss)

    def _advance(self, *loss: float) -> None:
        if self.scheduler is None:
            return
        own, groups = self._own_groups(), self.optimizer.param_groups
        before = [group["lr"] for group in groups]
        # torch warns where no step came before; a gradient scaler may have left it out.
        setattr(self.optimizer, "_opt_called", True)  # noqa: B010
        plateau = isinstance(self.scheduler, ReduceLROnPlateau)
        call(self.scheduler.step, "lr_schedule", *(loss if plateau else ()), words=_MAKES)
        for i, group in enumerate(groups):
            if i in own:
                self._written[i] = float(group["lr"])
            else:
                group["lr"] = before[i]

    def _own_groups(self) -> list[int]:
        """Return the groups whose rate is still the one written here, and forget the others."""
        groups = self.optimizer.param_groups
        for i in [i for i, rate in self._written.items() if float(groups[i]["lr"]) != rate]:
            del self._written[i]
        return list(self._written)
