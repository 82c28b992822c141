"""Process-wide state that ``fit`` changes while it runs, and always restores.

One change stays: that of :func:`keep_freed_memory`.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.utils import parametrize

__all__ = ["StopOnInterrupt", "default_generator_kept", "isolated", "keep_freed_memory"]

# Seconds: within the first, a second Ctrl-C after one that ended a fit ends the whole program;
# within the second, several SIGTERM count as one.
_TWICE, _ONE_SIGTERM = 2.0, 1.0

# Environment variable; 0 leaves the C library unchanged.
_SWITCH = "SSLEARN_KEEP_FREED_MEMORY"

# Just below the largest block from which glibc learns, 32 MiB on 64-bit machines.
_BLOCK = 32_000_000

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


# A child forked while another thread fits would find the lock held forever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remake_lock)

# Set by Lightning for deterministic=True.
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def isolated(seed: int, device: torch.device) -> Iterator[StopOnInterrupt]:
    """Seed torch's default generators, for one ``fit`` at a time.

    Held for the whole of ``fit`` by one thread of the process: default generators and backend
    switches are process-wide. Signals wait except inside :meth:`StopOnInterrupt.heard`.
    """
    # The lock comes before the signals, so that waiting for another fit can be interrupted.
    with _lock, StopOnInterrupt() as stop, contextlib.ExitStack() as stack:
        stack.enter_context(_default_generators(seed, device))
        stack.enter_context(_torch_defaults(device))
        yield stop


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
    """Reset the caller's settings of torch during a fit, so that they do not change results."""
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
    # By flags, since an autocast context that stays open keeps the casted weights of those inside:
    # the whole training would use the weights of the first step. The cache is also switched off in
    # contexts that the caller or Lightning opens.
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


class StopOnInterrupt:
    """Delays Ctrl-C and SIGTERM during a fit, so that nothing is left half done.

    Signals wait while the process state is changed and modules are imported, and again while all is
    restored; delayed ones are raised afterwards. In between, inside :meth:`heard`, they take effect
    at once. During a training (from :attr:`soft` on) the first signal sets :attr:`requested`, which
    ends it after a step, and the second ends it at once.

    Only the main thread can set handlers, and only a main process trains to the end of a step:
    a worker of multiprocessing or loky ends at once. Ignored signals stay ignored, and the caller's
    own SIGTERM handler is called and decides.

    Attributes
    ----------
    requested : bool
        Whether the training shall end.
    soft : bool
        Whether a training has begun.
    """

    # When a fit was last ended by Ctrl-C.
    _last = -math.inf

    def __init__(self) -> None:
        self.requested = False
        self.soft = False
        self._number = 0
        self._since = -math.inf
        self._raises: type[Exception] | None = None
        self._waiting = True
        self._noted = 0
        self._previous: dict[int, Any] = {}
        self._pid = os.getpid()
        self._is_worker = multiprocessing.parent_process() is not None

    @property
    def cause(self) -> str | None:
        """Cause of the end of the training: "user", "SIGTERM" or None."""
        if not self.requested:
            return None
        return "SIGTERM" if self._number == signal.SIGTERM else "user"

    def __enter__(self) -> StopOnInterrupt:
        if threading.current_thread() is threading.main_thread():
            # SIGINT first here and last in __exit__: only its handler always raises.
            for number in (signal.SIGINT, signal.SIGTERM):
                previous = signal.getsignal(number)
                ends = number == signal.SIGTERM and previous == signal.SIG_DFL
                if callable(previous) or (ends and not self._is_worker):
                    self._previous[number] = previous
                    signal.signal(number, self._handle)
        return self

    @contextlib.contextmanager
    def raising(self, error: type[Exception]) -> Iterator[None]:
        """Raise `error` at the signal that ends a training, while a callback runs."""
        self._raises = error
        try:
            yield
        finally:
            self._raises = None

    def heard(self) -> contextlib.AbstractContextManager:
        """Return a context in which signals take effect, or end a training."""
        return _Heard(self)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._waiting = True
        try:
            if signal.SIGTERM in self._previous:
                signal.signal(signal.SIGTERM, self._previous[signal.SIGTERM])
        finally:
            if signal.SIGINT in self._previous:
                signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
        if kind is None and self._noted and self._is_kept(self._noted):
            self.requested, self._number, self._noted = True, self._noted, 0
        if kind is None and self.cause == "user":
            StopOnInterrupt._last = time.monotonic()
        # An error came in between: the signal must still reach the process.
        lost = self._number if kind is not None and issubclass(kind, Exception) else 0
        if self._noted or lost:
            signal.raise_signal(self._noted or lost)

    def _is_kept(self, number: int) -> bool:
        """Return whether the learned weights are kept after a signal."""
        by_default = number == signal.SIGINT or self._previous[number] == signal.SIG_DFL
        return by_default and not self._is_worker

    def _handle(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if os.getpid() != self._pid:
            # A child forked during the fit, as workers of a loader are: Ctrl-C reaches its parent
            # too, which decides.
            if number == signal.SIGTERM:
                self._pass_on(number, frame)
        elif self._waiting:
            self._noted = number
        elif not self.soft or not self._is_kept(number):
            self._pass_on(number, frame)
        elif self.requested:
            # Some programs signal a process alone and with its group: this counts as one signal.
            if number == signal.SIGINT or now - self._since > _ONE_SIGTERM:
                self._pass_on(number, frame)
        elif number == signal.SIGINT and now - StopOnInterrupt._last < _TWICE:
            self._pass_on(number, frame)  # end the search, not only one fit after another
        else:
            self.requested, self._number, self._since = True, number, now
            if self._raises is not None:
                raise self._raises

    def _pass_on(self, number: int, frame: object) -> None:
        previous = self._previous[number]
        if callable(previous):
            previous(number, frame)
        else:
            signal.signal(number, previous)
            signal.raise_signal(number)


class _Heard:
    # Not a generator: a signal between its frames and the caller's would not be handled.
    def __init__(self, stop: StopOnInterrupt) -> None:
        self.stop = stop

    def __enter__(self) -> None:
        stop = self.stop
        number, stop._noted = stop._noted, 0
        if number:
            stop._pass_on(number, sys._getframe())
        stop._waiting = False

    def __exit__(self, *exc_info: object) -> None:
        self.stop._waiting = True


def keep_freed_memory() -> None:
    """Make the C library reuse blocks of activations instead of returning them to the kernel.

    glibc asks the kernel for every large block, and the kernel fills its pages with zeros: a third
    of the time of a forward pass. The size from which blocks are large, and the free memory that is
    kept, follow the largest block ever freed. One is therefore freed here, without touching its
    pages. This takes microseconds and at most 64 MB of memory that the process keeps, and does
    nothing with other C libraries.
    ``SSLEARN_KEEP_FREED_MEMORY=0`` in the environment switches it off.
    """
    if os.environ.get(_SWITCH) == "0":
        return
    torch.empty(_BLOCK, dtype=torch.uint8, device="cpu")
