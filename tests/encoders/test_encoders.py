import contextlib
import copy
import pickle
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from estimators import ESTIMATORS, rows, small
from estimators import SHAPES as SHAPES_OF_KINDS
from torch import nn

from sslearn._methods._cpc_patches import patch_encoder
from sslearn.encoders import MLP, ResNet, default_encoder
from sslearn.encoders._layout import to_memory_format

SHAPES = [
    (1,),
    (64,),
    (1, 1),
    (9, 128),
    (2, 300),
    (1, 1, 1),
    (1, 8, 8),
    (3, 1, 40),
    (3, 32, 32),
    (3, 2, 70),
    (1, 1, 1, 1),
    (2, 3, 5, 9),
    (1, 9, 9, 20),
]
SMALL_RESNETS = [
    (n_dims, stem, norm)
    for n_dims in (1, 2, 3)
    for stem in ("small", "halved", "strided")
    for norm in ("batch", "layer", "none")
]


def small_resnet(n_dims, stem="small", norm="batch", **params):
    return ResNet(2, n_dims=n_dims, embedding_dim=5, width=4, stem=stem, norm=norm, **params)


def batch(encoder, n=6, size=9):
    """Draw a batch that `encoder` accepts."""
    if isinstance(encoder, MLP):
        return torch.randn(n, encoder.in_features)
    return torch.randn(n, encoder.in_channels, *[size] * encoder.n_dims)


