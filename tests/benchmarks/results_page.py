"""The page of results from the CSV of ``quality.py``.

    python tests/benchmarks/results_page.py quality.csv [more.csv] [--out docs/results.md]

Only rows on the test part with default parameters are taken; of two rows of one cell the later one,
in the order of the files. Rows of the earlier linear probe are taken only where a data set has no
others, and the page says so. Pictures are written beside the page. The text between its two
comments, on how defaults were chosen, is written by hand and kept.
"""

import argparse
from pathlib import Path

import numpy as np
from _baselines import BASELINES
from _probes import FEW
from _results_plots import accuracy_picture, labels_picture
from _results_text import (
    BEST_GOALS,
    DATA_SETS,
    EARLIER_PROBE,
    GLANCE,
    GOALS,
    INTRODUCTION,
    LABELS,
    MORE,
)
from quality import METHODS, UNTRAINED, has_cell, of_this_probe, read

BEGIN, END = "<!-- by hand: begin -->", "<!-- by hand: end -->"
BY_HAND = f"## How the defaults were chosen\n\n{BEGIN}\n\n{END}"
COLUMNS = {
    "linear": "linear",
    "knn": "kNN",
    "linear_10": "10%",
    "knn_10": "10%, kNN",
    "linear_1": "1%",
    "knn_1": "1%, kNN",
    "rank": "rank",
    "epochs": "epochs",
    "seconds": "seconds",
}


def collect(paths):
    """Rows by data set and method: default parameters on the test part, in order of their seeds."""
    merged = {}
    for path in paths:
        merged |= read(path)
    asked = [row for _, row in sorted(merged.items()) if row["part"] == "test"]
    asked = [row for row in asked if not row["settings"]]
    # One probe for all rows of a table.
    probed = {row["data"] for row in asked if row["C"] and of_this_probe(row)}
    found = {}
    for row in asked:
        if of_this_probe(row) or row["data"] not in probed:
            found.setdefault(row["data"], {}).setdefault(row["method"], []).append(row)
    return found


def numbers(rows, column):
    return [float(row[column]) for row in rows if row["status"] == "ok" and row[column]]


def cell(rows, column):
    values = numbers(rows, column)
    if not values:
        return ""
    if column in ("rank", "epochs", "seconds"):
        mean = np.mean(values)
        return f"{mean:.0f}" if mean >= 10 or mean == 0 else f"{mean:.2g}"
    spread = f" ± {np.std(values):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{spread}"


def name(method):
    return f"`{method}`" if method in METHODS else f"*{LABELS.get(method, method)}*"


def accuracy(rows, column="linear"):
    values = numbers(rows, column)
    return np.mean(values) if values else -1.0


def goal_text(goal, reached):
    """A goal, and whether what was measured (-1: nothing was) falls short of it."""
    if goal is None:
        return ""
    return f"{goal:g}, **not met**" if 0 <= reached < goal else f"{goal:g}"


