"""Moments of maps: values and gradients beside autograd's, and what else goes through a module."""

import io

import pytest
import torch

from sslearn.encoders import ResNet
from sslearn.encoders._moments import moments

SHAPES = [(4, 3, 10), (4, 3, 1), (4, 3, 5, 6), (2, 3, 4, 5, 6)]


def rows(shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape):
    x = rows(shape).requires_grad_()
    mean, variance = moments(x)
    flat = x.detach().flatten(2)
    torch.testing.assert_close(mean, flat.mean(2))
    torch.testing.assert_close(variance, flat.var(2, correction=0))
    assert torch.autograd.gradcheck(moments, (x,))
    if variance.min() > 0.1:  # of one position it is 0, where the gradient jumps
        assert torch.autograd.gradgradcheck(moments, (x,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    x = rows((4, 3, 2000), dtype).add(8).requires_grad_()
    mean, variance = moments(x)
    assert mean.dtype == variance.dtype == torch.float32
    torch.testing.assert_close(mean, x.detach().float().mean(2))
    torch.testing.assert_close(variance, x.detach().float().var(2, correction=0), rtol=1e-3, atol=0)
    variance.sum().backward()
    assert x.grad.dtype == dtype


def test_gradients_keep_the_layout():
    # In another one, what comes next in the backward pass is several times slower.
    x = rows((2, 3, 4, 5)).contiguous(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(sum(part.sum() for part in moments(x)), x)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_gradients_of_each_sample():
    x = rows((5, 3, 10))

    def loss(sample):
        mean, variance = moments(sample[None])
        return (mean * variance).sum()

    each = torch.func.vmap(torch.func.grad(loss))(x)
    whole = x.clone().requires_grad_()
    mean, variance = moments(whole)
    (mean * variance).sum().backward()
    torch.testing.assert_close(each, whole.grad)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of the checks of the shape
def test_traced_encoders_can_be_saved():
    encoder = ResNet(2, n_dims=1, width=4, embedding_dim=5, pool="statistics", rescale=True).eval()
    x = rows((3, 2, 20), torch.float32)
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(encoder, x), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), encoder(x))
