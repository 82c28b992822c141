"""What each part of an encoder's output is worth, under four classifiers.

    python tests/benchmarks/blocks.py FOLDER [--method VICReg] [--sets ucr/Coffee ...] [--folds 3]
        [--draws 4] [--out blocks.csv]

FOLDER holds the archives (``_archive_data.py``); by default the quick dozen. A method is fitted
with its default parameters, and its features are taken apart: the *bank* that is fixed, what was
*learned*, *both* of them beside each other, each scaled to the same total variance, and both
*rotated*, which is what ``transform`` returns; *untrained* is what it returns with
``max_epochs=0``. Ridge, logistic regression (their penalties by folds of the labelled samples), the
20 nearest neighbours and a random forest each get all labels and five of each class. All is judged
on folds of the training parts.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _archive_data import QUICK, load, parts
from _linear_probe import CANDIDATES, chosen, folds, scores
from _probes import draws_per_class, neighbours, standardised
from _results_csv import append_row, read_rows
from _side_by_side import header
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import sslearn

BLOCKS = ("bank", "learned", "both", "rotated", "untrained")
TREES = 200
KEY = ("data", "part", "method", "block")
JUDGES = ("ridge", "logistic", "neighbours", "forest")
FIGURES = tuple(f"{judge}_{labels}" for labels in ("all", "few") for judge in JUDGES)
COLUMNS = (*KEY, "width", *FIGURES, "transform_ms")


@torch.no_grad()
def blocks(model, X):
    """Each part of the features, and the milliseconds of a sample that it takes."""
    features = model.encoder_.get_submodule("features")
    (encoder,) = (m for m in features.modules() if isinstance(m, sslearn.encoders.StemEncoder))
    inputs, outputs = [], []
    hooks = (
        encoder.stem.register_forward_hook(lambda *call: inputs.append(call[-1])),
        encoder.body.register_forward_hook(lambda *call: outputs.append(call[-1])),
    )
    begun = time.perf_counter()
    rotated = model.transform(X)
    seconds = time.perf_counter() - begun
    for hook in hooks:
        hook.remove()
    bank = (torch.cat(inputs)[: len(X)] - encoder.stem_mean) * encoder.stem_gain
    learned = (torch.cat(outputs)[: len(X)] - encoder.body_mean) * encoder.body_gain
    found = {"bank": bank.numpy(), "learned": learned.numpy()}
    found["both"] = np.concatenate([found["bank"], found["learned"]], axis=1)
    return {**found, "rotated": rotated}, 1000 * seconds / len(X)


def of_kind(kind, train, test, y_train, y_test):
    """Accuracy of ridge or logistic regression, its penalty chosen by folds."""
    splits = folds(y_train)
    if splits is None:  # too few of a class for folds: ridge, as everywhere
        model = make_pipeline(StandardScaler(), RidgeClassifierCV()).fit(train, y_train)
        return 100 * model.score(test, y_test)
    best = chosen(train, y_train, splits, [one for one in CANDIDATES if one[0] == kind])
    (of,) = scores(train, y_train, test, [best])
    return 100 * np.mean(np.unique(y_train)[of.argmax(axis=1)] == y_test)


def judged(train, test, y_train, y_test):
    """Accuracy in percent under each classifier."""
    found = {kind: of_kind(kind, train, test, y_train, y_test) for kind in ("ridge", "logistic")}
    near = standardised(train, test)
    found["neighbours"] = neighbours(*near, y_train, y_test)
    forest = RandomForestClassifier(TREES, random_state=0).fit(train, y_train)
    return found | {"forest": 100 * forest.score(test, y_test)}


def measure(folder, name, part, method, n_draws):
    """Rows of the table for one part of one data set."""
    data = load(folder, name, part)
    model = getattr(sslearn, method)(random_state=0).fit(data.X_train)
    train, _ = blocks(model, data.X_train)
    test, milliseconds = blocks(model, data.X_test)
    model.set_params(max_epochs=0).fit(data.X_train)
    train["untrained"] = model.transform(data.X_train)
    test["untrained"] = model.transform(data.X_test)
    draws = draws_per_class(data.y_train)[:n_draws]
    for block in BLOCKS:
        few = [
            judged(train[block][rows], test[block], data.y_train[rows], data.y_test)
            for rows in draws
        ]
        everything = judged(train[block], test[block], data.y_train, data.y_test)
        row = {"data": name, "part": part, "method": method, "block": block}
        row |= {f"{judge}_all": f"{everything[judge]:.5g}" for judge in JUDGES}
        row |= {f"{judge}_few": f"{np.mean([f[judge] for f in few]):.5g}" for judge in JUDGES}
        yield row | {"width": train[block].shape[1], "transform_ms": f"{milliseconds:.3g}"}


def overview(rows):
    """Means over the data sets, as a table in Markdown."""
    lines = [f"| block | columns | MB of 10^6 | {' | '.join(FIGURES)} |", "| --- " * 11 + "|"]
    for block in BLOCKS:
        of = [row for row in rows if row["block"] == block]
        means = [np.mean([float(row[figure]) for row in of]) for figure in FIGURES]
        width = int(np.median([int(row["width"]) for row in of]))
        told = " | ".join(f"{mean:.1f}" for mean in means)
        lines.append(f"| {block} | {width} | {4 * width} | {told} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", default="VICReg")
    parser.add_argument("--sets", nargs="+", default=QUICK, metavar="ucr/NAME")
    parser.add_argument("--folds", type=int, default=3, help="of the training parts")
    parser.add_argument("--draws", type=int, default=4, help="of five labels a class")
    parser.add_argument("--out", type=Path, default=Path("blocks.csv"), help="CSV to be added to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    header("parts of the features")
    with threadpool_limits(1):
        for name in arguments.sets:
            for part in parts(False, arguments.folds):
                if (name, part, arguments.method, BLOCKS[-1]) in read_rows(
                    arguments.out, COLUMNS, KEY
                ):
                    continue
                job = (arguments.folder, name, part, arguments.method, arguments.draws)
                for row in measure(*job):
                    print(*row.values(), flush=True)
                    append_row(arguments.out, row, COLUMNS)
    print(overview(list(read_rows(arguments.out, COLUMNS, KEY).values())))


if __name__ == "__main__":
    main()
