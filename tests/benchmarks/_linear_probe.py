"""The linear probe of every table: StandardScaler and the better of two linear classifiers.

What a careful user fits on labelled samples: a pipeline of scikit-learn's StandardScaler and ridge
or logistic regression, whichever, with whichever penalty, is right most often on three folds of the
labelled samples. The scaler too is fitted on nothing but those samples, in each fold anew. Where a
class has fewer labels than there are folds: ridge, its penalty by leave-one-out.

Both classifiers are scikit-learn's in what they minimise (``RidgeClassifier``,
``LogisticRegression``), but all penalties share one decomposition of the scaled samples: with n
samples of more than n columns nothing is larger than n x n after it.
"""

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import RidgeClassifierCV
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
    splits = folds(y_train, groups)
    if splits is None:
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS)).fit(train, y_train)
        return 100 * model.score(test, y_test), _name("ridge", model[-1].alpha_)
    right = np.zeros(len(CANDIDATES))
    for rows, held_out in splits:
        found = predictions(train[rows], y_train[rows], train[held_out])
        right += [np.sum(labels == y_train[held_out]) for labels in found]
    best = CANDIDATES[int(np.argmax(right))]
    (labels,) = predictions(train, y_train, test, [best])
    return 100 * np.mean(labels == y_test), _name(*best)


def _name(kind, strength):
    return f"{kind} {strength:g}"


def predictions(train, y, other, candidates=CANDIDATES):
    """Labels that each candidate, fitted on one part, gives to another."""
    classes, y = np.unique(y, return_inverse=True)
    targets = np.eye(len(classes))[y]
    scaler = StandardScaler().fit(train)
    coordinates, axes = rotated(scaler.transform(train).astype(np.float64))
    other = scaler.transform(other) @ axes
    found, start = [], None
    for kind, strength in candidates:
        if kind == "ridge":
            weights, intercept = ridge(coordinates, targets, strength)
        else:
            weights, intercept = logistic(coordinates, targets, strength, start)
            start = weights, intercept
        found.append(classes[np.argmax(other @ weights + intercept, axis=1)])
    return found


def rotated(X):
    """Coordinates of samples along their principal axes, and the axes.

    Both classifiers penalise the length of the weights alone, so that they lie in the span of the
    samples, and a rotation changes nothing. The samples must have a mean of zero.
    """
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


def logistic(coordinates, targets, c, start=None):
    """Weights and intercept of a logistic regression, as ``LogisticRegression`` with this C.

    L-BFGS on weights in units of what bounds the curvature along each axis, which needs a tenth of
    the steps that plain weights do.
    """
    n, n_axes = coordinates.shape
    n_classes = targets.shape[1]
    # Of two classes scikit-learn has one column of weights, w: here they are w / 2 and -w / 2,
    # whose squares are half as long.
    penalty = (2 if n_classes == 2 else 1) / c
    unit = 1 / np.sqrt(np.einsum("ij,ij->j", coordinates, coordinates) / 4 + penalty)[:, None]
    inputs = coordinates * unit.T
    shrinkage = penalty * unit**2

    def loss(flat):
        scaled, intercept = flat[:-n_classes].reshape(n_axes, n_classes), flat[-n_classes:]
        scores = inputs @ scaled + intercept
        log_p = scores - logsumexp(scores, axis=1, keepdims=True)
        residuals = np.exp(log_p) - targets
        value = -np.sum(log_p * targets) + 0.5 * np.sum(shrinkage * scaled**2)
        gradient = inputs.T @ residuals + shrinkage * scaled
        return value / n, np.concatenate([gradient.ravel(), residuals.sum(0)]) / n

    begin = np.zeros((n_axes + 1) * n_classes)
    if start is not None:
        begin = np.concatenate([(start[0] / unit).ravel(), start[1]])
    options = {"maxiter": 1000, "gtol": 1e-5, "ftol": 1e-12}
    flat = minimize(loss, begin, jac=True, method="L-BFGS-B", options=options).x
    return flat[:-n_classes].reshape(n_axes, n_classes) * unit, flat[-n_classes:]
