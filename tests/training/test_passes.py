"""The order of the samples, and the batches of a pass."""

import types

import numpy as np
import pytest
import torch

from sslearn._data._rows import Rows
from sslearn._data._statistics import Statistics
from sslearn._data._training_data import TrainingData
from sslearn._training._passes import Passes


def _passes(n=23, *, batch_size=5, n_phases=1, index=None, seed=0, **trainer_params):
    rows = Rows(np.arange(2.0 * n).reshape(n, 2))
    standardize = Statistics.from_batches(rows.sample_shape, rows.slices(n)).layer()
    data = TrainingData(rows, index, standardize, torch.device("cpu"))
    settings = types.SimpleNamespace(
        batch_size=batch_size, trainer_params=trainer_params, name="SimCLR"
    )
    return Passes(data, settings, n_phases, seed)


def _pass(passes, *, single=False, finished=lambda: False):
    return list(passes.chunks(single=single, finished=finished))


def test_a_pass_has_each_sample_once_but_for_a_short_last_batch():
    passes = _passes()
    found = torch.cat([items.flatten() for _, items in _pass(passes)])
    assert len(found) == len(set(found.tolist())) == 20
    again = torch.cat([items.flatten() for _, items in _pass(passes)])
    assert not torch.equal(found, again)
    same = torch.cat([items.flatten() for _, items in _pass(_passes(), single=True)])
    assert torch.equal(found, same)
    assert not torch.equal(found, torch.cat([i.flatten() for _, i in _pass(_passes(seed=1))]))


def test_samples_that_are_held_out_are_in_no_batch():
    index = torch.arange(0, 23, 2)
    found = torch.cat([items.flatten() for _, items in _pass(_passes(index=index))])
    assert set(found.tolist()) <= set(index.tolist())
    assert len(found) == 10


def test_chunks_grow_with_the_time_that_a_batch_takes():
    passes = _passes(200)
    assert [len(items) for _, items in _pass(passes)] == [1] * 40
    passes.adapt(1e-9)  # at most four times as large each time
    assert [len(items) for _, items in _pass(passes)] == [4] * 10
    passes.adapt(1e-9)
    assert [len(items) for _, items in _pass(passes)] == [16, 16, 8]
    assert [len(items) for _, items in _pass(passes, single=True)] == [1] * 40
    passes.adapt(10.0)
    assert len(_pass(passes)) == 40


def test_phases_are_passes_of_their_own():
    passes = _passes(n_phases=2)
    assert passes.batches_per_epoch == 2 * passes.batches_per_phase == 8
    assert [phase for phase, _ in _pass(passes, single=True)] == [0] * 4 + [1] * 4


@pytest.mark.parametrize(("limit", "expected"), [(3, 3), (0.5, 2), (1.0, 4), (9, 4)])
def test_each_phase_is_limited(limit, expected):
    assert _passes(n_phases=2, limit_train_batches=limit).batches_per_phase == expected
    # A single phase is limited by the Trainer itself.
    assert _passes(limit_train_batches=limit).batches_per_phase == 4


def test_an_objective_may_finish_early():
    passes, seen = _passes(n_phases=2), []
    for _, items in passes.chunks(single=True, finished=lambda: len(seen) == 3):
        seen.append(items)
    assert len(seen) == 3
