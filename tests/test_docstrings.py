"""Docstrings: complete, in the order of the signature, and the same words for the same thing."""

import importlib
import inspect
import re

import pytest
from estimators import ESTIMATORS

import sslearn
from sslearn import augment, base, data, encoders, groups, metrics

# After `encoder`, a method's own parameters; then these, in this order.
SHARED = [
    "embedding_dim",
    "augment",
    "cached_views",
    "positives",
    "categorical_features",
    "standardize",
    "max_epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "optimizer",
    "lr_schedule",
    "warmup_fraction",
    "validation_fraction",
    "n_iter_no_change",
    "keep_objective",
    "device",
    "precision",
    "trainer_params",
    "random_state",
    "verbose",
]
# Words that depend on the method.
DIFFERS = {"batch_size", "embedding_dim", "learning_rate", "optimizer"}


def _section(doc, title):
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", doc, re.S | re.M)
    return found.group(1) if found else ""


def _parameters(cls):
    """Name, type line and text of each documented parameter."""
    text = _section(inspect.getdoc(cls), "Parameters")
    entries = re.findall(r"^(\w[\w, ]*?) : (.*?)\n((?:    .*\n|\n)*)", text + "\n", re.M)
    return {
        name: (kind, words)
        for names, kind, words in entries
        for name in names.split(", ")
    }  # fmt: skip


PUBLIC = [
    getattr(module, name)
    for module in (sslearn, augment, data, encoders, groups, metrics, base)
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name))
]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_public_names_are_documented(thing):
    doc = inspect.getdoc(thing)
    assert doc
    assert len(doc.splitlines()[0]) < 100
    signature = inspect.signature(thing)
    documented = _parameters(thing)
    abstract = thing in (base.BaseSSL, base.Objective, base.Batch, augment.Augmentation)
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or abstract:
            continue
        assert name in documented, f"{thing.__name__}: {name}"
        default = parameter.default
        if default is not parameter.empty and not callable(default):
            kind = documented[name][0]
            assert re.search(r"default=|optional|default: ", kind), f"{name}: {kind}"
            if isinstance(default, (int, str)) and "default=" in kind:
                said = kind.split("default=")[1]
                assert said.strip("\"'") == str(default), f"{name}: {kind}, is {default!r}"
            if isinstance(default, float) and "default=" in kind:
                assert float(kind.split("default=")[1]) == default
    if not abstract:
        assert ">>>" in doc, f"{thing.__name__} has no example"


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_signatures_and_shared_parameters(name):
    cls = ESTIMATORS[name]
    parameters = inspect.signature(cls).parameters
    names = list(parameters)
    assert names[0] == "encoder"
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[1:])
    kept = [n for n in SHARED if n in names]
    assert names[-len(kept) :] == kept
    documented = _parameters(cls)
    assert list(documented) == names
    reference = _parameters(ESTIMATORS["SimCLR"])
    differs = set(DIFFERS)
    if cls._univariate or "augment" not in names:  # a table is a series; there are no views
        differs |= {"standardize", "validation_fraction"}
    for shared in set(kept) - differs:
        assert documented[shared] == reference[shared]
    if cls._univariate:
        assert documented["standardize"] == _parameters(ESTIMATORS["CPC"])["standardize"]
    doc = inspect.getdoc(cls)
    for section in ("Attributes", "See Also", "References", "Examples"):
        assert _section(doc, section), section
    assert re.search(r"arXiv[: ]\d{4}\.\d{5}", doc)
    assert set(cls._parameter_constraints) >= set(names)


def test_nothing_private_is_exported():
    for module in (
        "sslearn",
        "sslearn.augment",
        "sslearn.data",
        "sslearn.encoders",
        "sslearn.metrics",
    ):
        names = importlib.import_module(module).__all__
        assert sorted(set(names)) == sorted(names)
        assert not [n for n in names if n.startswith("_")]


@pytest.mark.parametrize("name", ["BYOL", "BarlowTwins", "MoCo", "SimCLR", "SimSiam"])
def test_departures_from_the_heads_of_the_papers_are_named(name):
    notes = " ".join(_section(inspect.getdoc(ESTIMATORS[name]), "Notes").split())
    assert re.search(r"(paper's projection|Their) head [^.]*batch norm", notes)
