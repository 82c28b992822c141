import numpy as np
import pytest
import torch

from sslearn._data._rows import Rows, as_batch, stacked


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


def test_what_items_are_is_known_of_the_first():
    items = [(np.zeros((2, 5), np.uint8), 0), (np.ones((2, 5), np.uint8), 1)]
    rows = Rows(items, as_batch(items[0][0]))
    assert rows.sample_shape == (2, 5)
    assert rows.dtype == "torch.uint8"
    assert rows.take(torch.tensor([1, 0]))[:, 0, 0].tolist() == [1, 0]
    assert Rows(np.zeros((3, 2), np.int16)).dtype == "int16"
    assert Rows(torch.zeros(3, 2)).dtype == "torch.float32"


def test_items_are_stacked_into_a_batch_and_nothing_else():
    x = torch.arange(3.0)
    assert stacked([x, (x, "a"), [x.numpy(), None], (x.tolist(), 0)]).shape == (4, 3)
    for nested in ([x, x], [[1.0], x], [[x]], (x.numpy(), 1.0), (x.sum(), 1.0)):
        with pytest.raises(TypeError, match="where x is one array or tensor"):
            stacked([(nested, 0)])
    with pytest.raises(ValueError, match=r"Got \(2,\) after \(3,\)"):
        stacked([x, x[:2]])
    with pytest.raises(ValueError, match=r"Got \(3,\) after \(2,\)"):
        stacked([x], (2,))
