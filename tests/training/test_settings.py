import numpy as np
import pytest

from sslearn._training._settings import most_batches, train_limit


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, None),
        ({}, None),
        ({"limit_train_batches": 3}, 3),
        ({"limit_train_batches": np.int64(3)}, 3),
        ({"limit_train_batches": 0}, 1),  # what is refused later needs a batch first
        ({"limit_train_batches": 3.0}, 3),
        ({"limit_train_batches": 0.5}, None),
        ({"limit_train_batches": 1.0}, None),
        ({"max_steps": 5}, 5),
        ({"max_steps": -1}, None),
        ({"max_steps": 5, "accumulate_grad_batches": 4}, 20),
        ({"max_steps": 5, "limit_train_batches": 3}, 3),
        ({"max_steps": 2, "limit_train_batches": 3}, 2),
        ({"overfit_batches": 2}, 2),
        ({"overfit_batches": 0}, None),
        ({"overfit_batches": 0.1}, None),
        ({"fast_dev_run": True}, 1),
        ({"fast_dev_run": False}, None),
        ({"fast_dev_run": 4}, 4),
        ({"callbacks": [], "max_time": "00:01:00:00"}, None),
    ],
)
def test_how_many_batches_a_trainer_takes_at_most(params, expected):
    assert most_batches(params) == expected


@pytest.mark.parametrize(
    ("limit", "expected"), [(3, 3), (0.5, 0.5), (0, 0), (-1, None), ("3", None), (None, None)]
)
def test_what_limits_the_batches_of_a_phase(limit, expected):
    assert train_limit({"limit_train_batches": limit}) == expected
    assert train_limit({}) is train_limit(None) is None
