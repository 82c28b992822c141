"""The examples: each says what it shows, compiles, and runs without a display."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = sorted((pathlib.Path(__file__).parents[1] / "examples").glob("*.py"))
OPTIONAL = ("matplotlib", "pandas")


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
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", path],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert list(tmp_path.iterdir()) == []