def section(data, methods):
    title, axes, text = DATA_SETS[data]
    goals = {method: goal for (of, method), goal in GOALS.items() if of == data}
    head = ["features", *COLUMNS.values(), *(["goal"] if goals else [])]
    lines = [f"### {title}", "", text, "", _row(head), _row(["---"] * len(head))]
    every = [m for m in (*METHODS, *UNTRAINED, *BASELINES) if has_cell(m, axes)]
    wanted = [m for m in every if m in methods]
    failures = []
    for method in sorted(wanted, key=lambda m: -accuracy(methods.get(m, []))):
        rows = methods.get(method, [])
        cells = [cell(rows, column) for column in COLUMNS]
        failed = [row for row in rows if row["status"] != "ok"]
        if not cells[0]:
            cells[0] = "failed"
        failures += [f"{name(method)}, seed {row['seed']}: {row['message']}" for row in failed]
        if goals:
            cells.append(goal_text(goals.get(method), accuracy(rows)))
        lines.append(_row([name(method), *cells]))
    seeds = {m: len(numbers(rows, "linear")) for m, rows in methods.items()}
    several = [f"{name(m)} {n}" for m, n in seeds.items() if n > 1]
    if several:
        lines += ["", f"Seeds, where more than one: {', '.join(several)}."]
    long = [
        f"{name(m)} {cell(methods[m], 'seconds')} s"
        for m in methods
        if m in METHODS and accuracy(methods[m], "seconds") > 180
    ]
    if long:
        names = ", ".join(long)
        aim = "the aim is three minutes on two idle cores"
        lines += ["", f"More than three minutes on this one busy core ({aim}): {names}."]
    unknown = [m for m, rows in methods.items() if m in METHODS and not numbers(rows, "seconds")]
    if unknown:
        lines += ["", f"Not recorded: the seconds of {', '.join(map(name, unknown))}."]
    not_run = [name(m) for m in every if m not in methods]
    if not_run:
        lines += ["", f"Not run: {', '.join(not_run)}."]
    if failures:
        lines += ["", "Failed: " + "; ".join(failures) + "."]
    if not all(of_this_probe(row) for rows in methods.values() for row in rows):
        lines += ["", EARLIER_PROBE]
    return "\n".join(lines)


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def overview(found):
    """The best method of each data set, and the best baseline."""
    head = (
        "data",
        "best method",
        "goal",
        "its untrained encoder",
        "best baseline",
        "supervised encoder",
    )
    head = (*head, "1%: best method", "1%: supervised encoder")
    lines = [_row(head), _row(["---"] * len(head))]
    for data, (title, *_) in DATA_SETS.items():
        methods = found.get(data, {})
        if not _has_methods(methods):
            continue

        def best(names, column, methods=methods):
            seeds = {m: len(numbers(methods.get(m, []), column)) for m in names}
            often = [m for m in names if seeds[m] == max(seeds.values()) > 0]
            if not often:
                return "not run", None
            found = {m: accuracy(methods.get(m, []), column) for m in names}
            top, highest = max(often, key=found.get), max(names, key=found.get)
            text = f"{cell(methods[top], column)} ({name(top)})"
            # A single seed that is ahead may be chance, but is shown.
            if round(found[highest], 1) > round(found[top], 1):
                several = "one seed" if seeds[highest] == 1 else f"{seeds[highest]} seeds"
                text += f"; {several}: {cell(methods[highest], column)} ({name(highest)})"
            return text, top

        def one(method, column="linear", methods=methods):
            return cell(methods.get(method, []), column) or "not run"

        winner, top = best(METHODS, "linear")
        untrained = next((u for u, m in UNTRAINED.items() if m == top), "random encoder")
        if not has_cell(untrained, DATA_SETS[data][1]):
            untrained = "random encoder"
        rest = [m for m in BASELINES if m != "supervised"]
        lines.append(
            _row(
                [
                    title,
                    winner,
                    goal_text(BEST_GOALS.get(data), accuracy(methods.get(top, []))),
                    one(untrained) if top else "not run",
                    best(rest, "linear")[0],
                    one("supervised"),
                    best(METHODS, "linear_1")[0],
                    one("supervised", "linear_1"),
                ]
            )
        )
    return "\n".join(lines)


def _has_methods(methods):
    return any(method in METHODS for method in methods)


def provenance(found):
    rows = [row for methods in found.values() for rows in methods.values() for row in rows]
    dates = sorted({row["date"] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    where = sorted({f"{row['machine']}, torch {row['torch']}" for row in rows})
    return f"**Date**: {when}. **Machine**: {'; '.join(where)}."


def page(found, by_hand, pictures):
    parts = [
        INTRODUCTION.format(provenance=provenance(found), ten=_WORDS[FEW[10]], one=_WORDS[FEW[1]]),
        f"{GLANCE}\n\n{overview(found)}",
        *(f"![{text}]({path.name})" for path, text in pictures),
        by_hand,
        MORE,
        "## By data set",
        *(section(data, found[data]) for data in DATA_SETS if _has_methods(found.get(data, {}))),
    ]
    missing = [
        title for data, (title, *_) in DATA_SETS.items() if not _has_methods(found.get(data, {}))
    ]
    if missing:
        parts.append(f"Not run with the present encoders: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"


_WORDS = {3: "three", 5: "five"}


def kept_by_hand(path):
    """Return the part of the page that is written by hand, heading included."""
    if not path.exists():
        return BY_HAND
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(
            f"{path} must hold the comments {BEGIN} and {END} once each, around what is kept. "
            "It was not written over."
        )
    kept = text[text.index(BEGIN) : text.index(END) + len(END)]
    return BY_HAND.split(BEGIN)[0] + kept


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs/results.md")
    arguments = parser.parse_args()
    by_hand = kept_by_hand(arguments.out)
    found = collect(arguments.csv)
    if not found:
        raise SystemExit("No row on the test part with default parameters in these files.")
    titles = {data: title for data, (title, *_) in DATA_SETS.items()}
    pictures = [
        accuracy_picture(found, titles, arguments.out.with_name("results_accuracy.png")),
        labels_picture(found, titles, arguments.out.with_name("results_labels.png")),
    ]
    arguments.out.write_text(page(found, by_hand, [p for p in pictures if p]))
    print(f"{arguments.out}: {sum(len(m) for m in found.values())} cells")


if __name__ == "__main__":
    main()
