"""Base class of augmentations: the call, the checks, the state."""

from __future__ import annotations

import copy
import math
from numbers import Real
from typing import Any, ClassVar, Protocol

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from .._sklearn import Booleans, Interval

__all__ = [
    "BOOLEAN",
    "IMAGES",
    "NON_NEGATIVE",
    "PROBABILITY",
    "SERIES",
    "TABLES",
    "Augmentation",
    "Pair",
]

# Input that an augmentation accepts: number of dimensions of a batch -> its name in messages.
TABLES = {2: "tables (n, features)"}
SERIES = {3: "series (n, channels, time)"}
IMAGES = {
    4: "images (n, channels, height, width)",
    5: "volumes (n, channels, depth, height, width)",
}

BOOLEAN = Booleans()
PROBABILITY = Interval(Real, 0, 1, closed="both")
NON_NEGATIVE = Interval(Real, 0, None, closed="left")


class Constraint(Protocol):
    """Values that a parameter may have; its `str` ends the sentence "must be ..."."""

    def is_satisfied_by(self, val: Any) -> bool: ...


class Pair:
    """Two numbers (low, high), low <= high, above 0 (or from 0 on, with `zero`) up to `largest`."""

    def __init__(self, largest: float = math.inf, *, zero: bool = False) -> None:
        self.largest = largest
        self.zero = zero

    def is_satisfied_by(self, val: Any) -> bool:
        if not isinstance(val, list | tuple) or len(val) != 2:
            return False
        if not all(isinstance(number, Real) for number in val):
            return False
        low, high = val
        lowest = low >= 0 if self.zero else low > 0
        return lowest and low <= high <= self.largest and math.isfinite(high)

    def __str__(self) -> str:
        lowest = "0.0 <=" if self.zero else "0.0 <"
        largest = f"<= {self.largest}" if math.isfinite(self.largest) else "< inf"
        return f"a pair of floats (low, high) with {lowest} low <= high {largest}"


class Augmentation(BaseEstimator):
    """Base class of all augmentations: one random draw per sample of a batch.

    A subclass stores its parameters in ``__init__``, unchanged, and writes
    ``_apply(x, generator)``, which returns a changed copy of the float32 or float64 tensor `x` and
    draws all random numbers from `generator` (if None, torch's default one). All else is done here:
    half precision is computed in float32, autocast is switched off, no gradient is recorded.

    See Also
    --------
    Compose : Several augmentations, one after the other.
    default_augment : An augmentation for every kind of data.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import Augmentation
    >>> class RandomSign(Augmentation):
    ...     def __init__(self, p=0.5):
    ...         self.p = p
    ...
    ...     def _apply(self, x, generator):
    ...         flip = torch.rand(len(x), 1, generator=generator, device=x.device) < self.p
    ...         return torch.where(flip, -x, x)
    >>> RandomSign(p=1.0)(torch.ones(2, 3))
    tensor([[-1., -1., -1.],
            [-1., -1., -1.]])
    """

    _constraints: ClassVar[dict[str, Constraint]] = {}
    _accepts: ClassVar[dict[int, str] | None] = None  # if None, any number of dimensions

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one random view of every sample.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            The batch, floating point; never changed in place.
        generator : torch.Generator or None, default=None
            Source of all random numbers, on the device of `x`. If None, torch's default generator.

        Returns
        -------
        Tensor of shape (n, ...)
            Same shape, dtype and device; `x` itself where there is nothing to do.
        """
        self._check(x)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            # Sixteen bits are too few for positions and colour matrices.
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            return self._apply(wide, generator).to(x.dtype)

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define _apply(x, generator).")

    def _check(self, x: Tensor) -> None:
        """Refuse wrong parameters and input, in microseconds, since it runs in every step."""
        name = type(self).__name__
        for parameter, constraint in self._constraints.items():
            value = getattr(self, parameter)
            if not constraint.is_satisfied_by(value):
                raise ValueError(
                    f"The {parameter!r} parameter of {name} must be {constraint}. "
                    f"Got {value!r} instead."
                )
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} expects a floating-point torch tensor. Got {got} instead.")
        if x.ndim == 0 or (self._accepts is not None and x.ndim not in self._accepts):
            accepted = " or ".join((self._accepts or {1: "a batch (n, ...)"}).values())
            raise ValueError(f"{name} expects {accepted}. Got shape {tuple(x.shape)} instead.")

    def __getstate__(self) -> dict[str, Any]:
        # joblib.hash distinguishes one object used twice from two equal ones. Without shared
        # objects in the state, equal parameters have equal hashes.
        return {name: _unshared(value) for name, value in super().__getstate__().items()}


def _unshared(value: Any) -> Any:
    if type(value) is tuple:
        return tuple([_unshared(item) for item in value])
    if type(value) is list:
        return [_unshared(item) for item in value]
    return copy.copy(value) if isinstance(value, Augmentation) else value
