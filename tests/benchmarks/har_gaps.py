"""VICReg on HAR, complete and with a tenth of the steps missing in spans, under one linear probe.

    python tests/benchmarks/har_gaps.py FOLDER [--missing 0.1] [--folds 3] [--test] [--epochs N]

FOLDER holds ``har_uci.npz``. Spans of 4 to 20 steps of all channels are missing, in the training
part and in the other alike, until the part of the steps is reached. Without ``--test`` the other
part is a fold of the subjects of the training part. Percent right with all, 10% and 1% of the
labels, of the draws of ``_probes.py``.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _data_sets import har
from _linear_probe import linear
from _probes import FEW, draws
from _side_by_side import header

from sslearn import VICReg

SHORTEST, LONGEST = 4, 20


def with_gaps(X, part, rng):
    """Series of which a part of the steps is missing in all channels, in spans."""
    n, _, n_steps = X.shape
    missing = np.zeros((n, n_steps), dtype=bool)
    while missing.mean() < part:
        for i in rng.integers(n, size=n // 10):
            length = rng.integers(SHORTEST, LONGEST + 1)
            start = rng.integers(n_steps - length + 1)
            missing[i, start : start + length] = True
    return np.where(missing[:, None], np.nan, X)


def accuracies(train, test, y_train, y_test):
    """Percent right with all labels, and with each part of them."""
    found = [linear(train, test, y_train, y_test)[0]]
    for percent in FEW:
        of = [
            linear(train[some], test, y_train[some], y_test)[0] for some in draws(y_train, percent)
        ]
        found.append(np.mean(of))
    return found


def splits(X, X_test, y, y_test, subjects, test, n_folds):
    """Yield the parts to fit on and to judge on, with their labels."""
    if test:
        yield X, X_test, y, y_test
        return
    order = np.random.default_rng(1).permutation(np.unique(subjects))
    for k in range(n_folds):
        out = np.isin(subjects, order[k::n_folds])
        yield X[~out], X[out], y[~out], y[out]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--missing", type=float, nargs="+", default=[0.1])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--epochs", type=int, default=None, help="if absent, the default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    header("VICReg on HAR with gaps")
    X, X_test, y, y_test, subjects = har(arguments.folder)
    params = {} if arguments.epochs is None else {"max_epochs": arguments.epochs}
    for part in arguments.missing:
        rng = np.random.default_rng(0)
        gappy, gappy_test = (with_gaps(x, part, rng) if part else x for x in (X, X_test))
        parts = (gappy, gappy_test, y, y_test, subjects, arguments.test, arguments.folds)
        for train, other, y_train, y_other in splits(*parts):
            begun = time.perf_counter()
            model = VICReg(random_state=0, **params).fit(train)
            found = accuracies(model.transform(train), model.transform(other), y_train, y_other)
            seconds = time.perf_counter() - begun
            print(f"missing {part:.0%}:", *(f"{x:.2f}" for x in found), f"({seconds:.0f} s)")


if __name__ == "__main__":
    main()
