"""Sphinx configuration: ``sphinx-build docs docs/_build``."""

project = "sslearn"
author = "The sslearn developers"
extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser"]
exclude_patterns = ["_build"]
numpydoc_show_class_members = False
myst_heading_anchors = 2
html_theme = "alabaster"
html_show_copyright = False
