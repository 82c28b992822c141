"""Every "auto" rule: device, precision, batch size, epochs, learning rate and cached views.

The user guide states them in one place, section "What auto means".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .._data._stem_cache import CACHE_BYTES

__all__ = [
    "PRECISIONS",
    "automatic_rate",
    "name_of",
    "resolve_batch_size",
    "resolve_cached_views",
    "resolve_device",
    "resolve_max_epochs",
    "resolve_precision",
]

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Smallest and largest batch; samples seen in all epochs, and the fewest and the most epochs.
_BATCH_SIZES = 32, 256
_SAMPLES_SEEN, _EPOCHS = 220_000, (20, 200)
# Steps after which layers behind a stem gain little. On series of the archives 150 do as well as
# 500; on recordings of movement (HAR) 840 are a point better than 100. On tables (parts of the
# training parts of 17) 300 do as well as 800.
_ENOUGH_STEPS, _ENOUGH_OF_TABLES = 800, 300
# Views of each sample whose features are computed once, at most, and bytes of one feature.
_CACHED_VIEWS, _CACHED_BYTES = 8, 2


def resolve_device(device: str) -> torch.device:
    """Return the device that a ``device`` parameter names."""
    if device == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = torch.device("meta")
    if resolved.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (resolved.index or 0) < count:
            return torch.device("cuda", resolved.index or 0)
        raise ValueError(
            f"The 'device' parameter is {device!r}, but torch finds {count} CUDA devices here. "
            "Use 'auto' or 'cpu'."
        )
    if resolved.type != "cpu":
        raise ValueError(
            "The 'device' parameter must be 'auto', 'cpu', 'cuda' or 'cuda:<number>'. "
            f"Got {device!r} instead."
        )
    return torch.device("cpu")


def resolve_batch_size(batch_size: int | str, n_rows: int | None = None) -> int:
    """Return the samples of a step; "auto" makes at least eight steps of an epoch.

    With fewer steps a hundred epochs are too few to learn from, and the samples that the last
    batch leaves out would be a large part of all. If `n_rows` is None, the largest batch.
    """
    if batch_size != "auto":
        return int(batch_size)
    if n_rows is None:
        return _BATCH_SIZES[1]
    smallest, largest = _BATCH_SIZES
    return min(largest, max(smallest, 2 ** int(math.log2(max(n_rows // 8, 1)))))


def resolve_max_epochs(
    max_epochs: int | str,
    n_rows: int,
    *,
    steps_per_epoch: int | None = None,
    is_table: bool = False,
) -> int:
    """Return the number of epochs; "auto" sees about as many samples in every training.

    With `steps_per_epoch` it makes no more steps than are enough for a few layers behind a stem.
    """
    if max_epochs != "auto":
        return int(max_epochs)
    fewest, most = _EPOCHS
    if steps_per_epoch is not None:
        steps = _ENOUGH_OF_TABLES if is_table else _ENOUGH_STEPS
        most = min(most, max(fewest, math.ceil(steps / max(steps_per_epoch, 1))))
    return min(most, max(fewest, _SAMPLES_SEEN // n_rows))


def resolve_cached_views(
    cached_views: int | str,
    *,
    max_epochs: int,
    n_views: int,
    n_samples: int,
    input_shape: tuple[int, ...],
) -> int:
    """Return of how many views of each sample the stem's features are computed once; 0 of none.

    "auto" goes by sizes alone, never by free memory, so that the same seed gives the same bits on
    another machine. Without views it is 1, the samples themselves, or 0.
    """
    if cached_views != "auto":
        return int(cached_views)
    of_one = _CACHED_BYTES * n_samples * math.prod(input_shape)
    # More views than the training looks at need not be there.
    wanted = min(_CACHED_VIEWS, 2 * max_epochs) if n_views else min(1, max_epochs)
    kept = min(wanted, CACHE_BYTES // of_one)
    return kept if kept >= max(n_views, 1) else 0


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of autocast, None for float32; "auto" is bfloat16 on a GPU that has it."""
    if precision == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(
            including_emulation=False
        )
        return torch.bfloat16 if has_bfloat16 else None
    if precision == "float16" and device.type == "cpu":
        raise ValueError(
            "The 'precision' parameter is 'float16', which needs a GPU. Use 'float32' or "
            "'bfloat16' on the CPU."
        )
    return PRECISIONS[precision]


def name_of(autocast: torch.dtype | None) -> str:
    """Return the name of a dtype of autocast as a ``precision`` parameter."""
    return next(name for name, dtype in PRECISIONS.items() if dtype == autocast)


def automatic_rate(
    optimizer: str | Callable,
    n_steps: int,
    batch_size: int,
    *,
    n_axes: int,
    few_layers: bool = False,
) -> float:
    """Return the learning rate of ``learning_rate="auto"``.

    In a step Adam moves a weight by about the learning rate, whatever the gradient. If there are
    few steps, they must be long ones: the product of steps and rate is kept, up to ten times the
    usual rate. Networks for tables have no norm in each layer and get worse above the usual rate;
    on series (HAR) the longest steps lost a point, and half a point behind the patches of images
    (CIFAR-10, held-out images). SGD and LARS have the rates of their papers.
    """
    if optimizer == "sgd":
        return 0.1
    if optimizer == "lars":
        return 0.3 * batch_size / 256
    highest = 1e-3 if n_axes == 1 else 3e-3 if n_axes == 2 or few_layers else 1e-2
    return min(highest, max(1e-3, 15 / max(1, n_steps)))
