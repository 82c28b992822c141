"""Tables of what was measured: one row a cell, added one by one, so that a run can go on later."""

import csv


def read_rows(path, columns, key):
    """Rows of a CSV by their key; of two the later one."""
    if path is None or not path.exists() or not path.stat().st_size:
        return {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        # The first ones, where the others came later.
        names = tuple(reader.fieldnames or ())
        if not set(key) <= set(names) or names != columns[: len(names)]:
            raise SystemExit(
                f"{path} has other columns than this script writes, so it is of another version: "
                f"move it away or name another file. Got {reader.fieldnames}."
            )
        empty = dict.fromkeys(columns, "")
        return {tuple(row[name] for name in key): empty | row for row in reader}


def append_row(path, row, columns):
    """Add one row, under a line of names where the file is new."""
    new = not path.exists() or not path.stat().st_size
    if not new:
        _add_columns(path, columns)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def _add_columns(path, columns):
    """Give a file the columns that came later, empty."""
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames) == columns:
            return
        rows = list(reader)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)


def one_line(message):
    """A message as a cell holds it."""
    return " ".join(str(message).split())[:300]
