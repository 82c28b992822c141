"""How to train: the parameters that all estimators share, checked and resolved."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch

from ._auto import resolve_batch_size, resolve_max_epochs

__all__ = [
    "Settings",
    "check_trainer_params",
    "given_callbacks",
    "most_batches",
    "train_limit",
]

# Arguments of a Trainer that parameters of the estimator set, and which.
_OWNED = {
    "max_epochs": "max_epochs",
    "min_epochs": "max_epochs and n_iter_no_change",
    "accelerator": "device",
    "strategy": "device",
    "use_distributed_sampler": "device",
    "precision": "precision",
    "plugins": "precision",
    "barebones": "trainer_params=None",
    "limit_val_batches": "validation_fraction",
    "check_val_every_n_epoch": "validation_fraction",
    "val_check_interval": "validation_fraction",
    "num_sanity_val_steps": "validation_fraction",
    "inference_mode": "validation_fraction",
    "reload_dataloaders_every_n_epochs": "X",
}

# Arguments that nothing sets, and what to do instead.
_RESUMING = (
    "a fit always begins anew. To go on from trained weights, pass encoder_.features as the encoder"
)
_CANNOT = {"ckpt_path": _RESUMING, "resume_from_checkpoint": _RESUMING}
_CANNOT_CALLBACKS = {
    "LearningRateFinder": "set learning_rate, or leave it 'auto', which goes by the steps",
    "BatchSizeFinder": "set batch_size, or leave it 'auto', which goes by the samples",
}


@dataclass(frozen=True)
class Settings:
    """How to train; plain Python numbers, since Lightning accepts no others.

    Attributes
    ----------
    learning_rate : float or None
        Highest rate. If None, it follows from the number of steps.
    autocast : torch.dtype or None
        Precision of the forward pass. If None, float32.
    name : str
        Class of the estimator, for messages.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float | None
    weight_decay: float
    optimizer: Any
    lr_schedule: Any
    warmup_fraction: float
    n_iter_no_change: int | None
    autocast: torch.dtype | None
    trainer_params: dict | None
    verbose: int
    name: str

    @classmethod
    def from_estimator(
        cls,
        estimator,
        autocast: torch.dtype | None,
        n_rows: int,
        *,
        few_layers: bool = False,
        is_table: bool = False,
    ) -> Settings:
        """Resolve the parameters of an estimator that is fitted on `n_rows` samples."""
        batch_size = resolve_batch_size(estimator.batch_size, n_rows)
        rate = estimator.learning_rate
        patience = estimator.n_iter_no_change
        return cls(
            max_epochs=resolve_max_epochs(
                estimator.max_epochs,
                n_rows,
                steps_per_epoch=n_rows // batch_size if few_layers else None,
                is_table=is_table,
            ),
            batch_size=batch_size,
            learning_rate=None if rate == "auto" else float(rate),
            weight_decay=float(estimator.weight_decay),
            optimizer=estimator._optimizer(),
            lr_schedule=estimator.lr_schedule,
            warmup_fraction=float(estimator.warmup_fraction),
            n_iter_no_change=None if patience is None else int(patience),
            autocast=autocast,
            trainer_params=estimator.trainer_params,
            verbose=int(estimator.verbose),
            name=type(estimator).__name__,
        )


def check_trainer_params(params: dict | None, name: str) -> None:
    """Refuse what is not for a Trainer here: parameters of the estimator, devices, callbacks."""
    for key, value in (params or {}).items():
        if key in _CANNOT:
            raise ValueError(
                f"The 'trainer_params' parameter must not hold {key!r}: {_CANNOT[key]}. Got "
                f"{value!r}."
            )
        if key in _OWNED:
            raise ValueError(
                f"The 'trainer_params' parameter must not hold {key!r}, which is set by "
                f"{_OWNED[key]}. Got {value!r}."
            )
        if key in ("devices", "num_nodes") and value not in (1, "1"):
            raise ValueError(
                f"{name} trains on one device. Got trainer_params={{{key!r}: {value!r}}}; choose "
                "the device by device='cuda:<number>'."
            )

    for callback in given_callbacks(params):
        _check_callback(callback)


def given_callbacks(params: dict | None) -> list:
    """Return the callbacks in ``trainer_params``, which takes one or several."""
    given = (params or {}).get("callbacks")
    return list(given) if isinstance(given, list | tuple) else [] if given is None else [given]


def _check_callback(callback: Any) -> None:
    # By their hooks and names, since Lightning is not imported here and has two names itself.
    words = "The 'trainer_params' parameter must hold callbacks of Lightning as its 'callbacks'"
    if isinstance(callback, type):
        raise TypeError(f"{words}. Got the class {callback.__name__} instead of an instance.")
    name = type(callback).__name__
    if not hasattr(callback, "on_train_epoch_end"):
        cure = (
            f", which is a callback of scikit-learn: pass it to set_callbacks({name}(...))"
            if hasattr(callback, "on_fit_task_end")
            else " instead"
        )
        raise TypeError(f"{words}. Got {name}{cure}.")
    for parent in type(callback).__mro__:
        if parent.__name__ in _CANNOT_CALLBACKS:
            raise ValueError(
                f"The 'trainer_params' parameter must not hold a {parent.__name__}: "
                f"{_CANNOT_CALLBACKS[parent.__name__]}. Got {name}."
            )


def train_limit(params: dict | None) -> int | float | None:
    """Return ``limit_train_batches`` if it is a number of batches or a share of them."""
    limit = (params or {}).get("limit_train_batches")
    return limit if isinstance(limit, int | float) and limit >= 0 else None


def most_batches(params: dict | None) -> int | None:
    """Return how many batches of an epoch a Trainer takes at most; None where X alone ends it.

    More of a stream need not be seen, which may have no end.
    """

    def whole(key: str, default: int = -1) -> int:
        value = (params or {}).get(key, default)
        # A Trainer takes 3.0 for 3, and 1.0 for all.
        is_whole = isinstance(value, Integral) or (isinstance(value, float) and value > 1)
        return int(value) if is_whole else default

    limits = [whole("limit_train_batches")]
    limits.append(whole("max_steps") * whole("accumulate_grad_batches", 1))
    # Of these 0 and False mean that nothing is limited.
    limits += [whole(key) or -1 for key in ("overfit_batches", "fast_dev_run")]
    return min((max(k, 1) for k in limits if k >= 0), default=None)
