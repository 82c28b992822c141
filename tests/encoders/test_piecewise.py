"""Piecewise linear encoding of columns."""

import numpy as np
import pytest
import torch

from sslearn.encoders import PiecewiseLinear


def test_bins_by_hand():
    encoding = PiecewiseLinear([[0.0, 1.0, 3.0], [], [-1.0, 1.0]])
    assert (encoding.in_features, encoding.width) == (3, 4)
    x = torch.tensor([[-5.0, 7.0, 0.0], [0.5, -7.0, 9.0], [2.0, 0.0, -1.0], [9.0, 1.0, 1.0]])
    expected = [[0, 0, 7, 0.5], [0.5, 0, -7, 1], [1, 0.5, 0, 0], [1, 1, 1, 1]]
    torch.testing.assert_close(encoding(x), torch.tensor(expected))


def _rows(n=3000):
    rng = np.random.default_rng(0)
    skewed = np.where(rng.random(n) < 0.9, 0.0, rng.exponential(5, n))
    columns = [rng.normal(size=n), rng.integers(0, 2, n), rng.integers(0, 5, n), skewed, np.ones(n)]
    return torch.from_numpy(np.stack(columns, axis=1)).float()


def test_borders_lie_at_the_quantiles():
    rows = _rows()
    encoding = PiecewiseLinear.from_rows(rows, n_bins=8)
    n_outputs = torch.bincount(encoding.column)
    # A normal column: all bins; two values, one value: as they are; five levels: four steps.
    assert n_outputs[[0, 1, 2, 4]].tolist() == [8, 1, 4, 1]
    assert n_outputs[3] >= 4  # nine in ten rows are 0, and the others are told apart too
    outputs = encoding(rows)
    torch.testing.assert_close(outputs.mean(0), torch.zeros(encoding.width), atol=1e-4, rtol=0)
    spread = outputs[:, encoding.column < 3].std(0)
    torch.testing.assert_close(spread, torch.ones_like(spread), atol=1e-3, rtol=0)
    assert outputs[:, encoding.column >= 3].std(0).max() < 1 + 1e-3
    # An eighth of the rows lies in each bin.
    inside = ((rows[:, :1] - encoding.low[:8]) * encoding.slope[:8]).clamp(0, 1)
    share = ((inside > 0) & (inside < 1)).float().mean(0)
    torch.testing.assert_close(share, torch.full((8,), 1 / 8), atol=2e-3, rtol=0)


def test_a_linear_map_of_it_is_any_piecewise_linear_function():
    x = torch.linspace(-2, 2, 401)[:, None]
    encoded = PiecewiseLinear.from_rows(x, n_bins=16)(x)
    design = torch.cat((encoded, torch.ones(len(x), 1)), dim=1)
    wanted = (x.abs() - 0.5).relu()
    fit = design @ torch.linalg.lstsq(design, wanted).solution
    assert (fit - wanted).abs().max() < 0.05
    line = torch.cat((x, torch.ones_like(x)), dim=1)
    assert (line @ torch.linalg.lstsq(line, wanted).solution - wanted).abs().max() > 0.3


def test_many_columns_have_few_bins_or_none():
    torch.manual_seed(0)
    assert PiecewiseLinear.from_rows(torch.randn(500, 100)).width == 1000
    assert PiecewiseLinear.from_rows(torch.randn(500, 600)).width == 600
    assert PiecewiseLinear.from_rows(torch.randn(1, 3)).width == 3  # a single row has no quantiles


def test_extreme_values_stay_within_the_bins():
    encoding = PiecewiseLinear.from_rows(torch.randn(100, 2))
    far = encoding(torch.tensor([[1e30, -1e30]]))
    assert far.isfinite().all()
    assert far.abs().max() < 100


