"""Augmentations of tables: rates and donors."""

import pickle

import numpy as np
import pytest
import torch
from batches import batch, seeded
from joblib import hash
from sklearn.base import clone

from sslearn.augment import Compose, FeatureCorruption, GaussianNoise


def test_corruption_rate_and_donors():
    n, n_features = 400, 50
    x = torch.arange(float(n * n_features)).reshape(n, n_features)  # every entry is unique
    view = FeatureCorruption(rate=0.3)(x, seeded())
    assert torch.equal(view % n_features, x % n_features)  # always the same feature
    changed = view != x  # never replaced by itself
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert changed.sum(1).min() < changed.sum(1).max()
    donors = (view[changed] // n_features).long()
    counts = torch.bincount(donors, minlength=n)
    assert counts.max() < 4 * counts.float().mean()  # uniform over the rows
    rows = (view // n_features).long()
    assert (rows[:, 0] - rows[:, 1]).unique().numel() > 100  # drawn for each entry alone


def test_corruption_at_the_ends_of_its_rate():
    x = torch.arange(12.0).reshape(4, 3)
    assert torch.equal(FeatureCorruption(rate=0)(x), x)
    assert (FeatureCorruption(rate=1)(x) != x).all()
    assert torch.equal(FeatureCorruption(rate=1)(x[:1]), x[:1])  # no other row
    assert torch.equal(FeatureCorruption(rate=1)(x[:2]), x[:2].flip(0))


def test_noise():
    x = batch(200, (4, 50))
    difference = GaussianNoise(noise=0.3)(x, seeded()) - x
    assert difference.std().item() == pytest.approx(0.3, rel=0.02)
    assert difference.mean().item() == pytest.approx(0.0, abs=0.005)
    assert torch.equal(GaussianNoise(noise=0.0)(x), x)


def _one_hot(n, sizes, generator):
    """One-hot columns of several categories, one after the other."""
    codes = [torch.randint(size, (n,), generator=generator) for size in sizes]
    parts = [torch.nn.functional.one_hot(of, s) for of, s in zip(codes, sizes, strict=True)]
    return torch.cat(parts, dim=1).float()


# Columns 0 to 2 and 3 to 6 are categories, column 7 is by itself.
GROUPS = {
    "numbers": np.array([4, 4, 4, 0, 0, 0, 0, 9]),
    "lists": [[0, 1, 2], (5, 3, 4, 6)],
    "arrays": [np.arange(3), range(3, 7), [7], []],
}


@pytest.mark.parametrize("kind", GROUPS)
def test_groups_change_together(kind):
    x = torch.cat([_one_hot(300, (3, 4), seeded()), batch(300, (1,))], dim=1)
    view = FeatureCorruption(0.5, GROUPS[kind])(x, seeded())
    for columns in (slice(0, 3), slice(3, 7)):
        assert (view[:, columns].sum(1) == 1).all()
    changed = torch.stack([(view != x)[:, part].any(1) for part in ([0, 1, 2], [3, 4, 5, 6], [7])])
    # Half of the groups are replaced, some of them by their own category.
    expected = torch.tensor([0.5 * 2 / 3, 0.5 * 3 / 4, 0.5])
    assert changed.float().mean(1) == pytest.approx(expected, abs=0.1)
    assert (changed[0] != changed[2]).any()
    assert (changed[0] != changed[1]).any()
    # One donor of each group, and another one of the next.
    numbers = torch.arange(2400.0).reshape(300, 8)
    donor = FeatureCorruption(1, GROUPS[kind])(numbers, seeded()) // 8
    assert (donor[:, :3] == donor[:, :1]).all()
    assert (donor[:, 3:7] == donor[:, 3:4]).all()
    assert (donor[:, 0] != donor[:, 3]).any()


def test_groups_of_one_feature_are_as_without():
    x = batch(50, (4,))
    alone = FeatureCorruption(0.5)(x, seeded())
    assert torch.equal(FeatureCorruption(0.5, np.arange(4))(x, seeded()), alone)
    assert torch.equal(FeatureCorruption(0.5, [])(x, seeded()), alone)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (np.array([0, 0, 1]), "one number for each of the 4 features. Got 3 numbers"),
        ([[0, 1], [1, 2]], "each feature once at most. Got feature 1 twice"),
        ([[0, 0]], "each feature once at most. Got feature 0 twice"),
        ([[0, 4]], "below the number of features, 4. Got 4 instead"),
        ([[0, -1]], "must be None, an array of group numbers"),
        (np.array([0, 0, 1, -1]), "must be None, an array of group numbers"),
        (np.array([0.0, 0, 1, 1]), "must be None, an array of group numbers"),
        (np.zeros((2, 2), dtype=int), "must be None, an array of group numbers"),
        ([[0.0, 1.0]], "must be None, an array of group numbers"),
        ([[True, False]], "must be None, an array of group numbers"),
        ([0, 0, 1, 1], "must be None, an array of group numbers"),
        ("ab", "must be None, an array of group numbers"),
    ],
)
def test_wrong_groups_are_refused(groups, words):
    with pytest.raises(ValueError, match=words) as error:
        FeatureCorruption(0.5, groups)(torch.zeros(3, 4))
    assert str(error.value).startswith("The 'feature_groups' parameter of FeatureCorruption must")


