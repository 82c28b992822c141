"""The caller's modules: copied, made by a callable, tried and checked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer
from torch.overrides import TorchFunctionMode

from ._calls import call, check_call
from ._objective import keep_frozen, mark_frozen
from .encoders import FillMissing, StemEncoder, Windows
from .encoders._missing import takes_nan

__all__ = [
    "AnyTensorCopies",
    "Features",
    "Reshape",
    "Split",
    "build_features",
    "build_module",
    "clonable",
    "copy_module",
    "encoder_of_samples",
    "in_training",
    "least_steps",
    "probe",
    "shortcut_of",
    "split_stem",
    "takes_nan",
    "windowed",
    "windows_of",
]

# Rows of a trial batch for networks that cannot be trained on two.
_MANY = 32


class Features(nn.Module):
    """The encoder as the rest of the package sees it: (n, *shape) to (n, `width`).

    Parameters
    ----------
    module : nn.Module
        The encoder, the caller's or a default one.
    width : int
        Features per sample, after flattening.
    fill : FillMissing, optional
        Fills missing values in front of a module that takes none.
    """

    def __init__(self, module: nn.Module, width: int, fill: FillMissing | None = None) -> None:
        super().__init__()
        self.fill = fill
        self.module = module
        self.width = width

    def extra_repr(self) -> str:
        return f"width={self.width}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x if self.fill is None else self.fill(x)).flatten(1)

    @property
    def takes_nan(self) -> bool:
        """Whether the encoder takes NaN, for values that are missing."""
        return self.fill is not None or takes_nan(self.module)

    @property
    def learned(self) -> Features:
        """The encoder without what its stem gives to the output: what a method has trained."""
        windows = windows_of(self.module)
        if windows is not None and isinstance(windows.encoder, Features):
            return windowed(windows, windows.encoder.learned)
        found = _split(self)
        widths = [m.body_width for m in self.modules() if isinstance(m, StemEncoder)]
        return Features(nn.Sequential(*found), widths[0]) if found and widths else self

    def calibrate(self, inputs: torch.Tensor, *, trained: bool) -> None:
        """Set what depends on samples after training, see :meth:`StemEncoder.calibrate`."""
        for module in self.modules():
            if isinstance(module, StemEncoder):
                module.calibrate(inputs, trained=trained)
                return


class Split(NamedTuple):
    """An encoder in two parts; what it computes is the body's output of the stem's.

    Attributes
    ----------
    stem : nn.Module
        The part that does not change during training.
    body : Features
        The part that a method trains.
    input_shape : tuple of int
        Shape of the body's input.
    """

    stem: nn.Module
    body: Features
    input_shape: tuple[int, ...]


def split_stem(encoder: Features, shape: tuple[int, ...]) -> Split | None:
    """Split an encoder after its leading part that does not change; None if there is no such part.

    That is the stem of a :class:`StemEncoder`, or the leading layers of a ``nn.Sequential`` that
    are wholly frozen.
    """
    found = _split(encoder)
    if found is None:
        return None
    stem, body = found
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.random.fork_rng([]):
        first, again = stem.eval()(x), stem(x)
    # Dropout that stays active, or other randomness, must be drawn anew at each step.
    if not (isinstance(first, torch.Tensor) and torch.equal(first, again)):
        return None
    with torch.no_grad():
        inputs = shortcut_of(stem)(x)
        width = body.eval()(inputs)[0].numel()
    return Split(stem, Features(body, width), tuple(inputs.shape[1:]))


def shortcut_of(stem: nn.Module) -> nn.Module:
    """Return what makes of samples what a body takes: the stem, or a part of it that is enough."""
    return getattr(stem, "shortcut", stem)


def _split(module: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    if isinstance(module, Features):
        return _split(module.module) if module.fill is None else None
    if isinstance(module, StemEncoder):
        return module.stem, module.body
    if type(module) is not nn.Sequential:
        return None
    layers = list(module)
    n_fixed = next((i for i, layer in enumerate(layers) if not _is_fixed(layer)), len(layers))
    leading, rest = layers[:n_fixed], layers[n_fixed:]
    if not leading or not rest:
        return None
    # An encoder with a stem of its own may be the only one behind them.
    inner = _split(rest[0]) if len(rest) == 1 else None
    if inner is not None:
        return nn.Sequential(*leading, inner[0]), inner[1]
    return nn.Sequential(*leading), nn.Sequential(*rest)


def windows_of(encoder: object) -> Windows | None:
    """Return the windows of recordings that an encoder sees, if it is an encoder of windows."""
    return encoder if isinstance(encoder, Windows) else None


def least_steps(encoder: object, n_steps: int) -> int:
    """Return the steps that series need, where those of fit had `n_steps`: those of a window."""
    windows = windows_of(encoder)
    return n_steps if windows is None else min(n_steps, windows.length)


def encoder_of_samples(encoder: Any) -> Any:
    """Return what encodes a sample that is trained on: a window, or all of it."""
    return encoder.encoder if isinstance(encoder, Windows) else encoder


def windowed(encoder: object, features: Features) -> Features:
    """Return features of recordings, if an encoder is one of windows, of these features."""
    windows = windows_of(encoder)
    return features if windows is None else Features(windows.of(features), features.width)


def _is_fixed(module: nn.Module) -> bool:
    """Return whether training changes nothing in a module."""
    if type(module) is nn.Sequential and len(module):
        return all(map(_is_fixed, module))
    return getattr(module, "is_fixed", False) or getattr(module, "_sslearn_frozen", False)


class Reshape(nn.Module):
    """Reshape samples to the shape in which a method reads them.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample.
    """

    #: Nothing in it moves during training.
    is_fixed = True

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def extra_repr(self) -> str:
        return f"shape={self.shape}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(x.shape[0], *self.shape)  # len(x) is a constant in a trace


def copy_module(module: nn.Module) -> nn.Module:
    """Copy deeply, so that the caller's object is never trained."""
    # Without gradients, or the parameters of a scripted module would be results of a copy and not
    # leaves, which optimizers refuse; this loses whether they are trained.
    with torch.no_grad(), AnyTensorCopies():
        copied = copy.deepcopy(module)
    for own, given in zip(copied.parameters(), module.parameters(), strict=True):
        own.requires_grad = given.requires_grad
    return copied


