import copy
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from estimators import rows, small
from torch import nn

from sslearn._methods._heads import make_head, mlp_head
from sslearn._modules import build_features, build_module, copy_module, split_stem


class Remembers(nn.Linear):
    """Keeps what it saw last, as Grad-CAM does."""

    def forward(self, x):
        self.seen = [super().forward(x)]
        self.last = self.seen[0]
        return self.last


def _weight_normed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in people's code
        return nn.Sequential(torch.nn.utils.weight_norm(nn.Linear(3, 2)))


@pytest.mark.parametrize("make", [_weight_normed, lambda: Remembers(3, 2)])
def test_modules_that_keep_results_refuse_deepcopy_and_are_copied(make):
    module = make()
    module(torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="deepcopy protocol"):
        copy.deepcopy(module)
    copied = copy_module(module)
    assert copied is not module
    assert torch.equal(copied(torch.ones(1, 3)), module(torch.ones(1, 3)))
    for a, b in zip(copied.parameters(), module.parameters(), strict=True):
        assert a is not b
        assert a.requires_grad
    with pytest.raises(RuntimeError, match="deepcopy protocol"):  # the mode has ended
        copy.deepcopy(module)


def test_what_is_remembered_twice_is_copied_once():
    module = Remembers(3, 2)
    module(torch.ones(1, 3))
    copied = copy_module(module)
    assert copied.last is copied.seen[0]
    assert torch.equal(copied.last, module.last)
    assert not copied.last.requires_grad


def test_lazy_layers_are_copied_before_they_have_seen_anything():
    lazy = nn.Sequential(nn.LazyConv1d(4, 3), nn.LazyBatchNorm1d(), nn.Flatten())
    copied = copy_module(lazy)
    assert copied(torch.zeros(5, 2, 10)).shape == (5, 32)
    assert isinstance(lazy[0].weight, nn.UninitializedParameter)
    for given in (lazy, lambda shape: lazy):
        fitted = small("SimCLR", encoder=given).fit(rows("series"))
        assert fitted.transform(rows("series")).shape == (24, 72)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", ["SimCLR", "BYOL"])
def test_scripted_modules_are_trained(name):
    scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)))
    dict(scripted.named_parameters())["1.bias"].requires_grad_(False)
    before = {key: value.clone() for key, value in scripted.state_dict().items()}
    copied = copy_module(scripted)
    assert all(p.is_leaf for p in copied.parameters())
    assert [p.requires_grad for p in copied.parameters()] == [True, True, True, False]
    fitted = small(name, encoder=scripted).fit(rows("table"))
    found = fitted.encoder_.get_submodule("features").module.state_dict()
    assert not torch.equal(found["0.weight"], before["0.weight"])
    assert torch.equal(found["1.bias"], before["1.bias"])
    assert all(torch.equal(value, before[key]) for key, value in scripted.state_dict().items())


def test_a_module_is_not_taken_for_a_callable():
    assert isinstance(build_module(nn.Sequential(), 3, name="projector"), nn.Sequential)
    empty = make_head(nn.Sequential(), 3, (4, 5), name="projector")
    assert len(empty.module) == 0
    assert empty.width == 3
    head = make_head(None, 3, (4, 5), name="projector")
    assert head(torch.zeros(2, 3)).shape == (2, 5)
    assert head.width == 5
    assert mlp_head(3, (4, 5))[0].bias is None


def test_layers_of_a_head():
    kinds = [type(layer).__name__ for layer in mlp_head(3, (4, 6, 5), norm_output=True)]
    block = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == [*block, *block, "Linear", "BatchNorm1d"]
    assert mlp_head(3, (4, 6, 5), norm_output=True)[-1].weight is None
    assert [type(layer).__name__ for layer in mlp_head(3, (5,))] == ["Linear"]


