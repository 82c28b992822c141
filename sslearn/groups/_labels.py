"""Labels of groups, such as patients, as the caller gives them: checked and numbered."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

__all__ = ["numbered"]


def numbered(groups: Any, n_samples: int) -> np.ndarray:
    """Return the number of the group of each sample, from 0.

    Raises
    ------
    ValueError, TypeError
        If there is not one label for each sample, or the same for all.
    """
    labels = groups.detach().cpu() if isinstance(groups, torch.Tensor) else groups
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) != n_samples:
        raise ValueError(
            f"The 'groups' parameter must be an array of one label for each of the {n_samples} "
            f"samples. Got shape {labels.shape} instead."
        )
    each = labels.tolist()
    n_missing = sum(map(_is_missing, each))
    if n_missing:
        raise ValueError(
            "The 'groups' parameter must have a label for each sample. Got missing values for "
            f"{n_missing} of {n_samples} instead."
        )
    numbers: dict[Any, int] = {}
    try:
        codes = np.array([numbers.setdefault(label, len(numbers)) for label in each], dtype=int)
    except TypeError as error:  # a label without a hash
        kind = next(type(x).__name__ for x in each if type(x).__hash__ is None)
        raise TypeError(
            f"The 'groups' parameter must hold numbers or strings. Got a {kind} instead."
        ) from error
    if len(numbers) < 2:
        raise ValueError(
            "The 'groups' parameter must have two different labels or more. Got one for all "
            f"samples instead, {each[0]!r}."
        )
    return codes


def _is_missing(label: Any) -> bool:
    # pandas.NA and NaT are known by the names of their classes, without an import of pandas.
    missing = label is None or type(label).__name__ in ("NAType", "NaTType")
    return missing or (isinstance(label, float) and label != label)
