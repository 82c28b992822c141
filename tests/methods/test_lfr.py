"""LFR: projectors that stay frozen, a choice of them, and phases."""

import functools
import itertools

import lightning.pytorch as lightning
import numpy as np
import pytest
import torch
from estimators import SHAPES, rows, small
from sklearn.base import clone
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import sslearn._methods._lfr_row_cache
from sslearn import LFR
from sslearn._methods._lfr_projectors import RandomProjector, calibrate
from sslearn._methods._lfr_selection import most_diverse
from sslearn._methods._losses import batchwise_barlow
from sslearn._training._loop import TrainingLoop
from sslearn._training._optimization import LARS


class Kept(LFR):
    """Keeps its objective."""

    def _publish(self, objective):
        super()._publish(objective)
        self.kept_ = objective


def _lfr(cls=Kept, **params):
    settings = {"embedding_dim": 8, "max_epochs": 3, "batch_size": 16, "projection_dim": 4}
    if params.get("encoder") is not None:
        del settings["embedding_dim"]
    return cls(**{**settings, "random_state": 0, "device": "cpu", **params})


def _weights(model):
    return list(model.encoder_.state_dict().values())


REGIMES = [
    {"alternate": True, "predictor_epochs": 1},
    {"alternate": True, "predictor_epochs": 3},
    {"alternate": False, "predictor_epochs": 0},
    {"alternate": False, "predictor_epochs": 2},
]


def _modules(n_targets=2):
    """Encoder, projectors and predictors to train in two ways."""
    torch.manual_seed(0)
    # No bias before the batch norm: its gradient is rounding, which Adam makes large.
    first = nn.Linear(6, 8, bias=False)
    encoder = nn.Sequential(first, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
    projectors = [nn.Linear(6, 4).requires_grad_(False) for _ in range(n_targets)]
    predictors = [nn.Linear(5, 4) for _ in range(n_targets)]
    return encoder, projectors, predictors


class Watched(Kept):
    """Records for each batch whether the encoder is frozen, and the numbers of the samples."""

    def _make_objective(self, encoder, data):
        objective = super()._make_objective(encoder, data)
        loss, self.batches_ = objective.batch_loss, []

        def recorded(batch):
            self.batches_.append((objective.frozen_encoder, batch.index))
            return loss(batch)

        objective.batch_loss = recorded
        return objective


def _watched(X, modules, **regime):
    encoder, projectors, predictors = modules
    return _lfr(
        Watched,
        encoder=encoder,
        projectors=projectors,
        predictors=predictors,
        n_targets=None,
        standardize=False,
        lr_schedule="constant",
        warmup_fraction=0.0,
        learning_rate=1e-2,
        weight_decay=1e-3,
        **regime,
    ).fit(X)


def _plain_loop(X, modules, batches, alternate):
    """Train by two optimizers, one for the encoder and one for the predictors."""
    encoder, projectors, predictors = modules
    for_encoder = _adam(encoder.parameters())
    for_predictors = _adam(p for predictor in predictors for p in predictor.parameters())
    for frozen, index in batches:
        encoder.train(not frozen)
        x = X[index]
        h = encoder(x)
        losses = [batchwise_barlow(p(h), r(x)) for p, r in zip(predictors, projectors, strict=True)]
        for_encoder.zero_grad()
        for_predictors.zero_grad()
        torch.stack(losses).mean().backward()
        if not frozen:
            for_encoder.step()
        if frozen or not alternate:
            for_predictors.step()


def _adam(parameters):
    parameters = list(parameters)
    decayed = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 1e-3}
    others = {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0}
    return torch.optim.Adam([decayed, others], lr=1e-2, betas=(0.9, 0.99))


@pytest.mark.parametrize("regime", REGIMES)
def test_training_equals_a_plain_loop_with_two_optimizers(regime):
    X, modules = rows("table", n=70), _modules()
    model = _watched(X, modules, **regime)
    _plain_loop(torch.from_numpy(X), modules, model.batches_, regime["alternate"])
    found = model.encoder_.features.module.state_dict()
    for key, value in modules[0].state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("regime", REGIMES)