def test_a_head_of_the_wrong_width():
    with pytest.raises(
        ValueError, match="'predictor' parameter must map rows of 4 .* rows of 4.*7"
    ):
        make_head(nn.Linear(4, 7), 4, (9, 4), name="predictor", out=4)
    with pytest.raises(ValueError, match=r"'predictor' parameter does not fit.*\(1, 4\)"):
        make_head(nn.Linear(3, 4), 4, (9, 4), name="predictor", out=4)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (nn.Linear(99, 3), r"'encoder' parameter does not fit.*\(1, 6\) fails in Linear"),
        (
            lambda shape: 3,
            r"'encoder'.*must return a torch.nn.Module. Got int from encoder\(\(6,\)",
        ),
        (nn.LSTM(6, 3), "must return one float tensor.*Got tuple"),
        (nn.Flatten(0), "must return a row of features for each sample. Got shape \\(6,\\)"),
    ],
)
def test_encoders_that_do_not_fit(encoder, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small("SimCLR", encoder=encoder).fit(rows("table"))


class Two(NamedTuple):
    logits: torch.Tensor
    auxiliary: torch.Tensor


class Auxiliary(nn.Linear):
    """Another output in train mode, as that of networks with auxiliary heads."""

    def forward(self, x):
        y = super().forward(x)
        return Two(y, y) if self.training else y


class EvalOnly(nn.Linear):
    def forward(self, x):
        if self.training:
            raise KeyError("only in eval mode")
        return super().forward(x)


class Wider(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return torch.cat((y, y), 1) if self.training else y


class Parts(nn.BatchNorm1d):
    """Statistics of quarters of a batch."""

    def forward(self, x):
        return super().forward(x.view(4, -1, x.shape[1]).flatten(0, 1) if self.training else x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Auxiliary(6, 8), "must return one float tensor .* Got Two in train mode"),
        (Wider(6, 8), r"must return as many features .* Got shapes \(2, 16\) and \(2, 8\)"),
        (EvalOnly(6, 8), "does not fit: .* fails in EvalOnly, in train mode, with: 'only in eval"),
    ],
)
def test_networks_that_answer_otherwise_in_train_mode(module, message):
    with pytest.raises(ValueError, match=f"'encoder' parameter {message}"):
        small("SimCLR", encoder=module).fit(rows("table"))


