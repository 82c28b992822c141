"""Images in files: folders of them as arrays, and a first step of pipelines that loads paths.

They need Pillow: ``pip install "sslearn-torch[images]"``.
"""

from ._folder import ImageFolder
from ._load import LoadImages

__all__ = ["ImageFolder", "LoadImages"]

# What is stored names the module of a class: that of the public name, which does not change.
for _name in __all__:
    globals()[_name].__module__ = __name__
