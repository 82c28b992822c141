import numpy as np
import torch
from estimators import rows, small
from torch import nn

from sslearn._data import Rows
from sslearn._inference import activation_bytes, encode


def test_activation_bytes_is_the_largest_activation_of_a_row():
    assert activation_bytes(nn.Sequential(nn.Linear(4, 100), nn.Linear(100, 3)), (4,)) == 400
    convolution = nn.Conv2d(1, 8, 3, padding=1)
    assert activation_bytes(convolution, (1, 10, 10)) == 8 * 100 * 4
    assert activation_bytes(nn.Identity(), (5,)) == 20


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
        row_bytes=2**18,
        gain=1.0,
        device=torch.device("cpu"),
        name="SimCLR",
    )
    assert sizes == [32, 32, 32, 32]  # the last one is filled up: matrix products round alike
    np.testing.assert_array_equal(out, X * 2)


def test_transform_leaves_no_trace_on_the_encoder():
    X = rows("image")
    estimator = small("SimCLR").fit(X)
    before = {k: v.clone() for k, v in estimator.encoder_.state_dict().items()}
    estimator.transform(X)
    for key, value in estimator.encoder_.state_dict().items():
        assert torch.equal(value, before[key])
    assert not any(m._forward_hooks for m in estimator.encoder_.modules())
