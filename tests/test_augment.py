"""Augmentations: slow obvious twins, rates, one draw per sample, parameters."""

import contextlib
import copy
import math
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import estimator_html_repr

import sslearn.augment as augment_module
from sslearn.augment import (
    Augmentation,
    ChannelDropout,
    ColorJitter,
    Compose,
    FeatureCorruption,
    GaussianBlur,
    GaussianNoise,
    RandomAffine,
    RandomGrayscale,
    RandomResizedCrop,
    Scaling,
    SegmentPermutation,
    Solarize,
    TimeCropResize,
    TimeMask,
    default_augment,
)

TABLE, SERIES, IMAGE, VOLUME = (6,), (3, 20), (3, 8, 10), (2, 4, 5, 6)
ALL = [
    (FeatureCorruption(), TABLE),
    (GaussianNoise(), TABLE),
    (GaussianNoise(), SERIES),
    (GaussianNoise(), IMAGE),
    (Scaling(), SERIES),
    (TimeCropResize(), SERIES),
    (TimeMask(p=1.0), SERIES),
    (SegmentPermutation(p=1.0), SERIES),
    (ChannelDropout(rate=0.5), SERIES),
    (RandomResizedCrop(), IMAGE),
    (RandomResizedCrop(), VOLUME),
    (RandomAffine(), IMAGE),
    (ColorJitter(p=1.0), IMAGE),
    (ColorJitter(p=1.0), (1, 8, 10)),
    (ColorJitter(p=1.0), VOLUME),
    (RandomGrayscale(p=0.5), IMAGE),
    (GaussianBlur(p=1.0), IMAGE),
    (GaussianBlur(p=1.0), VOLUME),
    (Solarize(p=0.5), IMAGE),
    (Compose([RandomResizedCrop(), ColorJitter(), RandomGrayscale(), Solarize()]), IMAGE),
    *((default_augment(shape), shape) for shape in (TABLE, SERIES, IMAGE, VOLUME)),
]
IDS = [f"{type(augment).__name__}-{len(shape) + 1}d" for augment, shape in ALL]
over_all = pytest.mark.parametrize(("augment", "shape"), ALL, ids=IDS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n, shape, dtype=torch.float32, seed=1):
    return torch.rand(n, *shape, generator=seeded(seed)).to(dtype)


# ---------------------------------------------------------------- what all have in common


@over_all
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_same_shape_dtype_device_and_input_unchanged(augment, shape, dtype):
    x = batch(16, shape, dtype)
    before = x.clone()
    view = augment(x, seeded())
    assert view.shape == x.shape
    assert view.dtype == dtype
    assert view.device == x.device
    assert view.isfinite().all()
    assert torch.equal(x, before)
    assert not torch.equal(view, x)


@over_all
def test_one_seed_gives_one_view_in_every_precision(augment, shape):
    x = batch(16, shape, torch.float16)
    exact = augment(x.double(), seeded())
    torch.testing.assert_close(augment(x.float(), seeded()).double(), exact, rtol=0, atol=2e-5)
    torch.testing.assert_close(augment(x, seeded()).double(), exact, rtol=1e-2, atol=1e-2)


