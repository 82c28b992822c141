"""Fixed features of tables: against their definitions, and one row as many."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sslearn import SimCLR
from sslearn.encoders import (
    MLP,
    DiffusionMap,
    HadamardRotation,
    StemEncoder,
    TableBank,
    default_encoder,
)
from sslearn.encoders._table_bank import LogTails


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=300, n_columns=6):
    return torch.randn(n, n_columns, generator=seeded(1))


def _slow_diffusion(x, new, neighbour, n_coordinates):
    """Coordinates in float64: eigenvectors of the transitions, and means of them for new rows."""
    x, new = x.double().numpy(), new.double().numpy()

    def distances(rows):
        return np.sqrt(((rows[:, None] - x[None]) ** 2).sum(2))

    width = np.sort(distances(x), axis=1)[:, neighbour]
    weights = np.exp(-(distances(x) ** 2) / np.outer(width, width))
    transitions = weights / weights.sum(1, keepdims=True)
    values, vectors = np.linalg.eig(transitions)
    order = np.argsort(-values.real)[1 : n_coordinates + 1]
    vectors = vectors.real[:, order]
    # Of unit mean square under the stationary distribution.
    share = weights.sum(1) / weights.sum()
    vectors /= np.sqrt(share @ vectors**2)
    near = np.sort(distances(new), axis=1)[:, neighbour]
    weights = np.exp(-(distances(new) ** 2) / np.outer(near, width))
    return (weights / weights.sum(1, keepdims=True)) @ vectors


def test_coordinates_are_those_of_the_definition():
    x, new = rows(120), rows(40, 6) * 0.8
    found = DiffusionMap.from_samples(x, 5)(new).double().numpy()
    expected = _slow_diffusion(x, new, 10, 5)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, rtol=1e-3, atol=1e-4)


def test_two_groups_are_the_two_signs_of_the_first_coordinate():
    x = torch.cat((rows(200), rows(200) + 6))
    first = DiffusionMap.from_samples(x, generator=seeded())(x)[:, 0]
    assert (first[:200].sign() == first[0].sign()).all()
    assert (first[200:].sign() == -first[0].sign()).all()


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_are_not_joined_at_all_are_distinguished(seed):
    # Their eigenvalues are all 1, as that of the constant coordinate.
    x = torch.cat([rows(60) + shift for shift in (0, 300, 1000)])
    found = DiffusionMap.from_samples(x, 2, generator=seeded(seed))(x).view(3, 60, 2)
    assert found.std(1).max() < 1e-3
    assert torch.pdist(found.mean(1)).min() > 0.5


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(5, 3),
        torch.ones(2, 3),
        torch.eye(2).repeat(50, 1),
        torch.cat((torch.zeros(99, 2), torch.full((1, 2), 1e4))),
        torch.zeros(40, 1),
    ],
    ids=["constant", "two", "equal", "far", "one column"],
)
def test_degenerate_rows(x):
    bank = TableBank.from_rows(x, generator=seeded())
    for given in (x, x + 1e6, x[:1] - 5):
        assert bool(bank(given).isfinite().all())
        assert bool((bank(given).abs() <= 10).all())


def test_fewer_rows_than_coordinates():
    x = rows(20)
    found = DiffusionMap.from_samples(x, 64)(x)
    assert found.shape == (20, 64)
    assert bool((found[:, 19:] == 0).all())
    assert bool(found[:, :19].std(0).gt(0).all())


@pytest.mark.parametrize("n_threads", [1, 2])
def test_one_row_is_computed_as_many(n_threads):
    x, before = rows(70, 9), torch.get_num_threads()
    bank = TableBank.from_rows(x, generator=seeded())
    torch.set_num_threads(n_threads)
    try:
        with torch.no_grad():
            whole = bank(x)
            for n in (1, 3, 11):
                assert torch.equal(bank(x[:n]), whole[:n])
            assert torch.equal(torch.cat([bank(row[None]) for row in x]), whole)
    finally:
        torch.set_num_threads(before)


def test_a_bank_repeats_and_survives():
    x = rows()
    first, again = (TableBank.from_rows(x, generator=seeded()) for _ in range(2))
    assert torch.equal(first(x), again(x))
    many = rows(1200)
    one, other = (TableBank.from_rows(many, generator=seeded(seed)) for seed in (0, 1))
    assert not torch.equal(one(x), other(x))  # other landmarks
    assert torch.equal(pickle.loads(pickle.dumps(first))(x), first(x))
    assert not list(first.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(first(x), again(x))


def test_long_tails_are_logarithms():
    x = rows(200, 4)
    x[:, 1] = torch.where(x[:, 1] > 1, x[:, 1].exp() ** 3, 0.0)  # mostly zero, else large
    x[:, 2] = (x[:, 2] > 1).float()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    assert x[:, 1].max() > 8
    tails = LogTails(x)
    assert tails.is_long.tolist() == [False, True, False, False]
    found = tails(x)
    assert torch.equal(found[:, [0, 2, 3]], x[:, [0, 2, 3]])
    assert found[:, 1].max() < 0.75 * x[:, 1].max()
    assert found[:, 1].mean().abs() < 1e-5
    assert found[:, 1].std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert torch.equal(found[:, 1].argsort(stable=True), x[:, 1].argsort(stable=True))


def test_scales_of_the_blocks():
    x = rows()
    bank = TableBank.from_rows(x, n_coordinates=8, generator=seeded())
    assert bank.widths == (6, 8, 96)
    columns, diffusion, bins = bank(x).split(bank.widths, dim=1)
    torch.testing.assert_close(columns, x - x.mean(0))
    torch.testing.assert_close(bins, bank.bins(x), rtol=0, atol=1e-5)
    deviations = diffusion.std(0, correction=0)
    assert deviations.max().item() == pytest.approx(1, abs=1e-4)
    assert deviations.argmax() == 0


def test_many_columns_are_mixed():
    bank = TableBank.from_rows(rows(50, 1100), generator=seeded())
    assert isinstance(bank.columns, HadamardRotation)
    assert bank.widths == (1024, 32, 1100)


@pytest.mark.parametrize(("n_columns", "width"), [(3, 512), (96, 512), (97, 1024), (1500, 2048)])
def test_the_default_encoder_of_tables(n_columns, width):
    x = rows(40, n_columns)
    encoder = default_encoder((n_columns,), rows=x)
    assert isinstance(encoder, StemEncoder)
    assert isinstance(encoder.stem, TableBank)
    assert encoder.eval()(x).shape == (40, width)
    assert encoder.stem_blocks == encoder.stem.widths[:2]


def test_the_learned_layer_alone_and_no_rows():
    x = rows(40, 5)
    assert default_encoder((5,), 16, x).eval()(x).shape == (40, 16)
    assert isinstance(default_encoder((5,)), MLP)


def test_an_estimator_looks_at_training_rows_only():
    X = rows(200, 3).numpy()
    model = SimCLR(max_epochs=1, validation_fraction=0.5, random_state=0, device="cpu").fit(X)
    landmarks = model.encoder_.features.module.stem.diffusion.landmarks
    standardised = model.encoder_.standardize(torch.from_numpy(X))
    used = (torch.cdist(standardised.double(), landmarks.double()) < 1e-6).any(1)
    assert len(landmarks) == used.sum() == 100
    again = SimCLR(max_epochs=1, validation_fraction=0.5, random_state=0, device="cpu").fit(X)
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


def test_extremes_of_all_rows_are_seen():
    # A column that is not zero in 4 rows of 20,000, which the rows looked at have none of.
    X = np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    X[:, 1] = 0
    X[:4, 1] = 50
    model = SimCLR(max_epochs=0, random_state=0, device="cpu").fit(X)
    features = model.transform(X)
    assert np.abs(features[:4]).max() < 10 * np.abs(features[4:]).max()
    distances = np.linalg.norm(features[:4, None] - features[None, 4:1000], axis=2)
    assert distances.min() > 0.1


@pytest.mark.parametrize("n_blocks", [2, 3])
def test_blocks_of_a_stem_have_equal_variance(n_blocks):
    x = rows()
    bank = TableBank.from_rows(x, n_coordinates=8, generator=seeded())
    blocks = bank.widths[:n_blocks]
    encoder = StemEncoder(bank, nn.Linear(110, 4), stem_width=110, body_width=4, stem_blocks=blocks)
    encoder.calibrate(bank(x))
    fixed = (bank(x)[:, : sum(blocks)] - encoder.stem_mean) * encoder.stem_gain
    for block in fixed.split(blocks, dim=1):
        assert block.var(0, correction=0).sum().item() == pytest.approx(1, rel=1e-4)
    with torch.no_grad():
        found = encoder(x)
    assert found.shape == (300, {2: 32, 3: 128}[n_blocks])
    assert found.var(0, correction=0).sum().item() == pytest.approx(n_blocks + 1, rel=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((6, 41), "at most stem_width = 46"),
        ((), "non-empty sequence of ints"),
        ((6, -1), r"ints in the range \[1, inf\). Got \(6, -1\)"),
        ((2.5, 3), r"ints in the range \[1, inf\). Got \(2.5, 3\)"),
    ],
)
def test_wrong_blocks_are_refused(wrong, message):
    with pytest.raises(ValueError, match=f"'stem_blocks' parameter .* {message}"):
        StemEncoder(nn.Identity(), nn.Identity(), stem_width=46, body_width=4, stem_blocks=wrong)


def test_missing_values_of_a_table():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(400, 5, generator=generator)
    rows[:, 4] = torch.where(torch.rand(400, generator=generator) < 0.9, 0.0, rows[:, 4].exp() * 9)
    complete = TableBank.from_rows(rows, generator=torch.Generator().manual_seed(1))
    holes = rows.clone()
    holes[::6, 0] = holes[::9, 4] = torch.nan
    bank = TableBank.from_rows(holes, generator=torch.Generator().manual_seed(1))
    assert bank.takes_nan
    assert bool(bank.tails.is_long[4])
    for found in (bank, complete):
        features = found(holes)
        assert bool(features.isfinite().all())
        assert float(features.abs().max()) <= 10
        # A missing value of a column comes out as the column's mean.
        column = features[:, 0]
        assert bool((column[::6] == column[0]).all())
        assert float(column[0]) == pytest.approx(0, abs=0.1)
    assert bank.widths[2] == complete.widths[2] + 2
    tails = bank.tails(holes)
    assert torch.equal(tails.isnan(), holes.isnan())
    known = tails[:, 4][~tails[:, 4].isnan()]
    assert float(known.mean()) == pytest.approx(0, abs=1e-4)
    assert float(known.std(correction=0)) == pytest.approx(1, abs=1e-3)
