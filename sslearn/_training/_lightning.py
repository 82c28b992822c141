"""Lightning, imported here and nowhere else, and kept silent.

Importing it costs seconds, which a process that only transforms never pays: only a ``fit`` imports
this module.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

__all__ = [
    "Callback",
    "Checkpoint",
    "CombinedLoader",
    "LightningEnvironment",
    "LightningModule",
    "ProgressBar",
    "Tqdm",
    "Trainer",
    "quiet",
]

_LOGGERS = (
    "lightning",
    "lightning.fabric",
    "lightning.pytorch",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
)


@contextlib.contextmanager
def _levels_kept() -> Iterator[list[logging.Logger]]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        yield loggers
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# The first import warns in the name of many modules, and sets levels.
with _levels_kept(), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar
    from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.utilities import CombinedLoader


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning, which warns of what is intended and logs the devices it finds."""
    # Other threads may set filters of their own meanwhile, as scikit-learn's do: what can be
    # prevented from warning is prevented in _trainer.
    with _levels_kept() as loggers, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning)\.")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
