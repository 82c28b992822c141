"""Ctrl-C and SIGTERM at random moments of small fits: what they leave behind.

Each fit runs in a process of its own: forked from one that has fitted before (warm), or started
anew (cold), which imports Lightning inside of ``fit``. Afterwards the handlers must be those of
before, the outcome one that is documented, and the next fit of the process must have its bits.

Run by ``OMP_NUM_THREADS=1 python tests/benchmarks/signals.py --warm 90 --cold 10``.
"""

import argparse
import collections
import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings

import numpy as np

from sslearn import SimCLR

DRIVERS = {"fast": None, "standard": {"enable_progress_bar": False}}
# What is sent, one after the other.
SIGNALS = {
    "SIGINT": (signal.SIGINT,),
    "SIGTERM": (signal.SIGTERM,),
    "SIGINT twice": (signal.SIGINT, signal.SIGINT),
}
N_EPOCHS, STEPS_PER_EPOCH = 6, 4
N_STEPS = N_EPOCHS * STEPS_PER_EPOCH
LEARNED = "learned "
BEFORE = (signal.default_int_handler, signal.SIG_DFL)


def make(driver, steps=None):
    """Return a small estimator that notes its steps."""

    def schedule(step, n_steps):
        if steps is not None:
            steps.append(step)
        return 1.0

    return SimCLR(
        max_epochs=N_EPOCHS,
        batch_size=16,
        embedding_dim=8,
        lr_schedule=schedule,
        trainer_params=DRIVERS[driver],
        random_state=0,
        device="cpu",
    )


def data():
    """Return a small table."""
    return np.random.default_rng(0).normal(size=(70, 6)).astype("float32")


def try_one(driver, kind, delays, expected, tell):
    """Fit, send, look at what is left; return the outcome; tell when something is to be kept."""
    signal.signal(signal.SIGINT, BEFORE[0])
    signal.signal(signal.SIGTERM, BEFORE[1])
    steps: list[int] = []
    model, X = make(driver, steps), data()
    state = {"fitting": True, "learned": False}
    sent = threading.Event()

    def send():
        for number, delay in zip(SIGNALS[kind], delays, strict=True):
            time.sleep(delay)
            # What cannot be lost any more: an epoch is over, and fit has not yet returned.
            under_way = STEPS_PER_EPOCH + 1 < len(steps) < N_STEPS
            state["learned"] = state["fitting"] and under_way
            if state["learned"]:
                tell(LEARNED)
            os.kill(os.getpid(), number)
        sent.set()

    thread = threading.Thread(target=send)
    outcome = "nothing"
    try:
        thread.start()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X)
            state["fitting"] = False
        outcome = "kept" if caught else "complete"
        fitted = caught, model.n_iter_, len(model.loss_curve_), model.transform(X).shape
        words = [str(warning.message) for warning in caught]
        allowed = [[], ["Training interrupted by user."], ["Training interrupted by SIGTERM."]]
        assert words in allowed, words
        assert fitted[1] == fitted[2] >= 1
        assert caught or fitted[1] == N_EPOCHS
        while not sent.is_set():
            time.sleep(1e-3)
    except KeyboardInterrupt:
        lost = state["learned"] and kind != "SIGINT twice"
        assert outcome != "nothing" or not lost, "what was learned is lost"
        outcome = "KeyboardInterrupt" if outcome == "nothing" else outcome
    while True:
        try:
            thread.join()
            break
        except KeyboardInterrupt:  # the second one, after the fit
            continue
    found = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert found == BEFORE, found
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") is None
    again = make(driver).fit(X).loss_curve_
    assert again == expected, (again, expected)
    return outcome


def _write(pipe, text):
    os.write(pipe, text.encode())


def in_a_fork(driver, kind, delays, expected):
    """Return (outcome, error) of one warm process."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            try:
                tell = functools.partial(_write, writing)
                tell(try_one(driver, kind, delays, expected, tell))
                code = 0
            except BaseException:
                _write(writing, traceback.format_exc())
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    return judged(kind, os.waitstatus_to_exitcode(status), said)


def judged(kind, code, said):
    """Return (outcome, error), of what a process has said and how it ended."""
    if code == -signal.SIGTERM and kind == "SIGTERM" and LEARNED not in said:
        return "ended", None
    outcome = said.replace(LEARNED, "").strip()
    return (outcome, None) if code == 0 else ("wrong", f"exit {code}: {said}")


def warm(n, seed):
    """Yield (driver, kind, delays, outcome, error) of `n` moments of a process that has fitted."""
    chance = random.Random(seed)
    for driver in DRIVERS:
        expected = make(driver).fit(data()).loss_curve_
    begun = time.monotonic()
    make("standard").fit(data())
    lasts = time.monotonic() - begun
    for _ in range(n):
        driver, kind = chance.choice(list(DRIVERS)), chance.choice(list(SIGNALS))
        delays = [chance.uniform(0, 1.2 * lasts)]
        delays += [chance.expovariate(1 / 3e-3) for _ in SIGNALS[kind][1:]]
        yield (driver, kind, delays, *in_a_fork(driver, kind, delays, expected))


def cold(n, seed):
    """Yield the same for processes that have imported sslearn and nothing more."""
    chance = random.Random(seed)
    expected = make("fast").fit(data()).loss_curve_
    for _ in range(n):
        driver, kind = chance.choice(list(DRIVERS)), chance.choice(list(SIGNALS))
        delays = [chance.uniform(0, 4)] + [chance.uniform(0, 0.5) for _ in SIGNALS[kind][1:]]
        done = subprocess.run(
            [sys.executable, __file__, "--one", repr((driver, kind, delays, expected))],
            capture_output=True,
            text=True,
        )
        said = done.stdout.strip() or done.stderr
        yield (driver, kind, delays, *judged(kind, done.returncode, said))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--warm", type=int, default=90)
    parser.add_argument("--cold", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", help="used by the script itself")
    args = parser.parse_args()
    if args.one:
        import ast

        tell = functools.partial(print, flush=True)
        tell(try_one(*ast.literal_eval(args.one), tell))
        return
    wrong = 0
    for name, moments in (
        ("warm", warm(args.warm, args.seed)),
        ("cold", cold(args.cold, args.seed)),
    ):
        outcomes = collections.Counter()
        for driver, kind, delays, outcome, error in moments:
            outcomes[kind, outcome] += 1
            if error:
                wrong += 1
                print(name, driver, kind, delays, error, sep="\n", flush=True)
        for (kind, outcome), count in sorted(outcomes.items()):
            print(f"{name:5s} {kind:13s} {outcome:18s} {count}", flush=True)
    print(f"{wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
