"""The data sets of the benchmarks of quality, read from a folder of ``.npz`` files.

Each loader returns X_train, X_test, y_train, y_test and the group of each training row (None where
there are none): rows of one group never fall on both sides of a split of the training part.
"""

import io

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

N_IMAGES = 10_000


def har(folder):
    """Six activities; official split by subject."""
    d = np.load(folder / "har_uci.npz")
    return d["X_train"], d["X_test"], d["y_train"], d["y_test"], d["subject_train"]


def epilepsy(folder):
    """Seizure against the rest, rows split at random as the papers do.

    The papers draw 80 to 20 twice with ``random_state=42``: these are their test rows (the first
    draw), and their training and validation rows (the second) are one training part here.
    """
    d = np.load(folder / "epilepsy_bonn.npz")
    X = np.concatenate([d["X_train"], d["X_test"]])
    y = np.concatenate([d["y_train"], d["y_test"]]) == 1
    return *train_test_split(X, y, test_size=0.2, random_state=42), None


def epilepsy_by_recording(folder):
    """Seizure against the rest, no piece of a test recording in the training part."""
    d = np.load(folder / "epilepsy_bonn.npz")
    y, y_test = d["y_train"] == 1, d["y_test"] == 1
    return d["X_train"], d["X_test"], y, y_test, d["recording_train"]


def _table(d):
    one_hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(d["Xcat_train"])
    scaler = StandardScaler().fit(d["Xnum_train"])
    parts = [
        np.hstack([scaler.transform(d[f"Xnum_{p}"]), one_hot.transform(d[f"Xcat_{p}"])])
        for p in ("train", "test")
    ]
    return *(part.astype(np.float32) for part in parts), d["y_train"], d["y_test"], None


def adult(folder):
    """Income above 50,000; official split, one-hot."""
    return _table(np.load(folder / "adult.npz"))


def adult_complete(folder):
    """Rows without a missing value, as in the paper of LFR."""
    d = dict(np.load(folder / "adult.npz"))
    for part in ("train", "test"):
        whole = np.ones(len(d[f"y_{part}"]), dtype=bool)
        for column, name in enumerate(d["cat_names"]):
            missing = np.flatnonzero(d[f"categories_{name}"] == "?")
            whole &= ~np.isin(d[f"Xcat_{part}"][:, column], missing)
        for key in ("Xnum", "Xcat", "y"):
            d[f"{key}_{part}"] = d[f"{key}_{part}"][whole]
    return _table(d)


def covertype(folder):
    """Seven kinds of forest, balanced, one-hot."""
    return _table(np.load(folder / "covertype15k.npz"))


def mnist(folder):
    """10,000 of the training images, stratified; all test images."""
    d = np.load(folder / "mnist.npz")
    X, _, y, _ = train_test_split(
        d["X_train"], d["y_train"], train_size=N_IMAGES, stratify=d["y_train"], random_state=0
    )
    return X, d["X_test"], y, d["y_test"], None


def cifar10(folder):
    """10,000 of the training images, stratified; all test images. Packed as JPEG."""
    d = np.load(folder / "cifar10_jpeg.npz")
    y, y_test = d["y_train"], d["y_test"]
    chosen, _ = train_test_split(np.arange(len(y)), train_size=N_IMAGES, stratify=y, random_state=0)
    return (
        decoded(d, "train", chosen),
        decoded(d, "test", range(len(y_test))),
        y[chosen],
        y_test,
        None,
    )


def decoded(d, part, numbers):
    """Images of some numbers, as bytes (n, 3, 32, 32), of arrays packed as JPEG."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "The images of cifar10 are packed as JPEG, which needs Pillow: pip install pillow."
        ) from error
    packed, offset = d[f"jpeg_{part}"], d[f"offset_{part}"]
    images = (packed[offset[i] : offset[i + 1]].tobytes() for i in numbers)
    opened = (Image.open(io.BytesIO(image)).convert("RGB") for image in images)
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in opened])


def adrenal(folder, split=None):
    """Masks of the adrenal gland, 28 voxels a side; official split, its validation part to train.

    With `split`, a number: all samples, split at random, as many for the test as officially.
    """
    d = np.load(folder / "adrenal_mnist3d.npz")
    parts = ("train", "val", "test")
    X, y = (np.concatenate([d[f"{of}_{part}"] for part in parts]) for of in "Xy")
    n_test = len(d["y_test"])
    if split is None:
        return X[:-n_test], X[-n_test:], y[:-n_test], y[-n_test:], None
    made = train_test_split(X, y, test_size=n_test, stratify=y, random_state=split)
    return *made, None


def _adrenal(split):
    def loader(folder):
        return adrenal(folder, split)

    return loader


def digits(folder):
    """scikit-learn's own; 30% for the test, stratified."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 1, 8, 8)
    return *train_test_split(X, y, test_size=0.3, stratify=y, random_state=0), None


DATA = {
    loader.__name__: loader
    for loader in (
        har,
        epilepsy,
        epilepsy_by_recording,
        adult,
        adult_complete,
        covertype,
        mnist,
        cifar10,
        digits,
        adrenal,
    )
}
# The official test part is small: the mean over these differs less by chance.
DATA |= {f"adrenal_{split}": _adrenal(split) for split in range(5)}


N_SPLITS = 3


def validation(X, _, y, __, groups, split=0):
    """Split the training part in its turn, by group where there are groups, in `N_SPLITS` ways."""
    if groups is None:
        parts = train_test_split(X, y, test_size=0.25, stratify=y, random_state=split)
        return *parts, None
    held_out = np.isin(groups, np.unique(groups)[split::N_SPLITS])
    return X[~held_out], X[held_out], y[~held_out], y[held_out], groups[~held_out]
