"""Every method with its default parameters on handwritten digits, with five labels per class.

    python tests/benchmarks/digits.py [BYOL VICReg ...]

The task of ``examples/quickstart.py``: 30% of scikit-learn's digits for the test, a logistic
regression on standardised features of five labelled images per class, ten draws of them. The test
part is for this table alone: settings are chosen with ``--validate``, which leaves it untouched and
scores on the rest of the training part.
"""

import argparse
import ast
import time

import numpy as np
from _side_by_side import header
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sslearn
from sslearn.base import BaseSSL

METHODS = [
    name
    for name in sslearn.__all__
    if isinstance(getattr(sslearn, name), type) and issubclass(getattr(sslearn, name), BaseSSL)
]


def accuracy(train, y_train, test, y_test, n_labels=5, n_draws=10):
    """Mean and standard deviation of the accuracy; without a test part, on unlabelled rows."""
    scores = []
    for draw in range(n_draws):
        rng = np.random.default_rng(draw)
        labelled = np.concatenate(
            [rng.choice(np.flatnonzero(y_train == c), n_labels, replace=False) for c in range(10)]
        )
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(train[labelled], y_train[labelled])
        if test is None:
            rest = np.setdiff1d(np.arange(len(train)), labelled)
            scores.append(probe.score(train[rest], y_train[rest]))
        else:
            scores.append(probe.score(test, y_test))
    return 100 * np.mean(scores), 100 * np.std(scores)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=METHODS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--validate", action="store_true", help="leave the test part alone")
    parser.add_argument("--set", nargs="*", default=[], metavar="name=value", help="other settings")
    arguments = parser.parse_args()
    settings = {}
    for item in arguments.set:
        name, value = item.split("=", 1)
        try:
            settings[name] = ast.literal_eval(value)
        except ValueError:
            settings[name] = value
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8)
    split = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    X_train, X_test, y_train, y_test = split
    header("digits, five labels per class")
    print(
        f"{'features':<16} {'seed':>4} {'accuracy':>9} {'+-':>5} {'rank':>6} {'seconds to fit':>15}"
    )
    rows = {name: getattr(sslearn, name)(**settings) for name in arguments.names}
    rows["random encoder"] = sslearn.SimCLR(max_epochs=0)
    for name, method in rows.items():
        for seed in range(arguments.seeds):
            model = clone(method).set_params(random_state=seed)
            begun = time.perf_counter()
            model.fit(X_train)
            seconds = time.perf_counter() - begun
            train = model.transform(X_train)
            test = None if arguments.validate else model.transform(X_test)
            mean, spread = accuracy(train, y_train, test, y_test)
            rank = model.embedding_rank_curve_[-1][1]
            print(
                f"{name:<16} {seed:4d} {mean:8.1f}% {spread:5.1f} {rank:6.1f} {seconds:15.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
