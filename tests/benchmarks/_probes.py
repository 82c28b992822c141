"""What frozen features are worth: a linear probe and neighbours, with all labels and with few.

The linear probe (``_linear_probe.py``) is one pipeline for every row of every table, fitted on the
labelled samples alone. Rows measured before it took logistic regression only, with C up to 1, on
features standardised by all training samples. Neighbours, which have no folds to choose by, are
looked for among features standardised by all training samples, then as now. Nothing here looks at
the test part but to score it.
"""

import numpy as np
from _linear_probe import accuracy, area, classified
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer, StandardScaler

# Votes count by exp(cosine / temperature), as in arXiv 1805.01978: with few labels the 20 nearest
# reach into other classes, and where there are no more than 20, plain votes are the same for all.
NEIGHBOURS, TEMPERATURE = 20, 0.07
# Part of the labels and how often it is drawn: the fewer, the more the draw decides.
FEW = {10: 3, 1: 5}
# On the archives, where a hundredth of the labels is less than one sample: so many of each class.
PER_CLASS, PER_CLASS_DRAWS = 5, 10


def draw(y, percent, seed):
    """Numbers of the rows of a stratified random part of the labels, one of each class at least."""
    rng = np.random.default_rng([percent, seed])
    return _some_of_each(y, rng, lambda n: max(1, round(n * percent / 100)))


def draws(y, percent):
    """All draws of a part of the labels."""
    return [draw(y, percent, seed) for seed in range(FEW[percent])]


def draws_per_class(y, n=PER_CLASS, n_draws=PER_CLASS_DRAWS):
    """Numbers of the rows of `n` random samples of each class, or all where there are fewer."""
    return [
        _some_of_each(y, np.random.default_rng([n, seed]), lambda of: min(of, n))
        for seed in range(n_draws)
    ]


def _some_of_each(y, rng, how_many):
    chosen = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        chosen.append(rng.choice(rows, how_many(len(rows)), replace=False))
    return np.sort(np.concatenate(chosen))


def neighbours(train, test, y_train, y_test):
    """Accuracy in percent of the vote of the 20 rows most alike by their cosine."""

    def votes(distances):
        # Of rows of unit length, which is faster than to ask for cosines: |a - b|^2 = 2 - 2 cos.
        return np.exp(-(distances**2) / 2 / TEMPERATURE)

    model = KNeighborsClassifier(min(NEIGHBOURS, len(train)), weights=votes)
    model.fit(Normalizer().transform(train), y_train)
    return 100 * model.score(Normalizer().transform(test), y_test)


def standardised(train, test):
    """Both parts, scaled by the training part, as float32."""
    scaler = StandardScaler().fit(train)
    return tuple(scaler.transform(part).astype(np.float32) for part in (train, test))


def probes(train, test, y_train, y_test, groups):
    """All that is asked of features, as columns of the table.

    ``C`` is what the folds chose, with all labels: "ridge 100", "logistic 0.1"; ``auc`` is the area
    under the ROC curve of the linear probe, where there are two classes.
    """
    near_train, near_test = standardised(train, test)
    of, name = classified(train, test, y_train, groups)
    found = {"linear": accuracy(of, y_train, y_test), "C": name, "auc": area(of, y_train, y_test)}
    found["knn"] = neighbours(near_train, near_test, y_train, y_test)
    for percent in FEW:
        scores = []
        for rows in draws(y_train, percent):
            group = None if groups is None else groups[rows]
            y = y_train[rows]
            of, _ = classified(train[rows], test, y, group)
            near = neighbours(near_train[rows], near_test, y, y_test)
            scores.append((accuracy(of, y, y_test), near, area(of, y, y_test)))
        found |= summary(percent, [score[0] for score in scores])
        found[f"knn_{percent}"] = np.mean([score[1] for score in scores])
        found[f"auc_{percent}"] = np.mean([score[2] for score in scores])
    # No area, no cell.
    return {k: v for k, v in found.items() if not (k.startswith("auc") and np.isnan(v))}


def summary(percent, accuracies):
    """Mean and standard deviation over the draws of a part of the labels, as columns."""
    return {
        f"linear_{percent}": np.mean(accuracies),
        f"linear_{percent}_sd": np.std(accuracies),
    }
