"""The stages of fit: seeds, the split, and an encoder that reads samples in another shape."""

import numpy as np
import pytest
import torch
from estimators import rows, small

from sslearn._data._rows import Rows
from sslearn._fit import _split
from sslearn._training._settings import Seeds


def test_seeds_differ_and_follow_from_the_root():
    seeds = Seeds.from_root(0)
    assert len(set(seeds)) == len(seeds) == 7
    assert seeds == Seeds.from_root(0)
    assert not set(seeds) & set(Seeds.from_root(1))
    words = np.random.SeedSequence(0).generate_state(7)
    assert (seeds.order, seeds.reference) == (words[0], words[6])


def test_a_split_has_every_sample_once_in_order():
    data = Rows(np.zeros((50, 3)))
    assert _split(data, None, 0) == (None, None)
    trained_on, held_out = _split(data, 0.3, 0)
    assert len(held_out) == 15
    assert torch.cat((trained_on, held_out)).sort().values.tolist() == list(range(50))
    assert torch.equal(held_out, held_out.sort().values)
    assert not torch.equal(held_out, _split(data, 0.3, 1)[1])
    with pytest.raises(ValueError, match="holds out 0 and leaves 50 to train on"):
        _split(data, 0.001, 0)


@pytest.mark.parametrize("name", ["SimCLR", "CPC"])
def test_encoder_takes_samples_as_x_has_them(name):
    X = rows("table")
    model = small(name).fit(X)
    raw = model.encoder_(torch.from_numpy(X).float()).detach().numpy()
    np.testing.assert_allclose(raw, model.transform(X), rtol=1e-5, atol=1e-6)
    assert [part for part, _ in model.encoder_.named_children()][-2:] == ["standardize", "features"]
