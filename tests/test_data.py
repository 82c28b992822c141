import numpy as np
import pytest
import torch

from sslearn._data import Rows


def test_rows_are_viewed_not_copied():
    X = np.arange(24.0, dtype=np.float32).reshape(6, 4)
    X.flags.writeable = False
    rows = Rows(X)
    assert rows.tensor.data_ptr() == X.ctypes.data
    assert next(rows.slices(3)).data_ptr() == X.ctypes.data
    assert rows.take(torch.tensor([5, 0, 5])).tolist() == X[[5, 0, 5]].tolist()


@pytest.mark.parametrize("dtype", [">f8", "longdouble", "uint16", "uint32", "uint64", ">i2"])
def test_what_torch_cannot_view_goes_through_numpy_by_batches(dtype):
    X = np.arange(24).reshape(6, 4).astype(dtype)
    rows = Rows(X)
    assert rows.tensor is None
    assert rows.take(torch.tensor([5, 0])).tolist() == [[20, 21, 22, 23], [0, 1, 2, 3]]
    assert torch.cat(list(rows.slices(4))).tolist() == X.tolist()
    reversed_rows = Rows(np.arange(24.0).reshape(6, 4)[::-1])
    assert reversed_rows.take(torch.tensor([0])).tolist() == [[20, 21, 22, 23]]


def test_rows_in_another_shape():
    rows = Rows(np.arange(24.0).reshape(6, 4))
    rows.view_as((1, 4))
    assert rows.take(torch.tensor([1, 2])).shape == (2, 1, 4)
    assert [part.shape for part in rows.slices(4)] == [(4, 1, 4), (2, 1, 4)]
    assert rows.item_shape == (4,)
