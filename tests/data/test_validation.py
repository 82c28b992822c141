"""Every kind of X that fit and transform take, and what they say of the rest."""

import datetime
import itertools
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import warnings

import numpy as np
import pytest
import sklearn.utils.validation
import torch
from estimators import SHAPES, rows, small
from scipy.sparse import csr_array, csr_matrix
from sklearn.model_selection import GridSearchCV
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from sslearn._data import _training_data
from sslearn._data._rows import Rows
from sslearn._training._auto import resolve_device
from sslearn.augment import GaussianNoise


def features_of(X, fit_on=None, **params):
    return small("SimCLR", **params).fit(X if fit_on is None else fit_on).transform(X)


DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "longdouble", ">f4", ">i2"]


@pytest.mark.parametrize("kind", sorted(SHAPES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_numeric_dtypes(dtype, kind):
    # Zeros and ones of a table would stay at their scale: tests/test_standardize.py.
    n_values = 3 if kind == "table" and dtype != "bool" else 2
    integers = rows(kind, dtype=np.int64) % n_values
    X = integers.astype(dtype)
    kept = X.copy()
    fitted = small("SimCLR").fit(X)
    assert np.isfinite(fitted.transform(X)).all()
    assert (X == kept).all()
    # What the network is given is the same (the weights are not, to the last bit: rounding).
    axes = (0, *range(2, X.ndim))
    Z = integers.astype(np.float64)
    Z -= Z.mean(axes, keepdims=True)
    if not (kind == "table" and dtype == "bool"):
        Z /= Z.std(axes, keepdims=True)
    standardize = fitted.encoder_.standardize
    found = torch.cat([standardize(part) for part in Rows(X).slices(5)])
    np.testing.assert_allclose(found, Z, rtol=1e-5, atol=1e-6)
    found = standardize.normalize(standardize.unit(Rows(X).take(torch.arange(len(X)))))
    np.testing.assert_allclose(found, Z, rtol=1e-4, atol=1e-4 if dtype == "uint8" else 1e-5)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_layouts_of_arrays(kind, tmp_path):
    X = rows(kind)
    expected = features_of(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    np.save(tmp_path / "X.npy", X)
    wide = np.repeat(X, 2, axis=0)
    layouts = {
        "Fortran order": np.asfortranarray(X),
        "read-only": read_only,
        "memory map": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "memory map, writeable": np.load(tmp_path / "X.npy", mmap_mode="r+"),
        "every second row": wide[::2],
        "reversed": X[::-1].copy()[::-1],
        "tensor": torch.from_numpy(X),
        "tensor with gradient": torch.from_numpy(X).requires_grad_(),
        "transposed tensor": torch.from_numpy(np.asfortranarray(X)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, layout in layouts.items():
            np.testing.assert_array_equal(features_of(layout), expected, err_msg=name)
        expected = features_of(X.astype(np.float64))
        np.testing.assert_array_equal(features_of(X.tolist()), expected)


def test_large_values_keep_their_digits():
    # Time stamps: cast to float32 first, they would be two distinct values.
    rng = np.random.default_rng(0)
    X = 1.7e9 + rng.uniform(0, 100, size=(64, 3))
    standardize = small("SimCLR").fit(X).encoder_.standardize
    out = standardize(torch.from_numpy(X))
    assert len(torch.unique(out[:, 0])) == 64
    np.testing.assert_allclose(out, (X - X.mean(0)) / X.std(0), rtol=1e-4, atol=1e-5)


class Squares(Dataset):
    """A map-style dataset: items x."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i]


class Pairs(Squares):
    """Items (x, y), and a batch at a time."""

    def __getitem__(self, i):
        return torch.from_numpy(self.X[i]), i % 3


class Streamed(IterableDataset):
    def __init__(self, X, pair=False):
        self.X = X
        self.pair = pair

    def __iter__(self):
        return ((x, 0) if self.pair else x for x in self.X)


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_map_style_datasets_are_like_arrays(kind):
    X = rows(kind, n=50)
    expected = features_of(X)
    tensors = TensorDataset(torch.from_numpy(X), torch.zeros(50))
    for dataset in (Squares(X), Pairs(X), tensors, Subset(tensors, range(50))):
        np.testing.assert_array_equal(features_of(dataset), expected)
    fitted = small("SimCLR", validation_fraction=0.2).fit(Pairs(X))
    assert len(fitted.validation_loss_curve_) == 2


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_streams(kind):
    X = rows(kind, n=50)
    tensors = TensorDataset(torch.from_numpy(X), torch.zeros(50))
    streams = {
        "iterable": Streamed(X),
        "iterable of pairs": Streamed(X, pair=True),
        "loader": DataLoader(tensors, batch_size=16),
        "loader of a stream": DataLoader(Streamed(X), batch_size=16),
        "loader of whole batches": DataLoader(Squares(X.reshape(5, 10, *X.shape[1:])), None),
    }
    fitted = small("SimCLR").fit(X)
    expected = fitted.transform(X)
    for name, stream in streams.items():
        torch.manual_seed(5)
        before = torch.get_rng_state()
        np.testing.assert_allclose(
            fitted.transform(stream), expected, rtol=1e-4, atol=1e-5, err_msg=name
        )
        found = features_of(stream)
        assert found.shape == expected.shape, name
        np.testing.assert_array_equal(found, features_of(stream), err_msg=name)
        assert torch.equal(before, torch.get_rng_state()), name
        mean = small("SimCLR").fit(stream).encoder_.standardize.shift
        np.testing.assert_allclose(mean, fitted.encoder_.standardize.shift, rtol=1e-6)
    # The loader's own order and batches are what is trained on: unshuffled, they are the same.
    np.testing.assert_array_equal(
        features_of(streams["loader"]), features_of(streams["loader of a stream"])
    )


def test_a_shuffling_loader_is_fitted_reproducibly_and_not_transformed():
    X = TensorDataset(torch.from_numpy(rows("table", n=50)))
    loader = DataLoader(X, batch_size=16, shuffle=True)
    first, second = small("SimCLR").fit(loader), small("SimCLR").fit(loader)
    assert first.loss_curve_ == second.loss_curve_
    random = SubsetRandomSampler(range(50))
    for shuffled in (
        loader,
        DataLoader(X, batch_size=16, drop_last=True),
        DataLoader(X, batch_size=16, sampler=random),
        DataLoader(X, batch_sampler=BatchSampler(random, 16, False)),
    ):
        with pytest.raises(ValueError, match="shuffle=False"):
            first.transform(shuffled)
        with pytest.raises(ValueError, match="shuffle=False"):
            small("SimCLR", max_epochs=10**9).fit_transform(shuffled)  # before it trains


def test_workers():
    X = rows("table", n=50)
    tensors = TensorDataset(torch.from_numpy(X))
    loader = DataLoader(tensors, batch_size=16, num_workers=1)
    alone = DataLoader(tensors, batch_size=16)
    np.testing.assert_array_equal(features_of(loader), features_of(alone))


def test_a_stream_that_can_be_read_once_is_transformed_whole():
    X = rows("table", n=50)
    fitted = small("SimCLR").fit(X)

    class Once(IterableDataset):
        items = iter(X)

        def __iter__(self):
            return self.items

    np.testing.assert_allclose(fitted.transform(Once()), fitted.transform(X), rtol=1e-4, atol=1e-5)


def test_batches_of_one_row():
    X = TensorDataset(torch.from_numpy(rows("table")))
    with pytest.raises(ValueError, match="batch_size of 2 or more"):
        small("SimCLR").fit(DataLoader(X))
    assert small("SimCLR").fit(X).transform(DataLoader(X)).shape == (24, 8)


def test_transform_beside_a_fit_in_another_thread():
    X = rows("table", n=200)

    def encoder(shape):
        return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.5))

    def fit():
        return small("SimCLR", encoder=encoder, max_epochs=30).fit(X).loss_curve_

    expected, other = fit(), small("SimCLR").fit(X)
    stop = threading.Event()

    def transform():
        while not stop.is_set():
            other.transform(X)
            other.transform(DataLoader(torch.from_numpy(X).unsqueeze(1), batch_size=None))

    thread = threading.Thread(target=transform)
    thread.start()
    try:
        assert fit() == expected
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_rows_far_outside_the_training_range(kind):
    X = rows(kind, dtype=np.float64)
    fitted = small("SimCLR").fit(X)
    # Clipped: what lies far beyond all that was seen is like what lies ten times beyond it.
    far = fitted.transform(X * 1e300)
    assert np.isfinite(far).all()
    assert np.abs(far).max() < 1000
    np.testing.assert_array_equal(far, fitted.transform(X * 1e200))
    plain = small("SimCLR", standardize=False)
    if kind != "table":  # whose default encoder is bounded
        with pytest.raises(ValueError, match=r"too large for dtype\('float32'\)"):
            plain.fit(X).transform(X * 1e300)


def test_the_callers_state_around_transform():
    X = rows("image")
    fitted = small("SimCLR").fit(X)
    expected = fitted.transform(X)
    with torch.autocast("cpu"):
        np.testing.assert_array_equal(fitted.transform(X), expected)
        fitted.transform(Streamed(X))
    fitted.encoder_.train()
    np.testing.assert_array_equal(fitted.transform(X), expected)
    assert fitted.encoder_.training


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (lambda x, g: x.numpy(), "ndarray"),
        (lambda x, g: None, "NoneType"),
        (lambda x, g: x[:3], r"shape \(3, 6\)"),
        (lambda x, g: x[:, :4], r"shape \(32, 4\)"),
        (lambda x, g: x[:, None], r"shape \(32, 1, 6\)"),
    ],
)
def test_augmentations_that_return_something_else(wrong, got):
    message = r"'augment' .* must return a tensor with the rows and features.*\(32, 6\)"
    with pytest.raises(ValueError, match=f"{message}. Got {got} instead"):
        small("SimCLR", augment=wrong).fit(rows("table"))


def test_views_of_images_may_be_smaller():
    def crop(x, generator):
        return x[..., 1:, 1:] + 0.01 * torch.randn(x.shape, generator=generator)[..., 1:, 1:]

    small("SimCLR", augment=crop).fit(rows("image"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"augment": lambda x: x}, r"augment\(x, generator\). Got <lambda>, which takes \(x\)"),
        ({"augment": GaussianNoise}, r"augment\(x, generator\). Got GaussianNoise, which takes"),
        ({"augment": torch.nn.Identity()}, "Got Identity, which takes"),
        ({"lr_schedule": lambda: 1.0}, r"lr_schedule\(step, n_steps\)"),
        ({"optimizer": lambda: None}, r"optimizer\(parameter_groups\)"),
        ({"encoder": torch.nn.Linear}, r"encoder\(\(6,\)\). Got Linear, which takes"),
        ({"projector": lambda: None}, r"projector\(8\)"),
    ],
)
def test_callables_that_take_something_else(params, message):
    with pytest.raises(TypeError, match=f"parameter is called as .*{message}"):
        small("SimCLR", **params).fit(rows("table"))


def test_numpy_numbers_as_parameters():
    params = {
        "max_epochs": np.int64(2), "batch_size": np.int32(16), "learning_rate": np.float32(1e-3),
        "weight_decay": np.float64(0), "warmup_fraction": np.float32(0.1),
        "validation_fraction": np.float64(0.2), "n_iter_no_change": np.int64(2),
        "embedding_dim": np.int64(8), "projection_dim": np.int16(4), "verbose": np.int64(0),
        "projection_hidden_dim": np.int64(4), "temperature": np.float32(0.5),
    }  # fmt: skip
    small("SimCLR").set_params(**params).fit(rows("table", n=70))
    loader = small("SimCLR", batch_size=np.int64(16))
    assert loader.fit(Streamed(rows("table"))).n_iter_ == 2


def test_samples_without_axes():
    numbers = TensorDataset(torch.arange(20.0))
    with pytest.raises(ValueError, match="Got single numbers"):
        small("SimCLR").fit(numbers)
    with pytest.raises(ValueError, match="batch_size=None"):
        small("SimCLR").fit(DataLoader(TensorDataset(torch.ones(20, 3)), batch_size=None))
    with pytest.raises(ValueError, match="minimum of 1"):
        small("SimCLR").fit(rows("table")).transform(Streamed([]))


def test_short_and_single_batches_of_streams():
    X = rows("table", n=33)
    for n in (2, 3, 17, 33):
        assert features_of(Streamed(X[:n])).shape == (n, 8)
        loader = DataLoader(TensorDataset(torch.from_numpy(X[:n])), batch_size=16)
        assert features_of(loader).shape == (n, 8)
    with pytest.raises(ValueError, match="1 sample"):
        small("SimCLR").fit(Streamed(X[:1]))
    with pytest.raises(ValueError, match="no samples"):
        small("SimCLR").fit(Streamed(X[:0]))


@pytest.mark.parametrize("n", [40, 400])
def test_a_stream_is_gone_through_once_and_once_an_epoch(n):
    class Counted(Streamed):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    small("SimCLR").fit(Counted(rows("table", n=n)))
    assert Counted.passes == 1 + 2


def test_a_stream_that_runs_dry():
    class Once(IterableDataset):
        def __init__(self, X, times):
            self.X, self.times = X, times

        def __iter__(self):
            self.times -= 1
            return iter(self.X if self.times >= 0 else [])

    with pytest.raises(ValueError, match="gave 1 batches in its first pass and 0 in a later one"):
        small("SimCLR").fit(Once(rows("table"), 2))


class Endless(IterableDataset):
    """A stream without end, which counts what is taken from it."""

    def __init__(self, X):
        self.X, self.taken = X, 0

    def __iter__(self):
        for i in itertools.count():
            self.taken += 1
            yield self.X[i % len(self.X)]


@pytest.mark.parametrize("loader", [False, True])
@pytest.mark.parametrize(
    ("params", "counted", "trained"),
    [
        ({"limit_train_batches": 3}, 3, 6),
        ({"limit_train_batches": 3, "max_steps": 4}, 3, 4),
        ({"max_steps": 5}, 5, 5),
        ({"max_steps": 2, "accumulate_grad_batches": 2}, 4, 4),
        ({"fast_dev_run": 2}, 2, 2),
    ],
)
def test_streams_without_end(params, counted, trained, loader):
    X = rows("table", n=100)
    stream = Endless(X)
    fitted = small("SimCLR", trainer_params=params)
    fitted.fit(DataLoader(stream, batch_size=16) if loader else stream)
    # Nothing more than that is taken from the stream, where each sample may cost a download.
    assert stream.taken == 16 * (counted + trained)
    # What is counted is what statistics are of.
    mean = np.concatenate([X, X])[: 16 * counted].mean(0)
    np.testing.assert_allclose(fitted.encoder_.standardize.shift, mean, rtol=1e-5)
    assert fitted.n_iter_ == -(-trained // counted)


def test_epochs_of_a_stream_without_end_follow_from_what_is_counted():
    stream = Endless(rows("table", n=100))
    # 48 samples make three steps an epoch, and 300 steps are enough for a table.
    fitted = small("SimCLR", max_epochs="auto", trainer_params={"limit_train_batches": 3})
    assert fitted.fit(stream).n_iter_ == 100


def test_a_limit_beyond_the_end_of_a_stream_changes_nothing():
    X = rows("table", n=100)
    free = small("SimCLR", trainer_params={"limit_train_batches": 1.0}).fit(Streamed(X))
    for params in ({"limit_train_batches": 50}, {"max_steps": 50}):
        limited = small("SimCLR", trainer_params=params).fit(Streamed(X))
        assert limited.loss_curve_ == free.loss_curve_


@pytest.mark.parametrize("limit", ["_MANY_ROWS", "_MANY_SECONDS"])
def test_counting_that_does_not_end_is_told_once(monkeypatch, limit):
    monkeypatch.setattr(_training_data, limit, 0)
    X = rows("table", n=100)
    with pytest.warns(UserWarning, match=r"limit_train_batches\": n}, an int, or") as caught:
        small("SimCLR").fit(Streamed(X))
    assert len(caught) == 1
    # Warnings are errors here: what is known to end, or is limited, is counted in silence.
    small("SimCLR").fit(DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=16))
    small("SimCLR", trainer_params={"limit_train_batches": 3}).fit(Endless(X))


def test_what_streams_cannot_do():
    X = rows("table", n=50)
    with pytest.raises(ValueError, match="validation_fraction.*samples with numbers"):
        small("SimCLR", validation_fraction=0.2).fit(Streamed(X))
    search = GridSearchCV(
        small("SimCLR"), {"max_epochs": [1]}, cv=2, error_score="raise", refit=False
    )
    with pytest.raises(TypeError, match=r"cross-validation made the list.*Subset"):
        search.fit(Pairs(X))
    # The cure that a message names does cure, whoever made the list.
    for given, cure in (
        (list(torch.from_numpy(X)), "torch.stack(X)"),
        ([(x, 0) for x in torch.from_numpy(X)], "torch.stack([x for x, *_ in X])"),
    ):
        with pytest.raises(TypeError, match=re.escape(f"pass {cure}, or")):
            small("SimCLR").fit(given)
        small("SimCLR").fit(eval(cure, {"torch": torch, "X": given}))
    fitted = small("SimCLR").fit(X)
    bad = X.copy()
    bad[40, 2] = np.inf
    for stream in (Streamed(bad), Pairs(bad), DataLoader(Pairs(bad), batch_size=8)):
        with pytest.raises(ValueError, match="Input X contains infinity"):
            small("SimCLR").fit(stream)
        with pytest.raises(ValueError, match="Input X contains infinity"):
            fitted.transform(stream)
    missing = X.copy()
    missing[40, 2] = np.nan
    for stream in (Streamed(missing), Pairs(missing), DataLoader(Pairs(missing), batch_size=8)):
        assert np.isfinite(small("SimCLR").fit(stream).transform(stream)).all()
    with pytest.raises(ValueError, match=r"same shape. Got \(5,\) after \(6,\)"):
        small("SimCLR").fit(Squares([*X, X[0, :5]]))
    with pytest.raises(ValueError, match="expecting 6 features"):
        fitted.transform(Streamed(X[:, :4]))
    with pytest.raises(TypeError, match=r"tensors x of real numbers, or tuples.*Got dict"):
        small("SimCLR").fit(Squares([{"x": x} for x in X]))


def test_the_first_of_two_entries_is_the_sample():
    # Views are nested, or named by augment: see tests/data/test_given_views.py.
    X = rows("table")
    pairs = Squares([(torch.from_numpy(x), torch.zeros(x.shape)) for x in X])
    np.testing.assert_array_equal(features_of(pairs), features_of(X))
    loader, fitted = DataLoader(pairs, batch_size=16), small("SimCLR").fit(X)
    np.testing.assert_array_equal(fitted.transform(loader), fitted.transform(DataLoader(X, 16)))


def test_lists_of_numbers_as_items():
    X = rows("table", dtype=np.float64)
    lists = Squares([(x.tolist(), 0) for x in X])
    np.testing.assert_array_equal(features_of(lists), features_of(X))
    np.testing.assert_array_equal(features_of(Streamed(lists.X)), features_of(Streamed(X)))
    # torch's own loaders make columns of them.
    with pytest.raises(TypeError, match="Got 6 single numbers for each sample"):
        small("SimCLR").fit(DataLoader(lists, batch_size=8))
    with pytest.raises(ValueError, match="the first entry of a tuple or list is taken"):
        small("SimCLR").fit(Squares(X.tolist()))
    with pytest.raises(TypeError, match="Got a list without a common shape instead"):
        small("SimCLR").fit(Squares([([[1.0], [1.0, 2.0]], 0)] * 4))
    with pytest.raises(TypeError, match="Got an empty tuple instead"):
        small("SimCLR").fit(Squares([()] * 4))


def test_what_comes_with_an_item_does_not_matter():
    # torch's default collation refuses None and PIL images, and numbers that do not fit together.
    X = rows("table")
    streamed = Streamed([(x, None, [0] * i) for i, x in enumerate(X)])
    np.testing.assert_array_equal(features_of(streamed), features_of(Streamed(X)))
    swapped = Streamed([(x, 0) for x in X.astype(">f4")])
    np.testing.assert_array_equal(features_of(swapped), features_of(Streamed(X)))


def test_a_second_dataset_is_no_y():
    X = TensorDataset(torch.from_numpy(rows("table")))
    for y in (X, DataLoader(X)):
        for fit in (small("SimCLR").fit, small("SimCLR").fit_transform):
            with pytest.raises(TypeError, match=rf"'y'.*{type(y).__name__}.*X_val"):
                fit(X, y)


class Hooked(torch.Tensor):
    """A subclass such as those of torchvision and MONAI, which hook into every operation."""

    calls = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        Hooked.calls += 1
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("kind", ["table", "image"])
def test_subclasses_of_tensors_are_made_plain(kind):
    plain = torch.from_numpy(rows(kind))
    expected = features_of(plain)
    hooked = plain.as_subclass(Hooked)

    def calls(X, max_epochs):
        Hooked.calls = 0
        small("SimCLR", max_epochs=max_epochs).fit(X)
        return Hooked.calls

    np.testing.assert_array_equal(features_of(hooked), expected)
    assert calls(hooked, 1) == calls(hooked, 3) < 5
    np.testing.assert_array_equal(features_of(torch.nn.Parameter(plain)), expected)
    items = [(x.as_subclass(Hooked), 0) for x in plain]
    for X in (Squares(items), Streamed(items)):
        # Once an item: where it is taken, and nowhere after that.
        a_pass = calls(X, 2) - calls(X, 1)
        assert a_pass <= len(items)
    np.testing.assert_array_equal(features_of(Squares(items)), expected)


def test_masked_arrays():
    X = rows("table")
    bare = np.ma.masked_array(X)
    np.testing.assert_array_equal(features_of(bare), features_of(X))
    nothing = np.ma.masked_array(X, mask=X > 1e9)
    np.testing.assert_array_equal(features_of(nothing), features_of(X))
    masked = np.ma.masked_array(X, mask=np.arange(X.size).reshape(X.shape) % 50 == 7)
    message = r"must not hold masked values\. Got [13] of them instead; fill.*X\.filled.*imputer"
    for data in (masked, list(masked), Squares(masked), Streamed(list(masked))):
        with pytest.raises(ValueError, match=message):
            small("SimCLR").fit(data)
    with pytest.raises(ValueError, match=message):
        small("SimCLR").fit(X).transform(masked)


def test_samples_of_several_shapes():
    # Lists of series may have several lengths, see test_ragged.py.
    series = [np.zeros((2, 20 + i)) for i in range(5)]
    message = r"All samples of X must have the same shape\. Got \(2, 21\) after \(2, 20\); pad or"
    for data in (Squares(series), Streamed(series)):
        with pytest.raises(ValueError, match=message):
            small("SimCLR").fit(data)
    images = [np.zeros((3, 8, 8 + i)) for i in range(5)]
    objects = np.empty(5, dtype=object)
    objects[:] = images
    message = (
        r"All samples of X must have the same shape\. Got \(3, 8, 9\) after \(3, 8, 8\); pad or"
    )
    for data in (images, objects):
        with pytest.raises(ValueError, match=message):
            small("SimCLR").fit(data)
    with pytest.raises(ValueError, match=r"Got \(3,\) after \(2,\)"):
        small("SimCLR").fit([[1.0, 2.0], [1.0, 2.0, 3.0]])
    objects[:] = [np.zeros((3, 8, 8))] * 5
    with pytest.raises(
        TypeError, match=r"Got an array of 5 objects.*\(3, 8, 8\): pass np.stack\(X\)"
    ):
        small("SimCLR").fit(objects)


class Picture:
    """The face of a PIL image, which need not be installed."""

    mode, size = "RGB", (10, 12)
    pixels = np.zeros((12, 10, 3), np.uint8)
    __array_interface__ = pixels.__array_interface__

    def convert(self, mode):
        return self


@pytest.mark.parametrize("as_given", [lambda pictures: pictures[0], list, tuple])
def test_pictures_are_not_read_with_channels_last(as_given):
    with pytest.raises(TypeError, match=r"Got (list of |tuple of )?Picture.*transpose\(2, 0, 1\)"):
        small("SimCLR").fit(as_given([Picture()] * 8))
    message = r"Got a PIL image instead.*transpose\(2, 0, 1\) or pil_to_tensor of torchvision"
    for items in ([Picture()] * 8, [(Picture(), 0)] * 8):
        for data in (Squares(items), Streamed(items)):
            with pytest.raises(TypeError, match=message):
                small("SimCLR").fit(data)
    with pytest.raises(TypeError, match=message):
        small("SimCLR").fit(Squares([([Picture(), Picture()], 0)] * 8))


class Module:
    """The face of a LightningDataModule."""

    def __repr__(self):  # a test must have the same name in every process
        return "Module()"

    def train_dataloader(self):
        raise AssertionError


THINGS = {
    "a.npy": "str instead; load the file",
    pathlib.Path("a.npy"): "Path instead; load the file",
    ("a.png", "b.png"): "tuple of str instead; load the files",
    (pathlib.Path("a.png"),): "Path instead; load the files",
    Module(): r"Module instead; pass its train_dataloader\(\)",
    frozenset([1.0]): "frozenset instead; a set has no order",
    None: "NoneType instead",
    3: "int instead",
    Squares: "type instead",
    print: "builtin_function_or_method instead",
}


@pytest.mark.parametrize("X", THINGS, ids=str)
def test_what_is_nothing_like_an_array(X):
    message = "SimCLR takes arrays, data frames, tensors, and torch Datasets or DataLoaders. Got .*"
    with pytest.raises(TypeError, match=message + THINGS[X]):
        small("SimCLR").fit(X)
    with pytest.raises(TypeError, match=message + THINGS[X]):
        small("SimCLR").fit(rows("table")).transform(X)


def test_containers_of_what_is_no_sample():
    X = rows("table")
    structured = np.zeros(4, dtype=[("a", float), ("b", float)])
    assert "structured_to_unstructured(X)" in _message_of(structured)
    assert "generator instead; pass np.stack(list(X)), or an Iterable" in _message_of(x for x in X)
    assert "list_iterator instead" in _message_of(iter([1.0]))
    assert "dict instead; pass one of its values" in _message_of({"train": X})
    assert "list of dict instead; take one array from each" in _message_of([{"image": X[0]}] * 4)
    assert "ndarray of str_ instead; load the files" in _message_of(np.array(["a.png", "b.png"]))
    paths = np.array([pathlib.Path("a.png")] * 2, dtype=object)
    assert "Path instead; load the files" in _message_of(paths)
    tensors = torch.from_numpy(X), torch.from_numpy(X)
    assert "tuple of Tensor instead; pass one of them" in _message_of(tensors)
    assert "tuple of ndarray instead; pass one of them" in _message_of((X, X))
    assert "torch.stack(X)" in _message_of(list(torch.from_numpy(X)))
    # Sequences of rows are what they are to scikit-learn.
    for listed in (list(X), tuple(X), tuple(map(tuple, X.tolist())), memoryview(X)):
        assert small("SimCLR").fit(listed).input_shape_ == (6,)


def test_objects_that_hold_numbers_and_those_that_do_not():
    X = rows("table", dtype=np.float64)
    np.testing.assert_array_equal(features_of(X.astype(object)), features_of(X))
    assert "Got strings instead" in _message_of(np.array([[1.0, "a"]] * 4, dtype=object))
    assert "in feature 1, only NaN" in _message_of(np.array([[1.0, None]] * 4, dtype=object))
    assert "'datetime.date'" in _message_of(
        np.array([[1.0, datetime.date(2020, 1, 1)]] * 4, dtype=object)
    )


def test_tensors_that_torch_can_hardly_compute_with():
    X = torch.from_numpy(rows("table", dtype=np.int64) % 3)
    casts = {torch.float8_e4m3fn: torch.float32, torch.float8_e5m2: torch.float32}
    casts |= {torch.uint16: torch.int64, torch.uint64: torch.int64}
    for dtype, cast in casts.items():
        odd, expected = X.to(torch.float32).to(dtype), features_of(X.to(cast))
        np.testing.assert_array_equal(features_of(odd), expected)
        np.testing.assert_array_equal(features_of(TensorDataset(odd)), expected)


def test_tensors_without_values():
    meta = torch.zeros(8, 6, device="meta")
    assert "needs a dense tensor. Got layout torch.strided, dtype torch.float32, on meta" in (
        _message_of(meta)
    )
    assert "on meta instead" in _message_of(TensorDataset(meta))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a prototype, it says
        for layout in (torch.strided, torch.jagged):
            nested = torch.nested.nested_tensor(
                [torch.zeros(3, 4), torch.zeros(2, 4)], layout=layout
            )
            assert "Got a nested one" in _message_of(nested)


def test_a_dataset_without_a_length():
    class Endless(Dataset):
        def __getitem__(self, i):
            return rows("table")[0]

    message = "A torch Dataset must have __len__, or be an IterableDataset. Got Endless"
    assert message in _message_of(Endless())


def _message_of(X, error=(ValueError, TypeError), **params):
    with pytest.raises(error) as caught:
        small("SimCLR", **params).fit(X)
    return str(caught.value)


def test_bad_input_gets_one_sentence():
    assert "Expected 2D array, got 1D array" in _message_of(np.arange(5.0))
    assert "Expected 2D array, got 1D array" in _message_of(torch.arange(5.0))
    assert "Complex data not supported" in _message_of(np.ones((4, 3), dtype=complex))
    assert "complex" in _message_of(torch.ones((4, 3), dtype=torch.complex64))
    for sparse in (csr_array(np.eye(4)), csr_matrix(np.eye(4))):
        message = _message_of(sparse)
        assert "Sparse data was passed" in message
        # Of the cures one suits a vectorizer, which has no dense output.
        assert "FunctionTransformer(lambda A: A.toarray())" in message
    assert "dense tensor" in _message_of(torch.eye(4).to_sparse())
    assert "Found array with dim 6" in _message_of(np.ones((3, 1, 2, 2, 2, 2)))
    assert "Found array with dim 6" in _message_of(torch.ones((3, 1, 2, 2, 2, 2)))
    assert "datetime64" in _message_of(np.zeros((4, 2), dtype="datetime64[s]"))
    assert "a minimum of 1 is required" in _message_of(np.ones((4, 0)))
    assert "minimum of 1" in _message_of(torch.ones((4, 0)))
    assert "minimum of 1" in _message_of(np.ones((4, 3, 0)))
    assert "minimum of 2 is required by SimCLR" in _message_of(torch.ones(1, 3))
    assert "Got strings" in _message_of([["a", "b"], ["c", "d"]])
    imaginary = torch.ones((4, 3), dtype=torch.complex64)
    for items in (TensorDataset(imaginary), DataLoader(TensorDataset(imaginary), batch_size=2)):
        assert "real numbers" in _message_of(items)
        assert "complex64" in _message_of(items)


@pytest.mark.parametrize("kind", ["series", "image"])
def test_rows_of_another_shape(kind):
    X = rows(kind)
    fitted = small("SimCLR", max_epochs=1).fit(X)
    expected = r"is expecting samples of shape \(" + ", ".join(map(str, X.shape[1:]))
    for as_given in (np.asarray, torch.from_numpy):
        for wrong in (X[:, 0], X[..., 0], X.swapaxes(1, -1), X.reshape(len(X), -1), X[..., None]):
            with pytest.raises(ValueError, match=expected):
                fitted.transform(as_given(wrong.copy()))
    with pytest.raises(ValueError, match=r"A single sample is passed as X\[None\]"):
        fitted.transform(X[0])
    assert fitted.transform(X[0][None]).shape == (1, 8)


def test_values_that_are_no_numbers():
    X = rows("table")
    X[3, 2] = np.nan
    message = "Input X contains NaN, in feature 2 .* SimCLR needs finite numbers.*SimpleImputer"
    network = torch.nn.Linear(6, 8)
    assert re.match(message, _message_of(X, encoder=network))
    assert re.match(message, _message_of(torch.from_numpy(X), encoder=network))
    X[3, 2], X[4, 1] = -np.inf, 1
    assert "contains infinity, in feature 2" in _message_of(X)


def test_channels_of_images_are_named():
    images = rows("image")
    images[3, 1, 2, 2] = np.nan
    assert "contains NaN, in channel 1" in _message_of(images)


@pytest.mark.parametrize("kind", ["table", "series", "image", "volume"])
def test_cures_of_what_is_no_number_fit_the_kind(kind):
    X = rows(kind)
    X[3, 0] = np.nan
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(8))
    message = _message_of(X, encoder=network)
    # An imputer takes tables alone, and interp runs along time.
    assert ("SimpleImputer" in message) == (kind == "table")
    assert ("numpy.interp along time" in message) == (kind == "series")
    one = X.shape[1] == 1
    where = "channel 0. " if one else " 0 (of 0 to "
    assert where in message
    X[3, 0] = np.inf
    message = _message_of(X)
    assert "SimpleImputer" not in message  # which refuses infinity
    assert "clip them first" in message
    small("SimCLR").fit(np.nan_to_num(np.clip(X, -9, 9)))


def test_assume_finite_is_respected():
    import sklearn

    X = rows("table")
    fitted = small("SimCLR", encoder=torch.nn.Linear(6, 8)).fit(X)
    X[3, 2] = np.nan
    with sklearn.config_context(assume_finite=True):
        assert np.isnan(fitted.transform(X)[3]).any()


def test_devices():
    assert resolve_device("cpu") == torch.device("cpu")
    expected = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert str(resolve_device("auto")) == expected
    for device in ("mps", "nonsense", "gpu"):
        with pytest.raises(ValueError, match=rf"'auto', 'cpu', 'cuda'.*Got '{device}'"):
            resolve_device(device)
    with pytest.raises(ValueError, match="torch finds [0-9]+ CUDA devices"):
        resolve_device("cuda:99")


PARAMETERS = {
    "temperature": -1,
    "max_epochs": -1,
    "batch_size": 1,
    "learning_rate": 0,
    "weight_decay": -1.0,
    "optimizer": "adagrad",
    "lr_schedule": "step",
    "warmup_fraction": 1.5,
    "validation_fraction": 1.0,
    "n_iter_no_change": 0,
    "precision": "half",
    "encoder": "resnet",
    "augment": 3,
    "standardize": "yes",
    "embedding_dim": 0,
    "projection_dim": 0.5,
    "trainer_params": 1,
    "random_state": "seed",
    "device": 0,
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_bad_parameters(name):
    value = PARAMETERS[name]
    message = rf"The '{name}' parameter of SimCLR must be .* Got {re.escape(repr(value))} instead"
    estimator = small("SimCLR")
    with pytest.raises(ValueError, match=message):
        estimator.set_params(**{name: value}).fit(rows("table"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_iter_no_change": 3}, "'n_iter_no_change'.*validation_fraction"),
        ({"encoder": torch.nn.Identity(), "embedding_dim": 4}, "'embedding_dim'.*of your own"),
        ({"precision": "float16"}, "'float16', which needs a GPU"),
        ({"validation_fraction": 0.02}, "holds out 0"),
        ({"validation_fraction": 0.99}, "leaves 0 to train on|leaves 1 to train"),
    ],
)
def test_parameters_that_do_not_go_together(params, message):
    estimator = small("SimCLR").set_params(embedding_dim=None).set_params(**params)
    with pytest.raises(ValueError, match=message):
        estimator.fit(rows("table"))


BIG = """
    import os, sys
    import numpy as np
    import torch
    from sslearn import SimCLR
    from sslearn.augment import GaussianNoise

    def anonymous():
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("RssAnon"))
        return int(line.split()[1]) / 2**20

    def encoder(shape):
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool1d(4), torch.nn.Flatten(),
                                   torch.nn.Linear(16, 8))

    def model(**trainer_params):
        return SimCLR(encoder, augment=GaussianNoise(), max_epochs=1, device="cpu",
                      trainer_params=trainer_params)

    shape = (110_000, 4, 6250)
    X = np.memmap("X.dat", dtype=np.float32, mode="w+", shape=shape)  # a sparse file
    X[:1000] = np.random.default_rng(0).normal(size=(1000, *shape[1:]))
    X.flush()
    X = np.memmap("X.dat", dtype=np.float32, mode="r", shape=shape)
    assert X.nbytes > 10 * 2**30
    model(max_steps=1).fit(X[:600]).transform(X[:600])  # what importing takes
    before, peak = anonymous(), 0.0
    import threading, time
    def watch():
        global peak
        while True:
            peak = max(peak, anonymous())
            time.sleep(0.02)
    threading.Thread(target=watch, daemon=True).start()
    fitted = model(limit_train_batches=4).fit(X)
    print("fit", round(peak - before, 2), "GB")
    assert peak - before < 1
    assert fitted.transform(X).shape == (len(X), 8)
    print("fit and transform", round(peak - before, 2), "GB")
    assert peak - before < 1
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_gigabytes_in_less_than_one(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BIG)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


class TestOneSample:
    """What plainly is as in fit goes past scikit-learn's validation, which takes long."""

    @pytest.fixture
    def frame(self):
        pd = pytest.importorskip("pandas")
        return pd.DataFrame(rows("table"), columns=list("abcdefgh")[: rows("table").shape[1]])

    @pytest.fixture(autouse=True)
    def _refused(self, monkeypatch):
        def validate_data(*args, reset, **kwargs):
            assert reset, "validated by scikit-learn"
            return sklearn.utils.validation.validate_data(*args, reset=reset, **kwargs)

        monkeypatch.setattr("sslearn._data._validation.validate_data", validate_data)

    @pytest.mark.parametrize("kind", ["table", "series", "image"])
    def test_of_an_array(self, kind):
        X = rows(kind)
        model = small("SimCLR").fit(X)
        assert np.array_equal(model.transform(X[:1]), model.transform(torch.from_numpy(X))[:1])

    def test_of_a_frame(self, frame):
        model = small("SimCLR").fit(frame)
        features = model.transform(frame)
        assert np.array_equal(model.transform(frame[:1]), features[:1])

    @pytest.mark.parametrize(
        "change",
        [
            lambda frame: frame[frame.columns[::-1]],
            lambda frame: frame.rename(columns={"a": "z"}),
            lambda frame: frame.astype({"a": str}),
            lambda frame: frame.astype("Sparse[float64]"),
            lambda frame: frame.astype({"a": "Float64"}),
            lambda frame: frame.assign(a=np.datetime64("2020-01-01")),
            lambda frame: frame.iloc[:, 1:],
            lambda frame: frame.to_numpy(),
            lambda frame: frame[:0],
        ],
    )
    def test_anything_else_is_looked_at(self, frame, change):
        model = small("SimCLR").fit(frame)
        with pytest.raises(AssertionError, match="validated by scikit-learn"):
            model.transform(change(frame))
