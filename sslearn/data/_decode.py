"""Image files to arrays of one size and mode."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any

import numpy as np

__all__ = ["MODES", "Decoder", "checked_size"]

#: Modes of Pillow, and the dtype and number of channels of their arrays.
MODES = {"RGB": (np.uint8, 3), "RGBA": (np.uint8, 4), "L": (np.uint8, 1), "F": (np.float32, 1)}
# Modes of pixels of more than a byte, which Pillow clips to 255 in the others.
_DEEP = ("I", "F")
# Files that are decoded at once; Pillow leaves Python's lock while it decodes.
_THREADS = 8
# An image is decoded at this multiple of the size that is wanted, where its format allows.
_MARGIN = 2


def _pillow() -> Any:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "Images in files need Pillow, which is not installed: pip install "
            '"sslearn-torch[images]", or pip install pillow.'
        ) from error
    return Image, ImageOps


def checked_size(name: str, size: Any) -> tuple[int, int] | None:
    """Return a size as (height, width), or None where files keep theirs."""
    sides = (size, size) if isinstance(size, Integral) else size
    if sides is None:
        return None
    is_pair = isinstance(sides, tuple | list) and len(sides) == 2
    if not is_pair or any(
        isinstance(n, bool) or not isinstance(n, Integral) or n < 1 for n in sides
    ):
        raise ValueError(
            f"The 'size' parameter of {name} must be an int of at least 1, a pair (height, width) "
            f"or None. Got {size!r} instead."
        )
    return int(sides[0]), int(sides[1])


class Decoder:
    """Reads image files as arrays (channels, height, width).

    Parameters
    ----------
    name : str
        Name of the class that reads them, for messages.
    size, mode, crop
        See :class:`ImageFolder`.
    """

    def __init__(self, name: str, size: Any, mode: str, crop: bool) -> None:
        self.image, self.operations = _pillow()
        self.size = checked_size(name, size)
        if mode not in MODES:
            raise ValueError(
                f"The 'mode' parameter of {name} must be one of {', '.join(map(repr, MODES))}. Got "
                f"{mode!r} instead."
            )
        if not isinstance(crop, bool | np.bool_):
            raise ValueError(
                f"The 'crop' parameter of {name} must be a bool. Got {crop!r} instead."
            )
        self.name, self.mode, self.crop = name, mode, bool(crop)
        self.dtype, self.n_channels = MODES[mode]

    def extensions(self) -> set[str]:
        """Return the extensions of files that Pillow can read, in lower case, with the dot."""
        known = self.image.registered_extensions()
        return {extension for extension, format in known.items() if format in self.image.OPEN}

    def read(self, path: str) -> np.ndarray:
        """Return one image as an array (channels, height, width)."""
        try:
            with self.image.open(path) as image:
                pixels = np.asarray(self._prepared(image, path))
        except _Refused:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.name} found no file {path!r}.") from error
        except Exception as error:  # Pillow's own, and whatever its decoders raise
            raise ValueError(
                f"{self.name} cannot read the image file {path!r}: {type(error).__name__}: {error}"
            ) from error
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _prepared(self, image: Any, path: str) -> Any:
        """Return an image upright, of the mode and size that are wanted."""
        if self.size is not None and self.mode != "F":
            # JPEG files can be decoded at a half, a quarter or an eighth; the sides may be swapped.
            image.draft(None, (_MARGIN * max(self.size),) * 2)
        if image.mode.startswith(_DEEP) and self.mode != "F":
            raise _Refused(
                f"{self.name} cannot read {path!r} with mode={self.mode!r}: its pixels have more "
                f"than a byte (Pillow's mode {image.mode!r}). Use mode='F', which keeps their "
                "values."
            )
        upright = self.operations.exif_transpose(image)
        converted = upright if upright.mode == self.mode else upright.convert(self.mode)
        if self.size is None:
            return converted
        wanted = self.size[::-1]
        resample = self.image.Resampling.BILINEAR
        if self.crop:
            return self.operations.fit(converted, wanted, resample)
        return converted.resize(wanted, resample)

    def read_all(self, paths: Sequence[str], out: np.ndarray | None = None) -> np.ndarray:
        """Return images as one array (n, channels, height, width), in `out` where it is given."""
        first = self.read(paths[0])
        images = np.empty((len(paths), *first.shape), self.dtype) if out is None else out
        images[0] = first

        def put(i: int) -> None:
            image = self.read(paths[i])
            if image.shape != first.shape:
                raise ValueError(
                    f"{self.name} needs images of one size. Got {image.shape[1]} x "
                    f"{image.shape[2]} pixels in {paths[i]!r} after {first.shape[1]} x "
                    f"{first.shape[2]}; set the 'size' parameter, for example to 96."
                )
            images[i] = image

        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
            try:
                for _ in pool.map(put, range(1, len(paths))):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return images

    def shape(self, paths: Sequence[str]) -> tuple[int, ...]:
        """Return the shape of the array of all images."""
        size = self.size or self.read(paths[0]).shape[1:]
        return (len(paths), self.n_channels, *size)


class _Refused(ValueError):
    """An image that is not read, though it could be."""
