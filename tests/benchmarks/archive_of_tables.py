"""Methods on 27 small tables, default parameters, one CSV: the part for tables of ``archive.py``.

    python tests/benchmarks/archive_of_tables.py FOLDER [--methods VICReg "VICReg (untrained)" raw]
        [--sets heart ...] [--test] [--splits 5] [--jobs 1] [--out tables.csv] [--retry]
        [--set VICReg.max_epochs=5] [--list]

FOLDER holds ``tables/NAME.npz`` with X, y and `cat`, which names the columns that are codes of
categories: these are one-hot encoded. Splits are 0 to 4 of a stratified 70/30 split, and the number
of a split is the seed of what is fitted on it. A method is fitted without labels on the whole
training part; the linear probe of all tables (``_linear_probe.py``) is fitted on its features with
all labels, a tenth (three draws) and five of each class (ten draws). Next to methods, as
``archive.py`` names them, stand the raw columns with the same probe ("raw") and classifiers made of
trees, which learn from the labelled rows alone (``_baselines.py``).

Choices are made by splitting the training parts in the same way, which is the default. ``--test``
reads the test parts, once a choice is made. The first choice for tables is VICReg, by such splits
of 17 sets, before any test part was read with it. What ``--out`` holds is not run again.
"""

import argparse
import itertools
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _archive_tables import UNTRAINED, gain, label, table_row
from _baselines import TREES
from _linear_probe import linear
from _probes import draws, draws_per_class
from _results_csv import read_rows
from _side_by_side import header
from archive import KEY, checked, features, run
from quality import METHODS
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder

N_SPLITS, TEST_SIZE = 5, 0.3
# Labels: all, a tenth, five of each class; `ten_sd` and `few_sd` are deviations over the draws.
LABELS = {"all": "all", "ten": "10%", "few": "5 a class"}
FACTS = ("rows", "columns", "classes")
FIGURES = ("all", "ten", "ten_sd", "few", "few_sd", "chosen", "width", "fit_s", "transform_ms")
COLUMNS = (*KEY, "status", *FIGURES, *FACTS, "date", "machine", "torch", "message")
RAW = "raw"
USUAL = ["VICReg", f"VICReg{UNTRAINED}", RAW, *TREES]


class Part(NamedTuple):
    """The samples to fit on, those to judge on."""

    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


def load(folder, name, part):
    """Return a split of a table where the part is 'test 0', and else one of its training part."""
    kind, number = part.split()
    with np.load(folder / "tables" / f"{name}.npz") as file:
        X, y, is_code = file["X"], file["y"], file["cat"].astype(bool)
    for _ in range(1 if kind == "test" else 2):
        split = train_test_split(X, y, test_size=TEST_SIZE, stratify=y, random_state=int(number))
        X, _, y, _ = split
    X_train, X_test, y_train, y_test = split
    return Part(*_one_hot(X_train, X_test, is_code), y_train, y_test)


def _one_hot(train, test, is_code):
    if not is_code.any():
        return train.astype(np.float32), test.astype(np.float32)
    encoder = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    encoder.fit(train[:, is_code])
    return tuple(
        np.hstack([X[:, ~is_code], encoder.transform(X[:, is_code])]).astype(np.float32)
        for X in (train, test)
    )


def measure(folder, key, settings):
    """Columns of the CSV for one job."""
    data, of, method, seed, _ = key
    part = load(folder, data, of)
    begun = time.perf_counter()
    found = {}
    if method in TREES:

        def score(rows):
            model = TREES[method](len(rows), int(seed))
            model.fit(part.X_train[rows], part.y_train[rows])
            return 100 * model.score(part.X_test, part.y_test), ""

    else:
        train, test = part.X_train, part.X_test
        if method != RAW:
            train, test, found["fit_s"], seconds = features(method, settings, part, int(seed))
            found["transform_ms"] = 1000 * seconds / len(test)

        def score(rows):
            return linear(train[rows], test, part.y_train[rows], part.y_test)

        found["width"] = train.shape[1]
    found["all"], found["chosen"] = score(np.arange(len(part.y_train)))
    found.setdefault("fit_s", time.perf_counter() - begun)
    for name, drawn in (("ten", draws(part.y_train, 10)), ("few", draws_per_class(part.y_train))):
        right = [score(rows)[0] for rows in drawn]
        found |= {name: np.mean(right), f"{name}_sd": np.std(right)}
    facts = (len(part.X_train), part.X_train.shape[1], len(np.unique(part.y_train)))
    return found | dict(zip(FACTS, facts, strict=True))


