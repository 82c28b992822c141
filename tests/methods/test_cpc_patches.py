"""Patches: where they lie, and what they hold."""

import pytest
import torch
from torch import nn

from sslearn._methods._cpc_patches import PatchFeatures, PatchGrid, patch_encoder


@pytest.mark.parametrize(
    ("shape", "size", "stride", "grid"),
    [
        ((9, 128), None, None, (13,)),
        ((9, 128), 16, None, (29,)),
        ((9, 128), None, 8, (13,)),
        ((1, 28, 28), 7, 7, (4, 4)),
        ((3, 32, 32), None, None, (6, 6)),
        ((1, 28, 28, 28), None, None, (3, 3, 3)),
        ((1, 8, 8), None, None, (2, 2)),
        ((1, 2, 3), None, None, (2, 2)),
        ((3, 32, 20), (8, 5), (4, 3), (7, 6)),
        ((1, 8, 8, 8), 4, 2, (3, 3, 3)),
        ((1, 2), None, None, (2,)),
        ((1, 1), None, None, (1,)),
    ],
)
def test_grid(shape, size, stride, grid):
    found = PatchGrid(shape, size, stride)
    assert found.shape == grid
    assert found.patch_shape == (shape[0], *found.size)


def test_patches_hold_what_stands_there():
    x = torch.arange(2 * 3 * 6 * 8.0).view(2, 3, 6, 8)
    grid = PatchGrid((3, 6, 8), (2, 4), (2, 2))
    patches = grid.pieces(x).view(2, 3, 3, 3, 2, 4)
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(
                patches[:, i, j], x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 4]
            )
    means = PatchFeatures(grid, nn.Flatten())(x)
    assert means.shape == (2, 24, 3, 3)
    torch.testing.assert_close(means[1, :, 2, 0], x[1, :, 4:6, 0:4].flatten())


@pytest.mark.parametrize(
    ("size", "stride", "message"),
    [
        (9, None, "'patch_size' .* Got 9 along height, where a sample has 8"),
        ((4, 12), None, "'patch_size' .* Got 12 along width, where a sample has 10"),
        ((4, 4, 4), None, "'patch_size' .* one for each of 2 axes"),
        (4, (1,), "'patch_stride' .* one for each of 2 axes"),
        ((4, 0), None, "'patch_size' .* positive"),
        (4, (1, 1.5), "'patch_stride' .* positive"),
    ],
)
def test_what_does_not_fit(size, stride, message):
    with pytest.raises(ValueError, match=message):
        PatchGrid((3, 8, 10), size, stride)


def test_a_perceptron_of_series_gives_the_features_of_all_its_layers():
    torch.manual_seed(0)
    encoder = patch_encoder((2, 12), None).train()
    x = torch.randn(4, 2, 12)
    features = encoder(x)
    torch.testing.assert_close(encoder(x[:1]), features[:1])  # no patch sees another
    mean, deviation, first, second, last = features.split((2, 2, 512, 512, 256), dim=1)
    torch.testing.assert_close(encoder.layers[1](first), second)
    torch.testing.assert_close(encoder.layers[2](second), last)
    torch.testing.assert_close(mean, x.mean(2))
    torch.testing.assert_close(deviation, (x.var(2, correction=0) + 1e-5).sqrt().log10())


def test_a_width_is_that_of_the_last_layer():
    for shape in ((1, 6, 5), (1, 3, 3, 2)):
        assert patch_encoder(shape, None)(torch.zeros(3, *shape)).shape == (3, 256)
    assert patch_encoder((2, 12), 16)(torch.zeros(3, 2, 12)).shape == (3, 16)
    large = (2, 2100)
    assert patch_encoder(large, 16)(torch.zeros(3, *large)).shape == (3, 16)
    assert patch_encoder(large, None)(torch.zeros(3, *large)).shape == (3, 4 + 2 * (16 + 32 + 256))
