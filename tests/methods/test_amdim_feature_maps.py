"""Maps from inside of an encoder."""

import pickle

import pytest
import torch
from torch import nn

from sslearn._methods._amdim_feature_maps import FeatureMaps
from sslearn._modules import Features
from sslearn.encoders import default_encoder


def _maps(module, layers, shape, width=8):
    return FeatureMaps(Features(module, width), layers, shape)


@pytest.mark.parametrize(
    ("shape", "positions"),
    [((2, 40), [1, 10, 20]), ((3, 16, 16), [1, 16, 64]), ((1, 8, 8, 8), [1, 8, 64])],
)
def test_maps_of_the_default_encoder_are_coarse_to_fine(shape, positions):
    encoder = default_encoder(shape, 8)
    maps = _maps(encoder, None, shape)
    x = torch.randn(3, *shape)
    found = maps.eval()(x)
    assert [m.flatten(2).shape[2] for m in found] == positions
    assert [m.shape[1] for m in found] == maps.channels
    torch.testing.assert_close(found[0][:, :, 0], encoder(x))
    stages = encoder.feature_maps(x)
    torch.testing.assert_close(found[1].flatten(2), stages[-1].flatten(2))
    torch.testing.assert_close(found[2].flatten(2), stages[-2].flatten(2))


def test_layers_by_name_and_no_hook_stays():
    net = nn.Sequential()
    net.add_module("layer1", nn.Conv1d(2, 4, 3))
    net.add_module("layer2", nn.Sequential(nn.ReLU(), nn.Conv1d(4, 6, 3)))
    net.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(6 * 6, 8)))
    maps = _maps(net, ("layer2", "layer1"), (2, 10))
    found = maps(torch.randn(3, 2, 10))
    assert [tuple(m.shape) for m in found] == [(3, 8, 1), (3, 6, 6), (3, 4, 8)]
    assert not any(module._forward_hooks for module in net.modules())
    pickle.dumps(net)
    by_itself = _maps(net, None, (2, 10))
    assert by_itself.layers == ["layer2", "layer1"]


def test_the_last_map_stands_for_those_that_lack():
    net = nn.Sequential(nn.Flatten(), nn.Linear(20, 8))
    found = _maps(net, None, (2, 10))(torch.randn(3, 2, 10))
    assert [tuple(m.shape) for m in found] == [(3, 8, 1)] * 3


def _net(*layers):
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(8))


@pytest.mark.parametrize(
    "after",
    [
        nn.ReLU(inplace=True),
        nn.Dropout(0.5, inplace=True),  # in train mode only
        nn.Sequential(nn.Flatten(2), nn.ReLU(inplace=True)),  # on a view of it
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_a_layer_that_works_in_place_does_not_change_the_map_before_it(after, training):
    torch.manual_seed(0)
    net = _net(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Conv1d(4, 4, 3), after)
    net(torch.randn(2, 2, 12))
    statistics = net[1].running_mean.clone()
    maps = _maps(net, ("2", "3"), (2, 12)).train(training)
    assert torch.equal(net[1].running_mean, statistics)
    assert maps.overwritten == {"2"}
    x = torch.randn(3, 2, 12)
    state = torch.get_rng_state()
    _, named, following = maps(x)
    expected = net[2](net[1](net[0](x)))
    torch.testing.assert_close(named, expected)
    torch.set_rng_state(state)
    torch.testing.assert_close(following, after(expected.clone()))
    named.sum().backward()  # what is copied still has a gradient
    assert net[2].weight.grad.abs().sum() > 0


def test_only_what_is_written_over_is_copied():
    for shape in ((2, 40), (3, 16, 16)):
        assert not _maps(default_encoder(shape, 8), None, shape).overwritten
    assert not _maps(_net(nn.Conv1d(2, 4, 3), nn.ReLU()), ("0", "1"), (2, 10)).overwritten


def test_the_last_two_layers_differ():
    torch.manual_seed(0)
    net = _net(nn.Conv1d(2, 4, 3), nn.Conv1d(4, 4, 3), nn.ReLU(inplace=True), nn.Dropout(0.5))
    maps = _maps(net, None, (2, 12))
    assert maps.layers == ["2", "1"]  # dropout passes on what it gets
    _, last, before = maps.eval()(torch.randn(3, 2, 12))
    assert last.data_ptr() != before.data_ptr()
    assert (last >= 0).all()
    assert (before < 0).any()


def test_encoders_that_train_on_many_rows_only():
    class Parts(nn.BatchNorm1d):
        def forward(self, x):
            return super().forward(x.reshape(4, -1, 10).reshape(x.shape) if self.training else x)

    net = _net(Parts(2), nn.Conv1d(2, 4, 3), nn.ReLU(inplace=True))
    assert _maps(net, ("1",), (2, 10)).overwritten == {"1"}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_layers_of_scripted_modules_are_not_looked_at():
    inner = torch.jit.script(nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU()))
    net = nn.Sequential(inner, nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Linear(32, 8))
    assert _maps(net, None, (2, 12)).layers == ["1"]
    with pytest.raises(ValueError, match="'0.0', which .* or which is scripted. .* '1', '2', '3'"):
        _maps(net, ("0.0",), (2, 12))
    found = _maps(torch.jit.script(net), None, (2, 12))(torch.randn(3, 2, 12))
    assert [tuple(m.shape) for m in found] == [(3, 8, 1)] * 3


def test_unknown_layers():
    encoder = default_encoder((2, 20), 8)
    with pytest.raises(ValueError, match="'feature_layers' parameter names 'layer2'.*'stages.0'"):
        _maps(encoder, ("layer2",), (2, 20))
    with pytest.raises(ValueError, match="'feature_layers' parameter names ''"):
        _maps(encoder, ("",), (2, 20))

    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 8), nn.Linear(4, 8)

        def forward(self, x):
            return self.used(x.flatten(1))

    with pytest.raises(ValueError, match="'feature_layers' .* 'idle', which must give one tensor"):
        _maps(Unused(), ("idle",), (2, 2))