def test_each_epoch_trains_the_encoder_once_and_then_the_predictors(regime):
    model = _watched(rows("table", n=70), _modules(), **regime)
    n_batches, n_passes = 70 // 16, regime["predictor_epochs"]
    epoch = [False] * n_batches + [True] * n_batches * n_passes
    assert [frozen for frozen, _ in model.batches_] == epoch * 3


@pytest.mark.parametrize("regime", REGIMES)
def test_no_sample_comes_twice_in_a_pass(regime):
    model = _watched(rows("table", n=70), _modules(), **regime)
    n_batches = 70 // 16
    indices = [index for _, index in model.batches_]
    for start in range(0, len(indices), n_batches):
        seen = torch.cat(indices[start : start + n_batches])
        assert len(seen) == len(seen.unique()) == 16 * n_batches


@pytest.mark.parametrize("regime", REGIMES)
def test_looking_up_changes_nothing(regime, monkeypatch):
    X = rows("series", n=40)
    looked_up = _lfr(**regime).fit(X)
    assert looked_up.kept_.targets.values is not None
    monkeypatch.setattr(sslearn._methods._lfr_row_cache, "_BYTES", 0)
    computed = _lfr(**regime).fit(X)
    assert computed.kept_.targets.values is None
    for a, b in zip(_weights(looked_up), _weights(computed), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_how_often_networks_run():
    X = rows("table", n=64)
    runs = {"encoder": 0, "projector": 0}

    class Counted(nn.Module):
        def __init__(self, name, out):
            super().__init__()
            self.name, self.linear = name, nn.Linear(6, out)

        def forward(self, x):
            runs[self.name] += len(x)
            return self.linear(x)

    model = _lfr(
        encoder=Counted("encoder", 8),
        projectors=[Counted("projector", 4)],
        n_targets=1,
        predictor_epochs=4,
        max_epochs=2,
    )
    runs.update(encoder=0, projector=0)
    model.fit(X)
    # Once for all epochs, twice for the choice, and a few rows to find their shapes.
    assert 64 <= runs["projector"] <= 3 * 64 + 10
    # Each epoch: once to learn and once for all four passes of the predictors; the watch, too.
    assert 2 * 2 * 64 <= runs["encoder"] <= 2 * 2 * 64 + 3 * 64 + 10


def test_projectors_never_change():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

        def forward(self, x):
            assert not self.training
            return self.layers(x)

    projectors = [Noisy() for _ in range(4)]
    model = _lfr(projectors=projectors, n_targets=2).fit(rows("table"))
    for chosen, kept in zip(model.target_indices_, model.kept_.projectors, strict=True):
        for a, b in zip(
            projectors[chosen].state_dict().values(), kept.state_dict().values(), strict=True
        ):
            assert torch.equal(a, b)
    assert all(projector.training for projector in projectors)  # the caller's own are as they were


def test_targets_of_chance_are_drawn_each_time():
    class Chance(nn.Linear):
        def forward(self, x):
            return super().forward(x) + torch.rand(len(x), 1)

    model = _lfr(projectors=[Chance(6, 4), nn.Linear(6, 4)], n_targets=2).fit(rows("table"))
    assert model.kept_.targets.values is None
    model.set_params(projectors=[nn.Linear(6, 4), nn.Linear(6, 4)]).fit(rows("table"))
    assert model.kept_.targets.values is not None


def test_the_choice_is_the_most_diverse_and_reproducible():
    X = rows("table", n=200)
    torch.manual_seed(0)
    projectors = [nn.Linear(6, 4) for _ in range(9)]
    projectors[3] = projectors[2]  # the same twice
    model = _lfr(projectors=projectors, n_targets=5, max_epochs=1).fit(X)
    assert len(set(model.target_indices_)) == 5
    assert not {2, 3} <= set(model.target_indices_.tolist())
    assert model.target_kernel_.shape == (5, 5)
    assert (model.target_kernel_.diagonal() == 1).all()
    again = _lfr(projectors=projectors, n_targets=5, max_epochs=1).fit(X)
    np.testing.assert_array_equal(again.target_indices_, model.target_indices_)
    # All rows are the sample, if it is as large: then the order of the rows is all that differs.
    model.set_params(selection_batch_size=1000).fit(X)
    Z = (X - X.mean(0)) / X.std(0)
    with torch.no_grad():
        expected, _, _ = most_diverse([p(torch.from_numpy(Z)) for p in projectors], 5)
    assert sorted(model.target_indices_) == sorted(expected)


def test_without_a_choice():
    model = _lfr(n_targets=None, n_candidates=5).fit(rows("table"))
    assert model.target_indices_.tolist() == list(range(5))
    assert not hasattr(model, "target_kernel_")
    assert model.kept_.predictors.widths == [4] * 5


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_projectors_and_predictors_of_ones_own(kind):
    X = rows(kind)
    shape = SHAPES[kind]
    seen = []

    def projector(sample_shape):
        seen.append(sample_shape)
        # Takes flat rows only, whatever the kind.
        return nn.Linear(int(np.prod(shape)), 3)

    widths = []

    def predictor(width, target_width):
        widths.append((width, target_width))
        return nn.Linear(width, target_width)

    model = _lfr(projectors=projector, n_candidates=7, n_targets=2, predictors=predictor)
    model.fit(X)
    assert seen == [shape] * 7
    assert widths == [(8, 3), (8, 3)]
    assert model.transform(X).shape == (len(X), 8)
    layered = _lfr(predictor_layers=3, n_targets=2).fit(X)
    assert len([m for m in layered.kept_.predictors.modules() if isinstance(m, nn.Linear)]) == 6


@pytest.mark.parametrize("make", [list, nn.ModuleList])
def test_a_list_shorter_than_n_targets_is_taken_whole(make):
    torch.manual_seed(0)
    projectors = make([nn.Linear(6, 4) for _ in range(3)])
    model = _lfr(projectors=projectors).fit(rows("table"))
    assert model.n_targets == 6
    assert sorted(model.target_indices_) == [0, 1, 2]
    assert model.target_kernel_.shape == (3, 3)
    same = _lfr(projectors=projectors, n_targets=3).fit(rows("table"))
    assert model.loss_curve_ == same.loss_curve_


@pytest.mark.parametrize(
    ("params", "found", "n_rows"),
    [
        ({"projectors": [nn.Linear(6, 4)] * 6, "n_targets": 4}, 1, 24),
        ({"selection_batch_size": 2, "n_targets": 4, "projection_dim": 2}, 1, 2),
    ],
)
def test_targets_that_do_not_differ_are_warned_of(params, found, n_rows):
    message = rf"Only {found} of the 4 targets of LFR \(n_targets\) differ on the {n_rows} "
    with pytest.warns(UserWarning, match=message) as caught:
        model = _lfr(**params).fit(rows("table"))
    (warning,) = caught
    assert warning.filename == __file__  # in the name of whoever called fit
    for name in ("projectors", "n_targets", "selection_batch_size"):
        assert name in str(warning.message)
    assert len(set(model.target_indices_)) == 4


def _of_maps(module):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4))  # gives (n, 4, 20)
    return _lfr(encoder=encoder, adapter=module, n_targets=2)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(-1, keepdim=True)


