"""What is MoCo's own: the queue."""

import functools

import numpy as np
import pytest
import torch
from estimators import rows, small
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn._methods._ema import MomentumCopy
from sslearn._methods._losses import _blocks, info_nce
from sslearn._methods._moco_queue import KeyQueue
from sslearn._methods.moco import _MoCoObjective
from sslearn._objective import Batch


def _objective(queue_size=8, symmetric=True):
    torch.manual_seed(0)
    queue = KeyQueue(queue_size, 5)
    follow = functools.partial(MomentumCopy, decay=0.9)
    return _MoCoObjective(nn.Linear(4, 6), nn.Linear(6, 5), queue, 0.3, follow, symmetric)


def _batch(rows, n=3, index=True):
    torch.manual_seed(rows)
    index = torch.arange(rows, rows + n) if index else None
    return Batch(None, index, (torch.randn(n, 4), torch.randn(n, 4)), torch.Generator())


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_loss_is_the_papers(symmetric):
    objective = _objective(symmetric=symmetric)
    batch = _batch(0)
    first, second = batch.views

    def one_way(asking, answering):
        query = objective.projector(objective.encoder(asking))
        return info_nce(query, objective.key_network(answering), objective.queue.keys, 0.3)

    expected = one_way(first, second)
    if symmetric:
        expected = (expected + one_way(second, first)) / 2
    loss = objective.batch_loss(batch)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad is None for p in objective.key_network.parameters())
    assert objective.encoder.weight.grad is not None


def test_the_queue_keeps_the_last_keys_in_turn():
    objective = _objective(queue_size=8, symmetric=False)
    keys = {}
    for step in range(4):
        batch = _batch(3 * step)
        made = nn.functional.normalize(objective.key_network(batch.views[1]), dim=1)
        keys.update(zip(batch.index.tolist(), made.detach(), strict=True))
        before = objective.queue.keys.clone()
        objective.batch_loss(batch)
        assert torch.equal(objective.queue.keys, before)  # only a step moves it
        objective.after_step(step, 4)
        objective.encoder.weight.data += 1
    assert sorted(objective.queue.rows.tolist()) == list(range(4, 12))
    for row, key in zip(objective.queue.rows.tolist(), objective.queue.keys, strict=True):
        torch.testing.assert_close(key, keys[row])


@pytest.mark.parametrize("queue_size", [1, 2, 5])
def test_a_queue_smaller_than_a_batch(queue_size):
    objective = _objective(queue_size=queue_size, symmetric=False)
    objective.batch_loss(_batch(0, n=6))
    objective.after_step(0, 1)
    assert sorted(objective.queue.rows.tolist()) == list(range(6 - queue_size, 6))


def test_accumulated_batches_all_enter():
    objective = _objective(queue_size=8)
    objective.batch_loss(_batch(0, n=2))
    objective.batch_loss(_batch(2, n=2))
    objective.after_step(0, 1)
    assert sorted(objective.queue.rows.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    objective.after_step(1, 2)
    assert sorted(objective.queue.rows.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_row_is_never_its_own_negative():
    objective = _objective(queue_size=6, symmetric=False)
    batch = _batch(0, n=3)
    objective.batch_loss(batch)
    objective.after_step(0, 2)
    query = objective.projector(objective.encoder(batch.views[0]))
    key = objective.key_network(batch.views[1])
    same = batch.index[:, None] == objective.queue.rows
    assert same.sum() == 3
    expected = info_nce(query, key, objective.queue.keys, 0.3, same.__getitem__)
    torch.testing.assert_close(objective.batch_loss(batch), expected)
    # Rows of a stream have no numbers: nothing can be left out, random directions included.
    unnumbered = Batch(None, None, batch.views, torch.Generator())
    expected = info_nce(query, key, objective.queue.keys, 0.3)
    torch.testing.assert_close(objective.batch_loss(unnumbered), expected)


def test_blocks_of_queries_leave_out_their_own_rows(monkeypatch):
    objective = _objective(queue_size=40)
    batch = _batch(0, n=20)
    objective.batch_loss(batch)
    objective.after_step(0, 2)
    expected = objective.batch_loss(batch)
    asked = []
    same_row_mask = objective.queue.same_row_mask
    monkeypatch.setattr(
        objective.queue, "same_row_mask", lambda rows: asked.append(rows) or same_row_mask(rows)
    )
    monkeypatch.setattr(_blocks, "_ENTRIES", {"cpu": 1})
    monkeypatch.setattr(_blocks, "_FEWEST_ROWS", 6)
    torch.testing.assert_close(objective.batch_loss(batch), expected)
    assert [len(rows) for rows in asked] == [6, 6, 6, 2] * 2  # the mask, too, is made in blocks


def test_a_validation_loss_moves_nothing():
    objective = _objective().eval()
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    objective.batch_loss(_batch(0))
    objective.after_step(0, 1)
    assert torch.equal(objective.queue.keys, before["queue.keys"])
    assert torch.equal(objective.queue.rows, before["queue.rows"])


def test_queue_and_rows_on_real_fits():
    sizes = []

    class Kept(type(small("MoCo"))):
        def _publish(self, objective):
            sizes.append((len(objective.queue.keys), int(objective.queue.rows.min())))

    X = rows("table", n=48)
    for queue_size, expected in ((4096, 48), (20, 20)):
        model = Kept(queue_size=queue_size, max_epochs=3, batch_size=16, random_state=0)
        model.set_params(device="cpu").fit(X)
        assert sizes.pop() == (expected, 0)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=16)
    Kept(max_epochs=3, device="cpu").fit(loader)
    assert sizes.pop() == (48, -1)


def test_both_forms_and_bad_parameters():
    X = rows("table")
    one, both = (small("MoCo", symmetric=value).fit(X) for value in (False, True))
    assert np.isfinite(one.loss_curve_ + both.loss_curve_).all()
    assert one.loss_curve_ != both.loss_curve_
    for params in ({"momentum": 1.1}, {"queue_size": 0}, {"temperature": 0}, {"symmetric": "no"}):
        (name,) = params
        with pytest.raises(ValueError, match=f"'{name}' parameter of MoCo"):
            small("MoCo", **params).fit(X)
