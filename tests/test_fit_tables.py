"""Fits of tables: columns of one category are found, and change together in the views."""

import itertools

import numpy as np
import pytest
import torch
from estimators import rows, small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from sslearn._data import _batches
from sslearn.augment import FeatureCorruption, default_augment

# Numbers, and categories as in a census: some common, some rare.
SIZES = (9, 16, 2, 42)
BLOCKS = np.cumsum((3, *SIZES))


def census(n=600, seed=0):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, 3)) * (1, 1000, 0.01)]
    for size in SIZES:
        shares = rng.dirichlet(np.ones(size))
        codes = rng.choice(size, n, p=shares)
        codes[:size] = np.arange(size)  # each is there
        parts.append(np.eye(size)[codes])
    return np.hstack(parts).astype(np.float32)


@pytest.fixture
def views(monkeypatch):
    """All views that are drawn."""
    drawn, augmented = [], _batches._augmented

    def kept(*arguments):
        drawn.append(augmented(*arguments))
        return drawn[-1]

    monkeypatch.setattr(_batches, "_augmented", kept)
    return drawn


def _given(kind, X):
    if kind == "loader":
        return DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=100)
    return StandardScaler().fit_transform(X) if kind == "scaled" else X


@pytest.mark.parametrize("kind", ["array", "loader", "scaled"])
def test_every_view_of_a_one_hot_table_is_one_hot(kind, views):
    X = census()
    given = _given(kind, X)
    model = small("SimCLR", max_epochs=1).fit(given)
    assert [len(block) for block in model.feature_groups_] == list(SIZES)
    table = X if kind != "scaled" else given
    ones, zeros = table[:, 3:].max(0), table[:, 3:].min(0)
    standardize = model.encoder_.get_submodule("standardize")
    edges = torch.from_numpy(np.vstack((zeros, ones)))
    whole = torch.cat((torch.zeros(2, 3), edges), dim=1)
    middle = standardize(whole)[:, 3:].mean(0)
    seen = torch.cat(views)[:, 3:]
    assert len(seen) > 500
    # The noise of the views is far below the distance of zero and one.
    counts = [
        (part > at).sum(1)
        for part, at in zip(seen.split(SIZES, 1), middle.split(SIZES), strict=True)
    ]
    assert all((count == 1).all() for count in counts)


def test_tables_without_blocks_are_trained_as_before():
    X = rows("table")
    model = small("SimCLR").fit(X)
    assert model.feature_groups_ == []
    own = small("SimCLR", augment=default_augment((6,))).fit(X)
    assert not hasattr(own, "feature_groups_")
    assert np.array_equal(own.transform(X), model.transform(X))
    assert not hasattr(small("SimCLR").fit(rows("series")), "feature_groups_")
    assert not hasattr(small("LFR").fit(X), "feature_groups_")


def test_groups_that_are_found_are_no_parameters():
    X = census(200)
    model = small("VICReg").fit(X)
    assert model.augment is None
    assert clone(model).augment is None
    again = clone(model).fit(X)
    assert np.array_equal(again.transform(X), model.transform(X))
    given = default_augment(X.shape[1:], feature_groups=model.feature_groups_)
    same = small("VICReg", augment=given).fit(X)
    assert np.array_equal(same.transform(X), model.transform(X))


def test_a_search_over_groups():
    X, blocks = census(100), [list(range(a, b)) for a, b in itertools.pairwise(BLOCKS.tolist())]
    search = GridSearchCV(
        small("SimCLR", augment=FeatureCorruption(0.3)),
        {"augment__feature_groups": [None, blocks]},
        cv=2,
    )
    search.fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
