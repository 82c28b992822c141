"""Augmentations: what all have in common, compositions and defaults."""

import contextlib
import copy
import math
import pickle

import joblib
import numpy as np
import pytest
import torch
from batches import IMAGE, SERIES, TABLE, VOLUME, batch, seeded
from sklearn.base import BaseEstimator, clone
from sklearn.utils import estimator_html_repr

import sslearn.augment as augment_module
from sslearn.augment import (
    Augmentation,
    ChannelDropout,
    ColorJitter,
    Compose,
    DifferenceNoise,
    FeatureCorruption,
    GaussianBlur,
    GaussianNoise,
    GivenViews,
    RandomAffine,
    RandomGrayscale,
    RandomResizedCrop,
    Scaling,
    SegmentPermutation,
    Solarize,
    TimeCropResize,
    TimeMask,
    TimeWarp,
    default_augment,
)

ALL = [
    (FeatureCorruption(), TABLE),
    (GaussianNoise(), TABLE),
    (GaussianNoise(), SERIES),
    (GaussianNoise(), IMAGE),
    (Scaling(), SERIES),
    (TimeCropResize(), SERIES),
    (TimeMask(p=1.0), SERIES),
    (DifferenceNoise(), SERIES),
    (TimeWarp(), SERIES),
    (SegmentPermutation(p=1.0), SERIES),
    (ChannelDropout(rate=0.5), SERIES),
    (RandomResizedCrop(), IMAGE),
    (RandomResizedCrop(), VOLUME),
    (RandomAffine(), IMAGE),
    (RandomAffine(interpolation="nearest"), VOLUME),
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
        RandomAffine(interpolation="cubic"),
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
    # The views that X gives are tested in tests/data/test_given_views.py.
    assert tested | {Augmentation, GivenViews, default_augment} == set(public)


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
    with pytest.raises(ValueError, match=r"default_augment takes samples of shape .* Got \("):
        default_augment(shape)
