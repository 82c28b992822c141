"""Checks of the arguments of the networks, with one sentence for each mistake."""

from collections.abc import Sequence
from numbers import Integral

import torch

__all__ = ["check_batch", "check_int", "check_ints", "check_option", "is_count"]


def is_count(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_int(owner: str, name: str, value: int) -> int:
    if not is_count(value):
        raise ValueError(
            f"The {name!r} parameter of {owner} must be an int in the range [1, inf). "
            f"Got {value!r} instead."
        )
    return int(value)


def check_ints(
    owner: str, name: str, values: Sequence[int], *, may_be_empty: bool
) -> tuple[int, ...]:
    is_sequence = isinstance(values, Sequence) and (may_be_empty or len(values) > 0)
    if not is_sequence or not all(map(is_count, values)):
        kind = "sequence" if may_be_empty else "non-empty sequence"
        raise ValueError(
            f"The {name!r} parameter of {owner} must be a {kind} of ints in the range [1, inf). "
            f"Got {values!r} instead."
        )
    return tuple(int(value) for value in values)


def check_batch(owner: str, x: torch.Tensor, in_channels: int, *axes: str) -> None:
    if x.ndim != 2 + len(axes) or x.shape[1] != in_channels:
        raise ValueError(
            f"{owner} expects a batch of shape (n, {in_channels}, {', '.join(axes)}). Got "
            f"{tuple(x.shape)} instead."
        )


def check_option(owner: str, name: str, value: object, options: tuple[object, ...]) -> None:
    if not isinstance(value, (str, Integral)) or value not in options:
        raise ValueError(
            f"The {name!r} parameter of {owner} must be one of "
            f"{', '.join(map(repr, options))}. Got {value!r} instead."
        )