def randomize(encoder):
    """Leave the initial state, in which each block is its shortcut and no norm has a history."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    encoder.train()
    for _ in range(3):
        encoder(batch(encoder))
    return encoder


ENCODERS = {
    "mlp": lambda: MLP(7, hidden_dims=(8, 6), embedding_dim=5),
    "mlp-dropout": lambda: MLP(7, hidden_dims=(8,), embedding_dim=5, dropout=0.5),
    "mlp-linear": lambda: MLP(7, hidden_dims=(), embedding_dim=5),
    **{
        f"resnet-{n_dims}d-{stem}-{norm}": lambda n_dims=n_dims, stem=stem, norm=norm: small_resnet(
            n_dims, stem, norm
        )
        for n_dims, stem, norm in SMALL_RESNETS
    },
    **{
        f"resnet-{n_dims}d-statistics": lambda n_dims=n_dims: small_resnet(
            n_dims, pool="statistics", rescale=True
        )
        for n_dims in (1, 2, 3)
    },
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(params=ENCODERS)
def encoder(request):
    return ENCODERS[request.param]()


# Shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("embedding_dim", [1, 128])
def test_default_encoder_shape(shape, embedding_dim):
    encoder = default_encoder(shape, embedding_dim)
    assert isinstance(encoder, MLP if len(shape) == 1 else ResNet)
    assert encoder.embedding_dim == embedding_dim
    x = torch.randn(3, *shape)
    for features in (encoder(x), encoder.eval()(x), encoder(x[:1]).expand(3, -1)):
        assert features.shape == (3, embedding_dim)
        assert features.dtype == torch.float32
        assert features.isfinite().all()


@pytest.mark.parametrize(
    "shape",
    [
        (3, 2),
        (3, 4),
        (2, 5),
        (1, 2, 2),
        (1, 4, 4),
        (1, 8, 8),
        (1, 2, 9),
        (1, 3, 3, 3),
        (1, 8, 8, 8),
    ],
)
def test_small_samples_have_no_dead_features(shape):
    torch.manual_seed(0)
    features = default_encoder(shape).eval()(torch.randn(64, *shape))
    alike = features.std(dim=0) == 0
    # ReLU may leave some of few positions at zero; a deviation over one position always is.
    assert alike.float().mean() < 0.1


def test_default_encoder_accepts_numpy_integers():
    encoder = default_encoder([np.int64(3), np.int64(8)], np.int32(4))
    assert encoder(torch.zeros(2, 3, 8)).shape == (2, 4)


@pytest.mark.parametrize(
    ("shape", "finest"),
    [
        ((2, 256), (256,)),
        ((2, 257), (65,)),
        ((3, 16, 8), (16, 8)),
        ((3, 64, 8), (32, 4)),
        ((3, 65, 8), (17, 2)),
        ((1, 16, 4, 4), (16, 4, 4)),
        ((1, 17, 4, 4), (5, 1, 1)),
    ],
)
def test_default_encoder_downsamples_large_samples_only(shape, finest):
    maps = default_encoder(shape).eval().feature_maps(torch.zeros(1, *shape))
    assert maps[0].shape[2:] == finest


@pytest.mark.parametrize(("n_dims", "stem", "norm"), SMALL_RESNETS)
@pytest.mark.parametrize("size", [1, 2, 7, 16])
def test_resnet_feature_maps_shape(n_dims, stem, norm, size):
    encoder = small_resnet(n_dims, stem, norm, depth=(1, 2, 1))
    maps = encoder.feature_maps(batch(encoder, size=size))
    divided = {"small": 1, "halved": 2, "strided": 4}[stem]
    sizes = [(size + divided - 1) // divided]
    sizes += [(sizes[0] + 1) // 2, (sizes[0] + 3) // 4]
    assert [m.shape for m in maps] == [
        (6, channels, *[size] * n_dims) for channels, size in zip((4, 8, 5), sizes, strict=True)
    ]


def test_resnet_one_stage():
    encoder = ResNet(3, width=4, embedding_dim=7, depth=(2,))
    assert [m.shape for m in encoder.feature_maps(torch.zeros(2, 3, 5, 6))] == [(2, 7, 5, 6)]


def test_kernel_size():
    assert ResNet(3, n_dims=1, kernel_size=9).stem[0].kernel_size == (1, 9)
    assert ResNet(3, n_dims=1).kernel_size > ResNet(3, n_dims=2).kernel_size == 3
    encoder = ResNet(3, n_dims=3, width=4, kernel_size=1, embedding_dim=5)
    assert encoder(torch.zeros(2, 3, 4, 4, 4)).shape == (2, 5)


def test_mlp_feature_maps_shape():
    encoder = MLP(12, hidden_dims=(8, 6), embedding_dim=5)
    for x in (torch.zeros(4, 12), torch.zeros(4, 3, 2, 2)):
        assert encoder(x).shape == (4, 5)
        assert [m.shape for m in encoder.feature_maps(x)] == [(4, 8), (4, 6)]
    assert MLP(12, hidden_dims=()).feature_maps(torch.zeros(4, 12)) == []


def test_forward_ends_feature_maps(encoder):
    randomize(encoder).eval()
    x = batch(encoder)
    maps, features = encoder.feature_maps(x), encoder(x)
    if isinstance(encoder, ResNet) and encoder.pool == "mean":
        torch.testing.assert_close(features, maps[-1].flatten(2).mean(2))
        assert all((m >= 0).all() for m in maps)
    elif isinstance(encoder, ResNet):
        flat, each = x.flatten(2), [m.flatten(2) for m in maps]
        expected = [flat.mean(2), (flat.var(2, correction=0) + 1e-5).log10() / 2]
        for m in each:
            expected += [m.mean(2), (m.var(2, correction=0) + 1e-4).sqrt()]
        torch.testing.assert_close(features, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(features, encoder.output(maps[-1] if maps else x))


def test_statistics_are_the_features_of_samples_with_positions_only():
    for shape, width in (((9, 128), 2 * (32 + 64 + 128 + 9)), ((3, 32, 32), 448), ((1, 8, 8), 352)):
        assert default_encoder(shape)(torch.zeros(2, *shape)).shape == (2, width)
    assert default_encoder((9, 128), 64)(torch.zeros(2, 9, 128)).shape == (2, 64)


@pytest.mark.parametrize("n_dims", [1, 2])
def test_rescaled_channels_do_not_know_their_amplitude(n_dims):
    encoder = small_resnet(n_dims, pool="statistics", rescale=True).eval()
    with torch.no_grad():
        encoder.stem[0].weight[:, :2] = 0  # blind to the channels as they are
    x = batch(encoder, size=20)
    faint = 5 + 0.05 * x
    features, others = encoder(x), encoder(faint)
    torch.testing.assert_close(others[:, 4:], features[:, 4:], rtol=0.02, atol=0.01)
    torch.testing.assert_close(others[:, :2], 5 + 0.05 * features[:, :2])
    decades = features[:, 2:4] - others[:, 2:4]
    torch.testing.assert_close(decades, torch.full((6, 2), 20.0).log10(), rtol=0.02, atol=0)


def test_rescaling_far_from_zero():
    # A sensor at rest: in float32 the mean of squares would leave nothing of its variance.
    encoder = small_resnet(1, pool="statistics", rescale=True).eval()
    x = batch(encoder, size=50)
    far = encoder(x + 1000)[:, 2:4]
    torch.testing.assert_close(far, encoder(x)[:, 2:4], rtol=0, atol=1e-3)


def test_constant_samples_have_features():
    for n_dims in (1, 2, 3):
        encoder = small_resnet(n_dims, pool="statistics", rescale=True)
        x = torch.full((4, 2, *[6] * n_dims), 3.0, requires_grad=True)
        features = encoder(x)
        features.sum().backward()
        assert features.isfinite().all()
        assert x.grad.isfinite().all()


# Convolutions that oneDNN cannot compute --------------------------------------------------------


@contextlib.contextmanager
def no_unsafe_convolution():
    """Fail on a strided 1 x 1 convolution of a channels-last map of fewer than 16 channels.

    oneDNN's backward pass of these writes past its memory: below 8 channels with AVX2, below 16
    with AVX-512. Such a process hangs, dies, or has wrong gradients.
    """
    seen = []

    def look(module, inputs):
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return
        is_strided_point = set(module.kernel_size) == {1} and set(module.stride) != {1}
        seen.append(module)
        assert not (is_strided_point and module.in_channels // module.groups < 16), module

    hook = torch.nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("n_dims", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [None, 1])
def test_no_width_meets_the_fault_of_onednn(n_dims, kernel_size):
    for width in range(1, 17):
        for stem in ("small", "halved", "strided"):
            encoder = ResNet(1, n_dims=n_dims, width=width, kernel_size=kernel_size, stem=stem)
            with no_unsafe_convolution() as seen:
                encoder(torch.zeros(2, 1, *[9] * n_dims)).sum().backward()
            assert seen


@pytest.mark.parametrize("kind", sorted(SHAPES_OF_KINDS))
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_no_default_network_meets_the_fault_of_onednn(name, kind):
    with no_unsafe_convolution():
        small(name, embedding_dim=None, max_epochs=1).fit(rows(kind))


def test_large_patches_of_cpc_do_not_meet_the_fault_of_onednn():
    for shape in [(9, 2048), (1, 70, 70), (3, 40, 40), (1, 17, 17, 17)]:
        for width in (None, *range(1, 17)):
            encoder = patch_encoder(shape, width)
            assert isinstance(encoder, ResNet)
            with no_unsafe_convolution() as seen:
                encoder(torch.zeros(1, *shape))
            assert seen


@pytest.mark.parametrize("n_dims", [2, 3])
def test_a_narrow_shortcut_is_the_strided_convolution(n_dims):
    torch.manual_seed(0)
    shortcut = ResNet(1, n_dims=n_dims, width=4, norm="none").stages[1][0].shortcut
    x = torch.randn(2, 4, *[9] * n_dims, requires_grad=True)
    conv = shortcut[-1]
    strided = (F.conv2d if n_dims == 2 else F.conv3d)(x, conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(shortcut(x), strided)
    (found,) = torch.autograd.grad(shortcut(x).square().sum(), x)
    (expected,) = torch.autograd.grad(strided.square().sum(), x)
    torch.testing.assert_close(found, expected)


# What the networks are -------------------------------------------------------------------------


def test_resnet18():
    encoder = ResNet(3, width=64, depth=(2, 2, 2, 2), embedding_dim=512)
    assert sum(p.numel() for p in encoder.parameters()) == 11_168_832
    assert encoder.eval()(torch.zeros(1, 3, 8, 8)).shape == (1, 512)


def test_resnet18_for_imagenet():
    encoder = ResNet(3, width=64, depth=(2, 2, 2, 2), embedding_dim=512, stem="strided")
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512


def test_resnet_series_matches_conv1d():
    # The network computes series as images of height 1; the stem by torch's own 1-D convolution
    # is the same.
    encoder = small_resnet(1).eval()
    x = batch(encoder)
    conv, norm, _ = encoder.stem
    expected = nn.functional.conv1d(x, conv.weight.squeeze(2), padding=2)
    expected = (expected / (1 + norm.eps) ** 0.5).relu()
    torch.testing.assert_close(encoder.stem(x.unsqueeze(2)).squeeze(2), expected)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_identity_blocks_start_as_identity(norm):
    encoder = ResNet(3, width=4, depth=(3, 3), norm=norm)
    x = torch.randn(5, 4, 6, 6).relu()
    torch.testing.assert_close(encoder.stages[0](x), x)


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_large_without_norm_keeps_the_scale(n_dims):
    encoder = ResNet(4, n_dims=n_dims, depth=(2, 2, 2, 2), norm="none", width=16)
    last = encoder.feature_maps(batch(encoder, n=32))[-1]
    assert 0.1 < last.square().mean().sqrt() < 10


# Use in training and in inference --------------------------------------------------------------


def test_gradients_reach_every_parameter(encoder):
    randomize(encoder)
    encoder(batch(encoder)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_eval_rows_do_not_depend_on_their_batch(encoder):
    randomize(encoder).eval()
    x = batch(encoder)
    features = encoder(x)
    alone = torch.cat([encoder(row[None]) for row in x])
    among_others = encoder(torch.cat([100 * torch.randn_like(x), x]))[len(x) :]
    for other in (alone, among_others):
        torch.testing.assert_close(other, features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_dims", [1, 2, 3])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_train_rows_do_not_depend_on_their_batch_without_batch_norm(n_dims, norm):
    encoder = randomize(small_resnet(n_dims, norm=norm)).train()
    x = batch(encoder)
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]), rtol=1e-5, atol=1e-5)
    x.requires_grad_()
    encoder(x)[0].sum().backward()
    assert x.grad[0].abs().max() > 0
    assert (x.grad[1:] == 0).all()
    assert not any(True for _ in encoder.buffers())


def test_train_rows_depend_on_their_batch_with_batch_norm():
    encoder = small_resnet(2)
    x = batch(encoder)
    assert not torch.allclose(encoder(x)[:1], encoder(x[:1]))


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last(n_dims, channels):
    layout = torch.channels_last if n_dims == 2 else torch.channels_last_3d
    encoder = ResNet(channels, n_dims=n_dims, width=4, embedding_dim=5).eval()
    x = batch(encoder)
    expected = encoder(x)
    assert encoder.feature_maps(x)[0].is_contiguous(memory_format=layout)
    assert torch.equal(encoder(x.to(memory_format=layout)), expected)
    assert all(p.is_contiguous() for p in encoder.parameters())
    to_memory_format(encoder, channels_last=True)
    assert torch.equal(encoder(x), expected)


def test_input_is_left_alone(encoder):
    x = batch(encoder)
    before = x.clone()
    encoder(x)
    assert torch.equal(x, before)


def test_dropout_in_training_only():
    encoder = MLP(7, hidden_dims=(50,), dropout=0.5)
    x = batch(encoder)
    (hidden,) = encoder.feature_maps(x)
    (without,) = MLP(7, hidden_dims=(50,)).feature_maps(x)
    assert (hidden == 0).sum() > (without == 0).sum()
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


# Seeds and copies ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_weights_come_from_the_default_generator(name):
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(torch.cat([p.flatten() for p in ENCODERS[name]().parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_copies_compute_the_same(encoder):
    x = batch(encoder)
    expected = randomize(encoder).eval()(x)
    fresh = pickle.loads(pickle.dumps(encoder))
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.zero_()
    fresh.load_state_dict(encoder.state_dict())
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), fresh):
        assert torch.equal(other(x), expected)


# Errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MLP(0),
            "'in_features' parameter of MLP must be an int in the range [1, inf). Got 0",
        ),
        (lambda: MLP(3, embedding_dim=2.0), "'embedding_dim' parameter of MLP must be an int in"),
        (
            lambda: MLP(3, hidden_dims=8),
            "'hidden_dims' parameter of MLP must be a sequence of ints",
        ),
        (lambda: MLP(3, hidden_dims=(8, -1)), "Got (8, -1) instead."),
        (
            lambda: MLP(3, dropout=1),
            "'dropout' parameter of MLP must be a float in the range [0, 1)",
        ),
        (lambda: MLP(3, dropout="x"), "Got 'x' instead."),
        (lambda: ResNet(True), "'in_channels' parameter of ResNet must be an int in"),
        (lambda: ResNet(3, n_dims=4), "'n_dims' parameter of ResNet must be one of 1, 2, 3. Got 4"),
        (lambda: ResNet(3, embedding_dim=0), "'embedding_dim' parameter of ResNet must be an int"),
        (lambda: ResNet(3, width=None), "'width' parameter of ResNet must be an int in"),
        (
            lambda: ResNet(3, depth=()),
            "'depth' parameter of ResNet must be a non-empty sequence of",
        ),
        (lambda: ResNet(3, depth=[1, 0]), "Got [1, 0] instead."),
        (
            lambda: ResNet(3, stem="big"),
            "must be one of 'small', 'halved', 'strided'. Got 'big' instead.",
        ),
        (lambda: ResNet(3, pool="max"), "must be one of 'mean', 'statistics'. Got 'max' instead."),
        (lambda: ResNet(3, rescale=2), "'rescale' parameter of ResNet must be one of"),
        (
            lambda: ResNet(3, norm=None),
            "must be one of 'batch', 'layer', 'none'. Got None instead.",
        ),
        (lambda: ResNet(3, kernel_size=4), "must be an odd int or None. Got 4 instead."),
        (lambda: ResNet(3, kernel_size=-1), "must be an odd int or None. Got -1 instead."),
        (lambda: ResNet(3, kernel_size=1.5), "must be an odd int or None. Got 1.5 instead."),
        (lambda: default_encoder(()), "'sample_shape' parameter of default_encoder must have"),
        (lambda: default_encoder((1, 2, 3, 4, 5)), "Got (1, 2, 3, 4, 5) instead."),
        (lambda: default_encoder((3, 0)), "Got (3, 0) instead."),
        (lambda: default_encoder(3), "Got 3 instead."),
    ],
)
def test_parameter_errors(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("encoder", "shape", "message"),
    [
        (
            MLP(3),
            (5, 4),
            "MLP expects a batch of shape (n, 3), or one that flattens to it. Got (5, 4)",
        ),
        (MLP(3), (3,), "Got (3,) instead."),
        (ResNet(3, n_dims=1), (5, 2, 9), "shape (n, 3, time), no axis empty. Got (5, 2, 9)"),
        (ResNet(3), (3, 9, 9), "shape (n, 3, height, width), no axis empty. Got (3, 9, 9)"),
        (ResNet(3), (5, 3, 0, 9), "Got (5, 3, 0, 9) instead."),
        (ResNet(3, n_dims=3, width=1), (5, 3, 9, 9), "shape (n, 3, depth, height, width), no axis"),
    ],
)
def test_input_errors(encoder, shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        encoder(torch.zeros(shape))
