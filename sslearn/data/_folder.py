"""All images of a folder, as a dataset and as an array."""

from __future__ import annotations

import hashlib
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from ._decode import Decoder

__all__ = ["ImageFolder"]


class ImageFolder(Dataset):
    """All images of a folder, decoded and resized once, for any estimator of this package.

    Files are found in the folder and in the folders inside it, by their extensions, and sorted by
    their paths. Names of sub-folders are the classes of the images in them. ``fit`` and
    ``transform`` take the whole as an array, as quick as any other; so do NumPy
    (``np.asarray(folder)``) and scikit-learn, which can split and search it.

    Parameters
    ----------
    path : str or pathlib.Path
        The folder.
    size : int, (int, int) or None, default=None
        Height and width of the images; an int is for both. If None, files keep their size, which
        must be the same for all.
    mode : {"RGB", "RGBA", "L", "F"}, default="RGB"
        Pixels: colours, colours and transparency, grey, or grey as float32, which keeps the values
        of files with more than a byte per pixel.
    crop : bool, default=True
        Whether images of other proportions keep them, and what exceeds on two sides is cut off. If
        False, they are stretched.
    cache : str, pathlib.Path or None, default=None
        A folder in which the decoded images are kept, as a memory map, and found again by the next
        `ImageFolder` of the same files, size, mode and crop. If None, they are kept in memory.

    Attributes
    ----------
    images : ndarray of shape (n, channels, height, width)
        The images: uint8, or float32 with ``mode="F"``; with `cache` a read-only memory map.
    paths : ndarray of shape (n,), str
        The files, in the order of `images`.
    classes : list of str or None
        Names of the sub-folders that hold images. None if there are none.
    targets : ndarray of shape (n,), int, or None
        Number of the class of each image, and -1 for those that are in no sub-folder. None if there
        are no classes.

    See Also
    --------
    LoadImages : Loads images from paths, as the first step of a pipeline.

    Notes
    -----
    Items are an image, or an image and its target where there are classes. Images are turned
    upright as their EXIF data say. Of a file with several images the first is read. Files whose
    names begin with a dot, and those that Pillow does not read, are left out.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from sslearn import SimCLR
    >>> from sslearn.data import ImageFolder
    >>> rng, root = np.random.default_rng(0), tempfile.TemporaryDirectory()
    >>> for name in ("cat", "dog"):
    ...     (pathlib.Path(root.name) / name).mkdir()
    ...     for i in range(10):
    ...         image = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    ...         image.save(f"{root.name}/{name}/{i}.png")
    >>> folder = ImageFolder(root.name, size=8)
    >>> folder.images.shape, folder.classes, folder.targets[-3:]
    ((20, 3, 8, 8), ['cat', 'dog'], array([1, 1, 1]))
    >>> model = SimCLR(embedding_dim=4, max_epochs=1, random_state=0)
    >>> model.fit(folder).transform(folder).shape
    (20, 4)
    >>> root.cleanup()
    """

    def __init__(self, path, *, size=None, mode="RGB", crop=True, cache=None):
        self.path = os.fspath(path)
        self.size = size
        self.mode = mode
        self.crop = crop
        self.cache = None if cache is None else os.fspath(cache)
        decoder = Decoder("ImageFolder", size, mode, crop)
        found = _found(pathlib.Path(self.path), decoder)
        self.paths = np.array([os.fspath(path) for path, _ in found])
        names = sorted({name for _, name in found if name is not None})
        self.classes: list[str] | None = names or None
        self.targets: np.ndarray | None = None
        if names:
            number = {name: i for i, name in enumerate(names)} | {None: -1}
            self.targets = np.array([number[name] for _, name in found])
        self._stored: str | None = None
        if self.cache is None:
            self.images = decoder.read_all(self.paths.tolist())
        else:
            self._stored = self._store(decoder)
            self.images = np.load(self._stored, mmap_mode="r")

    def _store(self, decoder: Decoder) -> str:
        """Return the file that holds the decoded images, and write it if there is none."""
        assert self.cache is not None
        known = hashlib.sha256(repr((decoder.size, decoder.mode, decoder.crop)).encode())
        for path in self.paths.tolist():
            stat = os.stat(path)
            name = os.path.relpath(path, self.path)
            known.update(repr((name, stat.st_size, stat.st_mtime_ns)).encode())
        stored = os.path.join(self.cache, f"images-{known.hexdigest()[:32]}.npy")
        if not os.path.exists(stored):
            os.makedirs(self.cache, exist_ok=True)
            _write(decoder, self.paths.tolist(), stored)
        return stored

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        """Return an item by its number, or an array of images by slices and arrays of numbers."""
        images = self.images[index]
        if images.ndim != 3:
            return images
        image = np.array(images)  # not a view: it may be collated into shared memory
        return image if self.targets is None else (image, int(self.targets[index]))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy:
            return np.array(self.images, dtype=dtype)
        return self.images if dtype is None else self.images.astype(dtype, copy=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `images`."""
        return self.images.shape

    @property
    def dtype(self) -> np.dtype:
        """Dtype of `images`."""
        return self.images.dtype

    def __repr__(self) -> str:
        classes = "" if self.classes is None else f", {len(self.classes)} classes"
        return f"ImageFolder({self.path!r}): {len(self)} images {self.shape[1:]}{classes}"

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would be copied whole.
        return self.__dict__ | ({"images": None} if self._stored else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._stored:
            self.images = np.load(self._stored, mmap_mode="r")


def _found(root: pathlib.Path, decoder: Decoder) -> list[tuple[pathlib.Path, str | None]]:
    """Return the image files of a folder, and the sub-folder in which each is."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"The 'path' parameter of ImageFolder must be a folder. Got {os.fspath(root)!r}, which "
            f"{'is a file' if root.exists() else 'does not exist'}, instead."
        )
    extensions, found = decoder.extensions(), []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in extensions:
                path = pathlib.Path(folder, name)
                first, *rest = path.relative_to(root).parts
                found.append((path, first if rest else None))
    if not found:
        raise ValueError(
            f"ImageFolder found no images in {os.fspath(root)!r}: no file, there or in the folders "
            "inside it, has an extension that Pillow reads (.png, .jpg, .tif, ...)."
        )
    return sorted(found)


def _write(decoder: Decoder, paths: list[str], stored: str) -> None:
    """Decode images into a file, which is there once it is whole."""
    number, unfinished = tempfile.mkstemp(suffix=".npy", dir=os.path.dirname(stored))
    os.close(number)
    try:
        shape = decoder.shape(paths)
        out = np.lib.format.open_memmap(unfinished, "w+", dtype=decoder.dtype, shape=shape)
        decoder.read_all(paths, out)
        out.flush()
        del out
        os.replace(unfinished, stored)
    except BaseException:
        os.unlink(unfinished)
        raise
