"""``keep_objective``: heads, target networks and projectors after a fit."""

import pickle

import joblib
import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, SHAPES, rows, small
from sklearn.base import clone
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

# One method of each kind of head; the others with the slow tests.
NAMES = [
    name if name in ("BYOL", "CPC", "LFR", "SimCLR") else pytest.param(name, marks=pytest.mark.slow)
    for name in sorted(ESTIMATORS)
]
OUTPUTS = {
    "AMDIM": {"features", "maps"},
    "BYOL": {"features", "projections", "predictions", "targets"},
    "BarlowTwins": {"features", "projections"},
    "CPC": {"features", "patches", "contexts", "targets", "predictions"},
    "LFR": {"features", "adapted", "predictions", "targets"},
    "MoCo": {"features", "projections", "keys"},
    "SimCLR": {"features", "projections"},
    "SimSiam": {"features", "projections", "predictions"},
    "VICReg": {"features", "projections"},
}


def _arrays(found):
    """All tensors of an output, in order."""
    if isinstance(found, torch.Tensor):
        return [found]
    parts = found.values() if isinstance(found, dict) else found
    return [array for part in parts for array in _arrays(part)]


@pytest.mark.parametrize("kind", ["table", "image"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_kept_where_asked_for_and_changes_nothing(name, kind):
    X = rows(kind)
    plain, kept = small(name).fit(X), small(name, keep_objective=True).fit(X)
    assert not hasattr(plain, "objective_")
    assert plain.loss_curve_ == kept.loss_curve_
    assert plain.transform(X).tobytes() == kept.transform(X).tobytes()
    objective = kept.objective_
    assert not any(module.training for module in objective.modules())
    tensors = [*objective.parameters(), *objective.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert all(tensor.is_contiguous() for tensor in tensors)
    outputs = objective(torch.from_numpy(X))
    assert set(outputs) == OUTPUTS[name]
    for array in _arrays(outputs):
        assert len(array) == len(X)
        assert array.isfinite().all()
        assert not array.requires_grad
    # It is what was trained: the features are those of transform, without those of a stem.
    learned = kept._encode(X, learned=True)
    np.testing.assert_allclose(outputs["features"].flatten(1).numpy(), learned, atol=1e-5)
    # Nothing of it moved meanwhile, and a pickle holds all of it.
    again = pickle.loads(pickle.dumps(kept))
    for a, b in zip(_arrays(outputs), _arrays(again.objective_(torch.from_numpy(X))), strict=True):
        assert torch.equal(a, b)
    assert again.transform(X).tobytes() == kept.transform(X).tobytes()
    assert joblib.hash(kept) == joblib.hash(pickle.loads(pickle.dumps(kept)))


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_holds_the_encoder_once_and_no_data(name):
    encoder = None if name in ("CPC", "AMDIM") else nn.Sequential(nn.Flatten(), nn.Linear(250, 400))
    X = np.random.default_rng(0).normal(size=(200, 250)).astype(np.float32)  # 200 kB
    params = {"encoder": encoder, "max_epochs": 1, "batch_size": 64}
    if name == "MoCo":
        params["queue_size"] = 50
    kept, sizes = small(name, keep_objective=True, **params), []
    for n in (100, 200):
        sizes.append(len(pickle.dumps(kept.fit(X[:n]))))
    assert abs(sizes[1] - sizes[0]) < 10_000
    tensors = [*kept.objective_.parameters(), *kept.objective_.buffers()]
    assert sizes[1] < sum(t.nbytes for t in tensors) + encoder_bytes(encoder) + 100_000
    # Asked for no more, it is gone.
    plain = len(pickle.dumps(small(name, **params).fit(X)))
    assert plain < sizes[1]
    kept.set_params(keep_objective=False).fit(X)
    assert not hasattr(kept, "objective_")
    assert len(pickle.dumps(kept)) == pytest.approx(plain, abs=1000)


def encoder_bytes(encoder):
    """Bytes of the caller's encoder, which is a parameter and pickled too."""
    return 0 if encoder is None else sum(p.nbytes for p in encoder.parameters())


def test_heads_can_be_called_by_themselves():
    X = rows("table")
    model = small("BYOL", keep_objective=True, encoder=nn.Linear(6, 8)).fit(X)
    z = model.objective_.projector(torch.from_numpy(model.transform(X)))
    outputs = model.objective_(torch.from_numpy(X))
    torch.testing.assert_close(outputs["projections"], z)
    torch.testing.assert_close(outputs["predictions"], model.objective_.predictor(z))
    # The target network has followed, and is another one.
    target = model.objective_.target.module[0].module
    assert not torch.equal(target.weight, model.encoder_.features.module.weight)
    assert model.objective_.encoder is model.encoder_.features


def test_predictions_and_targets_of_lfr_are_those_of_minerva():
    torch.manual_seed(0)
    X = rows("table")
    projectors = [nn.Linear(6, width) for width in (3, 4, 5, 6)]
    model = small("LFR", projectors=projectors, n_targets=2, keep_objective=True).fit(X)
    outputs = model.objective_(torch.from_numpy(X))
    Z = model.encoder_.standardize(torch.from_numpy(X))
    for i, target, prediction in zip(
        model.target_indices_, outputs["targets"], outputs["predictions"], strict=True
    ):
        torch.testing.assert_close(target, projectors[i](Z).detach())
        assert prediction.shape == target.shape
    assert [p.module.out_features for p in model.objective_.projectors] == [
        projectors[i].out_features for i in model.target_indices_
    ]


def test_networks_that_begin_in_place():
    X = rows("table")
    encoder = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 8))
    for name in ("BYOL", "LFR", "MoCo"):
        model = small(name, encoder=encoder, keep_objective=True).fit(X)
        raw = torch.from_numpy(X.copy())
        found = model.objective_(raw)
        np.testing.assert_array_equal(raw.numpy(), X)
        if name == "BYOL":
            expected = model.objective_.target(model.encoder_.standardize(raw))
            torch.testing.assert_close(found["targets"], expected)


@pytest.mark.parametrize("name", NAMES)
def test_of_streams_held_out_samples_and_untrained(name):
    X = rows("table", n=40)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=20)
    for params, given in (
        ({"validation_fraction": 0.2, "n_iter_no_change": 1}, X),
        ({}, loader),
        ({"max_epochs": 0}, X),
    ):
        model = small(name, keep_objective=True, **params).fit(given)
        assert set(model.objective_(torch.from_numpy(X))) == OUTPUTS[name]
        pickle.dumps(clone(model).fit(given))


def test_bad_values_and_failed_fits():
    with pytest.raises(ValueError, match="'keep_objective' parameter of SimCLR .* Got 'yes'"):
        small("SimCLR", keep_objective="yes").fit(rows("table"))
    model = small("SimCLR", keep_objective=True).fit(rows("table"))
    with pytest.raises(ValueError, match="infinity"):
        model.fit(np.full((10, 6), np.inf))
    assert not hasattr(model, "objective_")


def test_shapes_are_those_of_the_data():
    assert set(SHAPES) > {"table", "series", "image"}
    objective = small("CPC", keep_objective=True).fit(rows("series")).objective_
    found = objective(torch.from_numpy(rows("series")))
    n_patches = objective.local.grid.shape[0]
    assert found["patches"].shape[2] == found["contexts"].shape[2] == n_patches
    assert list(found["predictions"]) == list(objective.offsets)
