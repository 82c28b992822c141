"""What is AMDIM's own: which maps are compared, and where positions come from."""

import numpy as np
import pytest
import torch
from estimators import rows, small
from torch import nn

from sslearn import AMDIM
from sslearn._methods._losses import feature_map_nce
from sslearn._methods.amdim import parse_comparisons
from sslearn._objective import Batch


class Kept(AMDIM):
    def _publish(self, objective):
        self.kept_ = objective


def _amdim(**params):
    settings = {"max_epochs": 2, "batch_size": 16, "embedding_dim": 8, "random_state": 0}
    return Kept(**{**settings, **params})


def test_comparisons_are_read():
    assert parse_comparisons("11,59, 2r", 10) == [(1, 1), (5, 9), (2, -1)]
    assert parse_comparisons("01, 02, 11", 3) == [(0, 1), (0, 2), (1, 1)]
    assert parse_comparisons("10-2,r-11 , rr", 12) == [(10, 2), (-1, 11), (-1, -1)]


@pytest.mark.parametrize("text", ["0", "", "01,,02", "012", "a1", "0 1", "-1-2", "01;02"])
def test_comparisons_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="'comparisons' parameter must be pairs of maps"):
        parse_comparisons(text, 13)


def test_comparisons_of_maps_that_are_not_there():
    with pytest.raises(ValueError, match="maps from 0, the features, to 2,.* Got '13'"):
        parse_comparisons("01, 13", 3)


def test_loss_is_that_of_the_embedded_maps():
    model = _amdim(map_dim=5, comparisons="02, 10, 2r", regularization=0.2).fit(rows("image"))
    objective = model.kept_.eval()
    views = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    batch = Batch(lambda: views[0], None, views, torch.Generator().manual_seed(3))
    found = objective.batch_loss(batch)
    embedded = []
    for view in views:
        each = []
        for head, layer in zip(objective.heads, objective.maps(view), strict=True):
            places = layer.flatten(2)
            columns = [head(places[:, :, i]) for i in range(places.shape[2])]
            each.append(torch.stack(columns, dim=2))
        embedded.append(each)
    losses = feature_map_nce(
        *embedded,
        [(0, 2), (1, 0), (2, -1)],
        clip=20.0,
        regularization=0.2,
        generator=torch.Generator().manual_seed(3),
    )
    torch.testing.assert_close(found, losses.mean())


def test_the_regularizer_is_of_one_comparison_however_many_there_are():
    losses = {}
    for comparisons in ("00", "00, 00, 00, 00"):
        for regularization in (0.0, 0.05):
            model = _amdim(comparisons=comparisons, regularization=regularization)
            objective = model.fit(rows("image")).kept_.eval()
            generator = torch.Generator().manual_seed(0)
            views = torch.randn(2, 4, 3, 8, 8, generator=generator).unbind()
            batch = Batch(lambda: None, None, views, generator)
            # The weights of one fit: those of the others differ.
            objective.load_state_dict(losses.setdefault("weights", objective.state_dict()))
            losses[comparisons, regularization] = objective.batch_loss(batch).item()
    one, four = (losses[c, 0.05] - losses[c, 0.0] for c in ("00", "00, 00, 00, 00"))
    assert one > 0
    assert four == pytest.approx(one, rel=1e-3)


def test_positions_come_from_the_generator_of_the_fit():
    X = rows("image")
    torch.manual_seed(1)
    first = _amdim().fit(X).transform(X)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = _amdim().fit(X).transform(X)
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("comparisons", ["00", "01, 02, 11", "2r, 1-1", "21"])
@pytest.mark.parametrize("kind", ["table", "series", "image", "volume"])
def test_kinds_of_input(kind, comparisons):
    model = small("AMDIM", comparisons=comparisons, bidirectional=False).fit(rows(kind))
    assert np.isfinite(model.loss_curve_).all()


def test_layers_of_ones_own_encoder():
    net = nn.Sequential()
    net.add_module("layer2", nn.Conv2d(3, 4, 3))
    net.add_module("layer3", nn.Conv2d(4, 6, (3, 1)))
    net.add_module("top", nn.Sequential(nn.Flatten(), nn.Linear(6 * 4 * 6, 8)))
    model = Kept(
        net,
        feature_layers=("layer2", "layer3"),
        projector=lambda channels: nn.Linear(channels, 7),
        map_dim=7,
        comparisons="12, 01, 0r",
        max_epochs=1,
        random_state=0,
    ).fit(rows("image"))
    assert model.kept_.maps.channels == [8, 4, 6]
    assert not any(module._forward_hooks for module in model.encoder_.modules())


def test_loss_falls():
    model = _amdim(max_epochs=8).fit(rows("series", n=64))
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"comparisons": "first"}, "'comparisons' parameter must be pairs of maps"),
        ({"comparisons": "03"}, "'comparisons' parameter must name maps .* to 2"),
        ({"feature_layers": ("layer2",)}, "'feature_layers' parameter names 'layer2'"),
        ({"feature_layers": "stages.0"}, "'feature_layers' parameter of AMDIM"),
        ({"projector": nn.Linear(8, 5)}, "'projector' parameter must map .* of 128. Got 5"),
        ({"tclip": 0}, "'tclip' parameter of AMDIM"),
        ({"regularization": -0.1}, "'regularization' parameter of AMDIM"),
        ({"map_dim": 0}, "'map_dim' parameter of AMDIM"),
    ],
)
def test_bad_input(params, message):
    model = small("AMDIM", **params)
    with pytest.raises(ValueError, match=message):
        model.fit(rows("series"))
    assert not hasattr(model, "encoder_")
