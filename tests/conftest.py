"""Settings of all tests."""

import math
import signal

import pytest
import torch

from sslearn._process_state import StopOnInterrupt


@pytest.fixture
def interruptible(monkeypatch):
    """Ctrl-C as in a terminal; a shell's background jobs inherit that it is ignored."""
    # As if no test before had interrupted a fit.
    monkeypatch.setattr(StopOnInterrupt, "_last", -math.inf)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # The networks here are tiny: handing their work to threads costs more than doing it.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
