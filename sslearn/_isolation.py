"""What ``fit`` changes in the process while it runs, and restores whatever happens."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator

import torch
from torch.nn.utils import parametrize

__all__ = ["StopOnInterrupt", "default_generator_kept", "isolated"]

_lock = threading.RLock()


@contextlib.contextmanager
def default_generator_kept() -> Iterator[None]:
    """Restore torch's default generator; under the lock, so that no fit is disturbed."""
    with _lock:
        state = torch.get_rng_state()
        try:
            yield
        finally:
            torch.set_rng_state(state)


def _remake_lock() -> None:
    global _lock
    _lock = threading.RLock()


# A child forked while another thread fits would find the lock held for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remake_lock)

# Set by Lightning for deterministic=True.
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_LOGGERS = (
    "lightning",
    "lightning.fabric",
    "lightning.pytorch",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
)


@contextlib.contextmanager
def isolated(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's default generators and silence Lightning, for one ``fit`` at a time.

    Held for the whole of ``fit`` by one thread of the process: default generators, warning
    filters, logger levels and backend switches are process-wide. To be entered before
    Lightning's first import, which raises warnings and sets logger levels of its own.
    """
    with _lock, contextlib.ExitStack() as stack:
        stack.enter_context(_default_generators(seed, device))
        stack.enter_context(_torch_defaults(device))
        stack.enter_context(_quiet())
        yield


@contextlib.contextmanager
def _default_generators(seed: int, device: torch.device) -> Iterator[None]:
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextlib.contextmanager
def _torch_defaults(device: torch.device) -> Iterator[None]:
    """Undo what the caller may have set, for the time of a fit: it must not change results."""
    dtype = torch.get_default_dtype()
    cudnn = torch.backends.cudnn.benchmark
    deterministic = torch.backends.cudnn.deterministic
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(_WORKSPACE)
    kinds = ("cpu", "cuda") if device.type == "cuda" else ("cpu",)
    autocast = {kind: torch.is_autocast_enabled(kind) for kind in kinds}
    cached = torch.is_autocast_cache_enabled(), parametrize._cache_enabled, parametrize._cache
    torch.set_default_dtype(torch.float32)
    # By flags, since an autocast context that is held open keeps what those inside have cast: all
    # of training would see the weights of the first step. Without the cache also where the caller
    # holds one open, and in the contexts that Lightning opens.
    for kind in kinds:
        torch.set_autocast_enabled(kind, False)
    torch.set_autocast_cache_enabled(False)
    # Nor may parametrised weights be kept from step to step, by parametrize.cached().
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        with (
            # Only where it is needed: this context costs every operation a Python call.
            torch.device("cpu") if torch.get_default_device().type != "cpu" else _nothing(),
            torch.inference_mode(False),
            torch.enable_grad(),
        ):
            yield
    finally:
        for kind, enabled in autocast.items():
            torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_cache_enabled(cached[0])
        _, parametrize._cache_enabled, parametrize._cache = cached
        torch.set_default_dtype(dtype)
        torch.backends.cudnn.benchmark = cudnn
        torch.backends.cudnn.deterministic = deterministic
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        else:
            os.environ[_WORKSPACE] = workspace


_nothing = contextlib.nullcontext


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # At its import Lightning warns in the name of many modules; afterwards in its own.
        warnings.simplefilter("ignore")
        from . import _training  # noqa: F401
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning)\.")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class StopOnInterrupt:
    """While entered, the first Ctrl-C sets ``requested``; the second goes through at once.

    Only the main thread can set handlers; elsewhere, and where Ctrl-C is ignored, this does
    nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: object = None
        self._installed = False

    def __enter__(self) -> StopOnInterrupt:
        previous = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(previous):
            self._previous = previous
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: object) -> None:
        if self.requested:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]
            self._previous(number, frame)  # type: ignore[operator]
        self.requested = True
