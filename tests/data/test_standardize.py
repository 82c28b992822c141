import copy
import functools
import pickle

import numpy as np
import pytest
import torch

from sslearn._data._standardize import check_values
from sslearn._data._statistics import Statistics


def _layer(X, standardize=True, size=7):
    batches = torch.from_numpy(X).split(size)
    return Statistics.from_batches(X.shape[1:], batches).layer(standardize)


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
            # A feature that taught nothing says nothing later.
            torch.testing.assert_close(layer(x + 1), torch.zeros(x.shape), atol=1e-5, rtol=0)


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
    np.testing.assert_allclose(layer(torch.from_numpy(moved))[:, 1], 0.0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_zeros_and_ones_of_a_table_are_only_centred(dtype):
    x = torch.zeros(1000, 3)
    x[0, 0] = x[::2, 1] = 1
    x = x.to(dtype)
    parts = [x[:300], x[300:]]
    z = Statistics.from_batches((3,), parts).layer()(x)
    torch.testing.assert_close(z, x.float() - x.float().mean(0))
    # Another value, and the feature is one like others.
    other = torch.cat((x.float(), torch.tensor([[0.5, 2.0, 0.0]])))
    z = Statistics.from_batches((3,), [other]).layer()(other)
    torch.testing.assert_close(z[:, :2].std(0, correction=0), torch.ones(2))


def test_bytes_of_images_become_zero_to_one():
    X = np.random.default_rng(0).integers(0, 256, size=(20, 3, 5, 5)).astype(np.uint8)
    layer = _layer(X)
    unit = layer.unit(torch.from_numpy(X))
    np.testing.assert_allclose(unit, X / 255, rtol=1e-6)
    np.testing.assert_allclose(
        layer.normalize(unit), layer(torch.from_numpy(X)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(layer.denormalize(layer.normalize(unit)), unit)
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
    assert layer.denormalize(x) is x
    assert torch.equal(_layer(X, standardize=False)(x), x.float())


def test_statistics_are_not_rounded_by_a_cast():
    X = 1.7e9 + np.random.default_rng(0).uniform(0, 100, size=(64, 2))
    layer = _layer(X)
    expected = layer(torch.from_numpy(X))
    for other in (copy.deepcopy(layer).half(), pickle.loads(pickle.dumps(layer)).bfloat16()):
        found = other(torch.from_numpy(X))
        assert torch.equal(found, expected.to(found.dtype))
        assert torch.equal(other.float()(torch.from_numpy(X)), expected)


@pytest.mark.parametrize("scale", [1e-39, 1e38])
def test_the_ends_of_float32(scale):
    X = (np.random.default_rng(0).uniform(-3, 3, size=(50, 2)) * scale).astype(np.float32)
    out = _layer(X)(torch.from_numpy(X))
    X = X.astype(np.float64)
    np.testing.assert_allclose(out, (X - X.mean(0)) / X.std(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("allow_nan", [False, True])
def test_check_values(allow_nan):
    check = functools.partial(check_values, estimator_name="X", allow_nan=allow_nan)
    assert check(torch.full((4, 1), 3e38)).largest == float(torch.tensor(3e38))
    assert check(torch.full((4, 1), 6e4, dtype=torch.float16)).missing is None
    check(torch.full((4, 1), 2**62, dtype=torch.int64))
    nan, infinity = float("nan"), float("inf")
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        with pytest.raises(ValueError, match="infinity"):
            check(torch.tensor([[infinity, 1.0]], dtype=dtype))
        if allow_nan:
            found = check(torch.tensor([[1.0, nan], [-3.0, 2.0]], dtype=dtype))
            assert found == (3.0, "feature 1 (of 0 to 1) and maybe others")
            with pytest.raises(ValueError, match="infinity, in feature 0"):
                check(torch.tensor([[infinity, nan]], dtype=dtype))
            continue
        with pytest.raises(ValueError, match="NaN"):
            check(torch.tensor([[1.0, nan]], dtype=dtype))


DTYPES = [torch.uint8, torch.int16, torch.int64, torch.float32, torch.float64]


@pytest.mark.parametrize("shape", [(4,), (2, 10), (1, 8, 8), (3, 8, 8), (2, 3, 4, 5)])
@pytest.mark.parametrize("highest", [1, 16, 200, 255])
@pytest.mark.parametrize("standardize", [True, False])
def test_the_same_numbers_give_the_same_bits_in_every_dtype(shape, highest, standardize):
    x = torch.from_numpy(np.random.default_rng(0).integers(0, highest + 1, size=(50, *shape)))
    found = []
    for dtype in DTYPES:
        layer = Statistics.from_batches(shape, x.to(dtype).split(20)).layer(standardize)
        made = layer(x.to(dtype)), layer.unit(x.to(dtype))
        found.append((*made, layer.normalize(made[1])))
        assert torch.equal(layer(x.double()), made[0])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_the_numbers_decide_what_is_a_byte():
    x = np.random.default_rng(0).integers(0, 256, size=(50, 2, 6, 6)).astype(np.float64)
    for dim, low, high in (
        (x, 0, 255),
        (x.clip(0, 129), 0, 255),
        (x.clip(0, 128), 0, 128),
        (x + 1, 1, 256),
        (x / 2, 0, 127.5),
        (x - 1, -1, 254),
    ):
        unit = _layer(dim).unit(torch.from_numpy(dim))
        expected = (dim - low) / (high - low)
        np.testing.assert_allclose(unit, expected, rtol=0, atol=1e-6)


def test_each_band_has_its_own_range_but_for_photographs():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(60, 3, 5, 5))
    photograph = x * [[[[1.0]], [[0.9]], [[0.8]]]]
    layer = _layer(photograph)
    assert layer.is_photograph
    unit = layer.unit(torch.from_numpy(photograph))
    assert unit[:, 2].max() < 0.85
    bands = x * [[[[1e4]], [[20.0]], [[1.0]]]] - [[[[0.0]], [[25.0]], [[0.0]]]]
    layer = _layer(bands)
    assert not layer.is_photograph
    unit = layer.unit(torch.from_numpy(bands))
    for band in unit.unbind(1):
        assert float(band.min()) == 0
        assert float(band.max()) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        layer.normalize(unit), layer(torch.from_numpy(bands)), rtol=1e-3, atol=1e-4
    )
    assert _layer(rng.integers(0, 256, size=(50, 3, 5, 5)).astype(np.uint8)).is_photograph


@pytest.mark.parametrize("shape", [(4,), (4, 20), (4, 5, 5)])
@pytest.mark.parametrize("fill", [1e6, 9.96921e36, 1e200, -1.7e308])
def test_one_bad_row_moves_nothing(shape, fill):
    X = np.random.default_rng(0).normal(size=(300, *shape))
    clean = _layer(X)
    x = torch.from_numpy(X[1:])
    expected, unit = clean(x), clean.unit(x)
    X[0] = fill
    bad = _layer(X)
    # (Of series and images the deviation is that of a subsample of positions.)
    assert (bad(x) - expected).abs().max() < 0.05
    assert (bad.unit(x) - unit).abs().max() < 0.3  # of the outer quantiles, not the extremes
    assert bad(torch.from_numpy(X)).abs().max() < 100
    assert bad.unit(torch.from_numpy(X)).abs().max() < 100


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_offsets_are_subtracted_exactly(dtype):
    rng = np.random.default_rng(0)
    columns = [
        1.7e9 + 128 * rng.integers(0, 2, 4000),
        101325 + rng.normal(0, 0.01, 4000),
        5e6 + rng.normal(size=4000),
    ]
    X = np.stack(columns, axis=1).astype(np.float32).astype(dtype)
    z = _layer(X, size=1000)(torch.from_numpy(X)).double()
    assert z.mean(0).abs().max() < 1e-6
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3).double(), rtol=1e-6, atol=0)
    other = X.astype(np.float64 if dtype is np.float32 else np.float32)
    assert torch.equal(_layer(other, size=1000)(torch.from_numpy(other)).double(), z)


def test_skewed_columns_keep_their_values_apart():
    rng = np.random.default_rng(0)
    X = np.stack((np.exp(5 * rng.normal(size=4000)), rng.pareto(0.3, 4000)), axis=1)
    z = _layer(X, size=1000)(torch.from_numpy(X))
    assert min(len(column.unique()) for column in z.T) > 3900


def test_what_the_noise_drowns_is_named():
    rng = np.random.default_rng(0)

    def drowned(X, noise=0.1):
        statistics = Statistics.from_batches(X.shape[1:], torch.from_numpy(X).split(100))
        return statistics.drowned(statistics.layer(), noise)

    series = rng.normal(size=(300, 2, 40))
    assert drowned(series) is None
    few = series.copy()
    few[::5] *= 1e4  # too many to be errors, and all that is left of the rest is noise
    assert drowned(few) == "80% of the samples differ"
    assert drowned(few, 0.0) is None
    band = series.copy()
    band[:250, 1] *= 1e-4
    assert drowned(band) is None
    band[:295, 1] *= 1e-4
    assert drowned(band[:, :, :]) in ("channel 1 differs", None)
    images = rng.uniform(size=(300, 2, 6, 6))
    assert drowned(images) is None
    images[:290, 1] *= 1e-3
    assert drowned(images) == "channel 1 differs"
    # Columns that are zero in most rows have nothing to lose.
    table = np.where(rng.uniform(size=(300, 4)) < 0.95, 0, rng.exponential(5, size=(300, 4)))
    assert drowned(table) is None
    assert drowned(np.ones((50, 3))) is None


def test_the_dtype_of_the_layers_behind():
    layer = _layer(np.random.default_rng(0).normal(size=(30, 2)))
    x = torch.zeros(3, 2)
    for cast, dtype in (
        ("half", torch.float16),
        ("bfloat16", torch.bfloat16),
        ("double", torch.float64),
    ):
        assert getattr(copy.deepcopy(layer), cast)()(x).dtype == dtype
        assert copy.deepcopy(layer).to(dtype)(x).dtype == dtype
    assert copy.deepcopy(layer).to("cpu")(x).dtype == torch.float32


def test_it_prints_what_it_holds_in_one_line():
    rng = np.random.default_rng(0)
    assert repr(_layer(rng.normal(size=(50, 9, 20)))) == "Standardize(9 channels, scaled, clipped)"
    table = rng.normal(size=(50, 1))
    assert repr(_layer(table)) == "Standardize(1 feature, scaled, clipped)"
    assert repr(_layer(table, standardize=False)) == "Standardize(1 feature, not scaled)"
    # Bytes are divided by 255 all the same.
    pixels = rng.integers(256, size=(50, 3, 8, 8), dtype=np.uint8)
    assert repr(_layer(pixels, standardize=False)) == "Standardize(3 channels, scaled)"
