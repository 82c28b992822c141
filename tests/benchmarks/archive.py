"""Methods on all series of the UCR and UEA archives, default parameters, one CSV.

    python tests/benchmarks/archive.py FOLDER [--quick] [--methods VICReg "VICReg (untrained)"]
        [--sets ucr/Coffee ...] [--test] [--folds 3] [--seeds 1] [--jobs 1] [--out archive.csv]
        [--retry] [--set VICReg.max_epochs=5] [--list]

FOLDER holds ``ucr/NAME.npz`` and ``uea/NAME.npz`` (``_archive_data.py``). A method is fitted
without labels, with nothing set for a single data set; the linear probe of all tables
(``_linear_probe.py``) is fitted on its features with all labels, and with five of each class, ten
draws. A method is an estimator of sslearn, one with "(untrained)" behind it, which is
``max_epochs=0``, or one of aeon's (``_aeon_features.py``), in an environment that has aeon too.

Choices are made by folds of the training parts, which is the default: methods too are fitted
without the fold that they are judged on. ``--test`` reads the test parts, once a choice is made.
The first choice for series is VICReg, by folds of the quick dozen and of the subjects of HAR,
before any test part was read with it. ``--quick`` takes a dozen of small sets. A job is one method
on one part of one set and has one thread; ``--jobs`` says how many run at once. What ``--out``
holds is not run again, and what fails is noted there (``--retry`` takes it up).
``archive_page.py`` makes tables and pictures.
"""

import argparse
import datetime
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from _aeon_features import AEON, AeonMissing, aeon_features
from _archive_data import N_FOLDS, QUICK, data_sets, filled, load, parts
from _archive_tables import UNTRAINED, overview
from _linear_probe import linear
from _probes import draws_per_class
from _results_csv import append_row, one_line, read_rows
from _side_by_side import header, machine
from quality import METHODS, WITHOUT_SEED, parsed_settings
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

import sslearn

USUAL = ["VICReg", f"VICReg{UNTRAINED}"]
KEY = ("data", "part", "method", "seed", "settings")
# `few` is the mean of ten draws of five labels a class and `few_sd` their deviation, `chosen` the
# classifier with all labels; `transform_ms` is of one sample.
FACTS = ("series", "channels", "steps", "classes", "gaps")
FIGURES = ("all", "few", "few_sd", "chosen", "width", "fit_s", "transform_ms", "probe_s")
COLUMNS = (*KEY, "status", *FIGURES, *FACTS, "date", "machine", "torch", "message")


def features(method, settings, part, seed):
    """Features of both parts, and the seconds of the fit and of the second part."""
    if method in AEON:
        return aeon_features(method, filled(part.X_train), filled(part.X_test), seed)
    name = method.removesuffix(UNTRAINED)
    settings = {**settings, "max_epochs": 0} if name != method else settings
    model = getattr(sslearn, name)(random_state=seed, **settings)
    begun = time.perf_counter()
    model.fit(part.X_train)
    fitted = time.perf_counter()
    train = model.transform(part.X_train)
    transformed = time.perf_counter()
    test = model.transform(part.X_test)
    return train, test, fitted - begun, time.perf_counter() - transformed


def measure(folder, key, settings):
    """Columns of the table for one job."""
    data, of, method, seed, _ = key
    part = load(folder, data, of)
    train, test, fit_s, transform_s = features(method, settings, part, int(seed))
    begun = time.perf_counter()
    right, chosen = linear(train, test, part.y_train, part.y_test)
    few = [
        linear(train[rows], test, part.y_train[rows], part.y_test)[0]
        for rows in draws_per_class(part.y_train)
    ]
    return {
        **part.facts,
        "all": right,
        "chosen": chosen,
        "few": np.mean(few),
        "few_sd": np.std(few),
        "width": train.shape[1],
        "fit_s": fit_s,
        "transform_ms": 1000 * transform_s / len(test),
        "probe_s": time.perf_counter() - begun,
    }


