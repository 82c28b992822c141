"""Principal axes of features."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from sslearn.encoders import PrincipalAxes


def _features(n=60, width=12):
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=generator)
    return torch.randn(n, width, generator=generator) @ mix + 3


def test_is_that_of_scikit_learn():
    x = _features()
    expected = PCA(5).fit(x.numpy()).transform(x.numpy())
    found = PrincipalAxes.from_features(x, 5)(x).numpy()
    signs = np.sign((expected * found).sum(0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)


def test_all_axes_are_a_rotation():
    x = _features()
    found = PrincipalAxes.from_features(x, 12)(x)
    distances = [torch.cdist(of.double(), of.double()) for of in (found, x)]
    torch.testing.assert_close(*distances, atol=1e-4, rtol=1e-4)


def test_the_same_for_one_sample_as_for_many():
    x = _features()
    axes = PrincipalAxes.from_features(x, 5)
    one_by_one = torch.cat([axes(part) for part in x.split(1)])
    torch.testing.assert_close(axes(x), one_by_one, atol=1e-5, rtol=0)
    assert torch.equal(pickle.loads(pickle.dumps(axes))(x), axes(x))
    assert not list(axes.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PrincipalAxes(0, 1), "'in_features' parameter of PrincipalAxes must be an int"),
        (lambda: PrincipalAxes(3, 4), "must be at most in_features = 3. Got 4 instead"),
        (lambda: PrincipalAxes.from_features(_features(5), 5), "more samples than axes, 5. Got 5"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
