"""What is CPC's own: what is foretold, how often, and what comes out."""

import re

import numpy as np
import pytest
import torch
from estimators import rows, small
from torch import nn

import sslearn._methods.cpc
from sslearn import CPC
from sslearn._methods._cpc_patches import PatchMLP
from sslearn.encoders import ResNet


class Kept(CPC):
    def _publish(self, objective):
        self.kept_ = objective


def _cpc(**params):
    settings = {"max_epochs": 2, "batch_size": 16, "embedding_dim": 8, "random_state": 0}
    return Kept(**{**settings, **params})


def test_each_offset_is_computed_once(monkeypatch):
    offsets = []
    real = sslearn._methods.cpc.offset_nce

    def counted(predictions, targets, offset, scale, **options):
        offsets.append(offset)
        assert predictions.shape[2] == targets.shape[2] - offset
        return real(predictions, targets, offset, scale, **options)

    monkeypatch.setattr(sslearn._methods.cpc, "offset_nce", counted)
    model = _cpc(patch_size=2, n_steps=4, first_step=1, max_epochs=1)
    model.fit(rows("image", n=16))
    assert offsets == [1, 2, 3, 4]
    # A linear map of its own for each.
    assert len({id(p) for p in model.kept_.predictors}) == 4


def test_loss_is_what_the_parts_say():
    """A slow twin: every prediction against every target, one by one, in float64."""
    model = _cpc(patch_size=4, patch_stride=2, n_steps=2, first_step=1, negatives="all")
    model.fit(rows("series", n=20))
    objective = model.kept_.double().eval()
    x = torch.randn(3, 2, 20, dtype=torch.float64)
    found = objective.loss(objective.pieces(x))
    local = torch.stack([objective.encoder(x[:, :, s : s + 4]) for s in range(0, 17, 2)], dim=2)
    seen, _ = objective.context.gru(local.mT)
    wanted = [objective.to_target(local[i, :, t]) for i in range(3) for t in range(9)]
    losses = []
    for offset, predictor in zip((1, 2), objective.predictors, strict=True):
        terms = []
        for i in range(3):
            for t in range(9 - offset):
                prediction = predictor(seen[i, t])
                scores = torch.stack([0.1 * prediction @ target for target in wanted])
                terms.append(scores.logsumexp(0) - scores[9 * i + t + offset])
        losses.append(torch.stack(terms).mean())
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_transform_is_the_mean_over_patches():
    X = rows("image", n=20)
    model = _cpc(patch_size=4, patch_stride=4).fit(X)
    x = model.encoder_.standardize(torch.from_numpy(X))
    encoder = model.kept_.encoder
    patches = [encoder(x[:, :, i : i + 4, j : j + 4]) for i in (0, 4) for j in (0, 4)]
    expected = torch.stack(patches).mean(0).detach().numpy()
    np.testing.assert_allclose(model.transform(X), expected, rtol=1e-4, atol=1e-5)


def test_transform_can_be_the_last_context():
    X = rows("series", n=20)
    model = _cpc(pool="context", context_dim=5).fit(X)
    assert model.transform(X).shape == (20, 5)
    local = model.kept_.local(model.encoder_.standardize(torch.from_numpy(X)))
    expected = model.kept_.context(local)[:, :, -1].detach().numpy()
    np.testing.assert_allclose(model.transform(X), expected, rtol=1e-4, atol=1e-5)


def test_patches_do_not_tell_of_one_another():
    model = _cpc().fit(rows("series", n=20))
    x = torch.randn(4, 2, 20)
    objective = model.kept_.train()
    alone = objective.local(x[:1])
    torch.testing.assert_close(objective.local(x)[:1], alone)


def test_learns_the_order_of_a_series():
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, size=(200, 1, 1))
    X = np.sin(np.arange(64) / 5 + phase) + 0.1 * rng.normal(size=(200, 1, 64))
    model = _cpc(max_epochs=15, batch_size=32, augment=_as_it_is).fit(X)
    chance = np.log(model.kept_.local.grid.shape[0] * 31 + 1)
    assert model.loss_curve_[0] > 0.9 * chance
    assert model.loss_curve_[-1] < 0.75 * chance


def _as_it_is(x, generator):
    return x


