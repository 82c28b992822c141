"""The samples trained on."""

import numpy as np
import pytest
import torch

from sslearn._data._rows import Rows
from sslearn._data._training_data import compute_statistics


def test_statistics_are_those_of_the_rows_trained_on():
    X = np.random.default_rng(0).normal(size=(100, 3))
    held_out = torch.arange(0, 100, 4)
    statistics = compute_statistics(Rows(X), held_out, "SimCLR")
    kept = np.delete(X, held_out.numpy(), axis=0)
    np.testing.assert_allclose(statistics.layer().shift, kept.mean(0))
    X[8, 1] = np.nan  # a held-out row is looked at too
    statistics = compute_statistics(Rows(X), held_out, "SimCLR")
    assert statistics.where_missing == "feature 1 (of 0 to 2) and maybe others"
    np.testing.assert_allclose(statistics.layer().shift, kept.mean(0))
    X[8, 1] = np.inf
    with pytest.raises(ValueError, match="infinity, in feature 1"):
        compute_statistics(Rows(X), held_out, "SimCLR")
