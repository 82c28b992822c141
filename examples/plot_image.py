"""
Neighbours among patches of two photographs
===========================================

The two photographs that come with scikit-learn, a temple and a flower, are cut into 520 coloured
patches of 3 x 32 x 32. Which patches are most similar? They are compared by the distance of their
pixels, and by that of SimCLR's features, which are learned from the patches alone, without labels.

Distances of pixels suit flat patches, of sky or of blurred leaves. A busy patch, of a tree or a
roof, is close to another one only if the branches have the same positions, so its nearest patches
are often smoother ones of its mean colour. The features ignore positions within a patch, since the
views are crops.

Of the five nearest patches of each, two shares are printed: how many are smoother than the patch
itself (about half, if the neighbours are similar), and how many are from the same photograph, a
rough measure that distinguishes only temple and flower. The patches are split into a busy half and
a flat half. The encoder before training is shown too: on busy patches it is already much better
than pixels, since convolutions respond to texture before any training. Training adds a little on
busy patches; nearly all neighbours of flat ones are from the same photograph by any measure.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_images
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from sslearn import SimCLR

SIDE = 32
patches, photograph = [], []
for number, image in enumerate(load_sample_images().images):
    for top in range(0, image.shape[0] - SIDE + 1, SIDE):
        for left in range(0, image.shape[1] - SIDE + 1, SIDE):
            patches.append(image[top : top + SIDE, left : left + SIDE])
            photograph.append(number)
patches, photograph = np.array(patches), np.array(photograph)
X = patches.transpose(0, 3, 1, 2)  # (n, channels, height, width); bytes may stay bytes
contrast = X.std(axis=(2, 3)).mean(axis=1)
busy = contrast > np.median(contrast)

simclr = SimCLR(max_epochs=30, random_state=0).fit(X)
# No learning: the encoder with its initial weights.
untrained = SimCLR(max_epochs=0, random_state=0).fit(X)
features = {
    "pixels": X.reshape(len(X), -1) / 255,
    "untrained": untrained.transform(X),
    "SimCLR": simclr.transform(X),
}

neighbours = {}
print(f"{'patches':<8} {'features':<10} {'smoother':>9} {'same photograph':>16}")
for name, values in features.items():
    # Without an argument, a sample is not its own neighbour.
    neighbours[name] = NearestNeighbors(n_neighbors=5).fit(values).kneighbors()[1]
    smoother = contrast[neighbours[name]] < contrast[:, None]
    same = photograph[neighbours[name]] == photograph[:, None]
    for half, chosen in {"busy": busy, "flat": ~busy}.items():
        shares = f"{100 * smoother[chosen].mean():8.1f}% {100 * same[chosen].mean():15.1f}%"
        print(f"{half:<8} {name:<10} {shares}")

figure = plt.figure(figsize=(11, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[3, 2])
grid = left.subplots(8, 12)
for ax in grid.flat:
    ax.axis("off")
queries = np.random.default_rng(0).choice(np.flatnonzero(busy), len(grid), replace=False)
for row, query in zip(grid, queries, strict=True):
    row[0].imshow(patches[query])
    for start, name in ((1, "pixels"), (7, "SimCLR")):
        for ax, neighbour in zip(row[start:], neighbours[name][query], strict=False):
            ax.imshow(patches[neighbour])
for column, title in ((0, "patch"), (3, "nearest by pixels"), (9, "nearest by SimCLR")):
    grid[0, column].set_title(title, fontsize=10)

ax = right.subplots()
for number, name in enumerate(["temple", "flower"]):
    shown = PCA(2, random_state=0).fit_transform(features["SimCLR"])[photograph == number]
    ax.plot(*shown.T, ".", label=name)
ax.set(title="two principal components of the features", xticks=[], yticks=[])
ax.legend()
plt.show()