@over_all
def test_generator_decides_alone(augment, shape):
    x = batch(16, shape)
    before = torch.get_rng_state()
    first = augment(x, seeded(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert torch.equal(augment(x, seeded(3)), first)
    assert not torch.equal(augment(x, seeded(4)), first)


@over_all
def test_default_generator_without_one(augment, shape):
    x = batch(16, shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, second = augment(x), augment(x)
        torch.manual_seed(5)
        assert torch.equal(augment(x), first)
    assert not torch.equal(first, second)


@over_all
def test_one_draw_per_sample(augment, shape):
    same = batch(1, shape).expand(64, *shape)
    if isinstance(augment, FeatureCorruption):
        pytest.skip("identical rows have nothing to exchange")
    different = torch.unique(augment(same, seeded()).flatten(1), dim=0)
    fewest = 2 if isinstance(augment, Solarize | RandomGrayscale) else 6  # changed or not
    assert len(different) >= fewest


@over_all
@pytest.mark.parametrize("n", [1, 2, 3])
def test_small_batches(augment, shape, n):
    assert augment(batch(n, shape), seeded()).shape == (n, *shape)


@over_all
def test_any_strides(augment, shape):
    x = batch(16, shape)
    expected = augment(x, seeded())
    strided = x.movedim(0, -1).contiguous().movedim(-1, 0)
    torch.testing.assert_close(augment(strided, seeded()), expected)
    if len(shape) == 3:
        channels_last = x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(augment(channels_last, seeded()), expected)


@over_all
def test_neither_gradients_nor_autocast(augment, shape):
    x = batch(16, shape)
    expected = augment(x, seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment(x, seeded()), expected)
    assert not augment(x.requires_grad_(), seeded()).requires_grad


@over_all
def test_no_data_leaves_the_device(augment, shape, monkeypatch):
    # On the meta device whatever reads a value or mixes in a tensor of the CPU fails, as it would
    # in a CUDA graph. Autocast does not know the device, and has nothing to do there.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: contextlib.nullcontext())
    assert augment(torch.empty(16, *shape, device="meta")).shape == (16, *shape)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@over_all
def test_captured_in_a_cuda_graph(augment, shape):
    x = batch(16, shape).cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    assert augment(x, generator).device == x.device
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        augment(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        view = augment(x)
    graph.replay()
    first = view.clone()
    graph.replay()
    assert not torch.equal(view, first)


# ---------------------------------------------------------------- parameters and messages


@over_all
def test_parameters_survive(augment, shape):
    x = batch(4, shape)
    for other in (clone(augment), copy.deepcopy(augment), pickle.loads(pickle.dumps(augment))):
        assert joblib.hash(other) == joblib.hash(augment)
        assert torch.equal(other(x, seeded()), augment(x, seeded()))
    assert repr(clone(augment)) == repr(augment)
    assert type(augment).__name__ in estimator_html_repr(augment)


@over_all
def test_calls_leave_no_trace(augment, shape):
    before = joblib.hash(augment)
    augment(batch(4, shape), seeded())
    assert joblib.hash(augment) == before


def test_hash_sees_values_not_objects():
    values = [0.5, 1.0]
    pair = tuple(values)
    shared = Compose([TimeCropResize(scale=pair), TimeCropResize(scale=pair)])
    apart = Compose([TimeCropResize(scale=tuple(values)), TimeCropResize(scale=tuple(values))])
    once = TimeCropResize(scale=pair)
    assert joblib.hash(shared) == joblib.hash(apart) == joblib.hash(Compose([once, once]))
    assert joblib.hash(shared) != joblib.hash(Compose([once, TimeCropResize(scale=(0.4, 1.0))]))


@pytest.mark.parametrize(
    ("augment", "shape", "message"),
    [
        (
            FeatureCorruption(rate=2),
            TABLE,
            "The 'rate' parameter of FeatureCorruption must be a float in the range [0.0, 1.0]. "
            "Got 2 instead.",
        ),
        (
            GaussianNoise(noise=-1),
            TABLE,
            "The 'noise' parameter of GaussianNoise must be a float in the range [0.0, inf). "
            "Got -1 instead.",
        ),
        (
            SegmentPermutation(max_segments=1),
            SERIES,
            "The 'max_segments' parameter of SegmentPermutation must be an int in the range "
            "[2, inf). Got 1 instead.",
        ),
        (
            TimeCropResize(scale=(0.8, 0.5)),
            SERIES,
            "The 'scale' parameter of TimeCropResize must be a pair of floats (low, high) with "
            "0.0 < low <= high <= 1.0. Got (0.8, 0.5) instead.",
        ),
        (
            GaussianBlur(sigma=2.0),
            IMAGE,
            "The 'sigma' parameter of GaussianBlur must be a pair of floats (low, high) with "
            "0.0 <= low <= high < inf. Got 2.0 instead.",
        ),
        (
            Compose([GaussianNoise(), 3]),
            TABLE,
            "The 'augmentations' parameter of Compose must be a list of augmentations, each "
            "called as augmentation(x, generator). Got [GaussianNoise(), 3] instead.",
        ),
    ],
)
def test_message_of_a_wrong_parameter(augment, shape, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        augment(batch(4, shape))
    assert str(error.value) == message


@pytest.mark.parametrize(
    "augment",
    [
        Scaling(sigma=math.nan),
        Scaling(sigma="a"),
        TimeCropResize(scale=(0.0, 1.0)),
        TimeCropResize(scale=(0.5, 1.5)),
        TimeCropResize(scale=("a", "b")),
        TimeMask(fraction=1.1),
        TimeMask(p=-0.1),
        SegmentPermutation(max_segments=2.5),
        ChannelDropout(rate=None),
        RandomResizedCrop(ratio=(0.0, 1.0)),
        RandomResizedCrop(ratio=(1.0, math.inf)),
        RandomResizedCrop(flip=2),
        RandomAffine(rotation=181.0),
        RandomAffine(scale=-0.1),
        RandomAffine(shift=math.nan),
        RandomAffine(padding="wrap"),
        ColorJitter(hue=0.6),
        ColorJitter(brightness=-0.1),
        RandomGrayscale(p=3),
        GaussianBlur(sigma=(-1, 1)),
        Solarize(threshold=1.5),
        Compose(GaussianNoise()),
        Compose([ColorJitter(hue=0.6), RandomGrayscale()]),
    ],
    ids=repr,
)
def test_wrong_parameters_are_refused(augment):
    for shape in (SERIES, IMAGE):
        if augment._accepts is None or len(shape) + 1 in augment._accepts:
            with pytest.raises(ValueError, match=r"parameter of \w+ must be .* Got .* instead\."):
                augment(batch(4, shape))


@pytest.mark.parametrize(
    ("augment", "x", "error", "message"),
    [
        (
            TimeMask(),
            torch.zeros(4, 6),
            ValueError,
            "TimeMask expects series (n, channels, time). Got shape (4, 6) instead.",
        ),
        (
            ColorJitter(),
            torch.zeros(4, 3, 6),
            ValueError,
            "ColorJitter expects images (n, channels, height, width) or volumes (n, channels, "
            "depth, height, width). Got shape (4, 3, 6) instead.",
        ),
        (
            GaussianNoise(),
            torch.tensor(1.0),
            ValueError,
            "GaussianNoise expects a batch (n, ...). Got shape () instead.",
        ),
        (
            FeatureCorruption(),
            torch.zeros(4, 6, dtype=torch.uint8),
            TypeError,
            "FeatureCorruption expects a floating-point torch tensor. Got torch.uint8 instead.",
        ),
        (
            FeatureCorruption(),
            np.zeros((4, 6)),
            TypeError,
            "FeatureCorruption expects a floating-point torch tensor. Got ndarray instead.",
        ),
    ],
)
def test_message_of_a_wrong_input(augment, x, error, message):
    with pytest.raises(error) as raised:
        augment(x)
    assert str(raised.value) == message


def test_subclass_without_apply():
    with pytest.raises(NotImplementedError, match="Augmentation does not define _apply"):
        Augmentation()(torch.zeros(2, 2))


def test_all_public_names():
    public = [getattr(augment_module, name) for name in augment_module.__all__]
    assert all(item is default_augment or issubclass(item, Augmentation) for item in public)
    tested = {type(augment) for augment, _ in ALL}
    assert tested | {Augmentation, default_augment} == set(public)


# ---------------------------------------------------------------- tables


def test_corruption_rate_and_donors():
    n, n_features = 400, 50
    x = torch.arange(float(n * n_features)).reshape(n, n_features)  # every entry is unique
    view = FeatureCorruption(rate=0.3)(x, seeded())
    assert torch.equal(view % n_features, x % n_features)  # always the same feature
    changed = view != x  # never replaced by itself
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert changed.sum(1).min() < changed.sum(1).max()
    donors = (view[changed] // n_features).long()
    counts = torch.bincount(donors, minlength=n)
    assert counts.max() < 4 * counts.float().mean()  # uniform over the rows
    rows = (view // n_features).long()
    assert (rows[:, 0] - rows[:, 1]).unique().numel() > 100  # drawn for each entry alone


def test_corruption_at_the_ends_of_its_rate():
    x = torch.arange(12.0).reshape(4, 3)
    assert torch.equal(FeatureCorruption(rate=0)(x), x)
    assert (FeatureCorruption(rate=1)(x) != x).all()
    assert torch.equal(FeatureCorruption(rate=1)(x[:1]), x[:1])  # no other row
    assert torch.equal(FeatureCorruption(rate=1)(x[:2]), x[:2].flip(0))


def test_noise():
    x = batch(200, (4, 50))
    difference = GaussianNoise(noise=0.3)(x, seeded()) - x
    assert difference.std().item() == pytest.approx(0.3, rel=0.02)
    assert difference.mean().item() == pytest.approx(0.0, abs=0.005)
    assert torch.equal(GaussianNoise(noise=0.0)(x), x)


# ---------------------------------------------------------------- series


def test_scaling():
    x = batch(500, (4, 10)) + 1
    factor = Scaling(sigma=0.2)(x, seeded()) / x
    torch.testing.assert_close(factor, factor[:, :, :1].expand_as(factor))
    assert factor[:, :, 0].std().item() == pytest.approx(0.2, rel=0.05)
    assert factor[:, :, 0].mean().item() == pytest.approx(1.0, abs=0.02)


def test_time_crop_against_interp():
    n, time = 200, 40
    x = torch.randn(n, 2, time, generator=seeded())
    x[:, 0] = torch.arange(time)  # this channel tells where each value was read
    view = TimeCropResize(scale=(0.3, 0.9))(x, seeded(1))
    positions = view[:, 0]
    for row in range(n):
        expected = np.interp(positions[row], np.arange(time), x[row, 1])
        np.testing.assert_allclose(view[row, 1], expected, atol=1e-5)
    speed = positions.diff(dim=1)
    inner = speed[:, time // 2]
    torch.testing.assert_close(speed[:, 4:-4], inner[:, None].expand(-1, time - 9))
    assert 0.3 <= inner.min() < 0.33
    assert 0.87 < inner.max() <= 0.9
    assert positions.min() < 1
    assert positions.max() > time - 2


def test_whole_windows_change_nothing():
    x = torch.randn(5, 3, 21, generator=seeded())
    assert torch.equal(TimeCropResize(scale=(1.0, 1.0))(x), x)


def test_time_mask():
    x = torch.ones(600, 3, 40)
    zero = TimeMask(fraction=0.25, p=0.6)(x, seeded()) == 0
    assert (zero == zero[:, :1]).all()  # all channels alike
    zero = zero[:, 0]
    masked = zero.any(1)
    assert masked.float().mean().item() == pytest.approx(0.6, abs=0.06)
    assert (zero[masked].sum(1) == 10).all()
    assert (zero[masked].float().diff(dim=1).abs().sum(1) <= 2).all()  # one span
    starts = zero[masked].float().argmax(1)
    assert starts.min() == 0
    assert starts.max() == 30
    assert (TimeMask(fraction=1.0, p=1.0)(x) == 0).all()
    assert torch.equal(TimeMask(fraction=0.0, p=1.0)(x), x)


def test_segment_permutation():
    n, time = 600, 30
    x = torch.arange(float(time)).expand(n, 2, time)
    view = SegmentPermutation(max_segments=4, p=1.0)(x, seeded())
    assert torch.equal(view[:, 0], view[:, 1])
    view = view[:, 0]
    assert torch.equal(view.sort(1).values, x[:, 0])  # a permutation
    breaks = (view.diff(dim=1) != 1).sum(1)
    assert breaks.max() == 3  # four segments
    assert breaks.unique().tolist() == [0, 1, 2, 3]  # 0: the order drawn was the old one
    two = SegmentPermutation(max_segments=2, p=1.0)(x, seeded())[:, 0]
    swapped = two[:, 0] > 0
    assert swapped.float().mean().item() == pytest.approx(0.5, abs=0.07)
    assert (two[:, 0].unique()).numel() > 20  # cut anywhere
    some = SegmentPermutation(max_segments=5, p=0.3)(x, seeded())
    changed = (some != x).flatten(1).any(1).float().mean().item()
    assert 0.18 < changed < 0.3


def test_channel_dropout():
    x = torch.ones(800, 5, 7)
    view = ChannelDropout(rate=0.3)(x, seeded())
    kept = view[:, :, 0]
    assert torch.equal(view, kept[:, :, None].expand_as(view))  # whole channels
    assert (1 - kept).mean().item() == pytest.approx(0.3, abs=0.02)
    kept = ChannelDropout(rate=1.0)(x, seeded())[:, :, 0]
    assert (kept.sum(1) == 1).all()  # never all of them
    assert (kept.sum(0) > 100).all()  # any channel may be the last
    assert torch.equal(ChannelDropout(rate=1.0)(x[:, :1]), x[:, :1])


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize(
    "augment",
    [
        Scaling(),
        TimeCropResize((0.01, 0.02)),
        TimeMask(0.5, 1.0),
        SegmentPermutation(9, 1.0),
        ChannelDropout(0.9),
        default_augment((1, 1)),
    ],
    ids=repr,
)
def test_tiny_series(augment, shape):
    view = augment(torch.ones(3, *shape), seeded())
    assert view.shape == (3, *shape)
    assert view.isfinite().all()


# ---------------------------------------------------------------- images: geometry


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


def test_what_lies_outside_of_an_affine_view():
    x = torch.ones(50, 1, 8, 8)
    assert RandomAffine(shift=0.5)(x, seeded()).min() == 0
    for padding in ("border", "reflection"):
        torch.testing.assert_close(RandomAffine(shift=0.5, padding=padding)(x, seeded()), x)
    with pytest.raises(ValueError, match="RandomAffine expects images"):
        RandomAffine()(batch(3, VOLUME))


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


# ---------------------------------------------------------------- images: values


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


@pytest.mark.parametrize("shape", [(1, 6, 7), (4, 6, 7), (2, 3, 4, 5)])
def test_color_jitter_of_other_channels(shape):
    n = 50
    x = 0.4 + 0.2 * batch(n, shape, torch.float64)
    jitter = ColorJitter(brightness=0.1, contrast=0.2, p=1.0)
    view = jitter(x, seeded(2))
    generator = seeded(2)
    torch.rand(n, generator=generator)
    draws = (torch.rand(n, 4, generator=generator) * 2 - 1).double()
    for row in range(n):
        expected = x[row] * (1 + 0.1 * draws[row, 0])
        expected = expected.mean() + (1 + 0.2 * draws[row, 1]) * (expected - expected.mean())
        torch.testing.assert_close(view[row], expected, atol=1e-6, rtol=0)


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


# ---------------------------------------------------------------- compositions


def test_compose_is_one_after_the_other():
    x = batch(16, SERIES)
    parts = [TimeCropResize(), Scaling(), GaussianNoise()]
    generator = seeded()
    expected = x
    for part in parts:
        expected = part(expected, generator)
    assert torch.equal(Compose(parts)(x, seeded()), expected)
    assert torch.equal(Compose([])(x), x)


@pytest.mark.parametrize("shape", [IMAGE, (3, 4, 5, 6), (1, 8, 8)])
def test_fused_colors_equal_one_after_the_other(shape):
    x = 0.45 + 0.1 * batch(32, shape)
    parts = [
        ColorJitter(0.1, 0.3, 0.3, 0.1),
        RandomGrayscale(p=0.5),
        ColorJitter(0.1, 0.3, 0.3, 0.1),
        GaussianBlur(),
        RandomGrayscale(p=0.5),
        ColorJitter(0.1, 0.3, 0.3, 0.1),
    ]
    generator = seeded()
    expected = x
    for part in parts:
        expected = part(expected, generator)
    torch.testing.assert_close(Compose(parts)(x, seeded()), expected, atol=1e-5, rtol=0)


def test_compose_takes_callables_and_compositions():
    x = batch(8, TABLE)
    augment = Compose([Compose([GaussianNoise()]), lambda x, generator: x + 1])
    expected = GaussianNoise()(x, seeded()) + 1
    assert torch.equal(augment(x, seeded()), expected)
    assert augment.get_params()["compose__gaussiannoise__noise"] == 0.1
    assert callable(augment.get_params()["function"])


def test_compose_params():
    noise, scaling = GaussianNoise(noise=0.2), Scaling()
    augment = Compose([noise, scaling, GaussianNoise(noise=0.3)])
    assert augment.get_params(deep=False) == {"augmentations": augment.augmentations}
    params = augment.get_params()
    assert set(params) == {
        "augmentations",
        "gaussiannoise-1",
        "gaussiannoise-1__noise",
        "gaussiannoise-2",
        "gaussiannoise-2__noise",
        "scaling",
        "scaling__sigma",
    }
    assert params["gaussiannoise-1"] is noise
    assert params["gaussiannoise-2__noise"] == 0.3
    assert augment.set_params(**{"gaussiannoise-1__noise": 0.5}) is augment
    assert noise.noise == 0.5
    with pytest.raises(ValueError, match="Invalid parameter 'gaussiannoise'"):
        augment.set_params(gaussiannoise__noise=0.5)


def test_compose_set_params_from_the_outside_in():
    given = [GaussianNoise(), Scaling()]
    augment = Compose(given)
    augment.set_params(scaling=TimeMask())
    assert [type(part) for part in augment.augmentations] == [GaussianNoise, TimeMask]
    assert type(given[1]) is Scaling  # the caller's list is left alone
    augment.set_params(
        augmentations=[TimeMask(), Scaling()], scaling__sigma=0.7, timemask=TimeCropResize()
    )
    assert repr(augment.augmentations) == "[TimeCropResize(), Scaling(sigma=0.7)]"


def test_nested_in_an_estimator():
    class Estimator(BaseEstimator):
        def __init__(self, augment=None):
            self.augment = augment

    estimator = Estimator(default_augment(SERIES))
    other = clone(estimator).set_params(augment__gaussiannoise__noise=0.5)
    assert other.get_params()["augment__gaussiannoise__noise"] == 0.5
    assert estimator.get_params()["augment__gaussiannoise__noise"] == 0.1


# ---------------------------------------------------------------- defaults


@pytest.mark.parametrize(
    "shape",
    [
        (1,),
        (500,),
        (1, 1),
        (1, 178),
        (9, 128),
        (1, 1, 1),
        (1, 8, 8),
        (3, 32, 32),
        (4, 16, 20),
        (3, 96, 80),
        (1, 1, 1, 1),
        (1, 12, 16, 20),
        (3, 4, 16, 16),
    ],
)
@pytest.mark.parametrize("n", [1, 5])
def test_defaults(shape, n):
    augment = default_augment(shape)
    x = batch(n, shape)
    view = augment(x, seeded())
    assert view.shape == x.shape
    assert view.isfinite().all()
    assert joblib.hash(default_augment(list(shape))) == joblib.hash(augment)
    if len(shape) > 2:
        noisy = len(shape) == 3 and min(shape[1:]) < 32
        assert ("gaussiannoise" in augment.get_params()) == noisy
        assert view.min() >= (-0.6 if noisy else 0)
        assert view.max() <= (1.6 if noisy else 1)
        cropped = "randomresizedcrop" in augment.get_params()
        assert cropped == (not noisy or shape[0] > 1)
        if cropped:
            flip = augment.get_params()["randomresizedcrop__flip"]
            assert flip == (0.0 if shape[0] == 1 else 0.5)
        assert ("gaussianblur" in augment.get_params()) == (max(shape[1:]) > 64)
        assert ("randomgrayscale" in augment.get_params()) == (shape[0] == 3 and len(shape) == 3)


def test_defaults_are_mild_for_small_images():
    assert default_augment((3, 8, 8)).get_params()["randomresizedcrop__scale"] == (0.3, 1.0)
    assert default_augment((1, 28, 28)).get_params()["randomaffine__rotation"] == 10.0
    assert default_augment((1, 32, 32)).get_params()["randomresizedcrop__scale"] == (0.2, 1.0)


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4, 5)])
def test_no_default(shape):
    with pytest.raises(ValueError, match=r"default_augment knows samples of shape .* Got \("):
        default_augment(shape)