def _pooled(x):
    return x.mean(-1, keepdim=True)


@pytest.mark.parametrize(
    "adapter",
    [
        nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten()),
        nn.AvgPool1d(3),
        nn.Softmax(-1),
        nn.Linear(20, 3),
        nn.Conv1d(4, 2, 3),
        Mean(),
        _pooled,
    ],
)
def test_an_adapter_gets_maps_if_it_takes_them(adapter):
    X = rows("series")
    model = _of_maps(adapter).fit(X)
    # As if it had been written with the shape of the maps, which it can be too.
    unflatten = nn.Unflatten(1, (4, 20))
    if isinstance(adapter, nn.Module):
        same = _of_maps(nn.Sequential(unflatten, adapter)).fit(X)
    else:
        same = _of_maps(nn.Sequential(unflatten, Mean())).fit(X)
    assert model.loss_curve_ == same.loss_curve_
    with torch.no_grad():
        maps = model.encoder_.features.module(torch.from_numpy(X))
        used = model.kept_.adapter.module[1]
        torch.testing.assert_close(model.kept_.adapter(maps.flatten(1)), used(maps).flatten(1))


@pytest.mark.parametrize("function", [torch.tanh, lambda z: z * 2, _pooled, nn.functional.relu])
def test_an_adapter_may_be_a_function_of_tensors(function):
    X = rows("table")
    model = _lfr(adapter=function, n_targets=2).fit(X)
    z = torch.randn(5, 8)
    torch.testing.assert_close(model.kept_.adapter(z), function(z))
    assert model.kept_.predictors.heads[0].in_features == function(z).shape[1]
    assert np.isfinite(model.loss_curve_).all()
    clone(model).fit(X)


