"""Every method with its default parameters on real data: how good are its features?

    python tests/benchmarks/quality.py FOLDER [--data har mnist] [--methods CPC raw supervised]
        [--seeds 1] [--best 2] [--out quality.csv] [--retry] [--validate] [--threads 2]
        [--set CPC.max_epochs=5] [--list]

FOLDER holds the data sets as ``.npz`` files. A linear probe and neighbours on frozen features of
the last epoch, with all labels, a tenth and a hundredth of them (``_probes.py``); methods always
train on all rows. Beside them stand the untrained encoders, whose only training is an epoch for
their batch statistics, and what a user would pick instead (``_baselines.py``; the features of aeon
in an environment that has it, the others in any). ``--best 2 --seeds 3`` adds seeds for the two
methods of each data set that are best in the CSV with seed 0.

The whole takes hours and is run in parts: what ``--out`` holds is not run again, and a cell that
fails is noted there and left behind (``--retry`` takes it up). What was measured with the linear
probe before this one counts as not run. The first choice for images is VICReg, by held-out images
of the training part of CIFAR-10, before the test part was read with the present encoder. Settings
are chosen with ``--validate``, which takes a part of the training part for the test.
"""

import argparse
import ast
import datetime
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from _aeon_features import AeonMissing
from _baselines import BASELINES, WITHOUT_PROBE
from _data_sets import DATA, validation
from _probes import probes
from _results_csv import append_row, one_line, read_rows
from _side_by_side import header, machine
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import sslearn
from sslearn.base import BaseSSL

__all__ = ["DATA", "measure"]

METHODS = [
    name
    for name in sslearn.__all__
    if isinstance(getattr(sslearn, name), type) and issubclass(getattr(sslearn, name), BaseSSL)
]
# One for each encoder that None stands for: most methods have SimCLR's, CPC's sees patches, and
# AMDIM's reads a table as a series, hence has another one there.
UNTRAINED = {
    "random encoder": "SimCLR",
    "random encoder (CPC)": "CPC",
    "random encoder (AMDIM)": "AMDIM",
}
UNTRAINED_SETTINGS = {"max_epochs": 0}
WITHOUT_SEED = ("raw", "pca", "hand-made", "HOG", "Catch22")
KEY = ("data", "part", "method", "seed", "settings")
FIGURES = (
    *("linear", "C", "knn", "linear_10", "linear_10_sd", "knn_10", "linear_1", "linear_1_sd"),
    *("knn_1", "rank", "epochs", "seconds"),
)
# Columns that came later; what was measured before has none of them.
AREAS = ("auc", "auc_10", "auc_1")
COLUMNS = (*KEY, "status", *FIGURES, "date", "machine", "threads", "torch", "message", *AREAS)


class Measured(NamedTuple):
    """What lfr_paper.py asks for; `all` are the columns of the table."""

    linear: float
    all: dict
    seconds: float


def measure(data, method, settings, seed):
    """Fit one method, or one of its baselines, and return what its features are worth."""
    if method in BASELINES:
        found = BASELINES[method][0](*data, seed)
        return Measured(found["linear"], found, found["seconds"])
    X_train, X_test, y_train, y_test, groups = data
    name = UNTRAINED.get(method, method.removesuffix(" (untrained)"))
    if name != method:
        settings = {**settings, **UNTRAINED_SETTINGS}
    model = getattr(sslearn, name)(random_state=seed, **settings)
    begun = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(X_train)
    seconds = time.perf_counter() - begun
    train, test = model.transform(X_train), model.transform(X_test)
    found = probes(train, test, y_train, y_test, groups)
    found["rank"] = sslearn.metrics.effective_rank(test)
    found |= {"epochs": model.n_iter_, "seconds": seconds}
    told = [w.message for w in caught if issubclass(w.category, ConvergenceWarning)]
    found["message"] = one_line(told[0]) if told else ""
    return Measured(found["linear"], found, seconds)


def has_cell(method, n_axes):
    """Tell whether a method makes sense on arrays of so many axes."""
    if method in BASELINES:
        return n_axes in BASELINES[method][1]
    return method != "random encoder (AMDIM)" or n_axes == 2


def read(path):
    """Rows of a CSV by their key; of two the later one."""
    return read_rows(path, COLUMNS, KEY)


def of_this_probe(row):
    """Tell whether a row is of today's linear probe; ``C`` of the one before is a bare number."""
    return row["method"] in WITHOUT_PROBE or row["status"] != "ok" or " " in row["C"]


def append(path, row):
    append_row(path, row, COLUMNS)


