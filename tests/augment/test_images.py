"""Augmentations of images: slow obvious twins, rates, tiny images."""

import math

import numpy as np
import pytest
import torch
from batches import IMAGE, SERIES, VOLUME, batch, seeded

from sslearn.augment import (
    ColorJitter,
    Compose,
    GaussianBlur,
    GaussianNoise,
    RandomAffine,
    RandomGrayscale,
    RandomResizedCrop,
    Solarize,
    default_augment,
)

# ---------------------------------------------------------------- geometry


def coordinates(n, sizes):
    """Images whose channels are their own coordinates, and one random channel."""
    grids = torch.meshgrid(*[torch.arange(float(size)) for size in sizes], indexing="ij")
    known = torch.stack(grids).expand(n, -1, *sizes)
    return torch.cat((known, torch.rand(n, 1, *sizes, generator=seeded(7))), 1)


def interpolate(image, position):
    """Linear interpolation at one point of an image of any number of axes, by its definition."""
    total = 0.0
    for index in np.ndindex(image.shape):
        weight = np.prod([max(0.0, 1 - abs(p - i)) for p, i in zip(position, index, strict=True)])
        total += weight * image[index]
    return total


@pytest.mark.parametrize("sizes", [(7, 7), (6, 9), (9, 4), (3, 4, 5)])
def test_crop_against_interpolation_of_every_pixel(sizes):
    n = 3
    view = RandomResizedCrop()(coordinates(n, sizes).double(), seeded()).numpy()
    image = coordinates(n, sizes)[:, -1].double().numpy()
    for row in range(n):
        for index in np.ndindex(*sizes):
            position = view[(row, slice(0, -1), *index)]
            expected = interpolate(image[row], position)
            assert view[(row, -1, *index)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sizes", [(32, 32), (30, 60), (20, 24, 28)])
@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.2, 1.0), (3 / 4, 4 / 3)), ((0.3, 0.4), (1.0, 2.0))]
)
def test_boxes(sizes, scale, ratio):
    n, n_axes = 1000, len(sizes)
    crop = RandomResizedCrop(scale=scale, ratio=ratio, flip=0.5)
    view = crop(coordinates(n, sizes), seeded())
    sides, centres = [], []
    for axis, size in enumerate(sizes):
        line = view[:, axis].movedim(axis + 1, 1).flatten(2)[:, :, 0]  # (n, size)
        assert line.min() >= 0
        assert line.max() <= size - 1 + 1e-4
        inner = line[:, 4:-4].diff(dim=1)
        torch.testing.assert_close(inner, inner[:, :1].expand_as(inner), atol=1e-4, rtol=0)
        sides.append(inner.mean(1))
        centres.append((line[:, 0] + line[:, -1]) / 2 / (size - 1))
    mirrored = sides[-1] < 0
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert all((side > 0).all() for side in sides[:-1])
    sides = [side.abs() for side in sides]
    area = torch.stack(sides).prod(0)
    assert area.min() >= scale[0] - 1e-3
    assert area.max() <= scale[1] + 1e-3
    assert area.mean().item() == pytest.approx(sum(scale) / 2, rel=0.05)
    aspect = sides[-1] / sides[-2]
    assert aspect.min() >= ratio[0] - 1e-3
    assert aspect.max() <= ratio[1] + 1e-3
    for centre in centres:
        assert centre.mean().item() == pytest.approx(0.5, abs=0.03)
        assert centre.std() > 0.03
    if n_axes == 3:
        depth = sides[0] / (sides[1] * sides[2]).sqrt()
        assert depth.min() >= ratio[0] - 1e-3
        assert depth.max() <= ratio[1] + 1e-3


def test_flip_and_whole_image():
    x = batch(6, IMAGE)
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    torch.testing.assert_close(RandomResizedCrop(**whole, flip=0.0)(x), x)
    torch.testing.assert_close(RandomResizedCrop(**whole, flip=1.0)(x), x.flip(-1))
    volume = batch(6, VOLUME)
    assert torch.equal(RandomResizedCrop(**whole, flip=1.0)(volume), volume.flip(-1))


def _pixels_of(view):
    """Where in the image the pixels of a view come from: rows and columns, in pixels."""
    return view[:, 0].numpy(), view[:, 1].numpy()


