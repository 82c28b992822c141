"""Memory: what is asked for before training, and what is said when it is refused."""

from types import SimpleNamespace

import pytest
import torch
from estimators import rows, small
from torch import nn

import sslearn._training._memory
from sslearn import LFR, SimCLR, VICReg
from sslearn._objective import Objective
from sslearn._training._memory import _kept_bytes, ask_for_memory


def test_what_a_graph_keeps():
    # The input, of which the gradient of the first weight is, and what the second is given.
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    assert _kept_bytes(net, torch.zeros(1, 4)) == 4 * (4 + 8)
    assert _kept_bytes(net, torch.zeros(3, 4)) == 3 * 4 * (4 + 8)
    assert _kept_bytes(net.requires_grad_(False), torch.zeros(1, 4)) == 0


@pytest.mark.parametrize(
    ("optimizer", "n_views", "autocast", "looked_at", "expected"),
    [
        ("adamw", 2, None, True, 16 * (2 * 16 + 16) + 3 * 4 * 40),
        ("sgd", 0, None, True, 16 * 16 + 2 * 4 * 40),
        (torch.optim.Adam, 1, None, False, 16 * 16 + 4 * 40),
        ("lars", 1, torch.bfloat16, True, 16 * (16 + 8) + 2 * 4 * 40),
    ],
)
def test_what_is_asked_for(monkeypatch, optimizer, n_views, autocast, looked_at, expected):
    class Rows(SimpleNamespace):
        def __len__(self):
            return 16

    encoder = nn.Linear(4, 8)
    objective = Objective(encoder)
    objective.n_views = n_views
    device = torch.device("cpu")
    data = Rows(rows=SimpleNamespace(is_stream=False), input_shape=(4,), device=device)
    batches = SimpleNamespace(data=data, cached_bytes=1000)
    settings = SimpleNamespace(batch_size=64, optimizer=optimizer, autocast=autocast)
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "UntypedStorage", lambda n, device: asked.append(n))
        ask_for_memory(objective, batches, settings, views_may_be_smaller=not looked_at)
    assert asked == [1000 + expected]


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (SimCLR(batch_size=20, embedding_dim=8), "batch_size=20, embedding_dim=8, projection_dim="),
        (LFR(batch_size=20), "batch_size=20, embedding_dim=None, projection_dim=64 and"),
    ],
)
def test_a_batch_too_large_is_refused_before_training(monkeypatch, model, named):
    monkeypatch.setattr(sslearn._training._memory, "_kept_bytes", lambda module, x: 2**50)
    monkeypatch.setattr("sslearn._training._trainer.train", None)  # which would be called
    X = rows("table")
    message = rf"needs more memory than there is \(.* GB were refused\): .*'batch_size'.* {named}"
    with pytest.raises(MemoryError, match=message):
        model.fit(X)
    assert not hasattr(model, "encoder_")
    assert not hasattr(model, "input_shape_")


def test_a_network_too_wide_is_named():
    with pytest.raises(MemoryError, match=r"projection_dim=10000000000000, .* of shape \(6,\)"):
        VICReg(projection_dim=10**13, max_epochs=1).fit(rows("table"))


def _own_error(x, generator):
    raise RuntimeError("of the caller's own")


def _cpu(x, generator):
    return torch.empty(2**55)


def _gpu(x, generator):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 6.00 GiB. GPU 0 has ...")


@pytest.mark.parametrize("trainer_params", [None, {"log_every_n_steps": 5}])
@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (_cpu, MemoryError, r"BYOL needs more memory than there is \(1.44e\+08 GB were refused\)"),
        (_gpu, torch.OutOfMemoryError, r"BYOL needs .* \(6.00 GiB were refused\): .*batch_size=16"),
        (_own_error, ValueError, "'augment' parameter.*RuntimeError: of the caller's own$"),
    ],
)
def test_memory_that_runs_out_while_training(augment, error, message, trainer_params):
    model = small("BYOL", augment=augment, trainer_params=trainer_params)
    with pytest.raises(error, match=message) as raised:
        model.fit(rows("table"))
    assert type(raised.value) is error
    assert not hasattr(model, "encoder_")
