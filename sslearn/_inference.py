"""Features by batches: what ``transform`` runs. Needs no Lightning.

Takes no lock, but where a loader is begun: that draws from torch's default generator, and so waits
for the end of a fit in another thread, which may be using it.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ._data import Rows, Stream, as_layout
from ._malloc import keep_freed_memory
from ._standardize import check_finite

__all__ = ["activation_bytes", "encode"]

# The largest activation of a batch should stay in the caches of a CPU, and fill a GPU.
_BATCH_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
_MAX_BATCH = {"cpu": 2048, "cuda": 65536}
# A standardised value from which no sane network gets to the 3e38 where float32 ends.
_SAFE = 1e18
# Matrix products of fewer rows than this may take another kernel and round differently.
_MIN_TABLE_ROWS = 32


class _LargestOutput(TorchDispatchMode):
    """Notes the largest tensor any operation makes; thread-local, unlike hooks on modules.

    Views are not made: a transposed weight says nothing of a row.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if not func.is_view:
            for leaf in tree_leaves(output):
                if isinstance(leaf, torch.Tensor):
                    self.largest = max(self.largest, leaf.numel() * 4)
        return output


def activation_bytes(encoder: nn.Module, sample_shape: tuple[int, ...]) -> int:
    """Return the bytes of the largest activation of one row."""
    with torch.no_grad(), _LargestOutput() as watch:
        encoder(torch.zeros(1, *sample_shape))
    return max(watch.largest, 4 * math.prod(sample_shape))


def encode(
    encoder: nn.Module,
    rows: Rows | Stream,
    *,
    width: int,
    row_bytes: int,
    gain: float,
    device: torch.device,
    name: str,
) -> np.ndarray:
    """Return the features of all rows, float32, of shape (n, width).

    Parameters
    ----------
    encoder : nn.Module
        On the CPU; takes raw rows.
    rows : Rows or Stream
        Validated.
    width : int
        Features per row.
    row_bytes : int
        See :func:`activation_bytes`.
    gain : float
        The largest factor of the standardisation.
    device : torch.device
        Where to compute.
    name : str
        Of the estimator, for messages.
    """
    keep_freed_memory()
    kind, safe = device.type, _SAFE / gain
    if kind == "cuda" or any(module.training for module in encoder.modules()):
        # A copy, since other threads may transform, and the caller may be fine-tuning.
        encoder = copy.deepcopy(encoder).eval().to(device)
    size = max(1, min(_BATCH_BYTES[kind] // row_bytes, _MAX_BATCH[kind]))
    if isinstance(rows, Stream):
        parts = [_features(encoder, part, safe, device, name).cpu() for part in rows.slices()]
        return torch.cat(parts).numpy()
    out = np.empty((len(rows), width), dtype=np.float32)
    target = torch.from_numpy(out)
    start = 0
    for part in rows.slices(size):
        stop = start + len(part)
        target[start:stop].copy_(_features(encoder, part, safe, device, name))
        start = stop
    return out


@torch.inference_mode()
def _features(
    encoder: nn.Module, x: torch.Tensor, safe: float, device: torch.device, name: str
) -> torch.Tensor:
    largest = check_finite(x, name)
    n = len(x)
    # Tables, also those read as series of one channel.
    if (x.ndim == 2 or (x.ndim == 3 and x.shape[1] == 1)) and n < _MIN_TABLE_ROWS:
        x = torch.cat((x, x.new_zeros(_MIN_TABLE_ROWS - n, *x.shape[1:])))
    with torch.autocast(device.type, enabled=False):
        features = encoder(as_layout(x.to(device, non_blocking=True)))[:n]
    # Looked at only where it can be: on a table this check alone takes 4% of the time.
    if largest > safe and not bool(features.isfinite().all()):
        raise ValueError(
            f"Input X contains a value too large for dtype('float32') once it is standardised as "
            f"in fit, or one for which the encoder of {name} gives NaN or infinity."
        )
    return features
