"""The caller's functions: checked before they are called, and their errors explained."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["call", "check_call"]


def check_call(function: Callable, name: str, *arguments: str, value: str | None = None) -> None:
    """Refuse a callable that cannot take these arguments, before it is called with them.

    Python's own error would name neither the parameter nor what is passed to it. Where a `value`
    is to be returned, a class is refused too: it would return an instance.
    """
    called = f"The '{name}' parameter is called as {name}({', '.join(arguments)})"
    signature = _signature(function.forward if isinstance(function, nn.Module) else function)
    if signature is not None:
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise TypeError(
                f"{called}. Got {_named(function)}, which takes {signature}."
            ) from error
    made = function.func if isinstance(function, functools.partial) else function
    if value is not None and isinstance(made, type):
        raise TypeError(f"{called} and must return {value}. Got the class {made.__name__} instead.")


def _signature(function: Callable) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some built-in functions have none
        return None


def call(function: Callable, name: str, *arguments: Any, words: str) -> Any:
    """Call a callable that a parameter holds; the error of a failure says how it was called.

    Parameters
    ----------
    function : callable
        The caller's function.
    name : str
        Name of the parameter.
    *arguments
        Arguments of the call.
    words : str
        Part of the message: "is called with ... and must return ...".
    """
    try:
        return function(*arguments)
    except Exception as error:
        raise ValueError(
            f"The '{name}' parameter {words}. Got {type(error).__name__} from {_named(function)}: "
            f"{error}"
        ) from error


def _named(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)
