"""A pipeline step that loads images from paths."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ._decode import Decoder

__all__ = ["LoadImages"]


class LoadImages(TransformerMixin, BaseEstimator):
    """Load images from an array of paths, as the first step of a pipeline.

    Paths can be indexed, so that a pipeline can be cross-validated and searched without all images
    in memory: each fit and each transform loads its own. Nothing is learned in ``fit``.

    Parameters
    ----------
    size : int, (int, int) or None, default=None
        Height and width of the images; an int is for both. If None, files keep their size, which
        must be the same for all.
    mode : {"RGB", "RGBA", "L", "F"}, default="RGB"
        Pixels: colours, colours and transparency, grey, or grey as float32, which keeps the values
        of files with more than a byte per pixel.
    crop : bool, default=True
        Whether images of other proportions keep them, and what exceeds on two sides is cut off. If
        False, they are stretched.

    See Also
    --------
    ImageFolder : All images of a folder, decoded once.

    Notes
    -----
    Images are turned upright as their EXIF data say. Of a file with several images the first is
    read. ``Pipeline(memory=...)`` keeps what was loaded for a fit.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from sklearn.pipeline import make_pipeline
    >>> from sslearn import SimCLR
    >>> from sslearn.data import LoadImages
    >>> rng, folder = np.random.default_rng(0), tempfile.TemporaryDirectory()
    >>> paths = np.array([f"{folder.name}/{i}.png" for i in range(20)])
    >>> for path in paths:
    ...     Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(path)
    >>> LoadImages(size=8).fit_transform(paths).shape
    (20, 3, 8, 8)
    >>> model = SimCLR(embedding_dim=4, max_epochs=1, random_state=0)
    >>> make_pipeline(LoadImages(size=8), model).fit(paths).transform(paths[:5]).shape
    (5, 4)
    >>> folder.cleanup()
    """

    def __init__(self, size=None, *, mode="RGB", crop=True):
        self.size = size
        self.mode = mode
        self.crop = crop

    def fit(self, X, y=None):
        """Check the parameters and the paths; no file is read.

        Parameters
        ----------
        X : array-like of str or pathlib.Path, of shape (n,) or (n, 1)
            Paths of image files.
        y : Ignored
            Not used, present by convention.

        Returns
        -------
        self : object
            This transformer.
        """
        self._decoder()
        _paths(X)
        return self

    def transform(self, X):
        """Load images.

        Parameters
        ----------
        X : array-like of str or pathlib.Path, of shape (n,) or (n, 1)
            Paths of image files.

        Returns
        -------
        ndarray of shape (n, channels, height, width)
            The images, in the order of X: uint8, or float32 with ``mode="F"``.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If a file cannot be read, or is of another size where `size` is None.
        """
        return self._decoder().read_all(_paths(X))

    def _decoder(self) -> Decoder:
        return Decoder(type(self).__name__, self.size, self.mode, self.crop)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


def _paths(X: Any) -> list[str]:
    """Return paths as a list of strings."""
    if isinstance(X, str | bytes | os.PathLike):
        raise TypeError(
            f"LoadImages takes an array of paths. Got a single one, {X!r}, instead: pass [path], "
            "or read a folder by ImageFolder."
        )
    array = np.asarray(X, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:  # a column of a data frame
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"LoadImages takes an array of paths of shape (n,) or (n, 1). Got shape {array.shape} "
            "instead."
        )
    if not len(array):
        raise ValueError("LoadImages needs one path at least. Got an empty array instead.")
    for path in array:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                "LoadImages takes an array of paths, str or pathlib.Path. Got "
                f"{type(path).__name__} in it instead."
            )
    return [str(os.fspath(path)) for path in array]
