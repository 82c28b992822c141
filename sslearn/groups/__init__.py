"""Groups of samples: patients, sites, recordings."""

from ._whitening import GroupWhitening

__all__ = ["GroupWhitening"]

# What is stored names the module of a function or class: that of the public name.
for _name in __all__:
    globals()[_name].__module__ = __name__
