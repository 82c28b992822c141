import numpy as np
import pytest
import torch
from estimators import SHAPES, rows, small
from torch import nn

from sslearn._data._rows import Rows
from sslearn._inference import Cost, encode, measure_cost
from sslearn.encoders import default_encoder


def test_cost_of_a_sample():
    network = nn.Sequential(nn.Linear(4, 100), nn.Linear(100, 3))
    assert measure_cost(network, (4,)) == Cost(largest_bytes=400, product_rows=1)
    assert measure_cost(nn.Identity(), (5,)) == Cost(20)
    convolution = nn.Conv2d(1, 8, 3, padding=1)
    assert measure_cost(convolution, (1, 10, 10)) == Cost(8 * 100 * 4, None, 2)
    # One long series is computed alone; small volumes, and a few rows of products, are not.
    assert measure_cost(nn.Conv1d(1, 8, 3, padding=1), (1, 30_000)).least_rows() == 1
    assert measure_cost(nn.Conv3d(1, 2, 3, padding=1), (1, 9, 9, 9)).least_rows() == 16
    four_places = nn.Sequential(nn.Unflatten(1, (4, 4)), nn.Linear(4, 3))
    assert measure_cost(four_places, (16,)).least_rows() == 2  # tests run on one thread
    assert Cost(16, product_rows=1).least_rows() == 8


def test_batches_follow_the_activations():
    sizes = []

    class Watched(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            return x * 2

    X = rows("table", n=100)
    out = encode(
        Watched().eval(),
        Rows(X),
        width=6,
        cost=Cost(2**18, 1),
        device=torch.device("cpu"),
        name="SimCLR",
    )
    assert sizes == [32, 32, 32, 8]  # the last one is filled up: matrix products round alike
    np.testing.assert_array_equal(out, X * 2)


def test_transform_leaves_no_trace_on_the_encoder():
    X = rows("image")
    estimator = small("SimCLR").fit(X)
    before = {k: v.clone() for k, v in estimator.encoder_.state_dict().items()}
    estimator.transform(X)
    for key, value in estimator.encoder_.state_dict().items():
        assert torch.equal(value, before[key])
    assert not any(m._forward_hooks for m in estimator.encoder_.modules())


@pytest.mark.parametrize(
    "kind", ["table", "series", "image", "volume", "univariate", "large image"]
)
@pytest.mark.parametrize("name", ["SimCLR", "CPC", "AMDIM"])
def test_a_row_has_the_same_bits_in_any_batch(name, kind):
    shapes = {**SHAPES, "univariate": (1, 200), "large image": (3, 33, 35)}
    X = np.random.default_rng(0).normal(size=(70, *shapes[kind])).astype(np.float32)
    estimator = small(name, embedding_dim=None, max_epochs=1).fit(X)
    expected = estimator.transform(X)
    for size in (1, 2, 3, 7, 31, 40):
        for start in (0, 11):
            part = slice(start, start + size)
            np.testing.assert_array_equal(estimator.transform(X[part]), expected[part])
    with torch.no_grad():
        found = estimator.encoder_(torch.from_numpy(X))
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_one_long_series_is_one():
    X = np.random.default_rng(0).normal(size=(4, 1, 16_000)).astype(np.float32)
    encoder = default_encoder((1, 16_000))
    estimator = small("SimCLR", encoder=encoder, max_epochs=1, batch_size=2)
    estimator.fit(X)
    assert estimator._cost.least_rows() == 1
    np.testing.assert_array_equal(estimator.transform(X[:1]), estimator.transform(X)[:1])