def best_methods(rows, data, part, n):
    """The methods of a data set with the highest accuracy for seed 0 and default parameters."""
    found = {
        method: float(row["linear"])
        for (name, of, method, seed, settings), row in rows.items()
        if (name, of, seed, settings, row["status"]) == (data, part, "0", "", "ok")
        and method in METHODS
        and of_this_probe(row)
    }
    return sorted(found, key=found.get, reverse=True)[:n]


def run_cell(data, key, settings, threads):
    """Measure one cell; what it raises becomes a row too."""
    row = dict(zip(KEY, key, strict=True)) | {"status": "ok"}
    try:
        found = measure(data, key[2], settings, int(key[3])).all
    except AeonMissing:
        raise  # no fault of the method: another environment has what is missing
    except Exception as error:
        message = one_line(f"{type(error).__name__}: {error}")
        row |= {"status": "failed", "message": message}
    else:
        row |= {k: v if isinstance(v, str) else f"{v:.4g}" for k, v in found.items()}
    return row | {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "threads": threads,
        "torch": torch.__version__,
    }


def parsed_settings(items, methods):
    """Parameters by method, from items as 'CPC.max_epochs=5'."""
    settings = {}
    for item in items:
        key, value = item.split("=", 1)
        method, _, name = key.partition(".")
        if method not in methods or not name:
            raise ValueError(
                f"--set takes METHOD.name=value, METHOD one of {methods}. Got {item!r}."
            )
        try:
            settings.setdefault(method, {})[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            settings.setdefault(method, {})[name] = value
    return settings


def arguments_of_the_command_line():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    everything = [*BASELINES, *UNTRAINED, *METHODS]
    parser.add_argument("--data", nargs="*", choices=list(DATA), default=list(DATA))
    parser.add_argument("--methods", nargs="*", choices=everything, default=everything, metavar="M")
    parser.add_argument("--seeds", type=int, default=1, help="of methods that draw at random")
    parser.add_argument("--best", type=int, default=None, help="only the best so many methods")
    parser.add_argument("--out", type=Path, default=None, help="CSV to which rows are added")
    parser.add_argument("--retry", action="store_true", help="run failed cells again")
    parser.add_argument("--validate", action="store_true", help="leave the test part alone")
    parser.add_argument("--threads", type=int, default=None, help="of torch and scikit-learn")
    parser.add_argument("--set", nargs="*", default=[], metavar="METHOD.name=value")
    parser.add_argument("--list", action="store_true", help="name the cells, run nothing")
    arguments = parser.parse_args()
    if arguments.best is not None and arguments.out is None:
        parser.error("--best needs --out, the CSV in which the best are looked up.")
    try:
        settings = parsed_settings(arguments.set, METHODS)
    except ValueError as error:
        parser.error(str(error))
    return arguments, settings


def cells(arguments, settings, name, n_axes):
    """Keys of what is to be run on one data set and is not in the CSV."""
    part = "validation" if arguments.validate else "test"
    rows = read(arguments.out)
    methods = arguments.methods
    if arguments.best is not None:
        methods = best_methods(rows, name, part, arguments.best)
    for method in methods:
        if not has_cell(method, n_axes):
            continue
        own = settings.get(UNTRAINED.get(method, method), {})
        if method in UNTRAINED:
            own = {k: v for k, v in own.items() if k not in UNTRAINED_SETTINGS}
        told = " ".join(f"{k}={v!r}" for k, v in sorted(own.items()))
        for seed in range(1 if method in WITHOUT_SEED else arguments.seeds):
            key = (name, part, method, str(seed), told)
            row = rows.get(key)
            failed = row is not None and row["status"] == "failed"
            if row is None or not of_this_probe(row) or (arguments.retry and failed):
                yield key, own


def main():
    arguments, settings = arguments_of_the_command_line()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        threadpool_limits(arguments.threads)
    threads = torch.get_num_threads()
    read(arguments.out)  # a file of another version is refused before anything is run
    header("quality of features, default parameters")
    shown = ("data", "method", "seed", "settings", *FIGURES, *AREAS, "message")
    print(" ".join(f"{column:>10}" for column in shown))
    for name in arguments.data:
        try:
            data = DATA[name](arguments.folder)
        except (ImportError, OSError) as error:
            print(f"{name} is left out: {error}", flush=True)
            continue
        if arguments.validate:
            data = validation(*data)
        for key, own in cells(arguments, settings, name, data[0].ndim):
            if arguments.list:
                print(*key)
                continue
            done = read(arguments.out).get(key)
            if done is not None and of_this_probe(done) and not arguments.retry:
                continue  # another process was here meanwhile
            try:
                row = run_cell(data, key, own, threads)
            except AeonMissing as error:
                print(f"{key[2]} is left out: {error}", flush=True)
                continue
            print(" ".join(f"{row.get(column, '')!s:>10}" for column in shown), flush=True)
            if arguments.out:
                append(arguments.out, row)


if __name__ == "__main__":
    main()
