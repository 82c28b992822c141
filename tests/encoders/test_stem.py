"""An encoder of a fixed stem and a body: what comes out, and what is set from samples."""

import pytest
import torch
from torch import nn

from sslearn.encoders import KernelBank, StemEncoder, default_encoder
from sslearn.encoders._layout import Linear
from sslearn.encoders._stem import set_batch_statistics


def _encoder(output="both", body_width=5, **params):
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Flatten(), nn.Linear(12, 7)).requires_grad_(False)
    body = nn.Sequential(nn.Linear(7, body_width), nn.BatchNorm1d(body_width), nn.ReLU())
    encoder = StemEncoder(stem, body, stem_width=7, body_width=body_width, output=output, **params)
    return encoder, torch.randn(40, 3, 4)


def test_blocks_of_equal_variance_are_rotated():
    encoder, x = _encoder()
    with torch.no_grad():
        encoder.calibrate(encoder.stem(x))
        fixed, learned = encoder.stem(x), encoder.eval().body(encoder.stem(x))
        found = encoder(x)
    assert found.shape == (40, 16)
    blocks = [
        (block - block.mean(0)) / block.var(0, correction=0).sum().sqrt()
        for block in (fixed, learned)
    ]
    # Of a rotation all distances stay, and a column is a mix of all features.
    expected = torch.cat(blocks, 1)
    torch.testing.assert_close(found @ found.T, expected @ expected.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.var(0, correction=0).sum(), torch.tensor(2.0))
    assert bool((found.mean(0).abs() < 1e-6).all())


def test_the_weight_of_the_stem():
    encoder, x = _encoder(stem_weight=0.5)
    encoder.calibrate(encoder.stem(x))
    with torch.no_grad():
        found = encoder.eval()(x)
    torch.testing.assert_close(found.var(0, correction=0).sum(), torch.tensor(1.25))
    for wrong in (0, -1.0, float("inf"), "half"):
        with pytest.raises(ValueError, match=r"'stem_weight' parameter .* range \(0.0, inf\)"):
            _encoder(stem_weight=wrong)


def test_the_body_alone():
    encoder, x = _encoder("body")
    encoder.calibrate(encoder.stem(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder.body(encoder.stem(x)))
    with pytest.raises(ValueError, match=r"'output' parameter of StemEncoder must be one of 'both"):
        _encoder("stem")


def test_batch_statistics_are_those_of_samples():
    encoder, x = _encoder()
    body = encoder.body.train()
    for _ in range(3):
        body(torch.randn(20, 7) * 5)  # views, say
    inputs = encoder.stem(x)
    set_batch_statistics(body, inputs)
    assert body.training
    assert body[1].training
    assert body[1].momentum == 0.1
    hidden = body[0](inputs)
    torch.testing.assert_close(body[1].running_mean, hidden.mean(0))
    torch.testing.assert_close(body[1].running_var, hidden.var(0))
    # In eval mode the body is then as it was in train mode on these.
    expected = body(inputs)
    set_batch_statistics(body, inputs)
    torch.testing.assert_close(body.eval()(inputs), expected, rtol=0.05, atol=0.05)


def test_frozen_batch_statistics_stay():
    encoder, x = _encoder()
    encoder.body[1]._sslearn_frozen = True
    encoder.calibrate(encoder.stem(x))
    assert torch.equal(encoder.body[1].running_mean, torch.zeros(5))


def test_features_that_are_all_alike():
    encoder, x = _encoder()
    encoder.calibrate(encoder.stem(x[:1].expand(8, -1, -1)))
    assert bool(encoder.eval()(x).isfinite().all())


def test_the_default_encoder_of_series():
    torch.manual_seed(0)
    x = torch.randn(30, 2, 50)
    encoder = default_encoder((2, 50), rows=x)
    assert isinstance(encoder, StemEncoder)
    assert isinstance(encoder.stem.bank, KernelBank)
    assert not list(encoder.stem.parameters())
    assert encoder.eval()(x).shape == (30, 2048)
    assert default_encoder((2, 50), 24, x).eval()(x).shape == (30, 24)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_few_samples_are_computed_as_many(n_threads):
    torch.manual_seed(0)
    layer, x, before = Linear(300, 64), torch.randn(70, 300), torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with torch.no_grad():
            whole = layer(x)
            for n in (1, 3, 11):
                assert torch.equal(layer(x[:n]), whole[:n])
    finally:
        torch.set_num_threads(before)
    assert layer(x[:1]).requires_grad
