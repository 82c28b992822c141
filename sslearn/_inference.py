"""Features batch by batch, for ``transform``; without Lightning.

No lock is taken, except when a DataLoader is started: that draws from torch's default generator,
so it waits for the end of a fit in another thread, which may be using it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ._data._ragged import aligned
from ._data._rows import Rows, Stream
from ._data._standardize import check_values, refuse_nan
from ._modules import copy_module
from ._process_state import keep_freed_memory
from .encoders._layout import MIN_PRODUCT_ROWS, to_memory_format

__all__ = ["Cost", "encode", "measure_cost"]

# The largest activation of a batch should stay in the caches of a CPU, and fill a GPU.
_BATCH_BYTES = {"cpu": 8 * 2**20, "cuda": 256 * 2**20}
_MAX_BATCH = {"cpu": 2048, "cuda": 65536}
# Inputs above this may lead a network to values beyond 3e38, the end of float32.
_SAFE = 1e18
# Convolutions of a single sample with fewer values than this may use another kernel and round
# differently; so do those of few small volumes.
_MIN_CONVOLVED, _MIN_VOLUMES = 20_480, 16
_SMALL_VOLUME_BYTES = 64 * 2**10
_PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.linear}
# The second is used by convolutions of this package for one sample.
_CONVOLUTIONS = {torch.ops.aten.convolution, torch.ops.aten.mkldnn_convolution}


class Cost(NamedTuple):
    """Sizes of the computation of an encoder on one sample.

    Attributes
    ----------
    largest_bytes : int
        Size of the largest activation.
    product_rows : int or None
        Smallest number of rows that enter a matrix product; None if there is none.
    least_convolved : int
        Samples that a batch must have for its convolutions to use the kernels of larger batches.
    """

    largest_bytes: int
    product_rows: int | None = None
    least_convolved: int = 1

    def least_rows(self) -> int:
        """Return the number of samples from which a batch gives the same bits as any larger one."""
        if self.product_rows is None:
            return self.least_convolved
        needed = MIN_PRODUCT_ROWS[torch.get_num_threads() > 1]
        return max(self.least_convolved, math.ceil(needed / self.product_rows))


class _Watch(TorchDispatchMode):
    """Records sizes of inputs and outputs of operations; thread-local, unlike hooks on modules.

    Views are not recorded: the size of a transposed weight does not depend on the sample.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 1
        self.product_rows: int | None = None
        self.least_convolved = 1
        self.small_volumes = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if not func.is_view:
            for leaf in tree_leaves(output):
                if isinstance(leaf, torch.Tensor):
                    self.largest = max(self.largest, leaf.numel() * 4)
        if func.overloadpacket in _PRODUCTS:
            rows = max(1, output.shape[-2] if output.ndim > 1 else 1)
            self.product_rows = min(rows, self.product_rows or rows)
        elif func.overloadpacket in _CONVOLUTIONS and args[0].numel() <= _MIN_CONVOLVED:
            if func.overloadpacket is torch.ops.aten.convolution:
                self.least_convolved = 2
            self.small_volumes |= args[0].ndim == 5
        return output


def measure_cost(encoder: nn.Module, sample_shape: tuple[int, ...]) -> Cost:
    """Run an encoder on one sample of zeros and record its cost."""
    with torch.no_grad(), _Watch() as watch:
        encoder(torch.zeros(1, *sample_shape))
    largest = max(watch.largest, 4 * math.prod(sample_shape))
    few_volumes = watch.small_volumes and largest <= _SMALL_VOLUME_BYTES
    least = _MIN_VOLUMES if few_volumes else watch.least_convolved
    return Cost(largest, watch.product_rows, least)


def encode(
    encoder: nn.Module,
    rows: Rows | Stream,
    *,
    width: int,
    cost: Cost,
    device: torch.device,
    name: str,
    n_steps: int | None = None,
) -> np.ndarray:
    """Return the features of all rows, float32, of shape (n, width).

    Parameters
    ----------
    encoder : nn.Module
        Encoder on the CPU, which takes raw samples.
    rows : Rows or Stream
        Validated samples.
    width : int
        Features per sample.
    cost : Cost
        See :func:`measure_cost`.
    device : torch.device
        Device to compute on.
    name : str
        Name of the estimator, for messages.
    n_steps : int, optional
        Length of series in `fit`; those of another length are encoded one length after the other.
        If None, all have the length of `fit`.
    """
    keep_freed_memory()
    kind = device.type
    if kind == "cuda" or _trains(encoder):
        # A copy, since other threads may transform, and the caller may be fine-tuning.
        encoder = copy_module(encoder).eval().to(device)
        to_memory_format(encoder, channels_last=True)
    largest_bytes = cost.largest_bytes
    if len(rows.sample_shape) == 2 and n_steps is not None:
        largest_bytes = math.ceil(largest_bytes * max(1.0, rows.sample_shape[1] / n_steps))
    size = max(1, min(_BATCH_BYTES[kind] // largest_bytes, _MAX_BATCH[kind]))
    least = cost.least_rows()

    def features(part: torch.Tensor) -> torch.Tensor:
        if part.ndim != 3 or n_steps is None or part.shape[2] == n_steps:
            return _features(encoder, part, least, device, name)
        found = torch.empty(len(part), width)
        for places, series in aligned(part, n_steps):
            found[places.cpu()] = _features(encoder, series, least, device, name).cpu()
        return found

    if isinstance(rows, Stream):
        return torch.cat([features(part).cpu() for part in rows.slices()]).numpy()
    out = np.empty((len(rows), width), dtype=np.float32)
    target = torch.from_numpy(out)
    start = 0
    for part in rows.slices(size):
        stop = start + len(part)
        target[start:stop].copy_(features(part))
        start = stop
    return out


def _trains(module: nn.Module) -> bool:
    # Several times faster than `modules()`, which matters for a single sample.
    return module.training or any(map(_trains, module._modules.values()))  # type: ignore[arg-type]


@torch.inference_mode()
def _features(
    encoder: nn.Module, x: torch.Tensor, least: int, device: torch.device, name: str
) -> torch.Tensor:
    # Whether an encoder takes NaN costs a walk through its modules, so only NaN asks for it.
    checked = check_values(x, name, allow_nan=x.ndim < 4)
    categories: Any = encoder._modules.get("categories")
    if categories is not None:
        categories.check(x, name)
    if checked.missing and not encoder.get_submodule("features").takes_nan:
        refuse_nan(checked.missing, x.ndim, name)
    n = len(x)
    if n < least:
        x = torch.cat((x, x.new_zeros(least - n, *x.shape[1:])))
    with torch.autocast(device.type, enabled=False):
        features = encoder(x.to(device, non_blocking=True).contiguous())[:n]
    # Checked only where it is possible: on a table this check alone takes 4% of the time.
    if checked.largest > _SAFE and not bool(features.isfinite().all()):
        raise ValueError(
            f"Input X contains a value too large for dtype('float32') once it is standardised as "
            f"in fit, or one for which the encoder of {name} gives NaN or infinity."
        )
    return features
