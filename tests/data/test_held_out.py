import numpy as np
import pandas as pd
import pytest
import torch
from estimators import rows, small
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sslearn._data._held_out import HeldOut
from sslearn._data._rows import Rows


def test_parts_are_of_nearly_equal_size():
    X = np.arange(50.0).reshape(25, 2)
    parts = list(HeldOut(Rows(X), torch.tensor([1, 3, 5, 7, 20, 22, 24])).parts(3))
    assert [part.n for part in parts] == [4, 3]
    assert torch.cat([part.numbers for part in parts]).tolist() == [1, 3, 5, 7, 20, 22, 24]
    assert parts[1].raw().tolist() == X[[20, 22, 24]].tolist()
    of_val = list(HeldOut(Rows(X)).parts(100))
    assert [(part.numbers, part.n) for part in of_val] == [(None, 25)]


@pytest.mark.parametrize("name", ["SimCLR", "MoCo", "LFR", "CPC"])
def test_given_samples_have_the_loss_that_held_out_ones_have(name):
    X = rows("series", n=40)
    split = small(name, validation_fraction=0.25)
    kept = []

    class Kept(type(split)):
        def _make_objective(self, encoder, data):
            kept.append(data.index)
            return super()._make_objective(encoder, data)

    split.__class__ = Kept
    split.fit(X)
    trained_on = kept[0].numpy()
    X_val = np.delete(X, trained_on, axis=0)
    given = small(name).fit(X[trained_on], X_val=X_val)
    assert len(given.validation_loss_curve_) == 2
    np.testing.assert_allclose(given.loss_curve_, split.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(
        given.validation_loss_curve_, split.validation_loss_curve_, rtol=1e-4
    )


def test_they_come_as_any_kind_of_data():
    X, X_val = rows("table", n=40), rows("table", n=12, seed=1)
    tensor = torch.from_numpy(X_val)
    curves = [
        small("SimCLR").fit(X, X_val=given).validation_loss_curve_
        for given in (
            X_val,
            X_val.astype(np.float64),
            tensor,
            TensorDataset(tensor, torch.zeros(12)),
            DataLoader(TensorDataset(tensor), batch_size=12),
        )
    ]
    np.testing.assert_allclose(curves, [curves[0]] * 5, rtol=1e-5)
    names = [f"x{i}" for i in range(6)]
    model = small("SimCLR").fit(
        pd.DataFrame(X, columns=names), X_val=pd.DataFrame(X_val, columns=names)
    )
    np.testing.assert_allclose(model.validation_loss_curve_, curves[0], rtol=1e-5)


def test_a_stream_may_be_validated_on_samples_and_on_a_stream():
    X, X_val = (torch.from_numpy(rows("image", n=n, seed=n)) for n in (40, 17))
    loader = DataLoader(TensorDataset(X), batch_size=8, shuffle=True)
    held_out = DataLoader(TensorDataset(X_val), batch_size=8)
    for given in (X_val, held_out):
        model = small("BYOL", max_epochs=3).fit(loader, X_val=given)
        assert np.isfinite(model.validation_loss_curve_).all()
        assert len(model.validation_loss_curve_) == 3


@pytest.mark.parametrize("kind", ["table", "image"])
def test_training_does_not_see_them(kind):
    X = rows(kind, n=40)
    without = small("SimCLR").fit(X)
    given = small("SimCLR").fit(X, X_val=3 * rows(kind, n=9, seed=1))
    assert given.loss_curve_ == without.loss_curve_
    np.testing.assert_array_equal(given.transform(X), without.transform(X))
    assert not hasattr(without, "validation_loss_curve_")


@pytest.mark.parametrize("as_loader", [False, True])
def test_training_stops_on_them(as_loader):
    X, X_val = rows("table", n=40), rows("table", n=16, seed=1)
    if as_loader:
        X_val = DataLoader(TensorDataset(torch.from_numpy(X_val)), batch_size=8)
    model = small("SimCLR", max_epochs=60, n_iter_no_change=1, learning_rate=0.3)
    model.fit(X, X_val=X_val)
    assert 1 < model.n_iter_ < 60
    curve = model.validation_loss_curve_
    assert curve[-1] >= min(curve[:-1])


def test_their_loss_is_on_the_same_views_each_time():
    def encoder(shape):
        return torch.nn.Linear(6, 4)

    X, X_val = rows("table", n=40), rows("table", n=16, seed=1)
    loader = DataLoader(TensorDataset(torch.from_numpy(X_val)), batch_size=8)
    for given in (X_val, loader):
        model = small(
            "SimCLR", encoder=encoder, projector=torch.nn.Linear(4, 3), learning_rate=1e-30
        )
        first, second = model.fit(X, X_val=given).validation_loss_curve_
        assert first == pytest.approx(second, rel=1e-6)


def test_what_goes_together_with_them():
    X, X_val = rows("table"), rows("table", n=9)
    with pytest.raises(ValueError, match=r"must be None where validation_fraction .* both, .*=0.2"):
        small("SimCLR", validation_fraction=0.2).fit(X, X_val=X_val)
    with pytest.raises(ValueError, match=r"'n_iter_no_change' .* or pass X_val to fit"):
        small("SimCLR", n_iter_no_change=2).fit(X)
    model = small("SimCLR").fit(X, groups=np.arange(24) // 3, X_val=X_val)
    assert np.isfinite(model.validation_loss_curve_).all()


class _Iterated(IterableDataset):
    """Samples in their order."""

    def __init__(self, X):
        self.X = X

    def __iter__(self):
        return iter(self.X)


@pytest.mark.parametrize("batch_size", [4, 5])
def test_all_samples_of_a_stream_are_validated_on(batch_size):
    X_val, seen = rows("table", n=11, seed=1), []

    class Noted(type(small("SimCLR"))):
        def _make_objective(self, encoder, data):
            made = super()._make_objective(encoder, data)
            loss = made.loss
            made.loss = lambda *views: seen.append((made.training, len(views[0]))) or loss(*views)
            return made

    for given in (_Iterated(X_val), DataLoader(_Iterated(X_val), batch_size=batch_size)):
        seen.clear()
        model = small("SimCLR", batch_size=batch_size, max_epochs=1)
        model.__class__ = Noted
        model.fit(rows("table"), X_val=given)
        sizes = [n for training, n in seen if not training]
        assert sizes == {4: [4, 4, 3], 5: [5, 5]}[batch_size]  # without a batch of one


NUMBERS = np.ones((5, 6), np.float32)


@pytest.mark.parametrize(
    ("X_val", "error", "message"),
    [
        (np.ones((5, 7)), ValueError, r"of the shape of those of X, \(6,\). Got \(7,\) instead"),
        (np.ones((5, 6, 2)), ValueError, r"like those of X. Got this error: .*shape \(6, 2\)"),
        (NUMBERS[:1], ValueError, "like those of X. .* 1 sample"),
        (DataLoader(TensorDataset(torch.ones(1, 6))), ValueError, "like those of X. .* 1 sample"),
        (np.full((5, 6), np.nan), ValueError, "like those of X. .* without any value, all NaN"),
        (np.full((5, 6), "a"), ValueError, "like those of X. .* real numbers"),
        ("file.npy", TypeError, "like those of X. .* Got str instead"),
        (
            DataLoader(TensorDataset(torch.ones(5, 6)), batch_size=2, shuffle=True),
            ValueError,
            "same order each time: DataLoader.* Got one that shuffles",
        ),
        (
            DataLoader(TensorDataset(torch.ones(5, 3)), batch_size=2),
            ValueError,
            "like those of X. .* 3 features",
        ),
    ],
)
def test_samples_that_are_refused(X_val, error, message):
    model = small("SimCLR")
    with pytest.raises(error, match=f"^The 'X_val' parameter must .*{message}"):
        model.fit(rows("table"), X_val=X_val)
    assert not hasattr(model, "input_shape_")


FAR = r"X_val lie .* standard deviations off those of X in {},.*transform_input=\['X_val'\]"


@pytest.mark.parametrize("standardize", [True, False])
def test_samples_of_another_unit_are_warned_of(standardize):
    X = rows("table", n=40)
    X_val = rows("table", n=9, seed=1)
    X_val[:, 3] = 500 * X_val[:, 3] + 100
    with pytest.warns(UserWarning, match=FAR.format("feature 3")) as caught:
        small("SimCLR", standardize=standardize, max_epochs=1).fit(X, X_val=X_val)
    assert caught[0].filename == __file__
    series = rows("series", n=40)
    with pytest.warns(UserWarning, match=FAR.format("channel 1")):
        small("CPC", max_epochs=1).fit(series, X_val=series[:9] * np.array([[[1], [200]]]))
    images = (rows("image", n=20) * 20 + 100).clip(0, 255).astype(np.uint8)
    with pytest.warns(UserWarning, match=FAR.format("channel [012]")):
        small("SimCLR", max_epochs=1).fit(images / 255.0, X_val=images)


def test_samples_of_another_place_are_not():
    # Warnings are errors here.
    X = rows("table", n=40)
    X[:, 1] = X[:, 1] > 1.5  # rare ones
    X[:, 2] = 7
    X_val = rows("table", n=20, seed=1) * 1.5 + 2
    X_val[:, 1] = X_val[:, 1] > 0
    X_val[0, 0] = 1e6  # one error
    small("SimCLR", max_epochs=1).fit(X, X_val=X_val)
