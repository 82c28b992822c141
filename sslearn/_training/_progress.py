"""Printed lines: the values chosen by "auto", and the progress of each epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator

from torch import nn

from .._data._training_data import TrainingData
from ..encoders import Concatenation
from ._auto import name_of
from ._settings import Settings

__all__ = ["Clock", "epoch_line", "opening_line"]

# What an epoch's line calls what was measured, and how it is written.
_WORDS = {
    "loss": ("loss", ".4f"),
    "validation_loss": ("validation loss", ".4f"),
    "effective_rank": ("rank", ".1f"),
    "ema_decay": ("momentum", ".4g"),
}


class Clock:
    """Tells how long the rest takes, by what the steps before took."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def start(self) -> None:
        self._begun = time.monotonic()

    def left(self, done: float) -> str | None:
        """Return the time left when a part of all steps is done; None when all are."""
        if done >= 1:
            return None
        return _duration((time.monotonic() - self._begun) * (1 - done) / done)


def _duration(seconds: float) -> str:
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole:02d} s" if minutes else f"{whole} s"


def opening_line(
    settings: Settings,
    data: TrainingData,
    *,
    batch_size: int,
    learning_rate: float,
    n_steps: int,
    n_weights: int,
) -> str:
    """Return what is trained on, where and how: all that "auto" stood for."""
    epochs = settings.max_epochs
    if not epochs:
        course = "no step, one pass for batch statistics"
    elif n_steps % epochs:  # not all epochs are equally long
        course = f"{n_steps} steps in {epochs} epochs"
    else:
        course = f"{n_steps // epochs} steps x {epochs} epochs"
    course += f" in batches of {batch_size}"
    if epochs:
        course += f", learning rate {learning_rate:.3g}"
    return (
        f"[{settings.name}] {len(data)} samples of shape {data.rows.item_shape} on {data.device} "
        f"in {name_of(settings.autocast)}: {course}, {n_weights:,} weights{_behind(data.stem)}"
    )


def _behind(stem: nn.Module | None) -> str:
    """Name what comes before the weights and does not learn."""
    if stem is None:
        return ""
    return f" behind {', '.join(_fixed_parts(stem)) or 'frozen layers'}"


def _fixed_parts(module: nn.Module) -> Iterator[str]:
    if getattr(module, "is_fixed", False) and not isinstance(module, Concatenation):
        yield type(module).__name__
    else:
        for child in module.children():
            yield from _fixed_parts(child)


def epoch_line(settings: Settings, epoch: int, measured: dict[str, float], left: str | None) -> str:
    """Return the line of an epoch, from 1: what was measured, and the time left."""
    text = f"[{settings.name}] epoch {epoch} of {settings.max_epochs}"
    for key, value in measured.items():
        words, form = _WORDS.get(key, (key.replace("_", " "), ".4g"))
        text += f", {words} {value:{form}}"
    return text if left is None else f"{text}, {left} left"
