"""Which shapes of samples are told to look like another kind's, and which are not."""

import re
import warnings

import numpy as np
import pytest
import torch
from estimators import small
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sslearn._data._axes import warn_of_other_axes

TIME_FIRST = r"If time comes first, pass X.transpose\(0, 2, 1\)\."
GREY = r"If they are grey images, pass X\[:, None\]\."
LAST = r"If channels come last, pass X.transpose\(0, 3, 1, 2\)\."
LAST_3D = r"If channels come last, pass X.transpose\(0, 4, 1, 2, 3\)\."
NO_CHANNEL = r"If they are volumes without a channel, pass X\[:, None\]\."
FRAMES = r"If they are videos with frames first, pass X.transpose\(0, 2, 1, 3, 4\)\."
WARNED = [
    ((40, 3), "float32", TIME_FIRST),
    ((60, 12), "float32", TIME_FIRST),  # months of twelve sensors
    ((128, 9), "float64", TIME_FIRST),  # HAR
    ((500, 1), "float32", TIME_FIRST),  # as Keras has it
    ((3000, 64), "float32", TIME_FIRST),
    ((28, 28), "float32", GREY),
    ((8, 8), "float64", GREY),
    ((12, 10), "uint8", GREY),
    ((12, 10), "torch.uint8", GREY),
    ((12, 10, 3), "uint8", LAST),
    ((8, 8, 4), "float32", LAST),
    ((28, 28, 1), "float32", LAST),
    ((32, 32, 2), "float32", LAST),
    ((24, 24, 12), "float32", LAST),
    ((64, 64, 13), "uint16", LAST),
    ((32, 24, 24), "float32", NO_CHANNEL),
    ((28, 28, 28), "uint8", NO_CHANNEL),
    ((12, 12, 12), "float32", NO_CHANNEL),
    ((155, 240, 240), "int16", NO_CHANNEL),
    ((12, 12, 12, 1), "float32", LAST_3D),
    ((91, 109, 91, 2), "float32", LAST_3D),
    ((16, 3, 32, 32), "uint8", FRAMES),
    ((16, 1, 64, 64), "float32", FRAMES),
]
# Channels and steps of series in the UEA archive, electrodes, parcels of a brain.
SERIES = [(963, 144), (1345, 270), (200, 22), (144, 62), (64, 100), (64, 3000), (61, 405), (28, 50)]
SERIES += [(24, 51), (12, 29), (10, 400), (9, 128), (6, 36), (3, 30), (2, 8), (1, 24), (5, 1)]
SERIES += [(7, 7), (400, 100), (40, 12), (1, 1)]
# RGB, Sentinel-2, hyperspectral patches, feature maps, tiny ones.
IMAGES = [(1, 28, 28), (3, 32, 32), (4, 8, 8), (13, 64, 64), (13, 16, 16), (12, 8, 8)]
IMAGES += [(200, 8, 8), (103, 11, 11), (224, 64, 64), (512, 7, 7), (64, 32, 32), (1, 64, 9)]
IMAGES += [(3, 480, 640), (3, 5, 5), (7, 7, 7), (2, 128, 40), (1, 1, 1)]
VOLUMES = [(1, 12, 12, 12), (4, 155, 240, 240), (1, 91, 109, 91), (2, 4, 5, 6), (3, 16, 112, 112)]
IMAGES += [(16, 112, 112)]
VOLUMES += [(16, 8, 8, 8), (1, 3, 32, 32), (1, 5, 6, 4)]
SILENT = [*((shape, "float32") for shape in [*SERIES, *IMAGES, *VOLUMES, (6,), (784,)])]
SILENT += [((12, 10), "int16"), ((3, 64), "uint8"), ((3, 32, 32), "uint8")]


def _told(shape, dtype, method="transpose", items=False):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_other_axes(shape, dtype, method=method, items=items)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("shape", "dtype", "expected"), WARNED)
def test_shapes_that_are_told(shape, dtype, expected):
    (message,) = _told(shape, dtype)
    assert message.startswith(f"X has samples of shape {shape}, read as ")
    assert re.search(expected, message)


@pytest.mark.parametrize(("shape", "dtype"), SILENT)
def test_shapes_that_are_not_told(shape, dtype):
    assert _told(shape, dtype) == []


def test_what_moves_the_axes_of_each_container():
    (of_tensors,) = _told((12, 10, 3), "torch.float32", method="permute")
    assert "12 channels of 10 x 3 pixels" in of_tensors
    assert "pass X.permute(0, 3, 1, 2)." in of_tensors
    (of_items,) = _told((12, 10, 3), "torch.uint8", items=True)
    assert "return x.transpose(2, 0, 1) as items." in of_items
    (of_grey_items,) = _told((12, 10), "torch.uint8", items=True)
    assert "return x[None] as items." in of_grey_items
    # The order that is proposed does what it says.
    assert np.zeros((12, 10, 3)).transpose(2, 0, 1).shape == (3, 12, 10)
    assert torch.zeros(5, 12, 10, 3).permute(0, 3, 1, 2).shape == (5, 3, 12, 10)


class _Grey(Dataset):
    """Grey images as they come out of a folder."""

    def __init__(self, dtype):
        self.images = np.zeros((16, 12, 10), dtype)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], 0


def test_every_container_is_looked_at(tmp_path):
    images = np.zeros((16, 12, 10), np.uint8)
    np.save(tmp_path / "X.npy", images)
    tensors = TensorDataset(torch.from_numpy(images))
    containers = [
        images,
        torch.from_numpy(images),
        np.load(tmp_path / "X.npy", mmap_mode="r"),
        _Grey(np.uint8),
        tensors,
        DataLoader(tensors, batch_size=8),
        DataLoader(_Grey(np.uint8), batch_size=8),
    ]
    for X in containers:
        with pytest.warns(UserWarning, match="series of 12 channels and 10 steps.*grey images"):
            small("SimCLR", max_epochs=1).fit(X)
    small("SimCLR", max_epochs=1).fit(_Grey(np.int16))  # warnings are errors here
