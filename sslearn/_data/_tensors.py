"""Arrays and tensors as torch can compute with them."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

__all__ = ["is_dense", "plain_tensor", "to_native", "view_array"]

# Dtypes for which torch has few operations, and those that hold all their values.
_CASTS = dict.fromkeys((torch.uint16, torch.uint32, torch.uint64), torch.int64)
_CASTS |= {getattr(torch, name): torch.float32 for name in dir(torch) if name[:7] == "float8_"}


def view_array(array: np.ndarray) -> torch.Tensor | None:
    """View a NumPy array as a tensor, or return None where torch cannot (strides, dtype, ...).

    A read-only array is viewed too, without the warning that ``torch.from_numpy`` gives: it is
    presented under its address as writeable, and never written.
    """
    kind, itemsize = array.dtype.kind, array.dtype.itemsize
    if not array.dtype.isnative or kind not in "biuf" or itemsize > 8:
        return None
    if kind == "u" and itemsize > 1:  # torch has these dtypes, but few operations on them
        return None
    if any(stride < 0 or stride % array.dtype.itemsize for stride in array.strides):
        return None
    if not array.flags.writeable:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        holder = type("_Writeable", (), {"__array_interface__": interface, "owner": array})()
        array = np.asarray(holder)
    return torch.from_numpy(array)


def to_native(array: np.ndarray) -> torch.Tensor:
    """Copy a (small) array into one that torch can view."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "u" and dtype.itemsize > 1:
        dtype = np.dtype({2: np.int32, 4: np.int64, 8: np.float64}[dtype.itemsize])
    elif dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


def is_dense(x: torch.Tensor) -> bool:
    """Return whether a tensor has one value for each position of its shape."""
    return x.layout == torch.strided and not (x.is_nested or x.is_quantized or x.is_meta)


def plain_tensor(x: torch.Tensor) -> torch.Tensor:
    """Return a plain tensor, not of a subclass, of a dtype in which torch can compute.

    Subclasses (of MONAI, of torchvision's v2 transforms) hook into every operation.
    """
    if type(x) is not torch.Tensor:
        # Nested tensors and others that only wrap tensors cannot be converted.
        with contextlib.suppress(NotImplementedError, RuntimeError):
            x = x.as_subclass(torch.Tensor)
    if x.requires_grad:
        x = x.detach()
    cast = _CASTS.get(x.dtype)
    return x if cast is None else x.to(cast)
