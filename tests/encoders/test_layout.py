"""Layout of memory: channels-last inside networks of this package, the caller's own elsewhere."""

import copy

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, rows, small, trained_module
from torch import nn
from torch.nn.utils import parameters_to_vector

from sslearn.encoders import ResNet
from sslearn.encoders._layout import Conv3d, as_channels_last, to_memory_format

KINDS = {1: "series", 2: "image", 3: "volume"}
CHANNELS = {1: 2, 2: 3, 3: 1}


class _Viewed(nn.Module):
    """Ends in the commonest line of torch code, which takes contiguous maps only."""

    def __init__(self, n_dims, width=8):
        super().__init__()
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[n_dims]
        self.layers = nn.Sequential(conv(CHANNELS[n_dims], width, 3), nn.ReLU(), conv(width, 4, 2))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.is_contiguous())
        return self.layers(x).view(x.size(0), -1)


def test_only_networks_of_the_package_are_laid_out():
    own, other = ResNet(3), nn.Conv2d(3, 4, 3)
    to_memory_format(nn.ModuleList([own, other]), channels_last=True)
    assert own.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert other.weight.is_contiguous()
    to_memory_format(own, channels_last=False)
    assert all(p.is_contiguous() for p in own.parameters())


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (6, 1, 4, 5), (1, 1, 1, 1), (1, 2, 1, 7, 3)])
def test_one_sample_has_the_strides_of_many(shape):
    many = as_channels_last(torch.randn(9, *shape[1:]))
    x = torch.randn(shape)
    laid = as_channels_last(x)
    assert torch.equal(laid, x)
    assert laid.stride() == many.stride()
    assert as_channels_last(laid) is laid


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_an_encoder_of_the_callers_gets_contiguous_batches(n_dims):
    X = rows(KINDS[n_dims])
    estimator = small("SimCLR", encoder=_Viewed(n_dims), validation_fraction=0.3).fit(X)
    assert np.isfinite(estimator.transform(X)).all()
    encoder = trained_module(estimator)
    assert all(encoder.seen)
    assert all(p.is_contiguous() for p in encoder.parameters())


def test_an_encoder_of_the_callers_keeps_its_layout():
    encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()).to(memory_format=torch.channels_last)
    trained = trained_module(small("SimCLR", encoder=encoder).fit(rows("image")))
    assert not trained[0].weight.is_contiguous()
    assert trained[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", ["series", "image", "volume"])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_what_is_published_is_contiguous(name, kind):
    X = rows(kind)
    estimator = small(name, embedding_dim=None, max_epochs=1).fit(X)
    encoder = copy.deepcopy(estimator.encoder_)
    assert all(tensor.is_contiguous() for tensor in encoder.state_dict().values())
    parameters_to_vector(encoder.parameters())
    # Fine-tuned by an optimizer that takes the weights as one vector.
    optimizer = torch.optim.LBFGS(encoder.parameters(), max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = encoder(torch.from_numpy(X)).square().mean()
        loss.backward()
        return loss

    before = float(closure().detach())
    optimizer.step(closure)
    assert float(closure().detach()) < before


def _gradients(module, x, times=30):
    """Gradients of equal steps in bfloat16, while memory that is freed holds NaN."""
    rng, found = np.random.default_rng(0), set()
    for _ in range(times):
        freed = [torch.full((int(rng.integers(100, 300_000)),), np.nan) for _ in range(10)]
        del freed
        module.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            y = module(x)
        y.float().square().sum().backward()
        gradients = [parameter.grad.numpy() for parameter in module.parameters()]
        assert all(np.isfinite(gradient).all() for gradient in gradients)
        found.add(b"".join(gradient.tobytes() for gradient in gradients))
    return found


@pytest.mark.parametrize("width", [32, 64])
def test_gradients_of_small_volumes_in_bfloat16(width):
    torch.manual_seed(0)
    x = torch.randn(32, width, 2, 2, 2)
    assert len(_gradients(Conv3d(width, width, 3, padding=1, bias=False), x)) == 1


def test_other_volumes_stay_in_bfloat16():
    conv, dtypes = Conv3d(2, 3, 3, padding=1), []
    with torch.autocast("cpu", torch.bfloat16):
        for size in (2, 3, 4):
            dtypes.append(conv(torch.randn(1, 2, 4, size, 4)).dtype)
    assert dtypes == [torch.float32, torch.bfloat16, torch.bfloat16]
