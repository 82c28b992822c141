import logging
import os
import signal
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from sslearn._isolation import StopOnInterrupt, isolated

CPU = torch.device("cpu")


def test_everything_is_restored_after_an_error():
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    filters, level = list(warnings.filters), logging.getLogger("lightning.pytorch").level
    with pytest.raises(ZeroDivisionError), isolated(3, CPU):
        torch.rand(3)
        torch.set_default_dtype(torch.float64)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype
    assert warnings.filters == filters
    assert logging.getLogger("lightning.pytorch").level == level


def test_the_seed_decides():
    drawn = []
    for seed in (1, 1, 2):
        with isolated(seed, CPU):
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_default_device_does_not_reach_inside():
    torch.set_default_device("meta")
    try:
        with isolated(0, CPU):
            assert torch.zeros(2).device == CPU
    finally:
        torch.set_default_device(None)


def _autocast_state():
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()


def test_cast_weights_are_never_kept():
    layer, x = nn.Linear(4, 4), torch.ones(1, 4)
    with torch.autocast("cpu", torch.bfloat16), isolated(0, CPU):  # the caller's own, held open
        assert _autocast_state() == (False, False)
        found = []
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):  # as Lightning opens it, once a step
                found.append(layer(x))
            with torch.no_grad():
                layer.weight += 1
        torch.testing.assert_close(
            found[1] - found[0], torch.full((1, 4), 4.0).bfloat16(), atol=0.1, rtol=0
        )
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(ZeroDivisionError), isolated(0, CPU):
            raise ZeroDivisionError
        assert _autocast_state() == (True, True)
    assert _autocast_state() == (False, True)


def test_parametrised_weights_are_never_kept():
    layer = parametrizations.weight_norm(nn.Linear(4, 4))
    with parametrize.cached():
        before = layer.weight
        with isolated(0, CPU), torch.no_grad():
            layer.parametrizations.weight.original0.mul_(2)
            torch.testing.assert_close(layer.weight, 2 * before)
        assert layer.weight is before  # the caller's context is as it was


def test_one_fit_at_a_time():
    inside, order = threading.Event(), []

    def other():
        inside.wait()
        with isolated(0, CPU):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with isolated(0, CPU):
        inside.set()
        thread.join(0.1)
        order.append("first")
        with isolated(1, CPU):  # an encoder that fits another estimator
            order.append("nested")
    thread.join()
    assert order == ["first", "nested", "other"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_child_finds_the_lock_free():
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with isolated(0, CPU):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
    pid = os.fork()
    if pid == 0:
        from sslearn import _isolation

        os._exit(0 if _isolation._lock.acquire(timeout=5) else 1)
    _, status = os.waitpid(pid, 0)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.usefixtures("interruptible")
def test_first_interrupt_is_noted_and_the_second_goes_through():
    before = signal.getsignal(signal.SIGINT)
    with StopOnInterrupt() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ignored_interrupts_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopOnInterrupt() as stop:
            signal.raise_signal(signal.SIGINT)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGINT, before)
