from collections import Counter

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, rows, small
from torch.utils.data import DataLoader, TensorDataset

from sslearn._data._batches import Batches
from sslearn._data._groups import Groups, read_groups
from sslearn._data._rows import Rows
from sslearn._data._statistics import Statistics
from sslearn._data._training_data import TrainingData
from sslearn._objective import Objective
from sslearn.augment import GaussianNoise

CODES = torch.tensor([0, 1, 2, 0, 1, 1, 3, 1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_partners_are_all_others_of_the_group_alike_often():
    groups = Groups(CODES)
    assert len(groups) == 4
    index = torch.tensor([1, 0, 2, 7]).repeat(3000)
    drawn = groups.partners(index, seeded()).view(-1, 4)
    assert set(drawn[:, 1].tolist()) == {3}
    assert set(drawn[:, 2].tolist()) == {2}  # alone
    for column, others in ((0, {4, 5, 7}), (3, {1, 4, 5})):
        counts = Counter(drawn[:, column].tolist())
        assert set(counts) == others
        assert min(counts.values()) > 900
    assert groups.of(torch.tensor([6, 0, 5])).tolist() == [3, 0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_whole_groups_are_held_out(seed):
    codes = torch.arange(100) // 5
    trained_on, held_out = Groups(codes).split(0.3, seed)
    assert not set(codes[trained_on].tolist()) & set(codes[held_out].tolist())
    assert torch.cat((trained_on, held_out)).sort().values.tolist() == list(range(100))
    assert len(held_out) == 30
    # In the order of X a batch would be of one group alone, whose samples have no negatives.
    assert not torch.equal(held_out, held_out.sort().values)
    assert torch.equal(held_out, Groups(codes).split(0.3, seed)[1])
    assert not torch.equal(held_out, Groups(codes).split(0.3, seed + 1)[1])


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_two_groups_or_more_are_on_both_sides(fraction):
    for seed in range(5):
        for part in Groups(CODES).split(fraction, seed):
            assert len(CODES[part].unique()) == 2
    with pytest.raises(ValueError, match="holds out whole groups, two or more, .* Got 3 groups"):
        Groups(torch.tensor([0, 1, 2, 2])).split(fraction, 0)


def test_groups_that_cannot_be_used():
    X = np.zeros((4, 2))
    assert read_groups(None, Rows(X)) is None
    with pytest.raises(ValueError, match=r"must give the group of each .* positives='group'. Got"):
        read_groups(None, Rows(X), in_pairs=True)
    with pytest.raises(ValueError, match="two samples or more the same label .* 4 .* of 4 samples"):
        read_groups(list("abcd"), Rows(X), in_pairs=True)
    loader = DataLoader(TensorDataset(torch.randn(24, 6)), batch_size=8)
    with pytest.raises(ValueError, match="'groups' parameter needs samples with numbers, not an"):
        small("SimCLR").fit(loader, groups=list(range(24)))
    model = small("SimCLR")
    for groups, message in (
        ([0, 1], r"each of the 24 samples. Got shape \(2,\)"),
        ([0] * 24, "Got one for all"),
        ([np.nan, *range(23)], "Got missing values for 1 of 24"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(rows("table"), groups=groups)
        assert not hasattr(model, "input_shape_")


def _pairs(kind="table", held_out=None, n_kept=0, n=12, codes=None):
    """Batches in which a view is the sample plus a thousandth of noise, of groups of three."""
    X = np.random.default_rng(0).normal(size=rows(kind, n=n).shape)
    source = Rows(X)
    standardize = Statistics.from_batches(source.sample_shape, source.slices(5)).layer()
    data = TrainingData(source, held_out, standardize, torch.device("cpu"))
    data.groups = Groups(torch.arange(n) // 3 if codes is None else codes)
    augment = GaussianNoise(1e-4)
    return Batches(data, augment, 2, pairs_of_groups=True, n_kept=n_kept)


def _number(views, data):
    """Which samples views were taken from."""
    clean = data.clean(data.rows.take(torch.arange(data.n_rows)))
    return torch.cdist(views.flatten(1), clean.flatten(1)).argmin(1)


@pytest.mark.parametrize("kind", ["table", "image"])
def test_the_second_view_is_of_another_sample_of_the_group(kind):
    batches = _pairs(kind)
    index = torch.tensor([4, 0, 11, 7])
    seen = set()
    for seed in range(8):
        batch = batches.make(index, seeded(seed))
        first, second = (_number(view, batches.data) for view in batch.views)
        assert torch.equal(first, index)
        assert torch.equal(second // 3, index // 3)
        assert not (second == index).any()
        assert torch.equal(batch.groups, index // 3)
        seen.add(tuple(second.tolist()))
    assert len(seen) > 2


@pytest.mark.parametrize("part", [None, torch.tensor([0, 1, 2, 6, 7, 8, 9, 10, 11])])
def test_so_it_is_where_views_are_computed_once(part):
    batches = _pairs(held_out=part, n_kept=4)
    batches.data.put_stem(torch.nn.Identity(), batches.data.input_shape, few_layers=True)
    batches.prepare(4, seeded(), lambda: None)
    index = torch.tensor([9, 0, 11, 7])
    for seed in range(4):
        batch = batches.make(index, seeded(seed))
        first, second = (_number(view, batches.data) for view in batch.views)
        assert torch.equal(first, index)
        assert torch.equal(second // 3, index // 3)
        assert not (second == index).any()
        assert torch.equal(batch.groups, index // 3)


class _Seen(Objective):
    """Takes note of the groups of each batch, and of its mode."""

    def __init__(self, made):
        super().__init__(made.encoder)
        self.made, self.n_views, self.phases = made, made.n_views, made.phases
        self.pieces = made.pieces
        self.log = []

    @property
    def features(self):
        return self.made.features

    def batch_loss(self, batch):
        self.log.append((self.training, batch.groups, batch.index))
        return self.made.batch_loss(batch)


def _watched(name, **params):
    model, kept = small(name, **params), []

    class Watched(type(model)):
        def _make_objective(self, encoder, data):
            kept.append(_Seen(super()._make_objective(encoder, data)))
            return kept[0]

    model.__class__ = Watched
    return model, kept


@pytest.mark.parametrize("name", ["SimCLR", "CPC"])
def test_batches_know_their_groups(name):
    X, groups = rows("series", n=40), np.repeat(list("abcdefgh"), 5)
    model, kept = _watched(name, validation_fraction=0.25)
    model.fit(X, groups=groups)
    sides = {True: set(), False: set()}
    for training, of, index in kept[0].log:
        assert [groups[i] for i in index.tolist()] == [list("abcdefgh")[g] for g in of.tolist()]
        sides[training] |= set(of.tolist())
        assert training or len(set(of.tolist())) > 1
    assert len(sides[True]) == 6
    assert len(sides[False]) == 2
    assert not sides[True] & sides[False]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_groups_of_one_sample_change_nothing_and_others_do(name):
    X = rows("series" if name == "CPC" else "table", n=40)
    alone, without, of = (
        small(name, max_epochs=1).fit(X, groups=groups).loss_curve_
        for groups in (range(40), None, np.arange(40) % 4)
    )
    np.testing.assert_allclose(alone, without, rtol=1e-5)
    has_negatives = name in ("SimCLR", "MoCo", "CPC", "AMDIM", "LFR")
    assert np.allclose(of, without, rtol=1e-4) != has_negatives


def test_the_queue_leaves_out_earlier_keys_of_the_group():
    kept = []

    class Kept(ESTIMATORS["MoCo"]):
        def _publish(self, objective):
            kept.append(objective.queue)

    model = small("MoCo", max_epochs=3)
    model.__class__ = Kept
    groups = np.repeat(np.arange(8), 5)
    model.fit(rows("table", n=40), groups=groups)
    assert set(kept[0].rows.tolist()) == set(range(8))


def test_lfr_leaves_out_pairs_only_where_its_loss_has_some():
    X, groups = rows("table", n=40), np.arange(40) % 4
    for loss in ("cosine", lambda p, z: (p - z).square().mean()):
        with_groups, without = (
            small("LFR", loss=loss).fit(X, groups=of).transform(X) for of in (groups, None)
        )
        np.testing.assert_array_equal(with_groups, without)


PAIRED = ["SimCLR", "BYOL", "SimSiam", "BarlowTwins", "VICReg", "MoCo", "AMDIM"]


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_of_a_group_for_every_method_of_two_views(name):
    X, groups = rows("series", n=32), np.repeat(range(8), 4)
    settings = {"positives": "group", "validation_fraction": 0.25, "max_epochs": 1}
    model, again = (small(name, **settings).fit(X, groups=groups) for _ in range(2))
    np.testing.assert_array_equal(model.transform(X), again.transform(X))
    assert np.isfinite(model.validation_loss_curve_).all()
    with pytest.raises(ValueError, match="must give the group of each sample where positives"):
        model.fit(X)


def test_pairs_are_for_methods_of_two_views():
    with_pairs = {name for name in ESTIMATORS if "positives" in ESTIMATORS[name]().get_params()}
    assert with_pairs == set(PAIRED)
    with pytest.raises(
        ValueError, match=r"The 'positives' parameter of SimCLR must be a str among"
    ):
        small("SimCLR", positives="groups").fit(rows("table"))
