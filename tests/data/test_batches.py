import warnings

import numpy as np
import pytest
import torch
from estimators import rows, small

from sslearn._data._batches import Batches
from sslearn._data._rows import Rows
from sslearn._data._statistics import Statistics
from sslearn._data._training_data import TrainingData
from sslearn.augment import Compose, GaussianNoise


def _batches(X, n_views=2, augment=None, **params):
    rows = Rows(X)
    standardize = Statistics.from_batches(rows.sample_shape, rows.slices(5)).layer()
    data = TrainingData(rows, None, standardize, torch.device("cpu"))
    return Batches(data, augment, n_views, **params)


def test_both_views_are_drawn_in_one_call_and_differ():
    calls = []

    def augment(x, generator):
        calls.append(x.shape)
        return x + torch.randn(x.shape, generator=generator)

    batches = _batches(np.random.default_rng(0).normal(size=(10, 3)), augment=augment)
    data, index = batches.data, torch.tensor([3, 1, 2])
    batch = batches.make(index, torch.Generator().manual_seed(0))
    first, second = batch.views
    assert calls == [(6, 3)]
    assert first.shape == second.shape == (3, 3)
    assert not torch.equal(first, second)
    assert torch.equal(batch.x, data.clean(data.rows.take(index)))
    assert _batches(np.ones((4, 3)), n_views=0).make(torch.arange(2), None).views == ()


def test_images_are_normalised_after_the_views():
    X = np.random.default_rng(0).integers(0, 256, size=(10, 3, 4, 5)).astype(np.uint8)
    seen = []

    def augment(x, generator):
        seen.append((float(x.min()), float(x.max())))
        return x

    batches = _batches(X, augment=augment)
    batch = batches.make(torch.arange(10), torch.Generator())
    assert all(0 <= low and high <= 1 for low, high in seen)
    assert batch.views[0].is_contiguous()
    assert batch.x.is_contiguous()
    assert batch.views[0].mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(batch.views[1], batch.x, rtol=1e-4, atol=1e-4)


def _of_batch(x, generator):
    """One draw for the whole batch, and so for both views."""
    return x * torch.rand((), generator=generator)


def _as_it_is(x, generator):
    return x


EQUAL = "'augment' parameter gave equal views of all samples in the first batch.*no invariance"


@pytest.mark.parametrize("method", ["SimCLR", "BYOL", "MoCo", "VICReg"])
@pytest.mark.parametrize("augment", [_as_it_is, _of_batch])
def test_equal_views_are_told_once_a_fit(method, augment):
    for kind in ("table", "image"):
        with pytest.warns(UserWarning, match=EQUAL) as caught:
            small(method, augment=augment, max_epochs=3).fit(rows(kind))
        assert len(caught) == 1


def test_views_that_may_be_equal():
    # Warnings are errors here. One view is no pair of views.
    small("CPC", augment=_as_it_is).fit(rows("series"))
    # Constant samples have equal views whatever is drawn, and so may a handful have.
    small("SimCLR", augment=_of_batch).fit(np.ones((24, 6), np.float32))
    small("SimCLR", augment=_as_it_is).fit(rows("table", n=4))
    # Our own views are random, and need no look.
    small("SimCLR").fit(np.ones((2, 6), np.float32))
    calls = []

    def half(x, generator):
        calls.append(len(x))
        return torch.where(torch.rand(len(x), 1, generator=generator) < 0.5, x, -x)

    small("SimCLR", augment=half).fit(rows("table"))
    assert calls == [32, 32]  # the look draws nothing


def test_only_the_first_batch_is_looked_at():
    X = np.random.default_rng(0).normal(size=(10, 3))
    batches = _batches(X, augment=_as_it_is, watch=True)
    with pytest.warns(UserWarning, match=EQUAL):
        batches.make(torch.arange(10), torch.Generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches.make(torch.arange(10), torch.Generator())


def test_what_views_raise_is_chained_to_a_sentence():
    def wrong(x, generator):
        return x.no_such_thing

    for augment in (wrong, Compose([GaussianNoise(), wrong])):
        with pytest.raises(ValueError, match=r"'augment' .*shape \(32, 6\). Got Attr") as caught:
            small("SimCLR", augment=augment).fit(rows("table"))
        assert isinstance(caught.value.__cause__, AttributeError)
    # Our own say themselves what is wrong.
    with pytest.raises(ValueError, match=r"^The 'noise' parameter of GaussianNoise"):
        small("SimCLR", augment=GaussianNoise(-1.0)).fit(rows("table"))
