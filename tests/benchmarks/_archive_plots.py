"""The pictures of the page on the archives: one method against another, and mean ranks."""

import numpy as np
from _ranks import cliques
from _results_plots import plt, saved

OURS, OTHERS = "#1f4e9c", "#888888"


def scatter_picture(panels, path):
    """A dot for each data set: a panel for each (title, name and accuracies of both axes)."""
    width = 3.6 * len(panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(width, 3.7), squeeze=False)
    for axis, (title, (x_name, x), (y_name, y)) in zip(axes.flat, panels, strict=True):
        names = sorted(set(x) & set(y))
        points = np.array([(x[name], y[name]) for name in names])
        low = max(0, points.min() - 3)
        axis.plot([low, 101], [low, 101], color=OTHERS, linewidth=0.8)
        better = points[:, 1] > points[:, 0]
        axis.scatter(*points[better].T, s=14, color=OURS)
        axis.scatter(*points[~better].T, s=14, facecolors="none", edgecolors=OURS)
        axis.set(xlim=(low, 101), ylim=(low, 101), aspect="equal", xlabel=x_name, ylabel=y_name)
        means = points.mean(axis=0)
        axis.set_title(
            f"{title}\n{len(names)} sets, means {means[0]:.1f} and {means[1]:.1f}", fontsize=9
        )
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    saved(figure, path)
    return path, "Accuracy on each data set of one method against another"


def ranks_picture(names, ranks, p, ours, path):
    """Mean ranks on a line; bars join methods of which no pair differs (Wilcoxon, Holm)."""
    order = np.argsort(ranks, kind="stable")
    bars = cliques(ranks, p)
    n, step = len(order), 0.16
    below = -0.35 - 0.2 * len(bars)
    half = -(-n // 2)
    figure, axis = plt.subplots(figsize=(7.2, 1.1 + 0.26 * half + 0.16 * len(bars)))
    low, high = np.floor(ranks.min()), np.ceil(ranks.max())
    margin = 0.45 * (high - low)
    axis.plot([low, high], [0, 0], color="black", linewidth=1)
    for tick in np.arange(low, high + 1):
        axis.plot([tick, tick], [0, 0.08], color="black", linewidth=1)
        axis.text(tick, 0.14, f"{tick:g}", ha="center", va="bottom", fontsize=8)
    for place, k in enumerate(order):
        left = place < half
        depth = below - 2 * step * (place if left else n - 1 - place)
        end = low - 0.05 * (high - low) if left else high + 0.05 * (high - low)
        colour = OURS if names[k] in ours else "black"
        axis.plot([ranks[k], ranks[k], end], [0, depth, depth], color=colour, linewidth=0.8)
        told = f"{names[k]}  {ranks[k]:.2f}" if left else f"{ranks[k]:.2f}  {names[k]}"
        side = "right" if left else "left"
        axis.text(end, depth, f" {told} ", ha=side, va="center", fontsize=8, color=colour)
    for level, group in enumerate(bars):
        ends = ranks[group].min() - 0.03, ranks[group].max() + 0.03
        axis.plot(ends, [-0.2 - 0.2 * level] * 2, color="black", linewidth=3)
    axis.set(xlim=(low - margin, high + margin), ylim=(below - 2 * step * half, 0.45))
    axis.axis("off")
    figure.tight_layout(pad=0.3)
    saved(figure, path)
    return path, "Mean rank of each method; bars join those that do not differ"
