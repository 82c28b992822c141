"""Measures of features that need no labels."""

from ._leakage import group_leakage
from ._rank import effective_rank

__all__ = ["effective_rank", "group_leakage"]

# What is stored names the module of a function or class: that of the public name.
for _name in __all__:
    globals()[_name].__module__ = __name__
