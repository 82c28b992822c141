"""The examples: each says what it shows, compiles, and runs without a display."""

import ast
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = sorted((pathlib.Path(__file__).parents[1] / "examples").glob("*.py"))
OPTIONAL = ("matplotlib", "pandas")

# Runs a script, and looks at the figures that it shows: all that is drawn at numbers of the axes
# lies within these, and so does all that is written at such.
DRIVER = """
import runpy, sys
import numpy as np
try:
    import matplotlib.pyplot as plt
except ImportError:
    plt = None

def outside(ax):
    (left, right), (low, high) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    drawn = [line.get_xydata() for line in ax.lines if line.get_transform() == ax.transData]
    drawn += [points.get_offsets() for points in ax.collections if len(points.get_offsets()) > 1]
    drawn += [np.reshape(bar.get_bbox().get_points(), (2, 2)) for bar in ax.patches]
    drawn += [
        [(ax.convert_xunits(text.xy[0]), ax.convert_yunits(text.xy[1]))]
        for text in ax.texts if hasattr(text, "xy")
    ]
    for x, y in np.concatenate([np.empty((0, 2)), *drawn]):
        if not (left <= x <= right and low <= y <= high):
            yield x, y

def show():
    for number in plt.get_fignums():
        figure = plt.figure(number)
        figure.canvas.draw()
        for ax in figure.axes:
            found = list(outside(ax))
            assert not found, f"outside of {ax.get_xlim()}, {ax.get_ylim()}: {found}"
    print("figures:", len(plt.get_fignums()))

if plt is not None:
    plt.show = show
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _imported(tree):
    """Names of the packages that a script cannot do without: those imported at its top."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_begins_with_a_title(path):
    source = path.read_text(encoding="utf-8")
    compile(source, path, "exec")
    lines = (ast.get_docstring(ast.parse(source), clean=False) or "").split("\n")
    assert lines[0] == ""
    title, underline = lines[1:3]
    assert title == title.strip() != ""
    assert underline == "=" * len(title)
    assert lines[3] == ""
    assert lines[4]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_quotes_no_figure_that_it_prints(path):
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert re.findall(r"\d+(?:\.\d+)?\s?(?:%|percent|points?\b)", doc) == []


def _run(source, folder, **environment):
    # One thread, since tests run on every core: threads of two processes that share cores wait for
    # one another, and all take ten times as long.
    environment = {"OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", DRIVER, source],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


DRAWN = {
    "ax.plot([1, 2], [3, 4])": True,
    "ax.plot([1, 2], [3, 4]); ax.set(xlim=(0, 1.5))": False,
    "ax.bar([1, 2], [3, 4]); ax.set(ylim=(0, 3.5))": False,
    "ax.scatter([1, 2], [3, 4]); ax.set(ylim=(3.5, 5))": False,
    "ax.annotate('so', (1.5, 3))": False,
    "ax.plot([1, 2], [3, 4]); ax.axhline(3.5); ax.margins(0.1)": True,
}


@pytest.mark.parametrize("line", DRAWN)
def test_what_is_drawn_outside_is_noticed(line, tmp_path):
    pytest.importorskip("matplotlib")
    script = tmp_path / "script.py"
    script.write_text(
        f"import matplotlib.pyplot as plt\n_, ax = plt.subplots()\n{line}\nplt.show()\n"
    )
    done = _run(script, tmp_path)
    assert (done.returncode == 0) == DRAWN[line], done.stderr
    if not DRAWN[line]:
        assert "AssertionError: outside of" in done.stderr


# The README's first command runs the quickstart.
@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.stem != "quickstart"], ids=lambda path: path.stem
)
def test_an_example_runs(path, tmp_path):
    imported = set(_imported(ast.parse(path.read_text(encoding="utf-8"))))
    missing = [
        name for name in OPTIONAL if name in imported and importlib.util.find_spec(name) is None
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    done = _run(path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Warning" not in done.stderr
    assert ("figures: 1" in done.stdout) == path.stem.startswith("plot_")
    assert list(tmp_path.iterdir()) == []
