import logging
import os
import signal
import threading
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from sslearn._process_state import StopOnInterrupt, isolated
from sslearn._training._lightning import quiet

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
        from sslearn import _process_state

        os._exit(0 if _process_state._lock.acquire(timeout=5) else 1)
    _, status = os.waitpid(pid, 0)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.fixture
def handlers(interruptible):
    """As in a terminal: Ctrl-C raises and SIGTERM ends the process; what there is afterwards."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield lambda: (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    signal.signal(signal.SIGTERM, before)


DEFAULT = (signal.default_int_handler, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_a_training_and_a_second_interrupt_goes_through(handlers, number):
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt() as stop, stop.heard():
        stop.soft = True
        assert stop.cause is None
        signal.raise_signal(number)
        assert stop.requested
        signal.raise_signal(signal.SIGTERM)  # once more, as schedulers do: nothing happens
        assert stop.cause == ("user" if number == signal.SIGINT else "SIGTERM")
        signal.raise_signal(signal.SIGINT)
    assert handlers() == DEFAULT


def test_interrupts_wait_while_the_process_is_changed(handlers):
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt() as stop:
        signal.raise_signal(signal.SIGINT)
        reached = True
        with stop.heard():
            pytest.fail("the signal came too late")
    assert reached
    assert handlers() == DEFAULT


def test_interrupts_wait_while_all_is_restored(handlers):
    restored = []
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt() as stop:
        with stop.heard():
            pass
        with pytest.raises(ZeroDivisionError):
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError
        restored.append(True)
        raise ValueError("the fit has failed")
    assert restored
    assert handlers() == DEFAULT


def test_an_interrupt_at_the_very_end_keeps_what_was_learned(handlers):
    with StopOnInterrupt() as stop:
        with stop.heard():
            stop.soft = True
        signal.raise_signal(signal.SIGINT)
    assert stop.cause == "user"
    assert handlers() == DEFAULT


def test_before_a_training_interrupts_go_through(handlers):
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt() as stop, stop.heard():
        signal.raise_signal(signal.SIGINT)
    assert handlers() == DEFAULT


def test_an_interrupt_is_not_lost_in_an_error(handlers):
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt() as stop, stop.heard():
        stop.soft = True
        signal.raise_signal(signal.SIGINT)
        raise ValueError("which a search would take for a score of nan")
    assert handlers() == DEFAULT


def test_an_interrupt_soon_after_an_interrupted_fit_ends_what_makes_the_fits(handlers):
    with StopOnInterrupt() as stop, stop.heard():
        stop.soft = True
        signal.raise_signal(signal.SIGINT)
    assert stop.cause == "user"
    with pytest.raises(KeyboardInterrupt), StopOnInterrupt() as stop, stop.heard():
        stop.soft = True
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("handlers")
def test_a_handler_of_the_callers_own_is_called_and_decides():
    called = []

    def own(number, frame):
        called.append((number, frame is not None))

    signal.signal(signal.SIGTERM, own)
    with StopOnInterrupt() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert called == []
        with stop.heard():
            assert called == [(signal.SIGTERM, True)]
            stop.soft = True
            signal.raise_signal(signal.SIGTERM)
            assert len(called) == 2
            assert not stop.requested
    assert signal.getsignal(signal.SIGTERM) is own


@pytest.mark.usefixtures("handlers")
def test_handlers_are_restored_where_the_callers_own_raises():
    def own(number, frame):
        raise SystemExit(3)

    signal.signal(signal.SIGTERM, own)
    with pytest.raises(SystemExit), StopOnInterrupt() as stop, stop.heard():
        stop.soft = True
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is own
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_signals_stay_ignored(handlers):
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with StopOnInterrupt() as stop, stop.heard():
        stop.soft = True
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert not stop.requested
    assert handlers() == (signal.SIG_IGN, signal.SIG_IGN)


def test_other_threads_leave_handlers_alone(handlers):
    found = []

    def enter():
        with StopOnInterrupt() as stop, stop.heard():
            found.append(handlers())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [DEFAULT]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*")
@pytest.mark.usefixtures("handlers")
def test_a_child_forked_during_a_fit_ends_on_sigterm_and_leaves_ctrl_c_to_its_parent():
    with StopOnInterrupt() as stop, stop.heard():
        pid = os.fork()
        if pid == 0:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_warning_filters_are_left_alone_until_lightning_runs():
    with isolated(0, CPU):
        pass  # the first one imports Lightning
    filters = list(warnings.filters)
    with isolated(0, CPU):
        assert warnings.filters == filters
        with quiet():
            assert warnings.filters != filters
    assert warnings.filters == filters