def test_affine_known_values():
    still = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0}
    x = batch(6, IMAGE)
    torch.testing.assert_close(RandomAffine(**still)(x), x)
    square = coordinates(400, (9, 9)).double()
    for change, largest in (("shift", 9 * 0.25), ("shear", 4 * 0.25)):
        view = RandomAffine(**{**still, change: 0.25}, padding="border")(square, seeded())
        rows, columns = _pixels_of(view)
        moved = columns - np.arange(9)
        assert np.abs(moved).max() == pytest.approx(largest, rel=0.05)
        if change == "shear":  # the middle row stays, rows on its two sides part
            assert np.abs(moved[:, 4]).max() == pytest.approx(0, abs=1e-6)
            np.testing.assert_allclose(moved[:, 3, 4], -moved[:, 5, 4], atol=1e-6)
            np.testing.assert_allclose(rows, np.arange(9)[None, :, None] + 0 * rows, atol=1e-6)
    view = RandomAffine(**{**still, "scale": 0.5}, padding="border")(square, seeded())
    _, columns = _pixels_of(view)
    factor = (columns[:, 4, 5] - columns[:, 4, 3]) / 2
    assert factor.min() == pytest.approx(1 / 1.5, rel=0.02)
    assert factor.max() == pytest.approx(1.5, rel=0.02)
    assert np.abs(np.log(factor).mean()) < 0.05


@pytest.mark.parametrize("sizes", [(9, 9), (9, 15), (15, 7)])
def test_rotation_keeps_distances_on_oblong_images(sizes):
    turn = RandomAffine(rotation=30.0, scale=0.0, shift=0.0, shear=0.0, padding="border")
    rows, columns = _pixels_of(turn(coordinates(200, sizes).double(), seeded()))
    middle = (sizes[0] // 2, sizes[1] // 2)
    for step in ((0, 1), (1, 0)):
        at = (slice(None), middle[0] + step[0], middle[1] + step[1])
        down, right = rows[at] - middle[0], columns[at] - middle[1]
        np.testing.assert_allclose(np.hypot(down, right), 1, atol=1e-6)
        angle = np.degrees(np.arctan2(down, right)) - (90 if step == (1, 0) else 0)
        assert np.abs(angle).max() == pytest.approx(30, rel=0.05)


def _turned_volumes(change, sizes=(9, 13, 7), n=200):
    """Tell where the neighbours of the middle voxel of volumes come from: (n, axes, neighbours)."""
    still = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0}
    view = RandomAffine(**(still | change), padding="border")
    found = view(coordinates(n, sizes)[:, :3].double(), seeded())
    middle = [size // 2 for size in sizes]
    places = [[m + (axis == k) for k, m in enumerate(middle)] for axis in range(3)]
    at = torch.stack([found[:, :, z, y, x] for z, y, x in places], dim=2)
    return at - found[:, :, *middle, None], found[:, :, *middle] - torch.tensor(middle)


def test_affine_volumes_are_rotated_about_all_axes():
    at, moved = _turned_volumes({"rotation": 20.0})
    eye = torch.eye(3, dtype=at.dtype)
    torch.testing.assert_close(at.mT @ at, eye.expand(len(at), 3, 3))
    assert moved.abs().max() < 1e-6
    for i, j in ((0, 1), (0, 2), (1, 2)):
        angle = torch.rad2deg(torch.atan2(at[:, i, j] - at[:, j, i], at[:, i, i] + at[:, j, j]))
        assert 17 < angle.abs().max() < 25


@pytest.mark.parametrize("change", ["scale", "shear", "shift"])
def test_affine_volumes_known_values(change):
    at, moved = _turned_volumes({change: 0.25})
    by = at - torch.eye(3)
    if change == "shift":
        torch.testing.assert_close(by, torch.zeros_like(by))
        largest = moved.abs().amax(0) / torch.tensor([9, 13, 7])
        assert torch.all((0.23 < largest) & (largest < 0.25))
        return
    assert moved.abs().max() < 1e-6
    on, off = by.diagonal(dim1=1, dim2=2), by - torch.diag_embed(by.diagonal(dim1=1, dim2=2))
    if change == "scale":
        assert off.abs().max() < 1e-6
        assert on.max() == pytest.approx(0.25, rel=0.05)
        assert on.min() == pytest.approx(-0.2, rel=0.05)
    else:  # earlier axes stay, later ones move along them
        assert on.abs().max() < 1e-6
        assert (off.abs().amax(0) > 0.2).sum() == 3
        assert off.abs().max() <= 0.25


@pytest.mark.parametrize("shape", [IMAGE, VOLUME])
def test_the_nearest_value_is_one_of_the_sample(shape):
    x = (batch(20, shape) > 0).double()
    view = RandomAffine(interpolation="nearest")(x, seeded())
    assert set(view.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(view, x)
    # As drawn, it is where the interpolated view is.
    soft = RandomAffine()(x, seeded())
    assert ((soft - view).abs() <= 0.9).all()


def test_what_lies_outside_of_an_affine_view():
    x = torch.ones(50, 1, 8, 8)
    assert RandomAffine(shift=0.5)(x, seeded()).min() == 0
    for padding in ("border", "reflection"):
        torch.testing.assert_close(RandomAffine(shift=0.5, padding=padding)(x, seeded()), x)
    with pytest.raises(ValueError, match="RandomAffine expects images"):
        RandomAffine()(batch(3, SERIES))


def test_impossible_ratios_give_a_box_inside():
    view = RandomResizedCrop(scale=(0.9, 1.0), ratio=(4.0, 5.0))(coordinates(50, (8, 8)))
    assert view[:, :2].min() >= 0
    assert view[:, :2].max() <= 7


def test_constant_images_stay_constant():
    x = torch.full((20, 3, 9, 11), 0.7)
    for augment in (RandomResizedCrop(), GaussianBlur(p=1.0)):
        torch.testing.assert_close(augment(x, seeded()), x)


@pytest.mark.parametrize("sizes", [(7, 9), (4, 5, 3)])
def test_blur_against_convolution(sizes):
    sigma = 0.8
    x = batch(2, (2, *sizes), torch.float64)
    view = GaussianBlur(sigma=(sigma, sigma), p=1.0)(x)
    for index in np.ndindex(*sizes):
        weight = torch.ones(sizes, dtype=torch.float64)
        for other in np.ndindex(*sizes):
            square = sum((i - j) ** 2 for i, j in zip(index, other, strict=True))
            weight[other] = math.exp(-square / (2 * sigma**2))
        expected = (x * weight).flatten(2).sum(2) / weight.sum()
        torch.testing.assert_close(view[(..., *index)], expected, atol=1e-6, rtol=0)


def test_blur_inside_is_the_usual_convolution():
    x = batch(2, (1, 21, 21), torch.float64)
    steps = torch.arange(-8, 9, dtype=torch.float64)
    kernel = torch.exp(-(steps**2) / 2)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    expected = torch.nn.functional.conv2d(x, kernel[None, None])
    view = GaussianBlur(sigma=(1.0, 1.0), p=1.0)(x)[:, :, 8:-8, 8:-8]
    torch.testing.assert_close(view, expected, atol=1e-6, rtol=0)


def test_blur_draws_its_width():
    impulse = torch.zeros(500, 1, 15, 15)
    impulse[:, :, 7, 7] = 1
    peak = GaussianBlur(sigma=(0.5, 1.5), p=0.7)(impulse, seeded())[:, 0, 7, 7]
    unchanged = peak == 1
    assert (~unchanged).float().mean().item() == pytest.approx(0.7, abs=0.06)
    sigma = (1 / (2 * math.pi * peak[~unchanged])).sqrt()  # of a Gaussian with this peak
    assert 0.45 < sigma.min() < 0.6
    assert 1.4 < sigma.max() < 1.6
    assert torch.equal(GaussianBlur(p=0.0)(impulse), impulse)


# ---------------------------------------------------------------- values


def rotate_hue(x, angle):
    """Turn the chroma plane of YIQ, the long way: to YIQ, rotate, back."""
    yiq = torch.tensor(
        [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]],
        dtype=torch.float64,
    )
    y, i, q = (yiq @ x.flatten(1)).unbind()
    turned = torch.stack(
        (
            y,
            math.cos(angle) * i - math.sin(angle) * q,
            math.sin(angle) * i + math.cos(angle) * q,
        )
    )
    return (torch.linalg.inv(yiq) @ turned).view(x.shape)


def luma(x):
    return 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]


