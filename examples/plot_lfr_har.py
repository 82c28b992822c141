"""
LFR on human activities: features from random networks
======================================================

The result of the paper on HAR (arXiv 2310.07756, table 1: LFR 93.1): windows of 9 channels and 128
steps, six activities, official split by subject. Features of the training windows are learned
without their labels; a logistic regression on them is tested on the other subjects. Its C is chosen
on folds of the training part.

    python examples/plot_lfr_har.py [folder of har_uci.npz] [--published] [--seeds 3]

``har_uci.npz`` holds ``X_train``, ``y_train``, ``subject_train``, ``X_test`` and ``y_test``.
Without it, scikit-learn's digits are read as series of 8 channels and 8 steps: half a minute.
The recipe is shorter than the paper's: its encoder, the default projectors, 64 wide, and 20 cycles
of one epoch for the encoder and one for the predictors. ``--published`` uses all of the paper's
networks and numbers: 200 cycles with five epochs for the predictors, whose six maps of 2304 x 2304
hold 31.9 million weights; that is for a GPU.
"""

import argparse
import functools
import pathlib
import time
import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sslearn import LFR


def load(folder):
    """Training and test samples, labels, and the subject of each training sample."""
    if folder is not None:
        data = np.load(pathlib.Path(folder) / "har_uci.npz")
        return [data[name] for name in ("X_train", "X_test", "y_train", "y_test", "subject_train")]
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8).astype(np.float32)
    # `fit` would warn that these may be grey images. They are, but here they are read as series.
    warnings.filterwarnings("ignore", "X has samples of shape", UserWarning)
    parts = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    return [*parts, np.arange(len(parts[0])) % 5]


def published_encoder(shape):
    """Three blocks of the paper, 2304 features for 128 steps."""
    layers, channels = [], shape[0]
    for i, width in enumerate((32, 64, 128)):
        layers += [
            nn.Conv1d(channels, width, 8, padding=4, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.MaxPool1d(2, 2, padding=1),
        ]
        layers += [nn.Dropout(0.35)] if i == 0 else []
        channels = width
    return nn.Sequential(*layers, nn.Flatten())


def published_projector(shape, width):
    """Two convolutions and two linear maps of the paper."""
    return nn.Sequential(
        nn.Conv1d(shape[0], 16, 8, padding=4, bias=False),
        nn.ReLU(),
        nn.MaxPool1d(2, 2, padding=1),
        nn.Conv1d(16, 32, 8, padding=4, bias=False),
        nn.ReLU(),
        nn.MaxPool1d(2, 2, padding=1),
        nn.Flatten(),
        nn.LazyLinear(256),
        nn.Linear(256, width),
    )


def recipe(published, shape):
    """Parameters of LFR, except those of joint training."""
    if not published:
        return {"encoder": published_encoder, "max_epochs": 20, "batch_size": 64}
    encoder = published_encoder(shape)
    width = encoder.eval()(torch.zeros(1, *shape)).shape[1]
    return {
        "encoder": published_encoder,
        "projectors": functools.partial(published_projector, width=width),
        "max_epochs": 200,
        "batch_size": 128,
        "learning_rate": 3e-4,
        "weight_decay": 3e-4,
        "lr_schedule": "constant",
        "warmup_fraction": 0.0,
        "predictor_epochs": 5,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    X_train, X_test, y_train, y_test, groups = load(arguments.folder)
    common = recipe(arguments.published, X_train.shape[1:])
    joint = {**common, "alternate": False, "predictor_epochs": 0}
    methods = {
        "raw": None,
        "random encoder": LFR(**{**joint, "max_epochs": 0}),
        "LFR (DPP)": LFR(**common),
        "LFR (first 6)": LFR(**{**common, "n_targets": None, "n_candidates": 6}),
        "LFR joint": LFR(**joint),
    }
    probe = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3)),
        {"logisticregression__C": [0.001, 0.01, 0.1, 1.0]},
        cv=GroupKFold(3),
    )
    header = ("features", "seed", "accuracy", "C", "epochs", "seconds to fit")
    print("{:<16} {:>4} {:>9} {:>6} {:>7} {:>15}".format(*header))
    means = {}
    for name, method in methods.items():
        found = []
        for seed in range(arguments.seeds if method is not None else 1):
            epochs, seconds = 0, 0.0
            if method is None:
                train, test = (part.reshape(len(part), -1) for part in (X_train, X_test))
            else:
                begun = time.perf_counter()
                model = method.set_params(random_state=seed).fit(X_train)
                seconds, epochs = time.perf_counter() - begun, model.n_iter_
                train, test = model.transform(X_train), model.transform(X_test)
            probe.fit(train, y_train, groups=groups)
            found.append(100 * probe.score(test, y_test))
            c = probe.best_params_["logisticregression__C"]
            print(
                f"{name:<16} {seed:4d} {found[-1]:8.1f}% {c:6g} {epochs:7d} {seconds:15.1f}",
                flush=True,
            )
        means[name] = np.mean(found)
        if len(found) > 1:
            print(f"{'':<16} mean {means[name]:8.1f}% +- {np.std(found):.1f}", flush=True)
    return means


def plot(means):
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        return
    _, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
    # Points, not bars: the axis does not begin at zero.
    axes.plot(list(means.values()), list(means), "o")
    axes.invert_yaxis()
    axes.margins(0.15)
    axes.set(xlabel="test accuracy of a linear probe, %")
    for name, value in means.items():
        axes.annotate(f"  {value:.1f}", (value, name), va="center")
    plt.show()


if __name__ == "__main__":
    plot(main())