@pytest.mark.parametrize("scale", [1e-40, 1e-6, 1e6])
def test_bins_of_any_scale(scale):
    values = torch.arange(5, dtype=torch.float64).mul(scale).float()
    encoding = PiecewiseLinear([values.tolist()])
    found = encoding(values[:, None])
    assert found.isfinite().all()  # bins of 1e-40 are steeper than float32 can say
    if scale > 1e-30:
        torch.testing.assert_close(found.sum(1), torch.arange(5.0))
    # Far from zero, where one number and the next are a bin.
    near = torch.tensor([1e6, 1e6 + 0.0625, 1e6 + 0.125])
    assert PiecewiseLinear([near.tolist()])(near[:, None]).tolist() == [[0, 0], [1, 0], [1, 1]]


@pytest.mark.parametrize("edges", [[[0.0, 0.0]], [[1.0], [2.0, 1.0]]])
def test_borders_must_increase(edges):
    with pytest.raises(ValueError, match="must hold increasing numbers"):
        PiecewiseLinear(edges)
    with pytest.raises(ValueError, match="The 'n_bins' parameter .* must be an int"):
        PiecewiseLinear.from_rows(torch.randn(5, 2), n_bins=0)


def test_every_output_is_bounded():
    rows = _rows()
    wide = torch.randn(500, 600)  # so many columns that all stay as they are
    for x in (rows, wide):
        encoding = PiecewiseLinear.from_rows(x)
        for far in (1e30, -1e30, 1e38):
            found = encoding(torch.full((1, x.shape[1]), far))
            assert found.isfinite().all()
            assert found.abs().max() < 25
    # What was constant says nothing; two values go on for half their distance.
    encoding = PiecewiseLinear.from_rows(torch.tensor([[1.0, 0.0], [1.0, 4.0]] * 10))
    found = encoding(torch.tensor([[1.0, 0.0], [5.0, 4.0], [-9.0, 6.0], [2.0, 99.0]]))
    assert (found[:, 0] == 0).all()
    assert found[0, 1] == -found[1, 1]
    assert found[2, 1] == found[3, 1] == 2 * found[1, 1]


def test_rows_of_another_width_are_refused():
    encoding = PiecewiseLinear([[0.0, 1.0], [0.0, 1.0]])
    for shape in ((3, 5), (3, 1), (3, 2, 2)):
        with pytest.raises(ValueError, match=r"expects a batch of shape \(n, 2\)"):
            encoding(torch.rand(shape))
    assert encoding(torch.rand(3, 1, 2)).shape == (3, 2)


def test_it_prints_its_sizes():
    assert repr(PiecewiseLinear([[0, 1, 2], [0, 1]])) == "PiecewiseLinear(in_features=2, width=3)"


def test_missing_values_have_bins_of_their_own():
    rows = _rows()
    rows[::4, 0] = torch.nan
    rows[::5, 2] = rows[::5, 3] = torch.nan  # in the same rows: one output for both
    encoding = PiecewiseLinear.from_rows(rows, n_bins=8)
    assert encoding.flagged.tolist() == [0, 2]
    outputs = encoding(rows)
    assert outputs.shape == (3000, encoding.width)
    assert bool(outputs.isfinite().all())
    bins, flags = outputs[:, :-2], outputs[:, -2:]
    assert bool((bins[::4][:, encoding.column == 0] == 0).all())
    for flag, missing in zip(flags.T, rows[:, [0, 2]].isnan().T, strict=True):
        assert flag[missing].min() > flag[~missing].max()
        assert float(flag.mean()) == pytest.approx(0, abs=1e-4)
        assert float(flag.std()) == pytest.approx(1, abs=1e-3)
    # Borders and scales are those of the known values.
    known = PiecewiseLinear.from_rows(rows[~rows[:, 0].isnan()], n_bins=8)
    of_first = encoding.column == 0
    for name in ("low", "slope", "mean", "gain"):
        found, expected = getattr(encoding, name), getattr(known, name)
        torch.testing.assert_close(
            found[: len(encoding.column)][of_first], expected[: len(known.column)][of_first]
        )


def test_columns_that_were_complete_take_missing_values():
    rows = _rows()
    encoding = PiecewiseLinear.from_rows(rows)
    assert not len(encoding.flagged)
    row = rows[:1].clone()
    row[0, :4] = torch.nan
    assert torch.equal(encoding(row), torch.zeros(1, encoding.width))
