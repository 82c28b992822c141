"""
SimCLR on handwritten digits, with five labels per class
========================================================

Scikit-learn's digits, as images of 1 x 8 x 8 pixels. Seven tenths of them are used for training,
without their labels; then five labelled images per class train a logistic regression, which is
tested on the other three tenths. The labelled images are drawn ten times, and the mean accuracy is
printed, for the raw pixels, for principal components, for the encoder before training, and for
SimCLR.
"""

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sslearn import SimCLR

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)


def accuracy(features, n_labels=5, n_draws=10):
    """Mean and standard deviation of the test accuracy from a few labels per class."""
    train, test = features.transform(X_train), features.transform(X_test)
    scores = []
    for draw in range(n_draws):
        rng = np.random.default_rng(draw)
        labelled = np.concatenate(
            [
                rng.choice(np.flatnonzero(y_train == digit), n_labels, replace=False)
                for digit in range(10)
            ]
        )
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(train[labelled], y_train[labelled])
        scores.append(classifier.score(test, y_test))
    return np.mean(scores), np.std(scores)


flatten = FunctionTransformer(lambda images: images.reshape(len(images), -1))
simclr = SimCLR(random_state=0)
# No learning: the encoder with its initial weights.
untrained = SimCLR(max_epochs=0, random_state=0)

print(f"{'features':<16} {'accuracy':>9} {'+-':>5} {'seconds to fit':>15}")
for name, features in {
    "raw pixels": flatten,
    "PCA": make_pipeline(flatten, PCA(20, random_state=0)),
    "random encoder": untrained,
    "SimCLR": simclr,
}.items():
    begun = time.perf_counter()
    features.fit(X_train)
    seconds = time.perf_counter() - begun
    mean, spread = accuracy(features)
    print(f"{name:<16} {100 * mean:8.1f}% {100 * spread:5.1f} {seconds:15.1f}", flush=True)
