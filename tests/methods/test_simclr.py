"""What is SimCLR's own: that it learns what the views keep."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from sslearn import SimCLR
from sslearn._methods._losses import nt_xent
from sslearn._methods.simclr import _SimCLRObjective


def test_objective_is_the_loss_of_the_projections():
    torch.manual_seed(0)
    encoder, projector = nn.Linear(4, 8), nn.Linear(8, 5)
    objective = _SimCLRObjective(encoder, projector, temperature=0.3)
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    expected = nt_xent(projector(encoder(a)), projector(encoder(b)), 0.3)
    torch.testing.assert_close(objective.loss(a, b), expected)


def _clusters(n=400, seed=0):
    """Two kinds of series that differ in shape; offset and noise hide it from a linear map."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=n)
    t = np.linspace(0, 1, 64)
    phase = rng.uniform(0, 1, size=(n, 1))
    frequency = np.where(y, 3.0, 5.0)[:, None]
    X = np.sin(2 * np.pi * frequency * (t + phase)) + 0.5 * rng.normal(size=(n, 64))
    return X[:, None].astype(np.float32), y


def test_features_show_what_raw_rows_hide():
    X, y = _clusters()
    train, test = slice(0, 300), slice(300, None)
    raw = LogisticRegression().fit(X[train, 0], y[train]).score(X[test, 0], y[test])
    model = SimCLR(max_epochs=20, batch_size=64, random_state=0).fit(X[train])
    features = model.transform(X)
    probe = LogisticRegression(max_iter=1000).fit(features[train], y[train])
    learned = probe.score(features[test], y[test])
    assert learned > 0.9 > raw
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
def test_extreme_temperatures_train(temperature):
    X, _ = _clusters(64)
    model = SimCLR(temperature=temperature, max_epochs=2, batch_size=32, random_state=0).fit(X)
    assert np.isfinite(model.loss_curve_).all()


def test_nested_search_over_the_augmentation():
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline

    from sslearn.augment import GaussianNoise

    X, y = _clusters(60)
    simclr = SimCLR(augment=GaussianNoise(), max_epochs=1, embedding_dim=8, random_state=0)
    pipeline = Pipeline([("simclr", simclr), ("probe", LogisticRegression())])
    grid = {"simclr__augment__noise": [0.1, 0.5], "simclr__temperature": [0.1, 0.5]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    assert set(search.best_params_) == set(grid)
