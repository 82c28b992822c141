"""What a user would pick instead of a self-supervised method, and what tells it from its encoder.

Each function takes the five parts of a data set and a seed, and returns columns of the table.
``BASELINES`` says for which kinds of data.
"""

import time

import numpy as np
import torch
from _aeon_features import AEON, aeon_features
from _image_features import closed_form, hog, patches
from _probes import FEW, draws, probes, summary
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from torch import nn

from sslearn.encoders import default_encoder

TABLE, SERIES, IMAGES, VOLUMES = 2, 3, 4, 5
# Principal components; of narrow rows half of the columns.
COMPONENTS = 128

# The supervised encoder. By the axes of the rows: times a row is seen at most in search of the best
# length, rows seen in all of it (steps of a table cost a tenth), and the learning rate (the higher
# one gains two to three points with a tenth of the labels of MNIST and HAR, and none on tables, on
# parts of their training parts).
RECIPES = {
    TABLE: (100, 1_000_000, 1e-3),
    SERIES: (50, 150_000, 1e-2),
    IMAGES: (50, 150_000, 1e-2),
    VOLUMES: (50, 150_000, 1e-2),
}
STEPS, BATCH, DECAY = 300, 128, 1e-2
# A fifth of the labels tells when to stop, where each class has this many of them or more.
PARTS, ENOUGH = 5, 10
# How often it is asked, and how many times in a row without gain are enough.
LOOKS, PATIENCE = 10, 4


def _flat(*parts):
    return tuple(part.reshape(len(part), -1).astype(np.float32) for part in parts)


def raw(X_train, X_test, y_train, y_test, groups, seed):
    """The rows as they are."""
    train, test = _flat(X_train, X_test)
    return {**probes(train, test, y_train, y_test, groups), "seconds": 0.0}


def pca(X_train, X_test, y_train, y_test, groups, seed):
    """Principal components of rows, scaled as an encoder sees them."""
    train, test = _flat(*scaled(X_train, X_test))
    begun = time.perf_counter()
    model = PCA(min(COMPONENTS, train.shape[1] // 2), random_state=seed).fit(train)
    seconds = time.perf_counter() - begun
    # Each to unit variance, the last component would weigh as much as the first, which costs much
    # with few labels; turned at random, all columns are alike and the scaler changes little.
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=2 * (model.n_components_,)))
    train, test = ((model.transform(part) @ turn).astype(np.float32) for part in (train, test))
    return {**probes(train, test, y_train, y_test, groups), "seconds": seconds}


def statistics_and_spectrum(X):
    """Of each channel: moments, quantiles, differences, zero crossings, and the spectrum."""
    X = X.astype(np.float64)
    mean, deviation = X.mean(-1), X.std(-1)
    centred = X - mean[..., None]
    scaled_ = centred / np.maximum(deviation, 1e-12)[..., None]
    difference = np.diff(X)
    features = [
        mean,
        deviation,
        (scaled_**3).mean(-1),
        (scaled_**4).mean(-1),
        *np.quantile(X, (0, 0.25, 0.5, 0.75, 1), axis=-1),
        np.abs(difference).mean(-1),
        difference.std(-1),
        (np.diff(np.signbit(centred), axis=-1)).mean(-1),
        *np.moveaxis(np.log1p(np.abs(np.fft.rfft(centred))), -1, 0)[1:],
    ]
    return np.stack(features, axis=-1).reshape(len(X), -1).astype(np.float32)


def hand_made(X_train, X_test, y_train, y_test, groups, seed):
    """Statistics and spectrum of each channel of a series."""
    begun = time.perf_counter()
    train = statistics_and_spectrum(X_train)
    seconds = time.perf_counter() - begun
    found = probes(train, statistics_and_spectrum(X_test), y_train, y_test, groups)
    return {**found, "seconds": seconds}


def of_aeon(name):
    """A baseline from one of aeon's transformers, which see series as they are."""

    def features(X_train, X_test, y_train, y_test, groups, seed):
        train, test, seconds, _ = aeon_features(name, X_train, X_test, seed)
        return {**probes(train, test, y_train, y_test, groups), "seconds": seconds}

    return features


def of_features(function):
    """A baseline from features of both parts of X."""

    def features(X_train, X_test, y_train, y_test, groups, seed):
        begun = time.perf_counter()
        train, test = function(X_train, X_test, seed)
        seconds = time.perf_counter() - begun
        return {**probes(train, test, y_train, y_test, groups), "seconds": seconds}

    return features