def jobs(arguments, settings, names):
    """Keys and settings of what is to be run and is not in the CSV."""
    rows = read_rows(arguments.out, COLUMNS, KEY)
    # Split by split, so that a run that is stopped has all sets.
    for split in range(arguments.splits):
        for name, method in itertools.product(names, arguments.methods):
            own = dict(settings.get(method.removesuffix(UNTRAINED), {}))
            if method.endswith(UNTRAINED):
                own.pop("max_epochs", None)
            told = " ".join(f"{k}={v!r}" for k, v in sorted(own.items()))
            key = (name, f"{kind(arguments)} {split}", method, str(split), told)
            row = rows.get(key)
            if row is None or (arguments.retry and row["status"] == "failed"):
                yield key, own


def kind(arguments):
    return "test" if arguments.test else "inner"


def overview(rows):
    """Means over the sets that all methods have, and the gain over the best baseline of each."""
    found = {
        column: _accuracies([row for row in rows if row["status"] == "ok"], column)
        for column in LABELS
    }
    if not found["all"]:
        return "Nothing was measured."
    names = set.intersection(*(set(of) for of in found["all"].values()))
    means = {
        column: {method: np.mean([of[name] for name in names]) for method, of in by_method.items()}
        for column, by_method in found.items()
    }
    head = ["method", *LABELS.values()]
    picks = {}
    for column, told in LABELS.items():
        baselines = [method for method in means[column] if method in (RAW, *TREES)]
        if baselines:
            picks[column] = max(baselines, key=means[column].get)
            head.append(f"{told}, over {picks[column]}")
    head += [f"{told}, over untrained" for told in LABELS.values()]
    lines = [f"Means over the {len(names)} sets that all have.", ""]
    lines += [table_row(head), table_row(["---"] * len(head))]
    for method in sorted(means["few"], key=means["few"].get, reverse=True):
        cells = [method, *(f"{means[column][method]:.2f}" for column in LABELS)]
        for column, pick in picks.items():
            cells.append(gain(found[column][method], found[column][pick]))
        of = method.split(" ")[0] + UNTRAINED
        for column in LABELS:
            known = of in found[column] and of != method
            cells.append(gain(found[column][method], found[column][of]) if known else "")
        lines.append(table_row(cells))
    failed = [f"{label(row)} on {row['data']}" for row in rows if row["status"] != "ok"]
    return "\n".join(lines + ([f"\nFailed: {', '.join(failed)}."] if failed else []))


def _accuracies(rows, column):
    """Mean accuracy over the splits, by method and data set."""
    found = {}
    for row in rows:
        found.setdefault(label(row), {}).setdefault(row["data"], []).append(float(row[column]))
    return {
        method: {data: float(np.mean(of)) for data, of in by_data.items()}
        for method, by_data in found.items()
    }


def arguments_of_the_command_line():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [RAW, *TREES, *(name for method in METHODS for name in (method, method + UNTRAINED))]
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", choices=known, default=USUAL, metavar="M")
    parser.add_argument("--sets", nargs="+", default=None, metavar="NAME")
    parser.add_argument("--test", action="store_true", help="read the test parts")
    parser.add_argument("--splits", type=int, choices=range(1, N_SPLITS + 1), default=N_SPLITS)
    parser.add_argument("--jobs", type=int, default=1, help="at once, each with one thread")
    parser.add_argument("--out", type=Path, default=Path("tables.csv"), help="CSV to be added to")
    parser.add_argument("--retry", action="store_true", help="run failed cells again")
    parser.add_argument("--set", nargs="*", default=[], metavar="METHOD.name=value")
    parser.add_argument("--list", action="store_true", help="name the jobs, run nothing")
    arguments = parser.parse_args()
    files = sorted(arguments.folder.glob("tables/*.npz"), key=lambda file: file.stat().st_size)
    found = [file.stem for file in files]
    return checked(parser, arguments, found, found, "tables/*")


def main():
    arguments, settings, names = arguments_of_the_command_line()
    todo = list(jobs(arguments, settings, names))
    if arguments.list:
        print(*(" ".join(key) for key, _ in todo), sep="\n")
        return
    header("small tables, default parameters")
    if todo:
        run(arguments, todo, measure, COLUMNS)
    rows = read_rows(arguments.out, COLUMNS, KEY).values()
    print(overview([row for row in rows if row["part"].startswith(kind(arguments))]))


if __name__ == "__main__":
    main()
