"""What every estimator has from its base, and what its author is told."""

import importlib
import pathlib
import pickle
import re
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from estimators import rows, small
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sslearn import LFR, SimCLR
from sslearn.base import BaseSSL, Objective
from sslearn.encoders import PiecewiseLinear


def _weight_normed(width=8):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still in people's code
        return torch.nn.utils.weight_norm(nn.Linear(width, 8))


def test_modules_that_refuse_deepcopy_are_cloned():
    X = rows("table", n=40)
    estimator = small("SimCLR", encoder=_weight_normed(6), projector=_weight_normed())
    estimator.set_output(transform="pandas")
    cloned = clone(estimator)
    assert cloned.encoder is not estimator.encoder
    for name, value in cloned.encoder.state_dict().items():
        assert torch.equal(value, estimator.encoder.state_dict()[name])
    assert cloned.get_params().keys() == estimator.get_params().keys()
    assert cloned.fit(X).loss_curve_ == estimator.fit(X).loss_curve_
    pytest.importorskip("pandas")
    assert list(clone(estimator).fit_transform(X).columns) == [f"simclr{i}" for i in range(8)]
    search = GridSearchCV(estimator, {"learning_rate": [1e-3, 1e-2]}, cv=2, error_score="raise")
    assert np.isfinite(search.fit(X).cv_results_["mean_test_score"]).all()


def test_so_are_those_in_a_list():
    given = [_weight_normed(6), _weight_normed(6)]
    estimator = small("LFR", projectors=given, predictors=[_weight_normed() for _ in given])
    estimator.set_params(n_targets=2)
    cloned = clone(estimator)
    assert type(cloned.projectors) is list
    assert not set(map(id, cloned.projectors)) & set(map(id, given))
    assert cloned.fit(rows("table")).loss_curve_ == estimator.fit(rows("table")).loss_curve_


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": nn.MSELoss}, r"loss\(predictions, targets\) and must return .* class MSELoss"),
        ({"loss": lambda p: p}, r"loss\(predictions, targets\). Got <lambda>, which takes \(p\)"),
        ({"augment": type("Views", (), {"__init__": lambda self, a, b: None})}, "the class Views"),
    ],
)
def test_classes_that_would_return_themselves(params, message):
    with pytest.raises(TypeError, match=f"parameter is called as .*{message}"):
        small("BYOL", **params).fit(rows("table"))


class _Mine(Objective):
    """Tells rows from one another."""

    n_views = 1

    def __init__(self, encoder, n_rows):
        super().__init__(encoder)
        self.classes = nn.Linear(encoder.width, n_rows)

    def batch_loss(self, batch):
        scores = self.classes(self.encoder(batch.views[0]))
        return nn.functional.cross_entropy(scores, batch.index)


class Mine(SimCLR):
    def _make_objective(self, encoder, data):
        if data.is_stream:
            raise ValueError("Mine needs rows with numbers.")
        return _Mine(encoder, data.n_rows)


def _fit(cls, **params):
    settings = {"max_epochs": 2, "batch_size": 16, "embedding_dim": 8, "random_state": 0}
    X = params.pop("X", rows("table", n=60))
    return cls(**{**settings, "device": "cpu", **params}).fit(X)


def test_numbers_of_rows_are_those_of_x():
    assert np.isfinite(_fit(Mine, validation_fraction=0.25).validation_loss_curve_).all()
    seen = []

    class Asked(Mine):
        def _make_objective(self, encoder, data):
            seen.append((len(data), data.n_rows, data.is_stream, data.index is None))
            return super()._make_objective(encoder, data)

    _fit(Asked)
    _fit(Asked, validation_fraction=0.25)
    loader = DataLoader(TensorDataset(torch.from_numpy(rows("table", n=40))), batch_size=20)
    with pytest.raises(ValueError, match="Mine needs rows with numbers"):
        _fit(Asked, X=loader)
    assert seen == [(60, 60, False, True), (45, 60, False, False), (40, 40, True, True)]


def test_an_encoder_that_sees_more_than_rows_sees_all_of_it():
    """A mask is appended to the rows: the default encoder must not drop it."""
    seen = []

    class _Masked(Objective):
        n_views = 1

        def loss(self, view):
            mask = (view > 0).float()
            return self.encoder(torch.cat((view, mask), 1)).square().mean()

        @property
        def features(self):
            return nn.Sequential(nn.ZeroPad1d((0, 6)), self.encoder)

    class Masked(SimCLR):
        def _encoder_shape(self, sample_shape):
            return [2 * sample_shape[0]]

        def _default_encoder(self, shape, width, rows):
            seen.append(rows)
            return super()._default_encoder(shape, width, rows)

        def _make_objective(self, encoder, data):
            assert not any(isinstance(m, PiecewiseLinear) for m in encoder.modules())
            x = torch.zeros(2, 12)
            x[1, 9] = 1.0
            first, second = encoder(x)
            assert not torch.equal(first, second)
            return _Masked(encoder)

    assert np.isfinite(_fit(Masked).loss_curve_).all()
    assert seen == [None]

    class Same(SimCLR):
        def _default_encoder(self, shape, width, rows):
            seen.append(rows().shape)
            return super()._default_encoder(shape, width, rows)

    _fit(Same)
    assert seen[1] == (60, 6)


class NoObjective(SimCLR):
    _make_objective = BaseSSL._make_objective


class Layer(SimCLR):
    def _make_objective(self, encoder, data):
        return nn.Linear(3, 3)


