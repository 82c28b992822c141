"""Images in files: a folder as an array, and paths as the input of a pipeline."""

import os
import pathlib
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from estimators import small
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from torch.utils.data import DataLoader, Subset

from sslearn._data._validation import validate_rows
from sslearn.augment import GaussianNoise
from sslearn.data import ImageFolder, LoadImages

Image = pytest.importorskip("PIL.Image")


def save(path, pixels, **params):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **params)


def pixels_of(i, height=12, width=16):
    return np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve images in two sub-folders, with other files among them."""
    root = tmp_path / "images"
    for i in range(12):
        save(root / ("cats" if i < 6 else "dogs/more") / f"{i:02}.png", pixels_of(i))
    (root / "labels.csv").write_text("0, 1")
    (root / "cats" / "._00.png").write_bytes(b"of a file system")
    (root / ".thumbnails").mkdir()
    save(root / ".thumbnails" / "00.png", pixels_of(0))
    return root


def encoder(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8))


def test_what_a_folder_holds(folder):
    images = ImageFolder(folder)
    assert len(images) == 12
    assert images.images.dtype == np.uint8
    assert images.classes == ["cats", "dogs"]
    assert images.targets.tolist() == [0] * 6 + [1] * 6
    names = [os.path.basename(path) for path in images.paths]
    assert names == [f"{i:02}.png" for i in range(12)]
    for i in range(12):
        np.testing.assert_array_equal(images.images[i], pixels_of(i).transpose(2, 0, 1))
        image, target = images[i]
        np.testing.assert_array_equal(image, images.images[i])
        assert target == images.targets[i]
    assert repr(images).endswith("images'): 12 images (3, 12, 16), 2 classes")
    # Images in no class are unlabelled, as scikit-learn means it; without classes there are none.
    save(folder / "99.png", pixels_of(99))
    assert ImageFolder(str(folder)).targets.tolist() == [-1] + [0] * 6 + [1] * 6
    flat = ImageFolder(folder / "cats")
    assert flat.classes is None
    assert flat.targets is None
    np.testing.assert_array_equal(flat[1], pixels_of(1).transpose(2, 0, 1))


def test_a_folder_is_read_as_an_array(folder, monkeypatch):
    images = ImageFolder(folder, size=8)
    expected = small("SimCLR", encoder=encoder).fit(images.images)
    # None of its items is asked for.
    monkeypatch.delattr(ImageFolder, "__getitem__")
    fitted = small("SimCLR", encoder=encoder).fit(images)
    assert fitted.loss_curve_ == expected.loss_curve_
    assert fitted.input_shape_ == (3, 8, 8)
    np.testing.assert_array_equal(fitted.transform(images), expected.transform(images.images))
    validated = validate_rows(fitted, images, reset=False, batch_size=16)
    assert validated.tensor.data_ptr() == images.images.ctypes.data  # nor is it copied
    assert np.asarray(images) is images.images
    assert np.asarray(images, dtype=float).dtype == float
    assert np.array(images) is not images.images


def test_a_folder_is_a_dataset_too(folder):
    images = ImageFolder(folder, size=8)
    model = small("SimCLR", encoder=encoder)
    expected = model.fit(images.images[:8]).loss_curve_
    assert model.fit(Subset(images, range(8))).loss_curve_ == expected
    batch, targets = next(iter(DataLoader(images, batch_size=5)))
    assert batch.shape == (5, 3, 8, 8)
    assert batch.dtype == torch.uint8
    assert targets.tolist() == [0] * 5


def test_a_folder_is_split_and_searched(folder):
    images = ImageFolder(folder, size=8)
    train, test, y, _ = train_test_split(images, images.targets, test_size=4, random_state=0)
    assert (train.shape, test.shape, len(y)) == ((8, 3, 8, 8), (4, 3, 8, 8), 8)
    model = small("SimCLR", encoder=encoder, max_epochs=1)
    search = GridSearchCV(model, {"temperature": [0.2, 0.5]}, cv=2, error_score="raise")
    search.fit(images)
    of_array = clone(search).fit(images.images)
    assert (search.cv_results_["mean_test_score"] == of_array.cv_results_["mean_test_score"]).all()
    probed = make_pipeline(model, LogisticRegression())
    assert cross_val_score(probed, images, images.targets, cv=2, error_score="raise").size == 2


def test_sizes_proportions_and_modes(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = [[10, 100, 200]]  # the square in the middle
    save(tmp_path / "a.png", pixels)
    cropped = ImageFolder(tmp_path, size=4).images[0]
    assert np.abs(cropped - np.array([10.0, 100, 200])[:, None, None]).max() < 30  # no black
    stretched = ImageFolder(tmp_path, size=(4, 8), crop=False).images[0]
    np.testing.assert_array_equal(stretched[0, :, 0], 0)
    assert ImageFolder(tmp_path, size=(4, 6)).shape == (1, 3, 4, 6)
    assert ImageFolder(tmp_path).shape == (1, 3, 8, 16)
    grey = ImageFolder(tmp_path, mode="L").images
    assert grey.shape == (1, 1, 8, 16)
    assert grey.max() == round(0.299 * 10 + 0.587 * 100 + 0.114 * 200)
    assert ImageFolder(tmp_path, mode="RGBA").images[0, 3].min() == 255
    floats = ImageFolder(tmp_path, mode="F").images
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, grey, atol=1)


def test_large_photographs_are_decoded_at_a_part_of_their_size(tmp_path):
    smooth = np.linspace(0, 255, 640)[None, :, None] * np.ones((480, 1, 3))
    save(tmp_path / "a.jpg", smooth.astype(np.uint8), quality=95)
    save(tmp_path / "b.png", smooth.astype(np.uint8))
    from_jpeg, from_png = ImageFolder(tmp_path, size=16).images.astype(int)
    assert np.abs(from_jpeg - from_png).max() < 6


def test_photographs_are_turned_upright(tmp_path):
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    save(tmp_path / "a.png", np.rot90(upright).copy(), exif=exif)
    np.testing.assert_array_equal(ImageFolder(tmp_path).images[0, 0], upright[..., 0])


def test_deep_pixels_are_never_clipped(tmp_path):
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    save(tmp_path / "a.png", values)
    save(tmp_path / "b.tif", values.astype(np.float32) / 7)
    kept = ImageFolder(tmp_path, mode="F").images[:, 0]
    np.testing.assert_array_equal(kept[0], values)
    np.testing.assert_array_equal(kept[1], values.astype(np.float32) / 7)
    for mode in ("L", "RGB"):
        with pytest.raises(ValueError, match=r"a\.png' with mode=.* more than a byte.*mode='F'"):
            ImageFolder(tmp_path, mode=mode)


def test_the_cache_is_a_memory_map_that_is_found_again(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    kept = ImageFolder(folder, size=8, cache=cache)
    assert isinstance(kept.images, np.memmap)
    assert not kept.images.flags.writeable
    np.testing.assert_array_equal(kept.images, ImageFolder(folder, size=8).images)
    assert len(list(cache.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr("sslearn.data._decode.Decoder.read", lambda *_: pytest.fail("decoded again"))
        again = ImageFolder(folder, size=8, cache=str(cache))
        sent = pickle.dumps(again)
        assert len(sent) < 10_000 + 200 * len(again)  # paths, not pixels
        np.testing.assert_array_equal(pickle.loads(sent).images, kept.images)
    model = small("SimCLR", encoder=encoder)
    assert model.fit(kept).loss_curve_ == model.fit(np.array(kept)).loss_curve_
    # Another size, or a file that has changed, is another array.
    ImageFolder(folder, size=4, cache=cache)
    save(folder / "cats" / "00.png", pixels_of(100))
    os.utime(folder / "cats" / "00.png", (1, 1))
    changed = ImageFolder(folder, size=8, cache=cache)
    assert (changed.images[0] != kept.images[0]).any()
    assert len(list(cache.iterdir())) == 3
    # What was begun and not finished leaves nothing.
    (folder / "cats" / "01.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cats.01\.png"):
        ImageFolder(folder, size=8, cache=cache)
    assert len(list(cache.iterdir())) == 3
    in_memory = pickle.loads(pickle.dumps(ImageFolder(folder / "dogs")))
    assert in_memory.classes == ["more"]
    assert in_memory.shape == (6, 3, 12, 16)


def test_loading_paths_is_a_step_of_a_pipeline(folder):
    images = ImageFolder(folder, size=8)
    load = LoadImages(size=8)
    model = small("SimCLR", encoder=encoder, augment=GaussianNoise(0.01), max_epochs=1)
    for paths in (images.paths, list(images.paths), images.paths[:, None]):
        np.testing.assert_array_equal(load.fit(paths).transform(paths), images.images)
    objects = np.array([pathlib.Path(path) for path in images.paths], dtype=object)
    np.testing.assert_array_equal(load.fit_transform(objects), images.images)
    pipeline = make_pipeline(load, model, LogisticRegression())
    scores = cross_val_score(pipeline, images.paths, images.targets, cv=2, error_score="raise")
    in_memory = make_pipeline(model, LogisticRegression())
    of_arrays = cross_val_score(in_memory, images.images, images.targets, cv=2)
    assert scores.tolist() == of_arrays.tolist()
    grid = {"loadimages__size": [4, 8], "loadimages__mode": ["RGB", "L"]}
    search = GridSearchCV(make_pipeline(load, model), grid, cv=2, error_score="raise")
    assert np.isfinite(search.fit(images.paths).cv_results_["mean_test_score"]).all()


def test_loading_is_a_transformer_as_scikit_learn_means_it(folder):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # most checks make tables of numbers, which it does not take
        check_estimator(LoadImages())
    load = LoadImages(size=(8, 4), mode="L", crop=False)
    assert clone(load).get_params() == {"size": (8, 4), "mode": "L", "crop": False}
    assert repr(load) == "LoadImages(crop=False, mode='L', size=(8, 4))"
    paths = ImageFolder(folder).paths
    before = dict(vars(load))
    assert load.fit(paths) is load
    assert vars(load) == before
    assert pickle.loads(pickle.dumps(load)).transform(paths).shape == (12, 1, 8, 4)
    pd = pytest.importorskip("pandas")
    for frame in (pd.Series(paths), pd.DataFrame({"path": paths})):
        assert load.set_params(size=4).fit_transform(frame).shape == (12, 1, 4, 4)


def test_files_that_cannot_be_read_are_named(folder):
    whole = (folder / "cats" / "03.png").read_bytes()
    for content in (b"no image", b"", whole[: len(whole) // 2]):
        (folder / "cats" / "03.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"ImageFolder cannot read the image file '.*03\.png'"):
            ImageFolder(folder, size=8)
        paths = [str(folder / "cats" / f"0{i}.png") for i in range(5)]
        with pytest.raises(ValueError, match=r"LoadImages cannot read the image file '.*03\.png'"):
            LoadImages(size=8).fit_transform(paths)
    with pytest.raises(FileNotFoundError, match=r"LoadImages found no file '.*nothing\.png'"):
        LoadImages().fit_transform([str(folder / "nothing.png")])


def test_folders_that_hold_no_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.csv").write_text("0, 1")
    with pytest.raises(ValueError, match=r"ImageFolder found no images in .*: no file, there or"):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must be a folder\. Got .*nothing', which does"):
        ImageFolder(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"must be a folder\. Got .*csv', which is a file"):
        ImageFolder(tmp_path / "labels.csv")


def test_images_of_several_sizes(folder):
    save(folder / "cats" / "04.png", pixels_of(4, 10, 11))
    message = r"images of one size\. Got 10 x 11 pixels in .*04\.png' after 12 x 16; set the 'size'"
    with pytest.raises(ValueError, match=message):
        ImageFolder(folder)
    assert ImageFolder(folder, size=8).shape == (12, 3, 8, 8)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"size": 0},
            r"'size' parameter of {} must be an int of at least 1, a pair.*Got 0 instead",
        ),
        ({"size": (8, 0.5)}, r"'size' parameter of {} must be .*Got \(8, 0.5\) instead"),
        ({"size": True}, "'size' parameter of {} must be .*Got True instead"),
        ({"size": "8"}, "'size' parameter of {} must be .*Got '8' instead"),
        ({"mode": "BGR"}, "'mode' parameter of {} must be one of 'RGB', .*Got 'BGR' instead"),
        ({"crop": "no"}, "'crop' parameter of {} must be a bool. Got 'no' instead"),
    ],
)
def test_parameters_that_mean_nothing(folder, params, message):
    with pytest.raises(ValueError, match=message.format("ImageFolder")):
        ImageFolder(folder, **params)
    with pytest.raises(ValueError, match=message.format("LoadImages")):
        LoadImages(**params).fit(["a.png"])


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ("a.png", TypeError, r"an array of paths\. Got a single one, 'a\.png', instead"),
        (np.ones(3), TypeError, r"str or pathlib\.Path\. Got float in it"),
        ([["a.png", "b.png"]] * 2, ValueError, r"\(n,\) or \(n, 1\)\. Got shape \(2, 2\)"),
        ([], ValueError, "one path at least"),
    ],
)
def test_what_is_no_array_of_paths(paths, error, message):
    for method in (LoadImages().fit, LoadImages().transform):
        with pytest.raises(error, match=message):
            method(paths)


def test_without_pillow_one_sentence_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for use in (lambda: ImageFolder(folder), lambda: LoadImages().fit(["a.png"])):
        with pytest.raises(
            ImportError, match=r"need Pillow.*pip install \"sslearn-torch\[images\]"
        ):
            use()


@pytest.mark.slow
def test_pillow_is_not_imported_before_it_is_needed():
    code = "import sys, sslearn.data; assert 'PIL' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
