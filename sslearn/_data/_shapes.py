"""Samples of one shape, and what to do about others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["check_shape", "stackable"]


def stackable(items: Iterator[Any]) -> Iterator[Any]:
    """Explain what a loader says of samples that it cannot stack."""
    try:
        yield from items
    except RuntimeError as error:
        if "stack expects each tensor to be equal size" not in str(error):
            raise
        raise ValueError(
            f"All samples of X must have the same shape: the DataLoader cannot stack them ({error})"
            "; pad or crop all to one shape first, series with NaN at the end, or pass a list."
        ) from error


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a sample of another shape than the first."""
    if shape != expected:
        raise ValueError(
            f"All samples of X must have the same shape. Got {tuple(shape)} after {expected}; "
            f"{_remedy_for_shapes(shape, expected)}."
        )


def _remedy_for_shapes(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if len(shape) == len(expected) == 2 and shape[0] == expected[0]:
        return "pad or crop all to one shape first, series with NaN at the end, or pass a list"
    return "pad or crop all to one shape first"
