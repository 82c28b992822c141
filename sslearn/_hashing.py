"""Modules by their values, so that equal estimators have equal hashes and are found in caches."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from ._modules import AnyTensorCopies

__all__ = ["HASH_PROTOCOL", "by_value"]

# Protocol with which joblib.hash pickles. joblib.dump and pickle use newer ones by default, and
# their files stay as torch writes them.
HASH_PROTOCOL = 3


def by_value(value: Any) -> Any:
    """Return a value that pickles like `value`, but to the same bytes for equal modules.

    torch pickles tensors with the addresses of their memory.
    """
    if type(value) in (list, tuple):
        return type(value)(map(by_value, value))
    return _ByValue(value) if isinstance(value, nn.Module) else value


class _ByValue:
    """A module that is pickled in two parts: all but its numbers, and these."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __reduce__(self):
        tensors = list(_tensors(self.module))
        blanks = [_blank(tensor) for tensor in tensors]
        memo = {id(tensor): blank for tensor, blank in zip(tensors, blanks, strict=True)}
        with AnyTensorCopies():
            module = copy.deepcopy(self.module, memo)
        return _filled, (module, blanks, [_bytes_of(tensor) for tensor in tensors])


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors of a module on the CPU, each once; other kinds are pickled as usual."""
    seen = set()
    for part in module.modules():
        held = vars(part)
        for tensor in (*held["_parameters"].values(), *held["_buffers"].values(), *held.values()):
            plain = type(tensor) in (torch.Tensor, nn.Parameter) and tensor.layout is torch.strided
            if plain and tensor.device.type == "cpu" and id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def _blank(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor like another, without its numbers."""
    blank = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    # Stored results of computations are copied as leaves that are not trained.
    blank.requires_grad_(tensor.requires_grad and tensor.is_leaf)
    if isinstance(tensor, nn.Parameter):
        blank = nn.Parameter(blank.detach(), tensor.requires_grad)
    vars(blank).update(vars(tensor))
    return blank


def _bytes_of(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy()


def _filled(module: nn.Module, blanks: list[torch.Tensor], numbers: list[np.ndarray]) -> nn.Module:
    """Return a module with its numbers put in."""
    memo = {}
    for blank, its in zip(blanks, numbers, strict=True):
        tensor = torch.empty_like(blank, device="cpu", requires_grad=False)
        tensor.copy_(torch.from_numpy(its).view(blank.dtype).view(blank.shape))
        tensor.requires_grad_(blank.requires_grad)
        if isinstance(blank, nn.Parameter):
            tensor = nn.Parameter(tensor.detach(), blank.requires_grad)
        vars(tensor).update(vars(blank))
        memo[id(blank)] = tensor
    with AnyTensorCopies():
        return copy.deepcopy(module, memo)
