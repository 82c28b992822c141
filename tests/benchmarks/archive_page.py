"""Tables and pictures from the CSV of ``archive.py``, beside published accuracies.

    python tests/benchmarks/archive_page.py archive.csv [more.csv] --published published.csv
        [--reference VICReg] [--out archive.md]

Rows on the test parts with default parameters. ``--published`` is a CSV with the columns archive,
data set, method, accuracy. Pictures are written beside the page; without ``--out`` only the tables
are printed.
"""

import argparse
from pathlib import Path

import numpy as np
from _archive_plots import ranks_picture, scatter_picture
from _archive_tables import (
    BASELINE,
    EVERYTHING,
    GROUPS,
    UNTRAINED,
    accuracies,
    gain,
    label,
    overview,
    published,
    ranked,
)
from _results_csv import read_rows
from archive import COLUMNS, KEY

INTRODUCTION = """# Series: the UCR and UEA archives

How good are the features of `{reference}` with its **default parameters** on {n_sets} data sets of
series, compared with what one would pick instead? Nothing is set for a single data set. Written by
`tests/benchmarks/archive_page.py` from what `tests/benchmarks/archive.py` measured.

**Date**: {dates}. **Machine**: {machines} a job.

Methods are fitted without labels on the training part of the official split. One linear probe is
fitted on all features alike (`tests/benchmarks/_linear_probe.py`): a scaler and the better of ridge
and logistic regression by folds of the labelled samples, of all training samples (*all*) or of five
of each class (*5 a class*, the mean of ten draws, the same for all methods). Percent of the test
part that is right. ±: standard error of a mean difference over data sets. *(untrained)* is
`max_epochs=0`: the bank that training begins with, in as many columns. MiniRocket and Catch22 are
those of aeon, probed in the same way; published accuracies are those of their authors and of
tsml-eval, each with its own classifier. Estimators of sslearn get shorter series and gaps as they
are, NaN; for those of aeon shorter series are padded by their last value, and gaps are filled by
straight lines. The test parts were read for three encoders in all, and those of the ten sets of
several lengths or with gaps once more, when NaN was no longer filled for sslearn. Choices were made
on folds of the training parts, but for one: that the means of segments are left out where samples
have no course in common was decided after HAR had lost a point on its test part with them.
"""


def introduction(rows, reference):
    """Head of the page: what was measured, when and where."""

    def told(column):
        return ", ".join(sorted({row[column] for row in rows if row["status"] == "ok"}))

    n_sets = len({row["data"] for row in rows if label(row) == reference})
    words = {"n_sets": n_sets, "dates": told("date"), "machines": told("machine")}
    head = INTRODUCTION.format(reference=reference, **words)
    return f"{head}\n## At a glance\n\n{at_a_glance(rows, reference)}"


def at_a_glance(rows, reference):
    """Where training pays, and where not, on all sets."""
    lines = []
    for column, told in (("few", "five labels a class"), ("all", "all labels")):
        found = accuracies(rows, column)
        ours, over = found[reference], []
        for other, words in (
            (f"{reference}{UNTRAINED}", "the bank that training begins with"),
            (BASELINE, f"{BASELINE} under the same probe"),
        ):
            if other in found and other != reference:
                n_better = sum(ours[name] > found[other].get(name, np.inf) for name in ours)
                n_worse = sum(ours[name] < found[other].get(name, -np.inf) for name in ours)
                over.append(
                    f"{gain(ours, found[other])} points over {words} (better on {n_better} sets, "
                    f"worse on {n_worse})"
                )
        lines.append(f"- **With {told}**: {'; '.join(over)}.")
    return "\n".join(lines)


def test_rows(paths):
    """Rows on the test parts with default parameters."""
    merged = {}
    for path in paths:
        merged |= read_rows(path, COLUMNS, KEY)
    return [row for row in merged.values() if row["part"] == "test" and not row["settings"]]


def beside_published(rows, path, reference):
    """Measured and published accuracies with all labels, those of aeon under our probe marked."""
    theirs = published(path)
    ours = accuracies(rows, "all")
    names = {m: f"{m}, this probe" if m in theirs else m for m in ours}
    data = {row["data"] for row in rows}
    theirs = {
        m: {name: value for name, value in by_data.items() if name in data}
        for m, by_data in theirs.items()
    }
    found = {names[m]: by_data for m, by_data in ours.items()}
    return found | {m: of for m, of in theirs.items() if of}, names[reference], set(names.values())


def pictures(rows, found, reference, ours, ranks, out):
    """Mean ranks, and the reference against MiniRocket, published and with few labels."""
    made = [ranks_picture(*ranks, ours, out.with_name("archive_ranks.png"))]
    few = accuracies(rows, "few")
    panels = []
    if BASELINE in found and reference != BASELINE:
        one = (f"{BASELINE}, published", found[BASELINE])
        panels.append(("all labels", one, (reference, found[reference])))
    if BASELINE in few and reference in few and reference != BASELINE:
        one = (f"{BASELINE}, same probe", few[BASELINE])
        panels.append(("5 labels a class", one, (reference, few[reference])))
    if panels:
        made.append(scatter_picture(panels, out.with_name("archive_scatter.png")))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", nargs="+", type=Path)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--reference", default=None, help="whose wins are counted")
    parser.add_argument("--out", type=Path, default=None, help="page to be written")
    arguments = parser.parse_args()
    rows = test_rows(arguments.csv)
    measured = list(accuracies(rows, "all"))
    reference = arguments.reference or (measured[0] if measured else None)
    if reference not in measured:
        raise SystemExit(f"No row on a test part of {reference}. Got {measured}.")
    blocks, made = [introduction(rows, reference), overview(rows)], []
    for title, belongs in GROUPS.items():
        group = [row for row in rows if belongs(row)]
        if title == EVERYTHING or not any(label(row) == reference for row in group):
            continue
        found, name, ours = beside_published(group, arguments.published, reference)
        lines, *ranks = ranked(found, name)
        blocks.append("\n".join([f"### {title}, and published accuracies", "", *lines]))
        if arguments.out and not made:
            made = pictures(group, found, name, ours, ranks, arguments.out)
    text = "\n\n".join([*blocks, *(f"![{told}]({path.name})" for path, told in made)])
    if arguments.out:
        arguments.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
