"""Views that come with the samples, in each form in which people have them."""

import pickle

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, SHAPES, rows, small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sslearn._data._batches import Batches
from sslearn._data._given_views import GivenRows
from sslearn._data._rows import Rows
from sslearn._data._statistics import Statistics
from sslearn._data._training_data import TrainingData, compute_statistics
from sslearn.augment import Compose, GaussianNoise, GivenViews
from sslearn.encoders import KernelBank


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Streamed(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


def views_of(kind, n=48, n_views=2):
    """An array (n, n_views, ...) of samples and changed copies of them."""
    X = rows(kind, n=n)
    changed = [X + 0.1 * rows(kind, n=n, seed=i) for i in range(1, n_views)]
    return np.stack([X, *changed], axis=1)


def nested(V, as_x=tuple):
    return [(as_x(torch.from_numpy(v) for v in views), 0, "a.png") for views in V]


def flat(V):
    return [tuple(torch.from_numpy(v) for v in views) for views in V]


def loader(items, **params):
    return DataLoader(Items(items), 16, **params)


# X of the views V of each form, and whether it needs augment=GivenViews().
FORMS = {
    "nested items": (lambda V: Items(nested(V)), False),
    "nested lists": (lambda V: Items(nested(V, list)), False),
    "nested arrays": (lambda V: Items([(tuple(views),) for views in V]), False),
    "nested stream": (lambda V: Streamed(nested(V)), False),
    "loader of nested items": (lambda V: loader(nested(V)), False),
    "loader of batches": (lambda V: DataLoader(Streamed(list(_batches_of(V))), None), False),
    "array": (lambda V: V, True),
    "lists": (lambda V: V.tolist(), True),
    "tensor": (torch.from_numpy, True),
    "memory map": (lambda V: _memory_map(V), True),
    "big-endian": (lambda V: V.astype(">f4"), True),
    "nested items, named": (lambda V: Items(nested(V)), True),
    "flat items": (lambda V: Items(flat(V)), True),
    "flat items and labels": (lambda V: Items([(*x, 3, "b") for x in flat(V)]), True),
    "flat stream": (lambda V: Streamed(flat(V)), True),
    "loader of flat items": (lambda V: loader(flat(V)), True),
    "items of one array": (lambda V: TensorDataset(torch.from_numpy(V)), True),
    "loader of one array": (lambda V: loader([(v, 1) for v in V]), True),
}
_files = {}


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    _files["folder"] = tmp_path


def _memory_map(V):
    np.save(_files["folder"] / "V.npy", V)
    return np.load(_files["folder"] / "V.npy", mmap_mode="r")


def _batches_of(V):
    for part in np.split(V, 3):
        yield [torch.from_numpy(v) for v in part.swapaxes(0, 1)], [0] * len(part)


def linear(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8), nn.BatchNorm1d(8))


