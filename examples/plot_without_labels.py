"""
Choosing settings without labels, and when not to
=================================================

Without labels, ``score`` is the effective rank of the features (RankMe): how many directions they
use. ``GridSearchCV`` of a method without a classifier maximises it. Can it be trusted? SimCLR is
trained on 600 handwritten digits with several settings. Their ranks are compared with a measure
that needs labels: the accuracy of a logistic regression on the features, from 50 labelled images,
on the remaining images.

They agree on some settings: both are worse at high temperatures. Views with so much noise that the
image is lost have by far the lowest rank, and the lowest accuracy. They disagree on others: with
more epochs the rank falls, from the encoder before training (0 epochs) on, while the accuracy
rises. The highest rank of all belongs to views with almost no noise, from which little is learned.
Over all settings the two are hardly related. So use the rank to detect a collapse, and to compare
settings of the loss under the same views and epochs. Choose views and epochs with a few labels, or
by inspecting nearest neighbours.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sslearn import SimCLR
from sslearn.augment import GaussianNoise

X, y = load_digits(return_X_y=True)
X = X.reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=600, stratify=y, random_state=0
)


def accuracy(encoder):
    """Mean test accuracy of a linear probe, from 50 labelled samples drawn ten times."""
    train, test = encoder.transform(X_train), encoder.transform(X_test)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    draws = StratifiedShuffleSplit(10, train_size=50, random_state=0).split(train, y_train)
    return np.mean([probe.fit(train[few], y_train[few]).score(test, y_test) for few, _ in draws])


base = SimCLR(max_epochs=25, random_state=0)
# In each group one thing is changed. The temperature of 0.5 and the 25 epochs are the same fit.
groups = {
    "temperature": {t: {"temperature": t} for t in (0.05, 0.5, 2.0, 10.0)},
    "noise": {s: {"augment": GaussianNoise(s)} for s in (0.02, 0.1, 0.3, 1.0, 3.0)},
    "epochs": {n: {"max_epochs": n} for n in (0, 5, 25)},
}
_, ax = plt.subplots(figsize=(8, 5), layout="constrained")
print(f"{'setting':<18} {'rank':>5} {'accuracy':>9}")
everything = []
for color, (group, settings) in enumerate(groups.items()):
    points, offset = [], [(16, -8), (0, 11), (-12, 0)][color]  # no overlap
    for value, parameters in settings.items():
        with warnings.catch_warnings():
            # The strongest noise hides the images, and `fit` warns of it.
            warnings.simplefilter("ignore", UserWarning)
            encoder = SimCLR(**{**base.get_params(), **parameters}).fit(X_train)
        points.append((encoder.score(X_train), 100 * accuracy(encoder)))
        rank, percent = points[-1]
        print(f"{f'{group} {value}':<18} {rank:5.1f} {percent:8.1f}%", flush=True)
        place = {"textcoords": "offset points", "xytext": offset, "ha": "center", "va": "center"}
        ax.annotate(value, points[-1], color=f"C{color}", **place)
    ax.plot(*np.transpose(points), "o:", color=f"C{color}", label=group)
    everything += points
    print(f"Spearman correlation within {group}: {spearmanr(points).statistic:.2f}")
print(f"Spearman correlation over all: {spearmanr(sorted(set(everything))).statistic:.2f}")
ax.margins(0.1)  # room for the numbers at the points
ax.set(xlabel="effective rank, without labels", ylabel="accuracy of a probe with 50 labels, %")
ax.legend()
plt.show()
