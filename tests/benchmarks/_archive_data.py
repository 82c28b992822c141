"""The data sets of the UCR and UEA archives, read from a folder of ``.npz`` files.

``ucr/NAME.npz`` and ``uea/NAME.npz`` hold X_train, X_test (series, channels, steps) and y_train,
y_test of the official split; shorter series end in NaN, and gaps are NaN too. The test part is read
from the file only when it is asked for.
"""

from typing import NamedTuple

import numpy as np

ARCHIVES = ("ucr", "uea")
# Small sets of many kinds, each class with six training series or more: outlines, spectra, movement
# (of one and more channels), hearts, power, shapes made by a formula.
QUICK = (
    *("ucr/CricketX", "ucr/ECG200", "ucr/FaceAll", "ucr/GunPointAgeSpan", "ucr/Meat"),
    *("ucr/MedicalImages", "ucr/OSULeaf", "ucr/PowerCons", "ucr/SyntheticControl", "ucr/Trace"),
    *("uea/Epilepsy", "uea/RacketSports"),
)
N_FOLDS = 3


class Part(NamedTuple):
    """What one job is about: the samples to fit on, those to judge on, and what the set is like.

    Series that are shorter end in NaN, and gaps are NaN too.
    """

    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray
    facts: dict


def data_sets(folder):
    """Names of all sets in a folder, as 'ucr/ACSF1', the smallest file first."""
    files = [path for archive in ARCHIVES for path in folder.glob(f"{archive}/*.npz")]
    files.sort(key=lambda path: (path.stat().st_size, path.name))
    return [f"{path.parent.name}/{path.stem}" for path in files]


def load(folder, name, part):
    """Return the official split where the part is 'test', else a fold of the training part.

    Parts are called as `parts` calls them.
    """
    with np.load(folder / f"{name}.npz") as file:
        X, y = file["X_train"], file["y_train"]
        facts = {
            "series": len(X),
            "channels": X.shape[1],
            "steps": X.shape[2],
            "classes": len(np.unique(y)),
            "gaps": "yes" if "len_train" in file.files or np.isnan(X).any() else "no",
        }
        if part == "test":
            return Part(X, file["X_test"], y, file["y_test"], facts)
    fold, n_folds = (int(word) for word in part.split()[1::2])
    held_out = dealt(y, n_folds) == fold - 1
    return Part(X[~held_out], X[held_out], y[~held_out], y[held_out], facts)


def parts(test, n_folds=N_FOLDS):
    """Names of the parts to judge on."""
    return ["test"] if test else [f"fold {k + 1} of {n_folds}" for k in range(n_folds)]


def dealt(y, n_folds):
    """Number of the fold of each sample: each class is dealt out like cards, one after the other.

    Folds of one set are equal in size but for one sample, and so are those of a class; a class of
    one sample, of which scikit-learn's folds would warn, is in one fold.
    """
    order = np.random.default_rng(0).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    fold = np.empty(len(y), dtype=int)
    fold[order] = np.arange(len(y)) % n_folds
    return fold


def filled(X):
    """Series without NaN, for methods that take none.

    Gaps are filled by a straight line along time, ends by the value nearest to them, which is how
    shorter series are padded, too: by their last value.
    """
    if not np.isnan(X).any():
        return X
    X = X.copy()
    steps = np.arange(X.shape[-1])
    for channel in X.reshape(-1, X.shape[-1]):
        known = ~np.isnan(channel)
        channel[~known] = (
            np.interp(steps[~known], steps[known], channel[known]) if any(known) else 0
        )
    return X
