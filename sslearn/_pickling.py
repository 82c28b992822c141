"""Pickles of estimators: with versions of the packages, and hashed by the values they hold."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import InconsistentVersionWarning
from torch import nn

from ._modules import AnyTensorCopies

__all__ = ["HASH_PROTOCOL", "by_value", "with_versions", "without_versions"]

# Protocol with which joblib.hash pickles. joblib.dump and pickle use newer ones by default, and
# their files stay as torch writes them.
HASH_PROTOCOL = 3
# Key of the versions in the state of an estimator.
_VERSIONS = "_versions"


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


class OtherVersionsWarning(InconsistentVersionWarning):
    """An estimator was pickled with other versions of sslearn or torch.

    Parameters
    ----------
    estimator_name : str
        Class of the estimator.
    found, expected : dict of str to str
        Versions in the pickle, and those that are installed.
    """

    def __init__(self, *, estimator_name: str, found: dict, expected: dict) -> None:
        self.estimator_name = estimator_name
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        found, expected = (
            " and ".join(f"{package} {version}" for package, version in versions.items())
            for versions in (self.found, self.expected)
        )
        return (
            f"{self.estimator_name} was pickled with {found}, and is unpickled with {expected}. "
            "Its features may differ, or it may not work. Fit it again, or install the versions "
            "that it was pickled with."
        )


def _versions() -> dict[str, str]:
    # Looked up, not imported: the package imports this module.
    own = sys.modules[__name__.partition(".")[0]]
    return {"sslearn": own.__version__, "torch": str(torch.__version__)}


def with_versions(state: dict[str, Any]) -> dict[str, Any]:
    """Add the versions of sslearn and torch to the state of an estimator."""
    return {**state, _VERSIONS: _versions()}


def without_versions(state: dict[str, Any], estimator_name: str) -> dict[str, Any]:
    """Remove the versions from a state that is unpickled; warn if they are not those installed."""
    state = dict(state)
    found, expected = state.pop(_VERSIONS, {"sslearn": "(unknown)"}), _versions()
    if found != expected:
        warnings.warn(
            OtherVersionsWarning(estimator_name=estimator_name, found=found, expected=expected),
            stacklevel=3,
        )
    return state