def test_a_function_that_is_no_adapter():
    message = "'adapter' .* does not fit: .* fails in FunctionOfTensors, .* with: no such thing"

    def fails(z):
        raise RuntimeError("no such thing")

    with pytest.raises(ValueError, match=message):
        _lfr(adapter=fails).fit(rows("table"))
    with pytest.raises(ValueError, match="'adapter' .* must return one float tensor .* Got int"):
        _lfr(adapter=lambda z: 3).fit(rows("table"))
    with pytest.raises(TypeError, match=r"as adapter\(8\). Got Linear, which takes"):
        _lfr(adapter=nn.Linear).fit(rows("table"))


class Dropped(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x.mul_(0.5)))


@pytest.mark.parametrize(
    "adapter",
    [
        nn.Linear(80, 6),
        nn.LazyLinear(6),
        nn.ReLU(inplace=True),
        nn.LayerNorm(80),
        nn.AvgPool1d(4),  # of each channel, either way
        Dropped(80, 3),
    ],
)
def test_an_adapter_of_flattened_features_is_taken(adapter):
    assert np.isfinite(_of_maps(adapter).fit(rows("series")).loss_curve_).all()
    width = []
    _of_maps(lambda given: width.append(given) or nn.Linear(given, 3)).fit(rows("series"))
    assert width == [80]


def test_a_predictor_for_each_candidate_or_each_target():
    torch.manual_seed(0)
    X, widths = rows("table", n=60), (3, 4, 5, 6, 7)
    projectors = [nn.Linear(6, width) for width in widths]
    predictors = [nn.Linear(8, width) for width in widths]
    params = {"projectors": projectors, "optimizer": "lars", "learning_rate": 1e-6}
    model = _lfr(predictors=predictors, n_targets=2, max_epochs=1, **params).fit(X)
    chosen = model.target_indices_
    assert model.kept_.predictors.widths == [widths[i] for i in chosen]
    for i, head in zip(chosen, model.kept_.predictors.heads, strict=True):
        torch.testing.assert_close(head.module.weight, predictors[i].weight, rtol=1e-3, atol=1e-3)
    # The same as one for each target, in the order of choice.
    listed = [predictors[i] for i in chosen]
    same = _lfr(predictors=nn.ModuleList(listed), n_targets=2, max_epochs=1, **params).fit(X)
    assert same.loss_curve_ == model.loss_curve_
    # All are targets: the order of choice is not that of the candidates, which counts.
    model = _lfr(predictors=predictors, n_targets=5, max_epochs=1, **params).fit(X)
    assert model.target_indices_.tolist() != [0, 1, 2, 3, 4]
    assert model.kept_.predictors.widths == [widths[i] for i in model.target_indices_]
    with pytest.raises(ValueError, match="each of 5 candidates, or for each of 2 targets. Got 3"):
        _lfr(predictors=predictors[:3], n_targets=2, **params).fit(X)