@pytest.mark.parametrize(
    "context", [nn.Conv1d(8, 3, 1), lambda width: nn.Conv1d(width, 4, 1), "masked_conv"]
)
def test_own_context(context):
    model = _cpc(context=context).fit(rows("series"))
    assert np.isfinite(model.loss_curve_).all()


@pytest.mark.parametrize("negatives", ["all", "other_rows"])
@pytest.mark.parametrize("kind", ["table", "series", "image", "volume"])
def test_negatives(kind, negatives):
    model = small("CPC", negatives=negatives).fit(rows(kind))
    assert np.isfinite(model.loss_curve_).all()


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        ("series", {"patch_size": 21}, "'patch_size' .* Got 21 along time, where a sample has 20"),
        ("series", {"patch_size": 20}, r"two patches or more along time.* Got 1.*patch_size=\(20,"),
        ("image", {"patch_size": (8, 2)}, "two patches or more along height"),
        ("image", {"patch_size": (2, 2, 2)}, "'patch_size' .* each of 2 axes"),
        ("series", {"first_step": 17}, "within the 17 patches.* Got first_step=17 and n_steps=1"),
        ("series", {"first_step": 1, "n_steps": 17}, "at most 16. Got first_step=1 and n_steps=17"),
        ("image", {"context": "gru"}, "'context' parameter is 'gru', which is for series"),
        ("image", {"pool": "context"}, "'pool' parameter is 'context', which is for series"),
        ("series", {"context": nn.Conv1d(8, 8, 3, padding=1)}, "must not see ahead"),
        ("series", {"embed_scale": 0}, "'embed_scale' parameter of CPC"),
        ("series", {"negatives": "none"}, "'negatives' parameter of CPC"),
        ("series", {"target_dim": 0}, "'target_dim' parameter of CPC"),
    ],
)
def test_bad_input(kind, params, message):
    model = small("CPC", **params)
    with pytest.raises(ValueError, match=message):
        model.fit(rows(kind))
    assert not hasattr(model, "encoder_")


def test_each_patch_is_augmented_by_itself():
    seen = []

    def offset(x, generator):
        seen.append(tuple(x.shape))
        return x + torch.rand(len(x), 1, 1, generator=generator)

    _cpc(patch_size=4, patch_stride=4, augment=offset, max_epochs=1).fit(rows("series", n=16))
    assert seen == [(16 * 5, 2, 4)]


def test_the_default_encoder_fits_the_patch():
    perceptron = _cpc().fit(rows("image")).kept_.encoder.module
    assert isinstance(perceptron, PatchMLP)
    large = _cpc(patch_size=2100, patch_stride=500, max_epochs=1)
    network = large.fit(np.random.default_rng(0).normal(size=(4, 2, 4200))).kept_.encoder.module
    assert isinstance(network, ResNet)
    for encoder in (perceptron, network):
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:The tensor attribute")  # torch's, of its own GRU
@pytest.mark.parametrize("kind", ["table", "series"])
def test_the_last_context_is_exported_for_any_number_of_rows(kind):
    X = torch.from_numpy(rows(kind))
    encoder = _cpc(pool="context").fit(X).encoder_
    traced = torch.jit.trace(encoder, X[:4])
    assert "aten::mT" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(X[:9]), encoder(X[:9]), rtol=1e-5, atol=1e-6)
    shapes = ({0: torch.export.Dim("n")},)
    program = torch.export.export(encoder, (X[:4],), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(X[:9]), encoder(X[:9]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_steps", [256, 2048])  # a patch of 576 values, and of 4,608
def test_the_width_of_the_features_is_what_the_docstring_says(n_steps):
    text = " ".join(CPC.__doc__.split())
    found = re.search(r"two for each channel: (\d+), or (\d+) for patches of more than (\d+)", text)
    small_patches, large_patches, limit = map(int, found.groups())
    X = np.random.default_rng(0).normal(size=(8, 9, n_steps)).astype(np.float32)
    model = CPC(max_epochs=1, random_state=0, device="cpu").fit(X)
    is_large = 9 * n_steps // 4 > limit
    expected = (large_patches if is_large else small_patches) + 2 * 9
    assert is_large == (n_steps == 2048)
    assert model.transform(X).shape == (8, expected)
