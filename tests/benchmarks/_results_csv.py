"""Tables of what was measured: one row a cell, added one by one, so that a run can go on later."""

import csv


def read_rows(path, columns, key):
    """Rows of a CSV by their key; of two the later one."""
    if path is None or not path.exists() or not path.stat().st_size:
        return {}
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != columns:
            raise SystemExit(
                f"{path} has other columns than this script writes, so it is of another version: "
                f"move it away or name another file. Got {reader.fieldnames}."
            )
        return {tuple(row[name] for name in key): row for row in reader}


def append_row(path, row, columns):
    """Add one row, under a line of names where the file is new."""
    new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def one_line(message):
    """A message as a cell holds it."""
    return " ".join(str(message).split())[:300]