class AnyTensorCopies(TorchFunctionMode):
    """While entered, tensors that refuse ``copy.deepcopy`` are copied too; thread-local.

    Such tensors are results of a computation, as the old ``weight_norm`` and modules that store
    their activations keep them, and buffers of lazy layers that have seen no batch.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            if isinstance(tensor, UninitializedBuffer):
                make: Any = type(tensor)
                memo[id(tensor)] = make(tensor.requires_grad, tensor.device, tensor.dtype)
            elif tensor.is_leaf:
                memo[id(tensor)] = func(tensor, memo)
            else:
                memo[id(tensor)] = tensor.detach().clone()
        return memo[id(tensor)]


def clonable(parameter: Any) -> Any:
    """Return a parameter in which ``sklearn.base.clone`` copies modules by :func:`copy_module`."""
    if type(parameter) in (list, tuple):
        return type(parameter)(map(clonable, parameter))
    plain = isinstance(parameter, nn.Module) and not hasattr(parameter, "get_params")
    return _Clonable(parameter) if plain else parameter


class _Clonable:
    """A module as scikit-learn's clone sees it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __sklearn_clone__(self) -> nn.Module:
        return copy_module(self.module)


def build_module(given: nn.Module | Callable[..., nn.Module], *arguments: Any, name: str):
    """Copy `given` if it is a module, otherwise call it with `arguments`: a shape, widths, none.

    Modules are recognised first, since they are callable too.
    """
    if isinstance(given, nn.Module):
        return _own_copy(given, name)
    if not callable(given):
        raise TypeError(
            f"The '{name}' parameter must be a torch.nn.Module or a callable that returns one, or "
            f"hold such objects. Got {given!r} instead."
        )
    shown = tuple(map(repr, arguments))
    check_call(given, name, *shown)
    kind = "a width (an int)" if len(arguments) == 1 else "two widths (ints)"
    if not arguments or isinstance(arguments[0], tuple):
        kind = "a shape (a tuple of ints)" if arguments else "no arguments, which it has,"
    words = f"is called with {kind} and must return a torch.nn.Module"
    made = call(given, name, *arguments, words=words)
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"The '{name}' parameter {words}. Got {type(made).__name__} from "
            f"{name}({', '.join(shown)}) instead."
        )
    # This is copied too: the caller may keep it for several fits.
    return _own_copy(made, name)


