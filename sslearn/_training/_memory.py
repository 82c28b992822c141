"""Errors for too little memory, where possible before training."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator

import torch
from sklearn.base import BaseEstimator
from torch import nn

from .._data._batches import Batches
from .._objective import Objective
from ._settings import Settings

__all__ = ["ask_for_memory", "out_of_memory_explained"]

# How torch's allocators say what was refused, on the CPU and on a GPU.
_REFUSED = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)
# Averages of gradients that an optimizer keeps.
_AVERAGES = {"adamw": 2, "adam": 2, "sgd": 1, "lars": 1}


def ask_for_memory(
    objective: Objective, batches: Batches, settings: Settings, *, views_may_be_smaller: bool
) -> None:
    """Ask for what a step needs at least, so that it is refused before training, not during it.

    That is the views of a batch, what the features keep of one view for the gradient, the
    gradients and the optimizer's averages of what learns, and what is computed once. They are
    asked for at once, since a kernel may grant each of them and end the process when all are used;
    and not used, which costs nothing.

    Parameters
    ----------
    views_may_be_smaller : bool
        Views may be smaller than samples, so that what features keep of them is not known.
    """
    data = batches.data
    n_samples = 0 if data.rows.is_stream else min(settings.batch_size, len(data))
    of_each = objective.n_views * 4 * math.prod(data.input_shape)
    if not views_may_be_smaller:
        x = torch.zeros(1, *data.input_shape, device=data.device)
        kept = _kept_bytes(objective.features, x)
        of_each += kept if settings.autocast is None else kept // 2
    learning = sum(p.nbytes for p in objective.parameters() if p.requires_grad)
    averages = 0 if callable(settings.optimizer) else _AVERAGES[settings.optimizer]
    # No tensor: where algorithms are to be deterministic, torch fills new ones.
    n_bytes = n_samples * of_each + (1 + averages) * learning + batches.cached_bytes
    torch.UntypedStorage(n_bytes, device=data.device)


def _kept_bytes(module: nn.Module, x: torch.Tensor) -> int:
    """Return the bytes that the graph of ``module(x)`` keeps, weights aside."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = module(x)  # held, or the memory of what it keeps would be used again
    for own in (*module.parameters(), *module.buffers()):
        kept.pop(own.untyped_storage().data_ptr(), None)
    del output
    return sum(kept.values())


@contextlib.contextmanager
def out_of_memory_explained(estimator: BaseEstimator) -> Iterator[None]:
    """Turn an error of torch's allocators into a sentence that names the parameters.

    Raises
    ------
    MemoryError
        On the CPU. On a GPU it stays a ``torch.OutOfMemoryError``.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        # A sentence on a callable of the caller's may stand in front of it.
        first = error.__cause__ or error
        refused = _REFUSED.search(str(first)) if isinstance(first, RuntimeError) else None
        if refused is None:
            raise
        on_gpu = isinstance(first, torch.OutOfMemoryError)
        raise (torch.OutOfMemoryError if on_gpu else MemoryError)(
            _sentence(estimator, refused[1])
        ) from error


def _sentence(estimator: BaseEstimator, refused: str) -> str:
    size, unit = refused.split()
    if unit == "bytes":
        refused = f"{float(size) / 1e9:.3g} GB"
    given = estimator.get_params(deep=False)
    widths = [name for name in given if name.endswith("_dim")]
    names = ", ".join(f"{name}={given[name]!r}" for name in ("batch_size", *widths))
    shape = getattr(estimator, "input_shape_", None)
    return (
        f"{type(estimator).__name__} needs more memory than there is ({refused} were refused): the "
        "'batch_size' parameter must be smaller, or the network, by the parameters that end in "
        f"_dim or an encoder of your own. Got {names} and samples of shape {shape} instead."
    )
