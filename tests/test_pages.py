"""The pages: their links lead somewhere, in a clone, and what their code names exists."""

import ast
import importlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def _anchors(page):
    """Yield what the headings of a page are linked by."""
    for title in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_are_relative_and_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        assert "://" not in target  # the project has no address yet
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_compiles_and_imports_what_there_is(page):
    for code in re.findall(
        r"^ *```python\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.S | re.M
    ):
        indent = len(code) - len(code.lstrip(" "))
        lines = [line[indent:] for line in code.splitlines()]
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("name", ["README.md", "docs/user_guide.md"])
def test_functions_that_are_given_to_estimators_have_names(name):
    # Neither pickle nor Pipeline(memory=...) takes a lambda.
    assert not re.search(r"lambda (shape|x)\b", (ROOT / name).read_text(encoding="utf-8"))
