"""The pictures of the page of results."""

import numpy as np
from quality import METHODS

try:
    import matplotlib
except ImportError as error:
    raise SystemExit("The pictures need matplotlib: pip install matplotlib.") from error

matplotlib.use("agg")
matplotlib.rcParams["font.size"] = 9

import matplotlib.pyplot as plt  # noqa: E402
from PIL import Image  # noqa: E402

# Baselines as lines across the dots of the methods: colour, dashes and name.
LINES = {
    "raw": ("#888888", ":", "raw rows"),
    "random encoder": ("#d1730f", "--", "random encoder"),
    "hand-made": ("#2a8f5b", "-.", "statistics and spectrum"),
    "MiniRocket": ("#7b3fa0", "-", "MiniRocket"),
    "boosting": ("#2a8f5b", "-", "gradient boosting"),
    "supervised": ("#b3243b", "-", "supervised encoder"),
}
COLOURS = dict(zip(METHODS, plt.get_cmap("tab10").colors, strict=False))


def mean(rows, column):
    values = [float(row[column]) for row in rows if row["status"] == "ok" and row[column]]
    return np.mean(values) if values else None


def accuracy_picture(found, titles, path):
    """A panel for each data set: linear accuracy of each method, baselines as lines."""
    shown = [data for data in titles if any(m in METHODS for m in found.get(data, {}))]
    if not shown:
        return None
    columns = min(3, len(shown))
    height = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(3.3 * columns, 2.4 * height + 0.6), sharey=True, squeeze=False
    )
    order = METHODS[::-1]
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis, data in zip(axes.flat, shown, strict=False):
        dots = [mean(found[data].get(method, []), "linear") for method in order]
        values = [value for value in dots if value is not None]
        span = max(max(values) - min(values), 1.0)
        far = []
        for method, (colour, dashes, label) in LINES.items():
            value = mean(found[data].get(method, []), "linear")
            if value is None:
                continue
            if value < min(values) - 2 * span:
                # A line so far off would push the dots together.
                far.append(f"← {label} {value:.1f}")
            else:
                axis.axvline(value, color=colour, linestyle=dashes, linewidth=1.3)
        for place, value in enumerate(dots):
            if value is not None:
                axis.plot(value, place, "o", color="#1f4e9c", markersize=5)
        axis.text(0.02, 0.02, "\n".join(far), transform=axis.transAxes, fontsize=7.5)
        axis.set_title(titles[data], fontsize=9.5)
        axis.set_yticks(range(len(order)), order)
        axis.set_xlim(right=min(axis.get_xlim()[1], 100.1))  # dots all alike widen it beyond
        axis.set_ylim(-2.2, len(order) - 0.3)  # room for the text below
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [plt.Line2D([], [], color=c, linestyle=d, label=n) for c, d, n in LINES.values()]
    figure.supxlabel("accuracy of the linear probe on the test part, %", fontsize=9)
    figure.legend(handles=handles, loc="upper center", ncols=min(5, 2 * columns), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.45 / figure.get_figheight()))
    return saved(figure, path), "Linear accuracy of each method by data set, baselines as lines"


def labels_picture(found, titles, path):
    """Accuracy against the part of the labels, for a series and for images."""
    shown = [data for data in ("har", "mnist") if any(m in METHODS for m in found.get(data, {}))]
    if not shown:
        return None
    figure, axes = plt.subplots(1, len(shown), figsize=(4.4 * len(shown), 4.4), squeeze=False)
    for axis, data in zip(axes.flat, shown, strict=True):
        for method in (*METHODS, *LINES):
            rows = found[data].get(method, [])
            values = [mean(rows, column) for column in ("linear_1", "linear_10", "linear")]
            if None in values:
                continue
            if method in METHODS:
                axis.plot(values, "o-", color=COLOURS[method], markersize=4, label=method)
            else:
                colour, dashes, label = LINES[method]
                dashes = "--" if dashes == "-" else dashes
                axis.plot(values, color=colour, linestyle=dashes, linewidth=1.8, label=label)
        axis.set_xticks(range(3), ["1%", "10%", "all"])
        axis.set_xlabel("labels")
        axis.set_title(titles[data], fontsize=9.5)
        axis.grid(color="#e6e6e6", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("accuracy on the test part, %")
    drawn = {}
    for axis in axes.flat:
        drawn |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    names = (*METHODS, *(label for *_, label in LINES.values()))
    handles = {label: drawn[label] for label in names if label in drawn}
    columns = 2 * len(shown) + 1
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
    room = 0.2 * -(-len(handles) // columns) + 0.1
    figure.tight_layout(rect=(0, room / figure.get_figheight(), 1, 1))
    return saved(figure, path), "Accuracy against the part of the labels"


def saved(figure, path):
    figure.savefig(path, dpi=110)
    plt.close(figure)
    # A palette makes the file, which the repository keeps, a third of the size.
    with Image.open(path) as image:
        small = image.convert("RGB").quantize(64)
    small.save(path, optimize=True)
    return path