def _returning(value, **attributes):
    """A method whose loss returns what a function makes of that of SimCLR."""

    class Returning(SimCLR):
        def _make_objective(self, encoder, data):
            made = super()._make_objective(encoder, data)
            loss = made.loss
            made.loss = lambda *views: value(loss(*views))
            for name, given in attributes.items():
                setattr(made, name, given)
            return made

    return Returning


class NoLoss(SimCLR):
    def _make_objective(self, encoder, data):
        return Objective(encoder)


class OneView(SimCLR):
    def _make_objective(self, encoder, data):
        class Single(Objective):
            def loss(self, view):
                return self.encoder(view).mean()

        return Single(encoder)


class NoFeatures(SimCLR):
    def _make_objective(self, encoder, data):
        class Function(Objective):
            features = staticmethod(torch.relu)

            def loss(self, *views):
                return self.encoder(views[0]).mean()

        return Function(encoder)


@pytest.mark.parametrize(
    ("cls", "error", "message"),
    [
        (NoObjective, TypeError, "instantiate abstract class NoObjective .* _make_objective"),
        (Layer, TypeError, "Layer._make_objective must return a sslearn.base.Objective. Got Line"),
        (NoLoss, NotImplementedError, r"Objective must implement loss\(\*views\), or batch_loss"),
        (OneView, TypeError, r"Single.loss is called with as many views .* 2. Got .*\(view\)"),
        (NoFeatures, TypeError, "Function.features must be a torch.nn.Module. Got builtin"),
        (_returning(lambda loss: [loss]), TypeError, "_SimCLRObjective must be .* Got list"),
        (_returning(lambda loss: loss[None]), TypeError, r"a scalar tensor .* Got shape \(1,\)"),
        (_returning(lambda loss: loss.detach()), TypeError, "Got one without a gradient"),
        (_returning(lambda loss: 1.0), TypeError, "Got float"),
        (_returning(lambda loss: None), TypeError, "Got NoneType"),
    ],
)
@pytest.mark.parametrize("trainer_params", [None, {"gradient_clip_val": 1e9}])
def test_mistakes_of_a_methods_author(cls, error, message, trainer_params):
    with pytest.raises(error, match=message):
        _fit(cls, trainer_params=trainer_params)


def test_a_validation_loss_is_looked_at_too():
    switched = _returning(lambda loss: loss if torch.is_grad_enabled() else loss[None])
    with pytest.raises(TypeError, match=r"a scalar tensor .* Got shape \(1,\)"):
        _fit(switched, validation_fraction=0.2)


@pytest.mark.parametrize("base", [SimCLR, LFR])
@pytest.mark.parametrize("left_out", ["precision", "n_targets", "augment"])
def test_a_parameter_that_is_not_assigned(base, left_out):
    class Forgot(base):
        def __init__(self, encoder=None, *, n_targets=3, max_epochs=2):
            super().__init__(encoder, max_epochs=max_epochs)
            self.n_targets = n_targets
            if hasattr(self, left_out):
                delattr(self, left_out)

    if left_out == "augment":  # a method without views may leave it out
        assert np.isfinite(Forgot().fit(rows("table")).loss_curve_).all()
        return
    with pytest.raises(AttributeError, match=f"Forgot.__init__ must .* none named '{left_out}'"):
        Forgot().fit(rows("table"))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_a_method_that_is_written_as_the_page_says(monkeypatch):
    page = pathlib.Path(__file__).parents[1] / "docs" / "write_a_method.md"
    written, tested, diet = re.findall(
        r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S
    )
    module = types.ModuleType("written_by_the_page")  # to pickle what is defined in it
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(written, vars(module))
    method = module.DenoisingAutoencoder
    model = method(hidden_dim=16, max_epochs=15, random_state=0, embedding_dim=8)
    for kind in ("table", "image"):
        model.fit(rows(kind))
        assert model.loss_curve_[-1] < model.loss_curve_[0]
        assert model.transform(rows(kind)).shape == (24, 8)
    with pytest.raises(ValueError, match="'hidden_dim' parameter of DenoisingAutoencoder must be"):
        method(hidden_dim=0).fit(rows("table"))
    exec(tested, vars(module))
    assert len(module.features) == 40

    exec(diet, vars(module))
    model = module.DIET(label_smoothing=0.5, max_epochs=15, random_state=0, embedding_dim=8)
    model.fit(rows("table"))
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    model.set_params(validation_fraction=0.25).fit(rows("series"))
    assert np.isfinite(model.validation_loss_curve_).all()
    with pytest.raises(ValueError, match="'label_smoothing' parameter of DIET must be a float"):
        module.DIET(label_smoothing=1.5).fit(rows("table"))
    model.set_params(validation_fraction=None)
    with pytest.raises(ValueError, match="DIET needs samples with numbers"):
        model.fit(DataLoader(TensorDataset(torch.from_numpy(rows("table"))), batch_size=8))


@pytest.mark.parametrize(
    "nonsense", [{"batch_size": "x"}, {"batch_size": 0}, {"device": None}, {"device": "abacus"}]
)
@pytest.mark.parametrize("method", ["transform", "score"])
def test_parameters_set_to_nonsense_after_fit_are_named(nonsense, method):
    X = rows("table")
    model = small("SimCLR").fit(X).set_params(**nonsense)
    (name,) = nonsense
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        getattr(model, method)(X)


PUBLIC = [
    (module, name)
    for module in ("sslearn", "sslearn.augment", "sslearn.base", "sslearn.data", "sslearn.encoders")
    for name, value in vars(importlib.import_module(module)).items()
    if isinstance(value, type) and not name.startswith("_")
]


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_public_classes_name_public_modules(module, name):
    public = getattr(importlib.import_module(module), name)
    assert public.__module__ == module
    assert pickle.loads(pickle.dumps(public)) is public