@pytest.mark.parametrize("shape", [(3, 6, 7), (3, 3, 4, 5)])
def test_color_jitter_step_by_step(shape):
    n = 20
    x = 0.4 + 0.2 * batch(n, shape, torch.float64)  # far from 0 and 1: nothing is clamped
    jitter = ColorJitter(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.2, p=0.5)
    view = jitter(x, seeded(2))
    generator = seeded(2)
    changed = torch.rand(n, generator=generator) < 0.5
    draws = (torch.rand(n, 4, generator=generator) * 2 - 1).double()
    assert 0 < changed.sum() < n
    for row in range(n):
        expected = x[row]
        if changed[row]:
            brightness, contrast, saturation, hue = draws[row].tolist()
            expected = expected * (1 + 0.1 * brightness)
            mean = luma(expected).mean()
            expected = mean + (1 + 0.2 * contrast) * (expected - mean)
            grey = luma(expected)
            expected = grey + (1 + 0.3 * saturation) * (expected - grey)
            expected = rotate_hue(expected, 2 * math.pi * 0.2 * hue)
        torch.testing.assert_close(view[row], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, 6, 7), (4, 6, 7), (2, 3, 4, 5), (3, 6, 7)])
def test_color_jitter_of_other_channels(shape):
    n = 50
    x = 0.4 + 0.2 * batch(n, shape, torch.float64)
    jitter = ColorJitter(brightness=0.1, contrast=0.2, p=1.0, rgb=False)
    view = jitter(x, seeded(2))
    generator = seeded(2)
    torch.rand(n, generator=generator)
    draws = (torch.rand(n, 4, generator=generator) * 2 - 1).double()
    for row in range(n):
        expected = x[row] * (1 + 0.1 * draws[row, 0])
        mean = expected.flatten(1).mean(1).view(-1, *[1] * (len(shape) - 1))  # of each band
        expected = mean + (1 + 0.2 * draws[row, 1]) * (expected - mean)
        torch.testing.assert_close(view[row], expected, atol=1e-6, rtol=0)
    if shape[0] != 3:
        assert torch.equal(jitter.set_params(rgb=True)(x, seeded(2)), view)