def _own_copy(module: nn.Module, name: str) -> nn.Module:
    copied = copy_module(module).cpu()
    for key, parameter in copied.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"The '{name}' parameter must be a module of float32 parameters. Got "
                f"{parameter.dtype} for {key!r}; call .float() on it."
            )
    return mark_frozen(copied)


def probe(
    module: nn.Module, shape: tuple[int, ...], *, name: str, trains: bool = False
) -> torch.Tensor:
    """Run `module`, in eval mode, on one sample and on two samples of zeros.

    Parameters
    ----------
    module : nn.Module
        Module to try; in eval mode afterwards.
    shape : tuple of int
        Shape of a sample.
    name : str
        Name of the parameter that holds it.
    trains : bool
        Whether it will be trained: it is then tried in train mode too.

    Returns
    -------
    Tensor
        Output for the two samples, in eval mode.

    Raises
    ------
    ValueError
        When it fails on them, or returns anything but one float tensor with a row for each sample.
    """
    for n in (1, 2):
        output = _probe(module.eval(), torch.zeros(n, *shape), name)
    if trains:
        found = in_training(module, shape, lambda m, x: _probe(m, x, name, mode="train mode"))
        if found[0].numel() != output[0].numel():
            raise ValueError(
                f"The '{name}' parameter must return as many features in train mode as in eval "
                f"mode. Got shapes {tuple(found.shape)} and {tuple(output.shape)} for two samples."
            )
    return output


def in_training(
    module: nn.Module, shape: tuple[int, ...], run: Callable[[nn.Module, torch.Tensor], Any]
) -> Any:
    """Return the result of `run` on a copy of a module in train mode, and on samples of zeros.

    A copy, since batch statistics move; its random draws are not seen elsewhere. There are two
    samples, or more where that fails: statistics of parts of a batch need them.
    """
    tried = keep_frozen(copy_module(module).train())
    with torch.no_grad(), torch.random.fork_rng([]):
        try:
            return run(tried, torch.zeros(2, *shape))
        except Exception:
            return run(tried, torch.zeros(_MANY, *shape))


def _probe(
    module: nn.Module, sample: torch.Tensor, name: str, *, mode: str = "eval mode"
) -> torch.Tensor:
    with torch.no_grad():  # not inference mode: lazy layers make their parameters here
        try:
            output = module(sample)
        except Exception as error:
            raise ValueError(
                f"The '{name}' parameter does not fit: a batch of shape {tuple(sample.shape)} "
                f"fails in {type(module).__name__}, in {mode}, with: {error}"
            ) from error
    if not (isinstance(output, torch.Tensor) and output.is_floating_point()):
        kind = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        raise ValueError(
            f"The '{name}' parameter must return one float tensor of shape (n, ...), in train mode "
            f"and in eval mode. Got {kind} in {mode}."
        )
    if output.ndim < 2 or len(output) != len(sample) or output[0].numel() == 0:
        raise ValueError(
            f"The '{name}' parameter must return a row of features for each sample. Got shape "
            f"{tuple(output.shape)} for a batch of shape {tuple(sample.shape)}, in {mode}."
        )
    return output


def build_features(
    module: nn.Module,
    sample_shape: tuple[int, ...],
    *,
    name: str = "encoder",
    trains: bool = False,
    fill: FillMissing | None = None,
) -> Features:
    """Wrap `module`, an encoder of samples of a shape, once :func:`probe` has passed it."""
    shape = sample_shape if fill is None else fill.filled_shape(sample_shape)
    width = probe(module, shape, name=name, trains=trains)[0].numel()
    return Features(mark_frozen(module), width, fill)
