"""Every method with its default parameters on real data: how good are its features?

    python tests/benchmarks/quality.py FOLDER [--data har mnist] [--methods CPC AMDIM]
        [--seeds 1] [--out quality.csv] [--validate] [--set CPC.max_epochs=5]

FOLDER holds the data sets as ``.npz`` files. A logistic regression on standardised, frozen features
of the last epoch; its C is chosen on folds of the training part (by subject, where there are any).
Each method has a row of its own for the untrained encoder, whose only training is an epoch for its
batch statistics. What ``--out`` holds already is not run again. Settings are chosen with
``--validate``, which takes a part of the training part for the test.
"""

import argparse
import ast
import csv
import time
from pathlib import Path

import numpy as np
from _side_by_side import header
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler

import sslearn
from sslearn.base import BaseSSL

METHODS = [
    name
    for name in sslearn.__all__
    if isinstance(getattr(sslearn, name), type) and issubclass(getattr(sslearn, name), BaseSSL)
]
COLUMNS = ("data", "method", "seed", "linear", "C", "knn", "rank", "epochs", "seconds", "part")


def har(folder):
    d = np.load(folder / "har_uci.npz")
    return d["X_train"], d["X_test"], d["y_train"], d["y_test"], d["subject_train"]


def epilepsy(folder):
    """Seizure against the rest, rows split at random as the papers do."""
    d = np.load(folder / "epilepsy_bonn.npz")
    X = np.concatenate([d["X_train"], d["X_test"]])
    y = np.concatenate([d["y_train"], d["y_test"]]) == 1
    return *train_test_split(X, y, test_size=0.2, random_state=42), None


def _table(d):
    one_hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(d["Xcat_train"])
    scaler = StandardScaler().fit(d["Xnum_train"])
    parts = [
        np.hstack([scaler.transform(d[f"Xnum_{p}"]), one_hot.transform(d[f"Xcat_{p}"])])
        for p in ("train", "test")
    ]
    return *(part.astype(np.float32) for part in parts), d["y_train"], d["y_test"], None


def adult(folder):
    return _table(np.load(folder / "adult.npz"))


def adult_complete(folder):
    """Rows without a missing value, as in the paper of LFR."""
    d = dict(np.load(folder / "adult.npz"))
    for part in ("train", "test"):
        whole = np.ones(len(d[f"y_{part}"]), dtype=bool)
        for column, name in enumerate(d["cat_names"]):
            missing = np.flatnonzero(d[f"categories_{name}"] == "?")
            whole &= ~np.isin(d[f"Xcat_{part}"][:, column], missing)
        for key in ("Xnum", "Xcat", "y"):
            d[f"{key}_{part}"] = d[f"{key}_{part}"][whole]
    return _table(d)


def covertype(folder):
    return _table(np.load(folder / "covertype15k.npz"))


def mnist(folder):
    """10,000 of the training images."""
    d = np.load(folder / "mnist.npz")
    X, _, y, _ = train_test_split(
        d["X_train"], d["y_train"], train_size=10_000, stratify=d["y_train"], random_state=0
    )
    return X, d["X_test"], y, d["y_test"], None


def digits(folder):
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8)
    return *train_test_split(X, y, test_size=0.3, stratify=y, random_state=0), None


DATA = {f.__name__: f for f in (har, epilepsy, adult, adult_complete, covertype, mnist, digits)}


def validation(X, _, y, __, groups):
    """Split the training part in its turn, by subject where there are subjects."""
    if groups is None:
        return *train_test_split(X, y, test_size=0.25, stratify=y, random_state=0), None
    held_out = np.isin(groups, np.unique(groups)[::3])
    return X[~held_out], X[held_out], y[~held_out], y[held_out], groups[~held_out]


def linear_probe(train, test, y_train, y_test, groups):
    """Accuracy in percent, and the C that the folds chose."""
    folds = StratifiedKFold(3, shuffle=True, random_state=0) if groups is None else GroupKFold(3)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]},
        cv=folds,
    )
    search.fit(train, y_train, groups=groups)
    return 100 * search.score(test, y_test), search.best_params_["logisticregression__C"]


def measure(data, method, settings, seed):
    """Fit one method, or look at the rows as they are, and return a row of the table."""
    X_train, X_test, y_train, y_test, groups = data
    epochs, seconds = 0, 0.0
    if method == "raw":
        train, test = (part.reshape(len(part), -1) for part in (X_train, X_test))
    else:
        name = method.split(" (")[0]
        if name != method:
            settings = {**settings, "max_epochs": 1, "learning_rate": 1e-12}
        model = getattr(sslearn, name)(random_state=seed, **settings)
        begun = time.perf_counter()
        model.fit(X_train)
        seconds, epochs = time.perf_counter() - begun, model.n_iter_
        train, test = model.transform(X_train), model.transform(X_test)
    linear, c = linear_probe(train, test, y_train, y_test, groups)
    neighbours = KNeighborsClassifier(min(20, len(train) // 10), metric="cosine")
    knn = make_pipeline(StandardScaler(), Normalizer(), neighbours).fit(train, y_train)
    rank = sslearn.metrics.effective_rank(test)
    return linear, c, 100 * knn.score(test, y_test), rank, epochs, seconds


def known(path):
    if not path.exists():
        return set()
    with path.open() as file:
        return {(r["data"], r["method"], r["seed"], r["part"]) for r in csv.DictReader(file)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="*", choices=list(DATA), default=list(DATA))
    parser.add_argument("--methods", nargs="*", default=["raw", *METHODS])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--no-untrained", action="store_true")
    parser.add_argument("--validate", action="store_true", help="leave the test part alone")
    parser.add_argument("--set", nargs="*", default=[], metavar="METHOD.name=value")
    arguments = parser.parse_args()
    settings = {}
    for item in arguments.set:
        key, value = item.split("=", 1)
        method, name = key.split(".", 1)
        settings.setdefault(method, {})[name] = ast.literal_eval(value)
    header("quality of features, default parameters")
    print(" ".join(f"{column:>10}" for column in COLUMNS))
    part = "validation" if arguments.validate else "test"
    done = known(arguments.out) if arguments.out else set()
    methods = []
    for method in arguments.methods:
        if method != "raw" and not arguments.no_untrained:
            methods.append(f"{method} (untrained)")
        methods.append(method)
    for name in arguments.data:
        data = DATA[name](arguments.folder)
        if arguments.validate:
            data = validation(*data)
        for method in methods:
            for seed in range(1 if method == "raw" else arguments.seeds):
                if (name, method, str(seed), part) in done:
                    continue
                found = measure(data, method, settings.get(method.split(" (")[0], {}), seed)
                row = (name, method, seed, *(f"{v:.4g}" for v in found), part)
                print(" ".join(f"{value!s:>10}" for value in row), flush=True)
                if arguments.out:
                    new = not arguments.out.exists()
                    with arguments.out.open("a", newline="") as file:
                        csv.writer(file).writerows([COLUMNS, row] if new else [row])


if __name__ == "__main__":
    main()
