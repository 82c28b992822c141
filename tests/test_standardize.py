import copy
import pickle

import numpy as np
import pytest
import torch

from sslearn._standardize import Statistics, check_finite


def _layer(X, standardize=True, size=7):
    batches = torch.from_numpy(X).split(size)
    return Statistics.of(X.shape[1:], batches).layer(standardize)


@pytest.mark.parametrize("shape", [(5,), (3, 20), (3, 6, 7), (2, 3, 4, 5)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_streamed_statistics(shape, scale):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(50, *shape)) * 3 + 1e3) * scale
    axes = (0, *range(2, X.ndim))
    expected = (X - X.mean(axes, keepdims=True)) / X.std(axes, keepdims=True)
    for size in (1, 7, 50):
        layer = _layer(X, size=size)
        out = layer(torch.from_numpy(X))
        assert out.dtype == torch.float32
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [50, 150, 1000, 5000])
def test_constants_are_only_centred(n, dtype):
    values = np.random.default_rng(0).normal(size=40).round(2)
    for shape in ((40,), (40, 3), (40, 2, 2)):
        X = np.empty((n, *shape), dtype=dtype)
        X[:] = values.reshape(-1, *(1 for _ in shape[1:]))
        x = torch.from_numpy(X)
        for size in (64, n):
            layer = _layer(X, size=size)
            torch.testing.assert_close(layer.gain, torch.ones_like(layer.gain))
            torch.testing.assert_close(layer(x), torch.zeros(x.shape))
            torch.testing.assert_close(layer(x + 1), torch.ones(x.shape))


def test_a_channel_has_one_mean():
    X = np.random.default_rng(0).normal(size=(9, 3, 4, 4))
    assert _layer(X).shift.shape == (3, 1, 1)
    assert _layer(X[:, :, 0]).shift.shape == (3, 1)
    assert _layer(X[:, :, 0, 0]).shift.shape == (3,)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e9 + 0.1, -1e-300])
def test_constant_features_are_only_centred(value):
    X = np.random.default_rng(0).normal(size=(1001, 3))
    X[:, 1] = value
    layer = _layer(X)
    out = layer(torch.from_numpy(X))
    assert out[:, 1].abs().max() < 1e-5
    moved = X.copy()
    moved[:, 1] += 2.0
    np.testing.assert_allclose(layer(torch.from_numpy(moved))[:, 1], 2.0, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_zeros_and_ones_of_a_table_are_only_centred(dtype):
    x = torch.zeros(1000, 3)
    x[0, 0] = x[::2, 1] = 1
    x = x.to(dtype)
    parts = [x[:300], x[300:]]
    z = Statistics.of((3,), parts).layer()(x)
    torch.testing.assert_close(z, x.float() - x.float().mean(0))
    # Another value, and the feature is one like others.
    other = torch.cat((x.float(), torch.tensor([[0.5, 2.0, 0.0]])))
    z = Statistics.of((3,), [other]).layer()(other)
    torch.testing.assert_close(z[:, :2].std(0, correction=0), torch.ones(2))


def test_bytes_of_images_become_zero_to_one():
    X = np.random.default_rng(0).integers(0, 256, size=(20, 3, 5, 5)).astype(np.uint8)
    layer = _layer(X)
    unit = layer.unit(torch.from_numpy(X))
    np.testing.assert_allclose(unit, X / 255, rtol=1e-6)
    np.testing.assert_allclose(
        layer.normalize(unit), layer(torch.from_numpy(X)), rtol=1e-4, atol=1e-5
    )
    plain = _layer(X, standardize=False)
    np.testing.assert_allclose(plain(torch.from_numpy(X)), X / 255, rtol=1e-6)
    np.testing.assert_allclose(plain.normalize(plain.unit(torch.from_numpy(X))), X / 255, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
def test_other_images_become_zero_to_one_by_their_range(dtype):
    X = np.random.default_rng(0).integers(-1000, 3000, size=(20, 1, 5, 5)).astype(dtype)
    unit = _layer(X).unit(torch.from_numpy(X))
    assert unit.dtype == torch.float32
    assert float(unit.min()) == 0.0
    assert float(unit.max()) == pytest.approx(1.0)
    # Not standardised, the views see [0, 1] all the same, and the encoder the rows as they are.
    off = _layer(X, standardize=False)
    torch.testing.assert_close(off.unit(torch.from_numpy(X)), unit)
    np.testing.assert_array_equal(off(torch.from_numpy(X)), X.astype(np.float32))
    np.testing.assert_allclose(off.normalize(unit), X.astype(np.float32), rtol=1e-5, atol=1e-3)


def test_tables_and_series_are_standardised_before_the_views():
    X = np.random.default_rng(0).normal(5, 3, size=(20, 4))
    layer = _layer(X)
    x = torch.from_numpy(X)
    assert torch.equal(layer.unit(x), layer(x))
    assert layer.normalize(x) is x
    assert torch.equal(_layer(X, standardize=False)(x), x.float())


def test_statistics_are_not_rounded_by_a_cast():
    X = 1.7e9 + np.random.default_rng(0).uniform(0, 100, size=(64, 2))
    layer = _layer(X)
    expected = layer(torch.from_numpy(X))
    for other in (copy.deepcopy(layer).half(), pickle.loads(pickle.dumps(layer)).bfloat16()):
        assert torch.equal(other(torch.from_numpy(X)), expected)


@pytest.mark.parametrize("scale", [1e-39, 1e38])
def test_the_ends_of_float32(scale):
    X = (np.random.default_rng(0).uniform(-3, 3, size=(50, 2)) * scale).astype(np.float32)
    out = _layer(X)(torch.from_numpy(X))
    X = X.astype(np.float64)
    np.testing.assert_allclose(out, (X - X.mean(0)) / X.std(0), rtol=1e-3, atol=1e-4)


def test_check_finite():
    check_finite(torch.full((4, 1), 3e38), "X")
    check_finite(torch.full((4, 1), 6e4, dtype=torch.float16), "X")
    check_finite(torch.full((4, 1), 2**62, dtype=torch.int64), "X")
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        with pytest.raises(ValueError, match="NaN"):
            check_finite(torch.tensor([[1.0, float("nan")]], dtype=dtype), "X")
        with pytest.raises(ValueError, match="infinity"):
            check_finite(torch.tensor([[float("inf"), 1.0]], dtype=dtype), "X")