class Drawn(nn.Module):
    """A projector without arguments."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, x):
        return self.linear(x)


def test_projectors_whose_class_has_all_of_its_arguments():
    X = rows("table")
    for given in (functools.partial(nn.Linear, 6, 5), Drawn):
        model = _lfr(projectors=given, n_candidates=9, n_targets=3).fit(X)
        weights = [projector.module for projector in model.kept_.projectors]
        assert [p.width for p in model.kept_.projectors] == [5] * 3
        weights = [next(module.parameters()) for module in weights]
        assert not torch.equal(weights[0], weights[1])  # each is drawn anew
        same = _lfr(projectors=lambda shape: given(), n_candidates=9, n_targets=3)  # noqa: B023
        assert model.loss_curve_ == same.fit(X).loss_curve_
    # One that has to know the shape gets it.
    shaped = functools.partial(RandomProjector, width=5)
    assert _lfr(projectors=shaped, n_candidates=3, n_targets=2).fit(X).kept_.targets is not None
    broken = functools.partial(nn.Linear, 6, "5")
    with pytest.raises(ValueError, match="called with no arguments, .* Got TypeError from partial"):
        _lfr(projectors=broken).fit(X)


def test_an_adapter_learns_and_is_gone():
    adapter = nn.Linear(8, 6)
    model = _lfr(adapter=adapter).fit(rows("table"))
    assert not torch.equal(model.kept_.adapter.module.weight, adapter.weight)
    assert model.kept_.predictors.heads[0].in_features == 6
    assert model.transform(rows("table")).shape == (24, 8)
    assert not any("adapter" in key for key in model.encoder_.state_dict())


@pytest.mark.parametrize("trainer_params", [None, {"gradient_clip_val": 1e9}])
@pytest.mark.parametrize(
    ("params", "limit", "steps", "epochs"),
    [
        ({"predictor_epochs": 1}, 5, 4 + 4 + 1, 2),
        ({"predictor_epochs": 2}, 8, 4 + 8 + 4, 2),
        ({"alternate": False, "predictor_epochs": 0}, 6, 6, 2),
        ({"predictor_epochs": 1}, 1000, 24, 3),
    ],
)
def test_training_ends_with_the_last_encoder_step(params, limit, steps, epochs, trainer_params):
    log = []

    class Logged(Kept):
        def _make_objective(self, encoder, data):
            made = super()._make_objective(encoder, data)
            made.after_step = lambda step, n_steps: log.append((step, n_steps))
            return made

    model = _lfr(Logged, max_encoder_steps=limit, trainer_params=trainer_params, **params)
    model.fit(rows("table", n=70))
    assert log == [(step, steps) for step in range(steps)]
    assert model.n_iter_ == epochs


def test_accumulated_gradients_stay_in_their_phase():
    moved = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.before = next(module.objective.encoder.parameters()).detach().clone()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            now = next(module.objective.encoder.parameters())
            moved.append((module.objective.frozen_encoder, not torch.equal(now, self.before)))

    params = {"accumulate_grad_batches": 2, "callbacks": [Watch()]}
    small("LFR", n_targets=2, n_candidates=4, trainer_params=params, max_epochs=3).fit(
        rows("table", n=50)
    )
    assert (False, True) in moved
    assert (True, True) not in moved


def test_streams_and_held_out_rows():
    X = rows("table", n=60)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=20)
    model = _lfr(predictor_epochs=2).fit(loader)
    assert np.isfinite(model.loss_curve_).all()
    assert model.kept_.targets.values is None
    model = _lfr(validation_fraction=0.3, predictor_epochs=2).fit(X)
    assert np.isfinite(model.validation_loss_curve_).all()


@pytest.mark.parametrize("loss", ["barlow", "cosine", lambda p, z: (p - z).square().mean()])
def test_losses(loss):
    model = _lfr(loss=loss, max_epochs=10, learning_rate=1e-2).fit(rows("table", n=100))
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("loss", ["barlow", "cosine"])
def test_targets_at_once_or_one_by_one(loss):
    X = rows("table", n=60)
    at_once = _lfr(loss=loss).fit(X)

    class OneByOne(Kept):
        def _make_objective(self, encoder, data):
            made = super()._make_objective(encoder, data)
            made.at_once = False
            return made

    one_by_one = _lfr(OneByOne, loss=loss).fit(X)
    assert (at_once.kept_.at_once, one_by_one.kept_.at_once) == (True, False)
    for a, b in zip(_weights(at_once), _weights(one_by_one), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_predictors_with_hooks_stay_what_they_are():
    normed = [nn.utils.spectral_norm(nn.Linear(8, 4)) for _ in range(2)]
    model = _lfr(predictors=normed, n_targets=2).fit(rows("table"))
    assert len(model.kept_.predictors.heads) == 2
    assert np.isfinite(model.loss_curve_).all()


def test_lars_gives_each_predictor_a_trust_ratio_of_its_own():
    torch.manual_seed(0)
    given = [nn.Linear(8, 4, bias=False) for _ in range(2)]
    with torch.no_grad():
        given[1].weight.mul_(20)
    model = _lfr(
        predictors=given,
        n_targets=2,
        optimizer="lars",
        learning_rate=0.3,
        weight_decay=0.0,
        lr_schedule="constant",
        warmup_fraction=0.0,
        alternate=False,
        predictor_epochs=0,
        max_epochs=1,
    ).fit(rows("table", n=16))
    for head, before in zip(model.kept_.predictors.heads, given, strict=True):
        moved = (head.module.weight - before.weight).norm() / before.weight.norm()
        assert moved.item() == pytest.approx(0.3 * 1e-3, rel=1e-2)


@pytest.mark.parametrize(
    ("optimizer", "n_heads"),
    [
        (None, 1),
        ("adam", 1),
        ("adamw", 1),
        ("sgd", 1),
        ("lars", 6),
        (torch.optim.Adam, 6),
        (lambda groups: LARS([{**group, "lars": True} for group in groups]), 6),
    ],
)
def test_predictors_are_joined_where_each_weight_moves_by_itself(optimizer, n_heads):
    model = _lfr(optimizer=optimizer).fit(rows("table"))
    assert len(model.kept_.predictors.heads) == n_heads


def test_targets_of_different_widths():
    torch.manual_seed(0)
    projectors = [nn.Linear(6, width) for width in (3, 5)]
    model = _lfr(projectors=projectors, n_targets=2).fit(rows("table"))
    assert sorted(model.kept_.predictors.widths) == [3, 5]
    assert not model.kept_.at_once
    assert len(model.kept_.predictors.heads) == 1  # one map of 8 rows


@pytest.mark.parametrize(
    "shape", [(5,), (2, 30), (1, 1), (1, 6), (3, 8, 8), (1, 28, 28), (1, 4, 5, 6)]
)
def test_random_projectors(shape):
    torch.manual_seed(0)
    x = 3 + torch.randn(50, *shape)
    for _ in range(12):
        projector = RandomProjector(shape, 7).eval()
        calibrate(projector, x)
        assert not any(module.training for module in projector.modules())
        out = projector(x)
        assert out.shape == (50, 7)
        assert out.isfinite().all()
        torch.testing.assert_close(out.mean(0), torch.zeros(7), rtol=0, atol=1e-4)
        torch.testing.assert_close(projector(x[:3]), out[:3])
        other = projector(x[:1] + 100)
        assert other.isfinite().all()


def test_random_filters_count_where_they_answer():
    torch.manual_seed(0)
    projector = RandomProjector((2, 40), 5).eval()
    x = torch.randn(6, 2, 40)
    expected = [
        (conv(x) > 0).double().mean(2).float() for conv in projector.body.filters
    ]  # the part of positions above the threshold
    torch.testing.assert_close(projector.body(x), torch.cat(expected, dim=1))
    seen = torch.cat([conv.weight.abs().sum(2) > 0 for conv in projector.body.filters])
    assert set(seen.sum(1).tolist()) == {1, 2}
    # Where something happens makes no difference, but for the ends.
    bump = torch.zeros(2, 2, 400)
    bump[0, :, 100:110] = bump[1, :, 250:260] = 1.0
    longer = RandomProjector((2, 400), 5).eval()
    first, second = longer.body(bump)
    torch.testing.assert_close(first, second, rtol=0, atol=0.2)


class NaNs(nn.Module):
    def forward(self, x):
        # Rows of zeros, with which a module is tried out, are well.
        return torch.where(x == 0, 0.0, torch.nan)


def test_own_projectors_are_not_calibrated():
    own = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4)).eval()
    before = {key: value.clone() for key, value in own.state_dict().items()}
    calibrate(own, torch.randn(20, 6))
    assert all(torch.equal(before[key], value) for key, value in own.state_dict().items())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_targets": 61}, "'n_targets' parameter .* n_targets=61 and n_candidates=60"),
        (
            {"projectors": lambda shape: nn.Linear(6, 3), "n_candidates": 3},
            "'n_targets' parameter .* n_targets=6 and n_candidates=3",
        ),
        ({"predictor_epochs": 0}, "'predictor_epochs' parameter is 0 and alternate=True"),
        ({"projectors": lambda shape: nn.Linear(99, 3)}, "'projectors' parameter does not fit"),
        ({"projectors": lambda shape: "none"}, "'projectors' parameter is called with a shape"),
        ({"projectors": ["none"], "n_targets": 1}, "'projectors' .* such objects. Got 'none'"),
        (
            {"predictors": lambda a, b: a},
            r"with two widths \(ints\) and .* Got int from predictors\(8, 4\)",
        ),
        ({"predictors": lambda a: a}, r"called as predictors\(8, 4\). Got <lambda>, which takes"),
        ({"predictors": [nn.Linear(8, 4)]}, "'predictors' parameter must hold .* 6 .* Got 1"),
        ({"predictors": lambda a, b: nn.Linear(a, b + 1)}, "'predictors' .* rows of 4. Got 5"),
        ({"selection_batch_size": 1}, "'selection_batch_size' parameter of LFR"),
        ({"off_diagonal_weight": -1}, "'off_diagonal_weight' parameter of LFR"),
        ({"loss": "hinge"}, "'loss' parameter of LFR"),
        ({"max_encoder_steps": 0}, "'max_encoder_steps' parameter of LFR"),
        ({"projectors": [], "n_targets": None}, "'projectors' parameter is an empty list"),
        (
            {"projectors": [nn.Linear(6, 3), NaNs()], "n_targets": None},
            "must return finite outputs. Candidate 1, a NaNs, returns NaN",
        ),
        (
            {"encoder": nn.Linear(6, 8).requires_grad_(False), "embedding_dim": None},
            "nothing to train: .* learn in the phase 'encoder'",
        ),
    ],
)
def test_bad_input(params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        _lfr(LFR, **params).fit(rows("table"))


@pytest.mark.parametrize(
    ("limit", "per_phase"), [(3, 3), (1, 1), (0.5, 3), (2.0, 2), (1.0, 6), (100, 6)]
)
@pytest.mark.parametrize("as_stream", [False, True])
def test_a_limit_of_batches_is_one_of_each_phase(monkeypatch, limit, per_phase, as_stream):
    # Of an epoch, the first phase would take them all: an encoder that never learns.
    phases = []
    enter = TrainingLoop.enter_phase
    monkeypatch.setattr(
        TrainingLoop, "enter_phase", lambda self, phase: (phases.append(phase), enter(self, phase))
    )
    X = rows("table", n=96)
    if as_stream:
        X = DataLoader(X, batch_size=16)
    small("LFR", trainer_params={"limit_train_batches": limit}).fit(X)
    assert phases == 2 * ([0] * per_phase + [1] * per_phase)


def test_both_phases_learn_from_a_stream_without_end():
    class Endless(IterableDataset):
        def __iter__(self):
            return itertools.cycle(rows("table", n=96))

    fitted = small("LFR", trainer_params={"limit_train_batches": 3}).fit(Endless())
    untrained = small("LFR", trainer_params={"limit_train_batches": 3}, learning_rate=1e-12)
    X = rows("table", n=96)
    assert np.abs(fitted.transform(X) - untrained.fit(Endless()).transform(X)).max() > 1e-3