def test_train_mode_is_only_tried_out():
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    features = build_features(net, (6,), trains=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert not features.module.training
    assert net[1].num_batches_tracked == 0
    assert torch.equal(net[1].running_var, torch.ones(8))
    # Those that need more rows than two, or are never in train mode.
    assert build_features(nn.Sequential(Parts(6)), (6,), trains=True).width == 6
    frozen = Auxiliary(6, 8).requires_grad_(False)
    fitted = small("SimCLR", encoder=nn.Sequential(frozen, nn.Linear(8, 8))).fit(rows("table"))
    assert np.isfinite(fitted.loss_curve_).all()


def test_heads_are_tried_in_train_mode_and_projectors_of_lfr_are_not():
    with pytest.raises(ValueError, match="'projector' .* Got Two in train mode"):
        small("SimCLR", projector=lambda width: Auxiliary(width, 8)).fit(rows("table"))
    with pytest.raises(ValueError, match="'predictors' .* Got Two in train mode"):
        small("LFR", predictors=Auxiliary).fit(rows("table"))
    small("LFR", projectors=lambda shape: Auxiliary(6, 8)).fit(rows("table"))


class Raises(nn.Module):
    def forward(self, x):
        return {}[x.ndim]


@pytest.mark.parametrize("function", [torch.tanh, lambda w: w.mean(), lambda w: {}[w]])
def test_what_a_callable_raises_is_chained_to_a_sentence(function):
    message = r"'projector' .* called with a width \(an int\) and must return a torch.nn.Module. "
    with pytest.raises(ValueError, match=message) as caught:
        build_module(function, 3, name="projector")
    cause = caught.value.__cause__
    assert isinstance(cause, TypeError | AttributeError | KeyError)
    assert f"Got {type(cause).__name__} from {function.__name__}: {cause}" in str(caught.value)
    with pytest.raises(ValueError, match="'encoder' .* does not fit: .* fails in Raises") as caught:
        build_module(lambda width: Raises(), 3, name="encoder")
        build_features(Raises(), (3,))
    assert isinstance(caught.value.__cause__, KeyError)


def test_output_is_flattened_and_lazy_layers_are_made():
    features = build_features(nn.Sequential(nn.LazyConv1d(4, 3)), (2, 10))
    assert features.width == 4 * 8
    assert features(torch.zeros(5, 2, 10)).shape == (5, 32)
    estimator = small("SimCLR", encoder=lambda shape: nn.LazyLinear(5)).fit(rows("table"))
    assert estimator.transform(rows("table")).shape == (24, 5)


def test_an_encoder_that_fails_on_one_row_is_refused_before_training():
    class Squeezing(nn.Linear):
        def forward(self, x):
            return super().forward(x).squeeze()

    with pytest.raises(ValueError, match=r"row of features for each sample. Got shape \(8,\)"):
        small("SimCLR", encoder=Squeezing(6, 8), verbose=1).fit(rows("table"))


def test_a_module_that_a_callable_keeps_is_not_trained():
    kept = nn.Linear(6, 8)
    before = kept.weight.clone()
    small("SimCLR", encoder=lambda shape: kept).fit(rows("table"))
    assert torch.equal(kept.weight, before)


def test_modules_of_another_dtype():
    with pytest.raises(ValueError, match=r"float64 for 'weight'; call .float\(\)"):
        small("SimCLR", encoder=nn.Linear(6, 8).double()).fit(rows("table"))


def test_nothing_to_train():
    with pytest.raises(ValueError, match="nothing to train"):
        small("SimCLR", encoder=nn.Flatten(), projector=nn.Identity()).fit(rows("table"))


def test_the_fitted_features_are_an_encoder_for_another_estimator():
    X = rows("table")
    first = small("SimCLR").fit(X)
    again = small("SimCLR", encoder=first.encoder_.features, learning_rate=1e-30).fit(X)
    np.testing.assert_allclose(again.transform(X), first.transform(X), atol=0.3)


def test_projectors():
    X = rows("table")
    for projector in (nn.Linear(8, 3), lambda width: nn.Linear(width, 3), nn.Sequential()):
        assert small("SimCLR", projector=projector).fit(X).transform(X).shape == (24, 8)
    with pytest.raises(ValueError, match=r"'projector' parameter does not fit.*\(1, 8\)"):
        small("SimCLR", projector=nn.Linear(7, 3)).fit(X)


def test_the_published_encoder_prints_what_it_holds():
    # CPC reads a table as a series of one channel.
    printed = str(small("CPC").fit(rows("table")).encoder_)
    n_features = rows("table").shape[1]
    assert f"(shape): Reshape(shape=(1, {n_features}))\n" in printed
    assert "(standardize): Standardize(1 channel, scaled, clipped)\n" in printed
    width = small("VICReg", embedding_dim=5).fit(rows("table")).encoder_.features
    assert str(width).startswith("Features(\n  width=5\n")


class _Noise(nn.Module):
    """Draws in eval mode too."""

    def forward(self, x):
        return x + torch.randn_like(x)


def _frozen(*layers):
    return [layer.requires_grad_(False) for layer in layers]


def test_leading_frozen_layers_are_a_stem():
    layers = _frozen(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4))
    encoder = nn.Sequential(*layers, nn.Conv1d(4, 8, 3), nn.AdaptiveAvgPool1d(1))
    features = build_features(encoder, (2, 20))
    stem, body, input_shape = split_stem(features, (2, 20))
    assert list(stem) == layers
    assert (input_shape, body.width) == ((4, 18), 8)
    x = torch.randn(5, 2, 20)
    assert torch.equal(body(stem(x)), features.eval()(x))
    # A whole `encoder_` is fixed layers, and then perhaps an encoder with a stem of its own.
    fitted = small("SimCLR").fit(rows("series"))
    again = split_stem(build_features(fitted.encoder_, (2, 20)), (2, 20))
    assert again.input_shape == (fitted.encoder_.features.module.stem_width,)
    assert again.body.width == 8


@pytest.mark.parametrize(
    "encoder",
    [
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten()),
        nn.Sequential(*_frozen(nn.Conv1d(2, 4, 3))),  # nothing is left to train
        nn.Sequential(nn.Dropout(), *_frozen(nn.Conv1d(2, 4, 3)), nn.Conv1d(4, 4, 3)),
        nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Conv1d(2, 4, 3)),  # statistics move
        nn.Sequential(*_frozen(nn.Sequential(nn.Conv1d(2, 4, 3), _Noise())), nn.Conv1d(4, 4, 3)),
    ],
)
def test_encoders_without_a_stem(encoder):
    assert split_stem(build_features(encoder, (2, 20)), (2, 20)) is None
