import numpy as np
import pytest
import torch
from torch import nn

from sslearn._data import Rows, TrainingData, as_layout, lay_out, measure, memory_format
from sslearn._standardize import Statistics


def _training_data(X, n_views=2, augment=None):
    rows = Rows(X)
    standardize = Statistics.of(rows.sample_shape, rows.slices(5)).layer()
    return TrainingData(rows, None, standardize, augment, n_views, torch.device("cpu"))


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


def test_both_views_are_drawn_in_one_call_and_differ():
    calls = []

    def augment(x, generator):
        calls.append(x.shape)
        return x + torch.randn(x.shape, generator=generator)

    data = _training_data(np.random.default_rng(0).normal(size=(10, 3)), augment=augment)
    index = torch.tensor([3, 1, 2])
    batch = data.batch(data.rows.take(index), index, torch.Generator().manual_seed(0))
    first, second = batch.views
    assert calls == [(6, 3)]
    assert first.shape == second.shape == (3, 3)
    assert not torch.equal(first, second)
    assert torch.equal(batch.x, data.clean(data.rows.take(index)))
    assert (
        _training_data(np.ones((4, 3)), n_views=0).batch(torch.ones(2, 3), None, None).views == ()
    )


def test_images_are_laid_out_channels_last_and_normalised_after_the_views():
    X = np.random.default_rng(0).integers(0, 256, size=(10, 3, 4, 5)).astype(np.uint8)
    seen = []

    def augment(x, generator):
        seen.append((float(x.min()), float(x.max())))
        return x

    data = _training_data(X, augment=augment)
    batch = data.batch(data.rows.take(torch.arange(10)), None, torch.Generator())
    assert all(0 <= low and high <= 1 for low, high in seen)
    assert batch.views[0].is_contiguous(memory_format=torch.channels_last)
    assert batch.views[0].mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(batch.views[1], batch.x, rtol=1e-4, atol=1e-4)


def test_memory_formats():
    assert memory_format(4) == torch.channels_last
    assert memory_format(5) == torch.channels_last_3d
    for shape in ((2, 3), (2, 3, 4)):
        assert as_layout(torch.zeros(shape)).is_contiguous()


def test_weights_are_laid_out_as_their_batches():
    module = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3)])
    lay_out(module, 4)
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert module[1].weight.is_contiguous()
    lay_out(module, 5)
    assert module[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    before = module[0].weight.stride()
    lay_out(module, 3)
    assert module[0].weight.stride() == before


def test_statistics_are_those_of_the_rows_trained_on():
    X = np.random.default_rng(0).normal(size=(100, 3))
    held_out = torch.arange(0, 100, 4)
    statistics = measure(Rows(X), held_out, "SimCLR")
    kept = np.delete(X, held_out.numpy(), axis=0)
    np.testing.assert_allclose(statistics.layer().shift, kept.mean(0))
    X[8, 1] = np.nan  # a held-out row is looked at too
    with pytest.raises(ValueError, match="NaN"):
        measure(Rows(X), held_out, "SimCLR")
