"""Features of images and volumes that no training makes: gradients, whitened patches.

Each function takes the two parts of X and a seed, and returns their features.
"""

import numpy as np
import torch

import sslearn
from sslearn.encoders import PatchBank, StemEncoder

# Histograms of oriented gradients: orientations, and cells along each side of an image.
ORIENTATIONS, CELLS = 9, 8
# Largest part of the length of a block that one value may have, before it is scaled again.
CLIPPED = 0.2
# Patches of the bank: as many as the default encoder has, for images and for volumes.
N_PATCHES, N_PATCHES_OF_VOLUMES = 200, 56
REFERENCE_SAMPLES, AT_ONCE = 4096, 256


def hog(X_train, X_test, seed):
    """Histograms of oriented gradients (Dalal & Triggs 2005)."""
    return tuple(
        np.concatenate([_hog(part[i : i + AT_ONCE]) for i in range(0, len(part), AT_ONCE)])
        for part in (X_train, X_test)
    )


def _hog(X):
    """Of images (n, channels, height, width): (n, blocks * 4 * orientations), in float32."""
    X = np.sqrt(X.astype(np.float32) - min(0, X.min()))
    down, right = np.zeros_like(X), np.zeros_like(X)
    down[:, :, 1:-1], right[..., 1:-1] = X[:, :, 2:] - X[:, :, :-2], X[..., 2:] - X[..., :-2]
    length = np.hypot(down, right)
    # Of each pixel the channel with the largest gradient.
    channel = length.argmax(1)[:, None]
    down, right, length = (np.take_along_axis(of, channel, 1)[:, 0] for of in (down, right, length))
    angle = np.arctan2(down, right) % np.pi
    bins = np.minimum((angle * (ORIENTATIONS / np.pi)).astype(int), ORIENTATIONS - 1)
    height, width = length.shape[1:]
    rows, columns = (min(CELLS, max(1, side // 4)) for side in (height, width))
    cell = (np.arange(height) * rows // height)[:, None] * columns
    cell = cell + np.arange(width) * columns // width
    flat = (np.arange(len(X))[:, None, None] * rows * columns + cell) * ORIENTATIONS + bins
    size = len(X) * rows * columns * ORIENTATIONS
    found = np.bincount(flat.ravel(), length.ravel(), size)
    found = found.reshape(len(X), rows, columns, ORIENTATIONS)
    # Blocks of 2 x 2 cells that overlap, each of unit length, clipped and scaled again.
    high, wide = max(1, rows - 1), max(1, columns - 1)
    parts = [found[:, i : i + high, j : j + wide] for i in (0, rows > 1) for j in (0, columns > 1)]
    blocks = _unit(np.concatenate(parts, axis=-1))
    return _unit(np.minimum(blocks, CLIPPED)).reshape(len(X), -1).astype(np.float32)


def _unit(blocks):
    return blocks / np.sqrt(np.sum(blocks**2, axis=-1, keepdims=True) + 1e-8)


def patches(X_train, X_test, seed):
    """Responses of whitened patches of the training samples (Coates & Ng 2011)."""
    standardise = sslearn.VICReg(max_epochs=0, random_state=seed).fit(X_train).encoder_.standardize
    generator = torch.Generator().manual_seed(seed)
    chosen = np.random.default_rng(seed).permutation(len(X_train))[:REFERENCE_SAMPLES]
    n_patches = N_PATCHES if X_train.ndim == 4 else N_PATCHES_OF_VOLUMES
    reference = standardise(torch.from_numpy(X_train[chosen]))
    bank = PatchBank.from_samples(reference, n_patches=n_patches, generator=generator)
    return _encoded(torch.nn.Sequential(standardise, bank), X_train, X_test)


def closed_form(X_train, X_test, seed):
    """The stem of the default encoder: what is fitted to views, without what is trained."""
    # An epoch, since without training the stem is not fitted to views.
    encoder = sslearn.VICReg(max_epochs=1, random_state=seed).fit(X_train).encoder_
    (whole,) = (module for module in encoder.modules() if isinstance(module, StemEncoder))
    stem = torch.nn.Sequential(encoder.standardize, whole.stem)
    train, test = _encoded(stem, X_train, X_test)
    # As the encoder rotates its output: axes of unequal variance have no place in a scaler.
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=2 * train.shape[1:]))
    return tuple((part @ turn).astype(np.float32) for part in (train, test))


@torch.inference_mode()
def _encoded(module, *arrays):
    return tuple(
        torch.cat([module(part) for part in torch.from_numpy(X).split(AT_ONCE)]).numpy()
        for X in arrays
    )
