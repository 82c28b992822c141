"""What frozen features are worth: a linear probe and neighbours, with all labels and with few.

Features are standardised by the mean and deviation of all training rows, of which a self-supervised
method has all but the labels. Nothing here looks at the test part but to score it.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer, StandardScaler

GRID = (0.001, 0.01, 0.1, 1.0)
# Where there are too few labels to choose by folds.
FIXED_C = 0.1
FOLDS = 3
# Votes count by exp(cosine / temperature), as in arXiv 1805.01978: with few labels the 20 nearest
# reach into other classes, and where there are no more than 20, plain votes are the same for all.
NEIGHBOURS, TEMPERATURE = 20, 0.07
# Part of the labels and how often it is drawn: the fewer, the more the draw decides.
FEW = {10: 3, 1: 5}


def draw(y, percent, seed):
    """Numbers of the rows of a stratified random part of the labels, one of each class at least."""
    rng = np.random.default_rng([percent, seed])
    chosen = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        n = max(1, round(len(rows) * percent / 100))
        chosen.append(rng.choice(rows, n, replace=False))
    return np.sort(np.concatenate(chosen))


def draws(y, percent):
    """All draws of a part of the labels."""
    return [draw(y, percent, seed) for seed in range(FEW[percent])]


def folds(y, groups=None):
    """Splits to choose by, by group where there are groups; None where labels are too few."""
    _, counts = np.unique(y, return_counts=True)
    if counts.min() < FOLDS:
        return None
    if groups is not None and len(np.unique(groups)) >= FOLDS:
        splits = list(GroupKFold(FOLDS).split(y, groups=groups))
        if all(len(np.unique(y[rows])) > 1 for rows, _ in splits):
            return splits
    return list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(y, y))


def _path(features, y):
    """Logistic regressions along the grid, each begun where the last one ended."""
    model = LogisticRegression(max_iter=1000, warm_start=True)
    for c in GRID:
        model.C = c
        with warnings.catch_warnings():
            # In float32 the last digits of the loss may not fall any more, which is the minimum;
            # raw rows of a thousand columns may end after 1000 steps.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, y)
        yield c, model


def linear(train, test, y_train, y_test, groups=None):
    """Accuracy in percent of features as they come, and the C that the folds chose."""
    best = FIXED_C
    splits = folds(y_train, groups)
    if splits is not None:
        totals = dict.fromkeys(GRID, 0.0)
        for rows, held_out in splits:
            for c, model in _path(train[rows], y_train[rows]):
                totals[c] += model.score(train[held_out], y_train[held_out])
        best = max(totals, key=totals.get)
    for c, model in _path(train, y_train):
        if c == best:
            return 100 * model.score(test, y_test), best


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


def linear_probe(train, test, y_train, y_test, groups):
    """Accuracy in percent of standardised features, and the C that the folds chose."""
    return linear(*standardised(train, test), y_train, y_test, groups)


def probes(train, test, y_train, y_test, groups, scale=True):
    """All that is asked of features, as columns of the table."""
    if scale:
        train, test = standardised(train, test)
    found = dict(zip(("linear", "C"), linear(train, test, y_train, y_test, groups), strict=True))
    found["knn"] = neighbours(train, test, y_train, y_test)
    for percent in FEW:
        scores = []
        for rows in draws(y_train, percent):
            few = train[rows], test, y_train[rows], y_test
            group = None if groups is None else groups[rows]
            scores.append((linear(*few, group)[0], neighbours(*few)))
        found |= summary(percent, [score[0] for score in scores])
        found[f"knn_{percent}"] = np.mean([score[1] for score in scores])
    return found


def summary(percent, accuracies):
    """Mean and standard deviation over the draws of a part of the labels, as columns."""
    return {
        f"linear_{percent}": np.mean(accuracies),
        f"linear_{percent}_sd": np.std(accuracies),
    }