def make_boosting(n_labels, seed):
    """Histogram gradient boosting with scikit-learn's defaults, but for the size of leaves."""
    # A leaf of 20 rows, the default, is most of a hundred labels.
    leaf = min(20, max(2, n_labels // 50))
    return HistGradientBoostingClassifier(min_samples_leaf=leaf, random_state=seed)


# What learns from labelled rows by itself: a function of the number of labels and a seed.
# Scikit-learn's defaults; TabICL and TabPFN fetch their weights, and are left out.
TREES = {
    "random forest": lambda n_labels, seed: RandomForestClassifier(random_state=seed),
    "extra trees": lambda n_labels, seed: ExtraTreesClassifier(random_state=seed),
    "boosting": make_boosting,
}


def of_trees(name):
    """A baseline from a classifier made of trees."""

    def baseline(X_train, X_test, y_train, y_test, groups, seed):
        def accuracy(rows):
            model = TREES[name](len(rows), seed)
            return 100 * model.fit(X_train[rows], y_train[rows]).score(X_test, y_test)

        return _with_few_labels(accuracy, y_train)

    return baseline


def supervised(X_train, X_test, y_train, y_test, groups, seed):
    """The default encoder and a linear layer, trained on the labels; no augmentation."""
    classes, y = np.unique(y_train, return_inverse=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, test = (torch.as_tensor(part).to(device) for part in scaled(X_train, X_test))
    y = torch.as_tensor(y).to(device)
    lengths = []

    def accuracy(rows):
        group = None if groups is None else groups[rows]
        network, epochs = train_network(train[rows], y[rows], len(classes), group, seed)
        lengths.append(epochs)
        return 100 * np.mean(classes[predict(network, test)] == y_test)

    return {**_with_few_labels(accuracy, y_train), "epochs": lengths[0]}


def _with_few_labels(accuracy, y_train):
    """Columns of what learns from labels itself; seconds are those with all of them."""
    begun = time.perf_counter()
    found = {"linear": accuracy(np.arange(len(y_train)))}
    found["seconds"] = time.perf_counter() - begun
    for percent in FEW:
        found |= summary(percent, [accuracy(rows) for rows in draws(y_train, percent)])
    return found


# --- the supervised encoder --------------------------------------------------------------------


def scaled(X_train, X_test):
    """Both parts to zero mean and unit variance per column or channel, as every method does."""
    axes = (0, *range(2, X_train.ndim))
    mean = X_train.mean(axes, keepdims=True, dtype=np.float64)
    deviation = X_train.std(axes, keepdims=True, dtype=np.float64)
    deviation[deviation == 0] = 1
    return tuple(((part - mean) / deviation).astype(np.float32) for part in (X_train, X_test))


def train_network(x, y, n_classes, groups, seed):
    """Find how long to train on a part of the labels, then train that long on all of them."""
    most, rows_seen, _ = RECIPES[x.ndim]
    longest = max(min(most, rows_seen // len(y)), -(-STEPS // _steps(len(y))), 1)
    held_out = _held_out(y, groups, seed)
    if held_out is not None:
        kept = ~held_out
        watched = x[held_out], y[held_out]
        _, longest = _train(x[kept], y[kept], n_classes, longest, seed, watched)
    return _train(x, y, n_classes, longest, seed)


def _held_out(y, groups, seed):
    """Which rows tell when to stop, whole groups where there are groups; None for too few."""
    labels = y.cpu().numpy()
    if np.unique(labels, return_counts=True)[1].min() < ENOUGH:
        return None
    rng = np.random.default_rng(seed)
    mask = np.zeros(len(labels), dtype=bool)
    if groups is not None and len(np.unique(groups)) >= PARTS:
        names = rng.permutation(np.unique(groups))
        mask = np.isin(groups, names[: len(names) // PARTS])
    else:
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            mask[rows[: len(rows) // PARTS]] = True
    return torch.as_tensor(mask, device=y.device)


def _steps(n_rows):
    return max(1, n_rows // _batch(n_rows))


def _batch(n_rows):
    return min(n_rows, BATCH, max(16, n_rows // 24))


def _train(x, y, n_classes, epochs, seed, watched=None):
    """AdamW with a short warm-up and a cosine; return the network and the best of its lengths."""
    torch.manual_seed(seed)
    encoder = default_encoder(tuple(x.shape[1:]), rows=x.cpu() if x.ndim == TABLE else None)
    with torch.inference_mode():
        width = encoder.eval()(x[:2].cpu()).shape[1]
    network = nn.Sequential(encoder, nn.Linear(width, n_classes))
    layout = torch.channels_last if x.ndim == IMAGES else torch.contiguous_format
    network = network.to(x.device, memory_format=layout)
    steps, batch, rate = _steps(len(x)), _batch(len(x)), RECIPES[x.ndim][-1]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=epochs * steps, pct_start=0.1
    )
    best, length = -1.0, epochs
    every = max(1, epochs // LOOKS)
    for epoch in range(1, epochs + 1):
        network.train()
        order = torch.randperm(len(x), device=x.device)
        for rows in order[: steps * batch].split(batch):
            loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        if watched is not None and epoch % every == 0:
            score = float(np.mean(predict(network, watched[0]) == watched[1].cpu().numpy()))
            if score >= best:  # of equals the longest: the rate falls to zero at its end
                best, length = score, epoch
            elif epoch - length >= PATIENCE * every:
                break
    return network, length


@torch.inference_mode()
def predict(network, x):
    """Numbers of the classes."""
    network.eval()
    return torch.cat([network(part).argmax(1) for part in x.split(512)]).cpu().numpy()


# With each the kinds of data that it is for, by the axes of their arrays.
BASELINES = {
    "raw": (raw, (TABLE, SERIES, IMAGES, VOLUMES)),
    "pca": (pca, (TABLE, SERIES, IMAGES, VOLUMES)),
    "hand-made": (hand_made, (SERIES,)),
    **{name: (of_aeon(name), (SERIES,)) for name in AEON},
    "HOG": (of_features(hog), (IMAGES,)),
    "patches": (of_features(patches), (IMAGES, VOLUMES)),
    "closed form": (of_features(closed_form), (IMAGES, VOLUMES)),
    **{name: (of_trees(name), (TABLE,)) for name in TREES},
    "supervised": (supervised, (TABLE, SERIES, IMAGES, VOLUMES)),
}
# These classify by themselves: what stands under "linear" is their own accuracy.
WITHOUT_PROBE = (*TREES, "supervised")
