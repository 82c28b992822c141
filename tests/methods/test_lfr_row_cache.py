"""Values looked up instead of computed again."""

import numpy as np
import pytest
import torch
from estimators import rows
from torch import nn

import sslearn._methods._lfr_row_cache
from sslearn._data._rows import Rows
from sslearn._data._training_data import TrainingData, compute_statistics
from sslearn._methods._lfr_row_cache import RowCache
from sslearn._objective import Batch


def _data(index=None):
    X = Rows(rows("table", n=50))
    standardize = compute_statistics(X, None, "test").layer(True)
    return TrainingData(X, index, standardize, torch.device("cpu"))


def _batch(data, index):
    index = torch.as_tensor(index)
    return Batch(lambda: data.clean(data.rows.take(index)), index, (), torch.Generator())


@pytest.mark.parametrize("held_out", [False, True])
def test_looked_up_equals_computed(held_out):
    torch.manual_seed(0)
    network = nn.Linear(6, 4).requires_grad_(False)
    index = torch.arange(5, 45) if held_out else None
    data = _data(index)
    calls = []

    def function(x):
        calls.append(len(x))
        return network(x)

    cache = RowCache(data, function, 4)
    assert sum(calls) == len(data)
    batch = _batch(data, [7, 40, 12])
    found = cache(batch, trained_on=True)
    assert sum(calls) == len(data)
    torch.testing.assert_close(found, network(batch.x))
    assert torch.equal(
        cache(_batch(data, [0, 49]), trained_on=False), network(_batch(data, [0, 49]).x)
    )


def test_what_does_not_fit_is_computed(monkeypatch):
    monkeypatch.setattr(sslearn._methods._lfr_row_cache, "_BYTES", 4 * 4 * 50 - 1)
    data = _data()
    cache = RowCache(data, lambda x: x[:, :4], 4)
    assert cache.values is None
    batch = _batch(data, [3, 1])
    np.testing.assert_array_equal(cache(batch, trained_on=True), batch.x[:, :4])