@pytest.mark.parametrize("kind", ["table", "image"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form(kind, form):
    V = views_of(kind)
    as_given, is_named = FORMS[form]
    params = {"encoder": linear, "augment": GivenViews() if is_named else None}
    X = as_given(V)
    fitted = small("SimCLR", **params).fit(X)
    # One view is what a sample is.
    assert fitted.input_shape_ == SHAPES[kind]
    assert fitted.n_features_in_ == SHAPES[kind][0]
    features = fitted.transform(X)
    np.testing.assert_array_equal(small("SimCLR", **params).fit_transform(X), features)
    # What is transformed are samples, and the first of several views.
    np.testing.assert_allclose(features, fitted.transform(V[:, 0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.score(X), fitted.score(V[:, 0]), rtol=1e-4)
    # All forms with numbers are one and the same training.
    if not hasattr(X, "__iter__") or isinstance(X, np.ndarray | torch.Tensor):
        same = small("SimCLR", encoder=linear, augment=GivenViews()).fit(V)
        assert fitted.loss_curve_ == same.loss_curve_
    assert fitted.loss_curve_ != small("SimCLR", encoder=linear).fit(V[:, 0]).loss_curve_


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_method(name):
    kind = "table" if name != "CPC" else "series"
    V = views_of(kind)
    fitted = small(name).fit(Items(nested(V)))
    features = fitted.transform(V[:, 0])
    np.testing.assert_array_equal(fitted.transform(Items(nested(V))), features)
    assert np.isfinite(features).all()
    streamed = small(name).fit(loader(nested(V)))
    assert streamed.transform(loader(nested(V))).shape == features.shape
    if name == "LFR":  # which has no views, and reads the first as the sample
        for X in (Items(nested(V)), loader(nested(V)), Streamed(nested(V))):
            alone = (
                type(X)([views[0] for views, *_ in nested(V)]) if type(X) is not DataLoader else 0
            )
            alone = alone or loader([views[0] for views, *_ in nested(V)])
            assert small(name).fit(X).loss_curve_ == small(name).fit(alone).loss_curve_
        return
    given = small(name, augment=GivenViews())
    assert given.fit(V).loss_curve_ == fitted.loss_curve_
    np.testing.assert_array_equal(given.transform(V), features)
    held_out = small(name, augment=GivenViews(), validation_fraction=0.25).fit(V)
    assert len(held_out.validation_loss_curve_) == 2
    assert np.isfinite(held_out.validation_loss_curve_).all()


# The batches of systems from which people come, as these make them.
def test_batches_of_nidl():
    V = torch.from_numpy(views_of("volume"))
    ages = torch.rand(len(V))  # auxiliary variables of y-aware losses
    for items in (
        [[a, b] for a, b in V],
        [([a, b], age) for (a, b), age in zip(V, ages, strict=True)],
    ):
        X = DataLoader(Items(items), batch_size=16, shuffle=True)
        augment = GivenViews() if isinstance(items[0], list) else None
        fitted = small("SimCLR", augment=augment, encoder=linear).fit(X)
        assert fitted.input_shape_ == SHAPES["volume"]
        assert fitted.transform(DataLoader(Items(items), 16)).shape == (48, 8)


def test_batches_of_minerva():
    V = torch.from_numpy(views_of("series"))
    pairs = TensorDataset(V[:, 0], V[:, 1])
    labelled = Items([(tuple(pairs[i]), i % 3) for i in range(len(V))])
    fitted = [
        small("BYOL", encoder=linear, augment=augment).fit(DataLoader(X, batch_size=16))
        for X, augment in ((pairs, GivenViews()), (labelled, None))
    ]
    assert fitted[0].loss_curve_ == fitted[1].loss_curve_
    # Without a word the second entry is a label, or whatever else comes with a sample.
    drawn = small("BYOL", encoder=linear).fit(DataLoader(pairs, batch_size=16))
    alone = small("BYOL", encoder=linear).fit(DataLoader(TensorDataset(V[:, 0]), batch_size=16))
    assert drawn.loss_curve_ == alone.loss_curve_ != fitted[0].loss_curve_


def test_batches_of_quadra():
    images = torch.from_numpy(rows("image", n=48, dtype=np.uint8))
    labelled = TensorDataset(images, torch.arange(48) % 4)
    for X in (labelled, DataLoader(labelled, batch_size=16, shuffle=True)):
        fitted = small("BYOL", encoder=linear, augment=GaussianNoise()).fit(X)
        assert fitted.transform(images).shape == (48, 8)
    # Its trainer gives two transformed batches of images, and their labels.
    transformed = Items([((x, x.flip(-1)), y) for x, y in labelled])
    assert small("BYOL", encoder=linear).fit(DataLoader(transformed, 16)).n_iter_ == 2


# --- which views a step sees ---------------------------------------------------------------------


def batches_of(V, n_views=2, augment=None, standardize=False, **params):
    given = GivenRows(Rows(V))
    layer = compute_statistics(given, None, "SimCLR").layer(standardize)
    return Batches(
        TrainingData(given, None, layer, torch.device("cpu")), augment, n_views, **params
    )


def test_two_given_views_keep_their_order():
    V = views_of("table")
    batch = batches_of(V).make(torch.tensor([3, 1, 2]), torch.Generator())
    for i in (0, 1):
        np.testing.assert_array_equal(batch.views[i], V[[3, 1, 2], i])
    np.testing.assert_array_equal(batch.samples, V[[3, 1, 2], 0])
    np.testing.assert_array_equal(batch.x, V[[3, 1, 2], 0])
    assert batch.views[0]._base is batch.views[1]._base  # one tensor: joined without a copy


@pytest.mark.parametrize("n_views", [1, 2, 3])
def test_of_more_views_others_are_drawn_for_each_sample_and_step(n_views):
    V = np.arange(40.0).reshape(8, 5, 1) + np.zeros(3)  # view j of sample i is 5 i + j
    batches, generator = batches_of(V, n_views), torch.Generator().manual_seed(0)
    drawn = torch.stack(
        [torch.stack(batches.make(torch.arange(8), generator).views)[..., 0] for _ in range(60)]
    )  # (steps, views, samples)
    assert ((drawn // 5) == torch.arange(8)).all()
    for step in drawn % 5:
        assert all(len(set(of_sample.tolist())) == n_views for of_sample in step.T)
    counts = (drawn % 5).long().flatten().bincount()
    assert len(counts) == 5
    assert counts.min() > 0.6 * counts.max()
    assert len(torch.unique(drawn[:, 0] % 5, dim=1).T) > 1  # not the same for all samples


def test_all_views_are_standardised_alike():
    V = views_of("series")
    V[:, 1] += 100
    for X in (Items(nested(V)), loader(nested(V))):
        layer = small("SimCLR", encoder=linear).fit(X).encoder_.standardize
        both = Statistics.from_batches((2, 20), [torch.from_numpy(V.reshape(-1, 2, 20))]).layer()
        torch.testing.assert_close(layer.shift, both.shift)
        torch.testing.assert_close(layer.gain, both.gain)
    # Also which values count: what is not trained on does not.
    held_out = torch.arange(24)
    part = compute_statistics(GivenRows(Rows(V)), held_out, "SimCLR").layer()
    expected = Statistics.from_batches((2, 20), [torch.from_numpy(V[24:].reshape(-1, 2, 20))])
    torch.testing.assert_close(part.shift, expected.layer().shift)
    V[5, 1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN, in channel 0"):
        small("SimCLR", encoder=linear).fit(Items(nested(V)))


def test_given_views_are_augmented_where_that_is_asked_for():
    V, index = views_of("table"), torch.arange(10)

    def first(augment):
        return batches_of(V, augment=augment).make(index, torch.Generator().manual_seed(0)).views[0]

    assert torch.equal(first(None), first(GivenViews()))
    for augment in (GaussianNoise(0.5), Compose([GivenViews(), GaussianNoise(0.5)])):
        noise = first(augment) - first(None)
        assert 0.3 < noise.std() < 0.7
    # An estimator does what its batches do.
    noisy = small("SimCLR", augment=GaussianNoise()).fit(Items(nested(V)))
    composed = Compose([GivenViews(), GaussianNoise()])
    assert small("SimCLR", augment=composed).fit(V).loss_curve_ == noisy.loss_curve_
    assert noisy.loss_curve_ != small("SimCLR").fit(Items(nested(V))).loss_curve_


def test_no_augmentation_is_made_where_views_are_given(monkeypatch):
    def default_augment(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("sslearn._fit.default_augment", default_augment)
    V = views_of("image")
    small("SimCLR").fit(Items(nested(V)))
    small("CPC").fit(Items(nested(V)))
    with pytest.raises(AssertionError):
        small("SimCLR").fit(V[:, 0])


def test_what_views_share_is_what_is_learned():
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(400, 1, 3)), rng.normal(size=(400, 3, 3))
    V = np.concatenate([np.repeat(signal, 3, axis=1), noise], axis=2).astype(np.float32)
    model = small("SimCLR", augment=GivenViews(), max_epochs=30, batch_size=64).fit(V[:, :2])
    features, of_other_noise = model.transform(V[:, 0]), model.transform(V[:, 2])
    V[:, 0, :3] = rng.permutation(V[:, 0, :3])
    of_other_signal = model.transform(V[:, 0])
    changed = [np.square(x - features).mean() for x in (of_other_noise, of_other_signal)]
    assert changed[0] < 0.1 * changed[1]


@pytest.mark.parametrize("make", [lambda V: V, lambda V: loader(nested(V))])
def test_both_drivers_see_the_same_views(make):
    X, augment = make(views_of("table")), GivenViews()
    fast = small("SimCLR", augment=augment).fit(X)
    standard = small("SimCLR", augment=augment, trainer_params={"gradient_clip_val": 1e9}).fit(X)
    assert standard.loss_curve_ == fast.loss_curve_
    assert small("SimCLR", augment=augment, max_epochs=0).fit(X).n_iter_ == 0


def test_views_move_to_a_device_with_their_samples(monkeypatch):
    V = views_of("table")
    given = GivenRows(Rows(V))
    given.view_as((1, 6))
    monkeypatch.setattr(Rows, "to", lambda self, device: Rows(self.tensor.clone()))
    moved = given.to(torch.device("cuda"))
    assert moved.tensor.data_ptr() != given.tensor.data_ptr()
    index = torch.tensor([4, 2])
    assert torch.equal(moved.views(index), given.views(index))
    assert moved.take(index).shape == (2, 1, 6)
    assert [part.shape for part in moved.with_views(30)] == [(30, 2, 1, 6), (18, 2, 1, 6)]
    monkeypatch.setattr(Rows, "to", lambda self, device: self)  # no room
    assert given.to(torch.device("cuda")) is given


# --- features of the stem, computed once ---------------------------------------------------------


@pytest.fixture
def through_the_bank(monkeypatch):
    """How many samples a bank of kernels has seen."""
    seen, forward = [], KernelBank.forward

    def counted(self, x, *more):
        seen.append(len(x))
        return forward(self, x, *more)

    monkeypatch.setattr(KernelBank, "forward", counted)
    return seen


@pytest.mark.parametrize("n_views", [2, 3])
def test_the_stem_sees_each_given_view_once(through_the_bank, n_views):
    V = views_of("series", n_views=n_views)
    totals = []
    for max_epochs in (2, 6):
        del through_the_bank[:]
        small("SimCLR", augment=GivenViews(), max_epochs=max_epochs).fit(V)
        totals.append(sum(through_the_bank))
    assert totals[0] == totals[1]
    del through_the_bank[:]
    small("SimCLR", max_epochs=0, augment=GivenViews()).fit(V)  # what is not training
    # Less its one pass, of 48 samples in three batches of two views each.
    assert totals[0] - (sum(through_the_bank) - 96) >= n_views * 48
    assert totals[0] - (sum(through_the_bank) - 96) < (n_views + 3) * 48


def test_features_that_are_kept_are_those_of_each_step(monkeypatch):
    V = views_of("series")
    bank = KernelBank.from_samples(torch.from_numpy(V[:, 0]), n_features=84)
    encoder = nn.Sequential(bank, nn.Linear(84, 8))
    kept, fresh = (
        small("MoCo", encoder=encoder, augment=GivenViews(), cached_views=n).fit(V) for n in (2, 0)
    )
    # The same pairs in the same order, up to half precision.
    np.testing.assert_allclose(kept.loss_curve_, fresh.loss_curve_, rtol=1e-3)
    assert kept.loss_curve_ != fresh.loss_curve_
    again = small("MoCo", encoder=encoder, augment=GivenViews(), cached_views=1000).fit(V)
    assert again.loss_curve_ == kept.loss_curve_  # there are no more than are given
    monkeypatch.setattr("sslearn._data._given_views.CACHE_BYTES", 1000)
    automatic = small("MoCo", encoder=encoder, augment=GivenViews()).fit(V)
    assert automatic.loss_curve_ == fresh.loss_curve_


class Drawn(Dataset):
    """Pairs of views that are drawn anew at each access, as transforms in a dataset do."""

    def __init__(self, X):
        self.X = torch.from_numpy(X)
        self.accesses = 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.accesses += 1
        common = torch.rand(1)  # a draw that both views of a pair share
        return (common + 0 * self.X[i], -common + 0 * self.X[i]), 0


def test_views_that_a_dataset_draws_anew_are_drawn_several_times():
    rows_of_views = GivenRows.from_dataset(Drawn(rows("series")), _reader())
    augment = None
    kept = {
        wanted: rows_of_views.n_kept(augment, wanted, (4,), at_any_size=False)
        for wanted in (0, 2, 7, 8)
    }
    assert kept == {0: 0, 2: 2, 7: 6, 8: 8}
    fixed = GivenRows.from_dataset(Items(nested(views_of("series"))), _reader())
    assert fixed.n_kept(augment, 8, (4,), at_any_size=False) == 2
    assert fixed.n_kept(GaussianNoise(), 8, (4,), at_any_size=False) == 8
    assert fixed.n_kept(GivenViews(), 1000, (4,), at_any_size=True) == 2
    data = TrainingData(
        rows_of_views,
        None,
        compute_statistics(rows_of_views, None, "").layer(False),
        torch.device("cpu"),
    )
    data.put_stem(nn.Flatten(), (40,), few_layers=True)
    batches = Batches(data, None, 2, n_kept=6)
    batches.prepare(7, generator := torch.Generator().manual_seed(0), lambda: None)
    seen = set()
    for _ in range(20):
        first, second = batches.make(torch.arange(24), generator).views
        # Pairs of one draw stay together, in their order.
        torch.testing.assert_close(first, -second)
        assert (first > 0).all()
        seen |= set(first[:, 0].tolist())
    assert 2.5 * 24 < len(seen) <= 3 * 24  # of three draws, which half precision may merge
    small("SimCLR").fit(Drawn(rows("series")))


def _reader():
    from sslearn._data._given_views import ItemReader

    return ItemReader(None, first_only=False)


@pytest.mark.parametrize("kind", ["series", "image"])
def test_streams_of_views_go_through_the_default_encoder(kind):
    # Its whitening is fitted on views, here on those of the first samples.
    X = loader(nested(views_of(kind, n_views=3)))
    fitted = small("VICReg", embedding_dim=None).fit(X)
    assert fitted.transform(X).shape == (48, fitted._n_features_out)
    uncached = small("VICReg", embedding_dim=None, cached_views=0)
    assert np.isfinite(uncached.fit(Items(nested(views_of(kind)))).loss_curve_).all()


# --- as parts of scikit-learn --------------------------------------------------------------------


def test_searches_pickles_and_clones():
    V = views_of("table")
    grid = {"temperature": [0.2, 0.5], "augment": [GivenViews(), Compose([GivenViews()])]}
    search = GridSearchCV(small("SimCLR"), grid, cv=2, error_score="raise").fit(V)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.n_features_in_ == 6
    features = search.transform(V)
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.transform(V[:, 0]), features)
    copied = clone(again)
    assert copied.get_params()["augment"] is not again.augment
    assert copied.fit(V).loss_curve_ == again.loss_curve_
    frame = pytest.importorskip("pandas").DataFrame(V[:, 0])
    with pytest.raises(ValueError, match=r"GivenViews\(\).*an array of shape \(48, 6\)"):
        copied.fit(frame)
    assert not hasattr(copied, "input_shape_")


def test_named_augmentations_of_given_views():
    augment = Compose([GivenViews(), GaussianNoise()])
    assert "augment__gaussiannoise__noise" in small("SimCLR", augment=augment).get_params()
    assert repr(GivenViews()) == "GivenViews()"
    x = torch.ones(3, 4)
    assert GivenViews()(x) is x


# --- what cannot be read -------------------------------------------------------------------------

t = torch.ones
ONE_SENTENCE = {
    "views of two shapes": (
        [((t(3, 8, 8), t(3, 8, 9)), 0)] * 8,
        r"All views of a sample must have the same shape\. Got \(3, 8, 8\) and \(3, 8, 9\) instead",
    ),
    "one view": (
        [((t(6),), 0)] * 8,
        r"must give two views of each sample, or more\. Got one, in items of shape \(1, 6\), inst",
    ),
    "no tensor": ([(("a.png", "b.png"), 0)] * 8, r"Got a (tuple|list) of (str|tuple) instead"),
    "no view": ([((), 0)] * 8, r"views of a sample\. Got an empty (tuple|list) instead"),
    "a tensor and none": ([((t(6), "b"), 0)] * 8, r"Got (str|a tuple of str) instead"),
    "numbers": ([((t(()), t(())), 0)] * 8, "Got 2 single numbers for each sample instead"),
    "views of views": (
        [(((t(6), t(6)),) * 2, 0)] * 8,
        r"or all of them \(\(v0, v1, \.\.\.\), \.\.\.\), with views.*Got a (tuple|list) of 2 for x",
    ),
    "views, then samples": (
        [((t(6), t(6)), 0)] * 4 + [(t(6), 0)] * 4,
        r"same shape\. Got \(6,\) after \(2, 6\)",
    ),
    "samples, then views": (
        [(t(6), 0)] * 4 + [((t(6), t(6)), 0)] * 4,
        r"Got a tuple of 2 for x instead|Got \(2, 6\) after \(6,\)",
    ),
}


@pytest.mark.parametrize("case", ONE_SENTENCE)
def test_items_that_give_no_views(case):
    items, message = ONE_SENTENCE[case]
    for X in (Items(items), DataLoader(Items(items), 4), Streamed(items)):
        with pytest.raises((TypeError, ValueError), match=message):
            small("SimCLR", encoder=linear).fit(X)


def test_arrays_and_pairs_that_give_no_views():
    model = small("SimCLR", encoder=linear, augment=GivenViews())
    for X in (np.ones((9, 6)), t(9, 6), [[1.0, 2.0]] * 9):
        with pytest.raises(ValueError, match=r"'augment'.*GivenViews\(\), for which X must be"):
            model.fit(X)
    items = [(t(6), 0)] * 8
    for X in (Items(items), DataLoader(Items(items), 4), Streamed(items)):
        with pytest.raises(ValueError, match=r"Got items of shape \(6,\) instead; where X gives"):
            model.fit(X)
    with pytest.raises(ValueError, match=r"Got one, in an array of shape \(9, 1, 6\), instead"):
        model.fit(t(9, 1, 6))
    with pytest.raises(ValueError, match=r"Got \(3, 8, 8\) and \(3, 8, 9\) instead; crop or"):
        model.fit(Items([(t(3, 8, 8), t(3, 8, 9))] * 8))
    with pytest.raises(ValueError, match=r"Got \(3, 8, 8\) and \(3, 8, 9\) instead; crop or"):
        model.fit(DataLoader(Items([(t(3, 8, 8), t(3, 8, 9))] * 8), 4))
    fitted = model.fit(views_of("table"))
    with pytest.raises(ValueError, match=r"samples of shape \(2, 5\).*expecting samples of"):
        fitted.transform(np.ones((9, 2, 5)))


def test_methods_that_take_more_views_than_are_given():
    with pytest.raises(ValueError, match="as many views of each sample as Mine takes, 4.*Got 2"):
        from sslearn._data._given_views import check_n_views

        check_n_views(GivenRows(Rows(views_of("table"))), 4, "Mine")


def test_equal_given_views_are_named():
    X = rows("table")
    with pytest.warns(
        UserWarning, match="The views that X gives are equal for all samples"
    ) as all_:
        small("SimCLR").fit(Items(nested(np.stack([X, X], axis=1))))
    assert len(all_) == 1


def test_the_axes_of_given_views_are_looked_at():
    V = np.random.default_rng(0).normal(size=(24, 2, 60, 3)).astype(np.float32)
    message = r"as series of 60 channels.*pass X.transpose\(0, 1, 3, 2\)"
    with pytest.warns(UserWarning, match=message):
        small("SimCLR", encoder=linear, augment=GivenViews()).fit(V)
