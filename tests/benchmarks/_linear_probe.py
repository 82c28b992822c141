"""The linear probe of every table: StandardScaler and the better of two linear classifiers.

What a careful user fits on labelled samples: a pipeline of scikit-learn's StandardScaler and ridge
or logistic regression, whichever is right more often on three folds of the labelled samples. The
penalty of each is the one with the least loss on these folds, its own loss: with few labels many
penalties are right equally often. (On folds of the training parts of 35 sets of the archives this
is .6 points better with five labels a class than the penalty that is right most often for
MiniRocket, .8 for Catch22; with all labels the two are within .3.) The scaler too is fitted on
nothing but the labelled samples, in each fold anew. Where a class has fewer labels than there are
folds: ridge, its penalty by leave-one-out.

All penalties share one decomposition of the scaled samples, after which n samples of more columns
are n x n: ridge has its solution in it, and scikit-learn's logistic regression the same one as
before, since both penalise nothing but the length of the weights.
"""

import warnings

import numpy as np
from scipy.linalg import eigh
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 3
ALPHAS = tuple(10.0**k for k in range(-2, 6))
CS = tuple(10.0**k for k in range(-3, 2))
# Of equals the first is taken: ridge before logistic regression, the stronger penalty first.
CANDIDATES = (*(("ridge", a) for a in ALPHAS[::-1]), *(("logistic", c) for c in CS))
# Directions with less than this part of the largest variance are rounding.
RANK_TOLERANCE = 1e-13


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


def linear(train, test, y_train, y_test, groups=None):
    """Accuracy in percent on the test part, and which classifier the folds chose."""
    of, name = classified(train, test, y_train, groups)
    return accuracy(of, y_train, y_test), name


def classified(train, test, y_train, groups=None):
    """Scores of the classes on the test part, and which classifier the folds chose."""
    splits = folds(y_train, groups)
    if splits is None:
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS)).fit(train, y_train)
        of = model.decision_function(test)
        of = np.stack([-of, of], axis=1) if of.ndim == 1 else of
        return of, _name("ridge", model[-1].alpha_)
    best = chosen(train, y_train, splits)
    (of,) = scores(train, y_train, test, [best])
    return of, _name(*best)


def accuracy(of, y_train, y_test):
    """Percent of samples whose class has the highest score."""
    return 100 * float(np.mean(np.unique(y_train)[of.argmax(axis=1)] == y_test))


def area(of, y_train, y_test):
    """Area under the ROC curve in percent, of two classes; NaN of more."""
    classes = np.unique(y_train)
    if len(classes) != 2:
        return np.nan
    return 100 * roc_auc_score(y_test == classes[1], of[:, 1] - of[:, 0])


def _name(kind, strength):
    return f"{kind} {strength:g}"


def chosen(train, y, splits, candidates=CANDIDATES):
    """Return the candidate that the folds choose."""
    right, loss = np.zeros(len(candidates)), np.full(len(candidates), np.inf)
    # All folds go from candidate to candidate together.
    of_folds = [
        judged(train[rows], y[rows], train[out], y[out], candidates) for rows, out in splits
    ]
    for k, found in enumerate(zip(*of_folds, strict=True)):
        right[k], loss[k] = np.sum(found, axis=0)
        # Logistic regression with a weaker penalty takes the most steps, and loses yet more.
        if k and candidates[k][0] == candidates[k - 1][0] == "logistic" and loss[k] > loss[k - 1]:
            break
    of_kind = [[k for k, (kind, _) in enumerate(candidates) if kind == name] for name in LOSSES]
    best = [min(of, key=lambda k: loss[k]) for of in of_kind if of]
    return candidates[max(best, key=lambda k: right[k])]


def judged(train, y, other, y_other, candidates=CANDIDATES):
    """Yield for each candidate how many of the other part it gets right, and its loss there."""
    truth = y_other[:, None] == np.unique(y)
    for (kind, _), of in zip(candidates, scores(train, y, other, candidates), strict=True):
        yield np.sum(truth[np.arange(len(of)), of.argmax(axis=1)]), LOSSES[kind](of, truth)


# What each classifier minimises beside its penalty.
LOSSES = {
    "ridge": lambda of, truth: np.sum((of - (2 * truth - 1)) ** 2),
    "logistic": lambda of, truth: -np.sum((of - logsumexp(of, axis=1, keepdims=True)) * truth),
}


def scores(train, y, other, candidates=CANDIDATES):
    """Yield the scores of the classes from each candidate, fitted on one part, for another."""
    classes = np.unique(y)
    scaler = StandardScaler().fit(train)
    coordinates, axes = rotated(scaler.transform(train).astype(np.float64))
    other = scaler.transform(other) @ axes
    del axes  # as large as the samples
    # Under a strong penalty on many columns L-BFGS takes hundreds of steps.
    regression = LogisticRegression(solver="newton-cg", max_iter=1000, warm_start=True)
    for kind, strength in candidates:
        if kind == "ridge":
            weights, intercept = ridge(coordinates, y[:, None] == classes, strength)
            yield other @ weights + intercept
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                of = regression.set_params(C=strength).fit(coordinates, y).decision_function(other)
            # Of two classes it gives the second one's, for which the first one's is zero.
            yield np.stack([np.zeros_like(of), of], axis=1) if of.ndim == 1 else of


def rotated(X):
    """Coordinates of samples, of a mean of zero, along their principal axes; and the axes."""
    n, width = X.shape
    gram = X @ X.T if n <= width else X.T @ X
    values, vectors = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
    kept = values > RANK_TOLERANCE * max(values[-1], np.finfo(float).tiny)
    values, vectors = values[kept], vectors[:, kept]
    if n <= width:
        return vectors * np.sqrt(values), X.T @ (vectors / np.sqrt(values))
    return X @ vectors, vectors


def ridge(coordinates, targets, alpha):
    """Weights and intercept of a ridge classifier: least squares on 1 and -1 for each class."""
    mean = targets.mean(0)
    variances = np.einsum("ij,ij->j", coordinates, coordinates)
    weights = coordinates.T @ (targets - mean) / (variances + alpha)[:, None]
    return 2 * weights, 2 * mean - 1