def test_a_faint_band_is_not_moved_by_a_bright_one():
    x = batch(50, (2, 8, 8))
    x[:, 1] = 0.5 + 0.01 * x[:, 1]
    view = ColorJitter(brightness=0.0, p=1.0)(x, seeded())
    moved = (view - x)[:, 1].flatten(1).mean(1).abs()
    assert moved.max() < 1e-3


def test_color_jitter_clamps():
    x = batch(200, IMAGE)
    view = ColorJitter(brightness=1.5, contrast=1.5, saturation=1.5, hue=0.5, p=1.0)(x, seeded())
    assert view.min() == 0
    assert view.max() == 1


def test_color_jitter_probability_and_nothing_to_do():
    x = 0.3 + 0.4 * batch(800, IMAGE)
    changed = (ColorJitter(p=0.8)(x, seeded()) - x).abs().flatten(1).amax(1) > 1e-5
    assert changed.float().mean().item() == pytest.approx(0.8, abs=0.05)
    torch.testing.assert_close(ColorJitter(0, 0, 0, 0, p=1.0)(x), x)


def test_grayscale():
    x = batch(800, IMAGE)
    view = RandomGrayscale(p=0.2)(x, seeded())
    grey = (view[:, 0] == view[:, 1]).flatten(1).all(1)
    assert grey.float().mean().item() == pytest.approx(0.2, abs=0.05)
    torch.testing.assert_close(view[~grey], x[~grey])
    expected = torch.stack([luma(image) for image in x[grey]])[:, None]
    torch.testing.assert_close(view[grey], expected.expand_as(view[grey]))
    one_channel = batch(4, (1, 8, 8))
    assert torch.equal(RandomGrayscale(p=1.0)(one_channel), one_channel)


def test_solarize():
    x = batch(800, IMAGE)
    view = Solarize(threshold=0.6, p=0.3)(x, seeded())
    changed = (view != x).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.05)
    expected = torch.where(x >= 0.6, 1 - x, x)
    assert torch.equal(view[changed], expected[changed])
    assert torch.equal(view[~changed], x[~changed])


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (3, 1, 5), (2, 2, 1), (5, 1, 1, 1)])
@pytest.mark.parametrize(
    "augment",
    [
        RandomResizedCrop(),
        ColorJitter(p=1.0),
        RandomGrayscale(p=1.0),
        GaussianBlur(p=1.0),
        Solarize(p=1.0),
        Compose([RandomResizedCrop(), ColorJitter(), RandomGrayscale(), GaussianBlur()]),
    ],
    ids=repr,
)
def test_tiny_images(augment, shape):
    view = augment(batch(3, shape), seeded())
    assert view.shape == (3, *shape)
    assert view.isfinite().all()


def test_default_views_for_patches():
    for shape in [(1, 28, 28), (3, 16, 16)]:
        parts = default_augment(shape).augmentations
        for_patches = default_augment(shape, bank=True).augmentations
        assert isinstance(parts[-1], GaussianNoise)
        assert repr(for_patches) == repr(parts[:-1])
    # Of fewer pixels noise hides less than it teaches.
    for shape in [(1, 8, 8), (3, 32, 32)]:
        assert repr(default_augment(shape, bank=True)) == repr(default_augment(shape))


def test_default_views_for_patches_of_volumes_invent_no_values():
    x = (batch(20, (1, 8, 9, 8)) > 0).double()
    augment = default_augment((1, 8, 9, 8), bank=True)
    moved, jitter = augment.augmentations
    assert moved(x, seeded()).unique().tolist() == [0.0, 1.0]
    assert repr(jitter) == repr(default_augment((1, 8, 9, 8)).augmentations[-1])
