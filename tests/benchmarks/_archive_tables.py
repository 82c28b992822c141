"""Accuracies of ``archive.py`` by method and data set, and tables of them in Markdown."""

import csv

import numpy as np
from _ranks import mean_ranks, pairwise_p, wins_draws_losses

UNTRAINED = " (untrained)"
BASELINE = "MiniRocket"
# Beside the methods measured here; the others in the file are left out.
PUBLISHED = (
    *("HC2", "MultiRocket", "MultiRocket-Hydra", "MiniRocket", "ROCKET", "InceptionTime"),
    *("T-Loss", "1-NN DTW"),
)


def _equal(row, archive):
    return row["data"].startswith(archive) and row["gaps"] == "no"


def _middle(row):
    return 60 <= int(row["series"]) <= 1800 and int(row["steps"]) <= 700


EVERYTHING = "All sets"
GROUPS = {
    EVERYTHING: lambda row: True,
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
            method = row["method"].replace("MultiROCKET", "MultiRocket")
            found.setdefault(method, {})[data] = 100 * float(row["accuracy"])
    return {method: found[method] for method in PUBLISHED if method in found}


def common(found):
    """Names of the sets that all methods have, and the accuracies there (sets, methods)."""
    names = sorted(set.intersection(*(set(by_data) for by_data in found.values())))
    return names, np.array([[by_data[name] for by_data in found.values()] for name in names])


def gain(ours, theirs):
    """Mean difference over the sets that both have, and its standard error."""
    difference = np.array([ours[name] - theirs[name] for name in ours if name in theirs])
    if len(difference) < 2:
        return "".join(f"{value:+.2f}" for value in difference)
    error = np.std(difference, ddof=1) / np.sqrt(len(difference))
    return f"{np.mean(difference):+.2f} ± {error:.2f}"


def overview(rows):
    """All groups of sets: means, and what is gained over the untrained and over MiniRocket."""
    blocks, seen = [], []
    for title, belongs in GROUPS.items():
        group = [row for row in rows if belongs(row)]
        found = {column: accuracies(group, column) for column in ("all", "few")}
        if found["all"] and group not in seen:
            seen.append(group)
            blocks.append("\n".join([f"### {title}", "", *_means(found)]))
    failed = [f"{label(row)} on {row['data']}" for row in rows if row["status"] != "ok"]
    if failed:
        blocks.append(f"Failed: {', '.join(failed)}.")
    return "\n\n".join(blocks)


def _means(found):
    """Lines of the table of one group."""
    names, _ = common(found["all"])
    references = {
        "untrained": lambda method: _untrained(method, found["all"]),
        BASELINE: lambda method: BASELINE,
    }
    pairs = [
        (f"{told}, over {name}", column, of)
        for name, of in references.items()
        for column, told in (("all", "all"), ("few", "5 a class"))
    ]
    head = ["features", "sets", "all", "5 a class", *(told for told, *_ in pairs)]
    lines = [f"Means over the {len(names)} sets that all have.", ""]
    lines += [table_row(head), table_row(["---"] * len(head))]
    for method in sorted(found["all"], key=lambda m: -_mean(found["few"][m], names)):
        cells = [method, str(len(found["all"][method]))]
        cells += [f"{_mean(of[method], names):.2f}" for of in found.values()]
        for _, column, of in pairs:
            known = of(method) in found[column] and of(method) != method
            cells.append(gain(found[column][method], found[column][of(method)]) if known else "")
        lines.append(table_row(cells))
    return lines


def _mean(by_data, names):
    return np.mean([by_data[name] for name in names]) if names else np.nan


def _untrained(method, known):
    """Name of the untrained encoder of a method: with the same settings, else with none."""
    name, _, settings = method.removesuffix(UNTRAINED).partition(" ")
    same = f"{name}{UNTRAINED} {settings}".strip()
    return same if same in known else name + UNTRAINED


def ranked(found, reference):
    """Lines of a table of mean accuracies, mean ranks and wins; its methods, their ranks and p.

    On the sets that the reference has; a method that lacks one of them is left out.
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
