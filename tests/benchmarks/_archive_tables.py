"""Accuracies of ``archive.py`` by method and data set, and tables of them in Markdown."""

import csv

import numpy as np
from _ranks import mean_ranks, pairwise_p, wins_draws_losses

UNTRAINED = " (untrained)"
BASELINE = "MiniRocket"
# Beside the methods measured here; the others in the file are left out.
PUBLISHED = (
    *("HC2", "MultiRocket", "MultiROCKET-Hydra", "MiniRocket", "ROCKET", "InceptionTime"),
    *("T-Loss", "1-NN DTW"),
)


def _equal(row, archive):
    return row["data"].startswith(archive) and row["gaps"] == "no"


def _middle(row):
    return 60 <= int(row["series"]) <= 1800 and int(row["steps"]) <= 700


GROUPS = {
    "UCR, one length, no gaps": lambda row: _equal(row, "ucr"),
    "UCR, of these with 60 to 1,800 training series and at most 700 steps": lambda row: (
        _equal(row, "ucr") and _middle(row)
    ),
    "UCR, several lengths or gaps": lambda row: (
        row["data"].startswith("ucr") and not _equal(row, "ucr")
    ),
    "UEA, one length": lambda row: _equal(row, "uea"),
    "UEA, several lengths": lambda row: row["data"].startswith("uea") and not _equal(row, "uea"),
}


def label(row):
    """Name of a method, with what was set."""
    return f"{row['method']} {row['settings']}".strip()


def accuracies(rows, column):
    """Mean accuracy over parts and seeds, by method and data set."""
    found = {}
    for row in rows:
        if row["status"] == "ok":
            of = found.setdefault(label(row), {}).setdefault(row["data"], [])
            of.append(float(row[column]))
    return {
        method: {data: float(np.mean(values)) for data, values in by_data.items()}
        for method, by_data in found.items()
    }


def published(path):
    """Published accuracies in percent by method and data set, from a CSV with a row for each."""
    found = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            data = f"{row['archive'].lower()}/{row['data set']}"
            found.setdefault(row["method"], {})[data] = 100 * float(row["accuracy"])
    return {method: found[method] for method in PUBLISHED if method in found}


def common(found):
    """Names of the sets that all methods have, and the accuracies there (sets, methods)."""
    names = sorted(set.intersection(*(set(by_data) for by_data in found.values())))
    return names, np.array([[by_data[name] for by_data in found.values()] for name in names])


def gain(ours, theirs):
    """Mean difference over the sets that both have, and its standard error."""
    names = sorted(set(ours) & set(theirs))
    difference = np.array([ours[name] - theirs[name] for name in names])
    error = np.std(difference, ddof=1) / np.sqrt(len(names)) if len(names) > 1 else np.nan
    return f"{np.mean(difference):+.2f} ± {error:.2f}" if names else ""


def overview(rows):
    """All groups of sets: means, and what is gained over the untrained and over MiniRocket."""
    blocks = []
    for title, belongs in GROUPS.items():
        group = [row for row in rows if belongs(row)] if rows else []
        found = {column: accuracies(group, column) for column in ("all", "few")}
        if not found["all"]:
            continue
        names, _ = common(found["all"])
        head = ["features", "sets", "all", "5 a class"]
        for reference in ("untrained", BASELINE):
            head += [f"all, over {reference}", f"5 a class, over {reference}"]
        lines = [f"### {title}", "", f"Means over the {len(names)} sets that all have.", ""]
        lines += [table_row(head), table_row(["---"] * len(head))]
        for method in sorted(found["all"], key=lambda m: -_mean(found["few"][m], names)):
            cells = [method, str(len(found["all"][method]))]
            cells += [f"{_mean(of[method], names):.2f}" for of in found.values()]
            for reference in (_untrained(method), BASELINE):
                for of in found.values():
                    known = reference in of and reference != method
                    cells.append(gain(of[method], of[reference]) if known else "")
            lines.append(table_row(cells))
        blocks.append("\n".join(lines))
    failed = [f"{label(row)} on {row['data']}" for row in rows if row["status"] != "ok"]
    if failed:
        blocks.append(f"Failed: {', '.join(failed)}.")
    return "\n\n".join(blocks)


def _mean(by_data, names):
    return np.mean([by_data[name] for name in names]) if names else np.nan


def _untrained(method):
    name, _, settings = method.partition(" ")
    return f"{name}{UNTRAINED} {settings}".strip()


def ranked(found, reference):
    """Mean accuracy, mean rank and wins over methods, on the sets that the reference has.

    A method that lacks one of them is left out. Return the lines, the names, ranks and p.
    """
    sets = set(found[reference])
    whole = {method: by_data for method, by_data in found.items() if sets <= set(by_data)}
    whole = {m: {name: by_data[name] for name in sets} for m, by_data in whole.items()}
    names, values = common(whole)
    ranks, p = mean_ranks(values), pairwise_p(values)
    methods = list(whole)
    place = methods.index(reference)
    head = ["method", "mean accuracy", "mean rank", f"wins / draws / losses of {reference}", "p"]
    lines = [table_row(head), table_row(["---"] * len(head))]
    for k in np.argsort(ranks, kind="stable"):
        cells = [methods[k], f"{values[:, k].mean():.2f}", f"{ranks[k]:.2f}", "", ""]
        if k != place:
            wins = wins_draws_losses(values[:, place], values[:, k])
            cells[3:] = [" / ".join(map(str, wins)), f"{p[place, k]:.2g}"]
        lines.append(table_row(cells))
    left = [f"{m} ({len(sets & set(found[m]))} sets)" for m in found if m not in whole]
    if left:
        lines += ["", f"Left out of {len(names)} sets: {', '.join(left)}."]
    return lines, methods, ranks, p


def table_row(cells):
    """Return a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
