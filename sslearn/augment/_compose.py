"""Augmentations one after the other."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ._base import Augmentation
from ._color import ColorOperation, recolor

__all__ = ["Compose"]


class _Augmentations:
    """The constraint of the list."""

    def is_satisfied_by(self, val: Any) -> bool:
        return isinstance(val, list | tuple) and all(callable(item) for item in val)

    def __str__(self) -> str:
        return "a list of augmentations, each called as augmentation(x, generator)"


class Compose(Augmentation):
    """Apply several augmentations in order.

    Neighbouring colour operations (`ColorJitter`, `RandomGrayscale`) are fused into one affine
    map per image. The result is the same as one after the other, up to rounding, for all images
    whose values stay in [0, 1] in between: values are clamped only after the last one.

    Parameters
    ----------
    augmentations : list of Augmentation
        Augmentations in the order in which they are applied; any callable of (x, generator) is
        accepted. Their parameters appear in ``get_params`` under the class name in lower case,
        followed by ``-1``, ``-2`` ... where a class appears more than once.

    See Also
    --------
    default_augment : A composition that suits the shape of the data.

    Examples
    --------
    >>> import torch
    >>> from sslearn.augment import Compose, FeatureCorruption, GaussianNoise
    >>> augment = Compose([FeatureCorruption(rate=0.5), GaussianNoise()])
    >>> augment.set_params(gaussiannoise__noise=0.2)
    Compose(augmentations=[FeatureCorruption(rate=0.5), GaussianNoise(noise=0.2)])
    >>> augment(torch.randn(4, 8)).shape
    torch.Size([4, 8])
    """

    _constraints = {"augmentations": _Augmentations()}

    def __init__(
        self, augmentations: Sequence[Callable[[Tensor, torch.Generator | None], Tensor]]
    ) -> None:
        self.augmentations = augmentations

    def _apply(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        for color, group in itertools.groupby(
            self.augmentations, lambda augmentation: isinstance(augmentation, ColorOperation)
        ):
            if color:
                operations: list[Any] = list(group)
                for operation in operations:
                    operation._check(x)
                x = recolor(x, operations, generator)
            else:
                for augmentation in group:
                    x = augmentation(x, generator)
        return x

    def _named(self) -> dict[str, Any]:
        """Name the augmentations as `sklearn.pipeline.make_pipeline` names its steps."""
        names = [type(augmentation).__name__.lower() for augmentation in self.augmentations]
        total, seen = Counter(names), Counter[str]()
        named = {}
        for name, augmentation in zip(names, self.augmentations, strict=True):
            seen[name] += 1
            named[f"{name}-{seen[name]}" if total[name] > 1 else name] = augmentation
        return named

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, with ``deep`` also those of the augmentations.

        Parameters
        ----------
        deep : bool, default=True
            Add each augmentation by its name, and its parameters as ``<name>__<parameter>``.

        Returns
        -------
        dict
            Parameter names and their values.
        """
        params = super().get_params(deep=False)
        # Before its check the list may be anything, and printing it must not fail.
        if deep and self._constraints["augmentations"].is_satisfied_by(self.augmentations):
            for name, augmentation in self._named().items():
                params[name] = augmentation
                if hasattr(augmentation, "get_params"):
                    nested = augmentation.get_params(deep=True)
                    params.update({f"{name}__{key}": value for key, value in nested.items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters: the list, an augmentation by its name, or ``<name>__<parameter>``.

        Parameters
        ----------
        **params : dict
            Parameter names and their new values.

        Returns
        -------
        Compose
            This object.
        """
        # From the outside in: a new list first, then members of it, then their parameters.
        if "augmentations" in params:
            self.augmentations = params.pop("augmentations")
        named = self._named()
        replaced = {name: params.pop(name) for name in list(params) if name in named}
        if replaced:
            self.augmentations = list((named | replaced).values())  # not the caller's list
        return super().set_params(**params)
