"""The pages: their links lead somewhere, in a clone, and what their code names exists."""

import ast
import importlib
import pathlib
import re
import sys
import textwrap

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS

from sslearn import BYOL, CPC, LFR, SimCLR

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def _anchors(page):
    """Yield what the headings of a page are linked by."""
    for title in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _blocks(page):
    """Yield the Python code of a page, block by block."""
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.S | re.M):
        indent = len(code) - len(code.lstrip(" "))
        yield "\n".join(line[indent:] for line in code.splitlines())


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
    for code in _blocks(page):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


def _blocks(name):
    """Return the blocks of Python on a page, those of lists too."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```python\n(.*?)^\1```", text, re.S | re.M)
    return [textwrap.dedent(code) for _, code in found]


def test_the_page_on_backbones_runs(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "timm", None)  # which would load weights
    rng = np.random.default_rng(0)
    (tmp_path / "photographs").mkdir()
    for i in range(24):
        pixels = rng.integers(0, 256, (70, 80, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / "photographs" / f"{i}.png")
    here = {}
    loaded, normalised, stem, last, came, checkpoint = _blocks("docs/pretrained_backbones.md")
    exec(loaded, here)
    weights = {k: v.clone() for k, v in here["backbone"].state_dict().items()}
    exec(normalised, here)
    # The layer is part of encoder_, which takes bytes.
    layers = here["model"].encoder_.features.module
    x = torch.from_numpy(here["images"][:2])
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    expected = (x / 255 - mean) / std
    torch.testing.assert_close(layers[0](here["model"].encoder_.standardize(x)), expected)
    exec(stem, here)
    assert here["features"].shape == (24, 64)
    trained = here["model"].encoder_.features.module
    assert trained[0][1].state_dict().keys() == weights.keys()
    assert all(torch.equal(trained[0][1].state_dict()[k], weights[k]) for k in weights)
    assert not torch.equal(trained[1][0].weight, here["head"][0].weight)
    exec(last, here)
    changed = here["model"].encoder_.features.module[1].state_dict()
    moved = {k.split(".")[0] for k in weights if not torch.equal(changed[k], weights[k])}
    assert moved == {"layer4"}
    exec(came, here)
    with torch.no_grad():
        network = here["network"].eval()
        expected = network(torch.from_numpy(here["images"]) / 255)
    np.testing.assert_allclose(here["as_it_came"], expected, rtol=1e-3, atol=1e-4)
    for weight in here["backbone"].parameters():
        weight.data.zero_()
    exec(checkpoint, here)
    with torch.no_grad():
        here["backbone"].layer1[0].weight.fill_(7)
    exec(checkpoint.split("\n\n")[1], here)
    assert not here["backbone"].layer1[0].weight.any()


@pytest.mark.parametrize("name", ["README.md", "docs/user_guide.md"])
def test_functions_that_are_given_to_estimators_have_names(name):
    # Neither pickle nor Pipeline(memory=...) takes a lambda.
    assert not re.search(r"lambda (shape|x)\b", (ROOT / name).read_text(encoding="utf-8"))


def test_each_fit_of_coming_from_runs():
    np.random.seed(0)  # the page has no random_state everywhere
    found = {}
    blocks = list(_blocks(ROOT / "docs" / "coming_from.md"))
    for code in blocks:
        exec(compile(code, "coming_from.md", "exec"), found)
    assert [epoch for epoch, _ in found["probe"].history_] == [1, 2]
    assert len(found["outputs"]["predictions"]) == len(found["outputs"]["targets"]) == 4
    assert found["projections"].shape == (96, 128)
    assert found["features"].shape[0] == 96


def test_keywords_of_other_libraries_are_pythons_own_errors():
    for estimator, name in (
        (BYOL, "backbone"),
        (BYOL, "criterion"),
        (BYOL, "schedule"),
        (SimCLR, "hidden_dims"),
        (SimCLR, "lr"),
        (LFR, "num_targets"),
        (CPC, "num_input_channels"),
    ):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            estimator(**{name: None})


def test_parameters_that_coming_from_names_exist():
    text = (ROOT / "docs" / "coming_from.md").read_text(encoding="utf-8")
    known = {name for cls in ESTIMATORS.values() for name in cls().get_params()}
    known |= {"X_val", "groups"}  # of fit
    rows = [line.split("|")[2] for line in text.splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`(?:\w+\()?(\w+)=", row)}
    assert len(named) > 15
    assert named <= known, named - known


def _contributing():
    return (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_contributing_names_every_module_and_no_other():
    named = set()
    folder = ""
    for line in _contributing().split("\n## The rooms\n")[1].split("\n## ")[0].splitlines():
        folder = next(iter(re.findall(r"^(?:Directly in )?`sslearn/(.*?)`", line)), folder)
        named |= {folder + name for name in re.findall(r"`(?!tests/)([\w/]+\.py)`", line)}
    files = {
        str(path.relative_to(ROOT / "sslearn"))
        for path in (ROOT / "sslearn").rglob("*.py")
        if path.name != "__init__.py" or path.parent.name == "sslearn"
    }
    assert named == files


def _room(path):
    """The name by which CONTRIBUTING's diagram calls a module: a folder's, or its own."""
    first, *rest = path.relative_to(ROOT / "sslearn").parts
    return f"{first}/" if rest else first.removesuffix(".py")


def _imported_rooms(path):
    """Yield the rooms from which a module imports, also inside functions."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            inside = (*base, *node.module.split(".")) if node.module else base
            names = [inside[1]] if len(inside) > 1 else [alias.name for alias in node.names]
            for name in names:
                is_folder = (ROOT / "sslearn" / name).is_dir()
                yield f"{name}/" if is_folder else name


def test_imports_run_as_contributing_draws_them():
    diagram = re.search(r"^```text\n(.*?)^```$", _contributing(), re.S | re.M).group(1)
    level = {room: i for i, line in enumerate(diagram.splitlines()) for room in line.split()}
    modules = sorted((ROOT / "sslearn").rglob("*.py"))
    assert set(level) == {_room(path) for path in modules}
    for path in modules:
        for room in _imported_rooms(path):
            assert level[_room(path)] <= level[room], f"{path.name} imports from {room}"
