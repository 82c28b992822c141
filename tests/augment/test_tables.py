"""Augmentations of tables: rates and donors."""

import pytest
import torch
from batches import batch, seeded

from sslearn.augment import FeatureCorruption, GaussianNoise


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
