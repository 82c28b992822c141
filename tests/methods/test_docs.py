"""Docstrings that are completed when a class is made."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sslearn import LFR, SimCLR
from sslearn._methods._docs import shared_docs

ROOT = Path(__file__).parents[2]


def _method(doc):
    class Method:
        def __init__(self, encoder=None, *, strength=2, verbose=0):
            pass

    Method.__doc__ = doc
    return Method


OWN = """A method.

    Parameters
    ----------
    strength : int, default=2
        Its own words.
    """


def test_own_and_shared_parameters_come_in_the_order_of_the_signature():
    doc = inspect.getdoc(shared_docs(_method(OWN)))
    places = [doc.index(f"\n{start}") for start in ("encoder : ", "strength : ", "verbose : ")]
    assert places == sorted(places)
    assert "\nencoder : nn.Module or callable, default=None\n" in doc
    assert "\nstrength : int, default=2\n    Its own words.\n" in doc
    assert "\nverbose : int, default=0\n" in doc


def test_a_methods_own_words_replace_the_shared_ones():
    own = OWN.rstrip() + "\n    verbose : int, default=0\n        Prints nothing.\n    "
    doc = inspect.getdoc(shared_docs(_method(own)))
    assert doc.count("\nverbose : ") == 1
    assert "\n    Prints nothing.\n" in doc
    assert "a line per epoch" not in doc


def test_own_sections_stay_before_the_shared_text():
    own = OWN.rstrip() + "\n\n    Notes\n    -----\n    Departs from the paper.\n    "
    doc = inspect.getdoc(shared_docs(_method(own)))
    assert doc.count("\nNotes\n-----\n") == 1
    assert doc.index("Departs from the paper.") < doc.index("gives the same bits again")


def test_a_parameter_described_nowhere_is_refused():
    with pytest.raises(TypeError, match="must describe 'strength'"):
        shared_docs(_method("A method."))


def test_a_description_of_no_parameter_is_refused():
    with pytest.raises(TypeError, match="has no parameter strenght"):
        shared_docs(_method(OWN + "strenght : int, default=2\n        A slip.\n    "))


def test_a_class_without_a_docstring_is_left_alone():
    assert shared_docs(_method(None)).__doc__ is None


def test_views_are_mentioned_only_where_there_are_some():
    assert "sslearn.augment : " in inspect.getdoc(SimCLR)
    assert "sslearn.augment : " not in inspect.getdoc(LFR)
    assert "Views are drawn" not in inspect.getdoc(LFR)


@pytest.mark.parametrize("doc", ["My own words.", None])
def test_a_users_subclass_keeps_its_docstring(doc):
    assert type("Mine", (SimCLR,), {"__doc__": doc}).__doc__ == doc


def test_methods_are_imported_where_docstrings_are_stripped():
    code = "import sslearn; print(sslearn.SimCLR.__doc__, sslearn.LFR(max_epochs=1).max_epochs)"
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.stdout.split() == ["None", "1"], done.stderr