def test_groups_are_kept_by_clone_pickle_and_search():
    for groups in GROUPS.values():
        augment = FeatureCorruption(0.2, groups)
        copied = clone(augment)
        assert str(copied.feature_groups) == str(groups)
        x = batch(9, (8,))
        for other in (copied, pickle.loads(pickle.dumps(augment))):
            assert torch.equal(other(x, seeded()), augment(x, seeded()))
        assert hash(augment) == hash(copied)
    whole = Compose([FeatureCorruption(0.2), GaussianNoise()])
    whole.set_params(featurecorruption__feature_groups=[[0, 1]])
    assert whole.get_params()["featurecorruption__feature_groups"] == [[0, 1]]
    assert repr(whole.augmentations[0]) == "FeatureCorruption(feature_groups=[[0, 1]], rate=0.2)"


def test_missing_values_are_neither_given_nor_replaced():
    x = torch.arange(2000.0).reshape(400, 5)
    x[::3, 1] = x[::4, 3] = torch.nan
    view = FeatureCorruption(rate=0.9)(x, seeded())
    assert torch.equal(view.isnan(), x.isnan())
    changed = (view != x) & ~x.isnan()
    assert changed[:, 0].float().mean() > 0.85
    assert 0.5 < changed[~x[:, 1].isnan(), 1].float().mean() < 0.7  # two thirds of 0.9
    # Without missing values nothing else is drawn.
    known = x.nan_to_num(0.0)
    same = FeatureCorruption(rate=0.9)(known, seeded())
    assert torch.equal(view[changed], same[changed])
    assert torch.equal(GaussianNoise()(x, seeded()).isnan(), x.isnan())


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_groups_with_a_missing_value_stay_as_they_are(groups):
    x = _one_hot(500, (3, 4, 1), seeded()) + torch.arange(500.0)[:, None]
    x[::5, 1] = torch.nan  # in one column of a group
    x[::7, 3:7] = torch.nan  # in a whole group
    view = FeatureCorruption(rate=1.0, feature_groups=groups)(x, seeded())
    assert torch.equal(view.isnan(), x.isnan())
    whole = ~x.isnan()[:, :3].any(1)
    assert torch.equal(view[~whole, :3].nan_to_num(-1), x[~whole, :3].nan_to_num(-1))
    # All of a group from one row: the numbers of the rows agree.
    assert bool((view[whole, :3].floor().amax(1) - view[whole, :3].floor().amin(1) <= 1).all())
    assert (view[whole, 0] != x[whole, 0]).float().mean() > 0.7
