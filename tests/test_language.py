"""The language: public text is free of the words that CONTRIBUTING.md lists as avoided."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]
MODULES = sorted((ROOT / "sslearn").rglob("*.py"))
# A row of the list: words in backticks, separated by commas, then what to write.
LISTED = re.compile(r"^\| (`[^|]+`) \| [^|]+ \|$", re.M)
# Descriptions begin with a noun or a verb, and say "If None, ...".
OPENINGS = re.compile(r"^ *(?:Of|What)\b|\bNone: \w", re.M)


def _name(path):
    return str(path.relative_to(ROOT))


def _avoided():
    rows = LISTED.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    words = [word for row in rows for word in re.findall("`([^`]+)`", row)]
    # A phrase may be wrapped; one that begins with a comma has no boundary of a word before it.
    patterns = [
        (r"\b" if word[0].isalpha() else "") + r"\s+".join(map(re.escape, word.split())) + r"\b"
        for word in words
    ]
    return words, re.compile("|".join(patterns), re.I)


def _texts(source, *, is_module):
    """Yield line, text and whether it is a docstring, of all that users read in a file."""
    if not is_module:
        # Without the list itself.
        yield 1, LISTED.sub("", source), False
        return
    tree, docstrings = ast.parse(source), set()
    for owner, is_public in _owners(tree, True):
        first = owner.body[0] if owner.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            docstrings.add(first.value)
            if is_public and isinstance(first.value.value, str):
                yield first.lineno, first.value.value, True
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and " " in node.value and node not in docstrings:
            yield node.lineno, node.value, False


def _owners(node, is_public):
    """Yield a module, its classes and functions, and whether their names are public."""
    yield node, is_public
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _owners(child, is_public and not child.name.startswith("_"))


def _hits(source, *, is_module):
    """Return "line: words" for each avoided word and opening."""
    _, avoided = _avoided()
    found = []
    for line, text, is_docstring in _texts(source, is_module=is_module):
        for pattern in (avoided, OPENINGS) if is_docstring else (avoided,):
            for match in pattern.finditer(text):
                at = line + text.count("\n", 0, match.start())
                found.append(f"{at}: {' '.join(match.group().split())!r}")
    return found


@pytest.mark.parametrize("path", [*PAGES, *MODULES], ids=_name)
def test_public_text_avoids_the_listed_words(path):
    source = path.read_text(encoding="utf-8")
    found = _hits(source, is_module=path in MODULES)
    assert not found, "\n".join(f"{_name(path)}:{hit}" for hit in found)


def test_the_list_is_read():
    words, _ = _avoided()
    assert len(words) == len(set(words)) > 30
    assert {"foretell", ", say", "no say"} <= set(words)


def test_words_openings_and_their_lines_are_found():
    module = '''"""Views are drawn
of rows."""

_TEXT = "the first one, say"


def public(x=None):
    """What it is.

    x : int
        None: nothing is foretold.
    """
    raise ValueError(f"{x} has no "
                     "say")


def _private():
    """Of no concern: told to nobody."""
'''
    assert sorted(_hits(module, is_module=True)) == [
        "11: 'None: n'",
        "11: 'foretold'",
        "13: 'no say'",
        "1: 'drawn of'",
        "4: ', say'",
        "8: 'What'",
    ]
    page = "One\n\nis told\nof its own\naffair, says Sayers.\n\n| `told` | named |\n"
    assert _hits(page, is_module=False) == ["3: 'told'", "5: 'affair'"]