def run_job(folder, key, settings, measure=measure):
    """Measure one cell on one thread; what it raises becomes a row too."""
    torch.set_num_threads(1)
    row = dict(zip(KEY, key, strict=True)) | {"status": "ok"}
    try:
        with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            found = measure(folder, key, settings)
    except AeonMissing:
        raise  # no fault of the method: another environment has what is missing
    except Exception as error:
        row |= {"status": "failed", "message": one_line(f"{type(error).__name__}: {error}")}
    else:
        row |= {k: f"{v:.5g}" if isinstance(v, float) else str(v) for k, v in found.items()}
        told = [w.message for w in caught if issubclass(w.category, ConvergenceWarning)]
        row["message"] = one_line(told[0]) if told else ""
    return row | {
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "torch": torch.__version__,
    }


def jobs(arguments, settings, names):
    """Keys and settings of what is to be run and is not in the CSV."""
    rows = read_rows(arguments.out, COLUMNS, KEY)
    for name in names:
        for method in arguments.methods:
            own = dict(settings.get(method.removesuffix(UNTRAINED), {}))
            if method.endswith(UNTRAINED):
                own.pop("max_epochs", None)
            told = " ".join(f"{k}={v!r}" for k, v in sorted(own.items()))
            for seed in range(1 if method in WITHOUT_SEED else arguments.seeds):
                for part in parts(arguments.test, arguments.folds):
                    key = (name, part, method, str(seed), told)
                    row = rows.get(key)
                    if row is None or (arguments.retry and row["status"] == "failed"):
                        yield key, own


def run(arguments, todo, measure=measure, columns=COLUMNS):
    """Run the jobs, some at once, and add each to the CSV as it ends."""
    shown = (*KEY, "all", "few", "chosen", "width", "fit_s", "transform_ms", "message")
    shown = [column for column in shown if column in columns]
    print(*shown)
    # Processes begin anew: a fork of one that has used threads may hang.
    pool = ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn"))
    with pool:
        running = [pool.submit(run_job, arguments.folder, *job, measure) for job in todo]
        for job in as_completed(running):
            try:
                row = job.result()
            except AeonMissing as error:
                pool.shutdown(cancel_futures=True)
                raise SystemExit(str(error)) from None
            print(*(row.get(column, "") for column in shown), flush=True)
            append_row(arguments.out, row, columns)


def arguments_of_the_command_line():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [*AEON, *(name for method in METHODS for name in (method, method + UNTRAINED))]
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", choices=known, default=USUAL, metavar="M")
    parser.add_argument("--sets", nargs="+", default=None, metavar="ucr/NAME")
    parser.add_argument("--quick", action="store_true", help="a dozen of small sets")
    parser.add_argument("--test", action="store_true", help="read the test parts")
    parser.add_argument("--folds", type=int, default=N_FOLDS, help="of the training parts")
    parser.add_argument("--seeds", type=int, default=1, help="of methods that draw at random")
    parser.add_argument("--jobs", type=int, default=1, help="at once, each with one thread")
    parser.add_argument("--out", type=Path, default=Path("archive.csv"), help="CSV to be added to")
    parser.add_argument("--retry", action="store_true", help="run failed cells again")
    parser.add_argument("--set", nargs="*", default=[], metavar="METHOD.name=value")
    parser.add_argument("--list", action="store_true", help="name the jobs, run nothing")
    arguments = parser.parse_args()
    found = data_sets(arguments.folder)
    return checked(parser, arguments, found, QUICK if arguments.quick else found, "ucr/*, uea/*")


def checked(parser, arguments, found, usual, files):
    """Arguments, settings and names of the sets to run; a wrong one ends the process."""
    wanted = usual if arguments.sets is None else arguments.sets
    missing = set(wanted) - set(found)
    if missing or not wanted:
        parser.error(f"{arguments.folder} lacks the sets {sorted(missing) or files}.")
    try:
        settings = parsed_settings(arguments.set, METHODS)
    except ValueError as error:
        parser.error(str(error))
    return arguments, settings, [name for name in found if name in wanted]


def main():
    arguments, settings, names = arguments_of_the_command_line()
    todo = list(jobs(arguments, settings, names))
    if arguments.list:
        print(*(" ".join(key) for key, _ in todo), sep="\n")
        return
    header("series of the UCR and UEA archives, default parameters")
    if todo:
        run(arguments, todo)
    rows = read_rows(arguments.out, COLUMNS, KEY).values()
    wanted = parts(arguments.test, arguments.folds)
    print(overview([row for row in rows if row["data"] in names and row["part"] in wanted]))


if __name__ == "__main__":
    main()
