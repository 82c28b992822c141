"""Whitening by views: against the formula, with many views and with few."""

import numpy as np
import pytest
import torch

from sslearn.encoders import ViewWhitening


def _views(n=60, n_views=4, n_features=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(n_features, n_features, generator=g, dtype=torch.float64)
    samples = torch.randn(n, 1, n_features, generator=g, dtype=torch.float64)
    noise = torch.randn(n, n_views, n_features, generator=g, dtype=torch.float64)
    return samples + 0.5 * noise @ mix


@pytest.mark.parametrize(("n", "n_views", "n_features"), [(60, 4, 9), (5, 3, 40), (300, 2, 9)])
@pytest.mark.parametrize("shrinkage", [1.0, 0.1])
def test_against_the_formula(n, n_views, n_features, shrinkage):
    views = _views(n, n_views, n_features)
    whitening = ViewWhitening(n_features, shrinkage=shrinkage)
    whitening.fit(views)
    within = np.mean([np.cov(each, rowvar=False) for each in views.numpy()], axis=0)
    values, axes = np.linalg.eigh(
        within + shrinkage * np.trace(within) / n_features * np.eye(n_features)
    )
    expected = (axes / np.sqrt(values)) @ axes.T
    means = views.mean(1).numpy()
    expected *= np.sqrt(means.var(0).sum() / (means @ expected).var(0).sum())
    np.testing.assert_allclose(whitening.weight.numpy(), expected, rtol=1e-4, atol=1e-5)
    x = torch.randn(3, n_features)
    np.testing.assert_allclose(whitening(x).numpy(), x.numpy() @ expected, rtol=1e-3, atol=1e-4)


def test_directions_that_views_change_become_small():
    views = _views(300) * torch.tensor([1.0] * 8 + [0.0])
    views[..., 8] = 30 * torch.randn(300, 4) + torch.randn(300, 1)
    whitening = ViewWhitening(9, shrinkage=0.01)
    whitening.fit(views)
    before, after = (
        torch.tensor(np.mean([np.cov(each, rowvar=False) for each in of.numpy()], axis=0))
        for of in (views, whitening(views.float()))
    )
    before, after = torch.linalg.eigvalsh(before), torch.linalg.eigvalsh(after)
    assert before[-1] / before[0] > 1000
    assert after[-1] / after[0] < 100


def test_views_that_are_alike_change_nothing():
    whitening = ViewWhitening(5)
    x = torch.randn(4, 5)
    assert torch.equal(whitening(x), x)
    whitening.fit(torch.randn(6, 1, 5).expand(6, 3, 5))
    assert not whitening.is_fitted
    assert torch.equal(whitening(x), x)
