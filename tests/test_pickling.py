"""Equal modules have equal hashes, so that a pipeline's cache is hit, and pickles stay whole."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from estimators import rows, small
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

import sslearn
from sslearn import LFR, SimCLR
from sslearn._pickling import HASH_PROTOCOL, by_value

X = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)


class _Tied(nn.Module):
    """Two layers of one weight, a buffer that no state_dict holds, and a tensor by the way."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.ones(5, dtype=torch.bfloat16), persistent=False)
        self.scale = torch.tensor(2.0)

    def forward(self, x):
        return self.second(self.first(x)) * self.scale + self.shift.float()


def _old_norm():
    layer = torch.nn.utils.weight_norm(nn.Linear(5, 5))
    layer(torch.zeros(1, 5))  # keeps a weight that was computed
    return layer


def _channels_last():
    return nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)


MAKERS = {
    "linear": lambda: nn.Linear(5, 5),
    "batch norm": lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.ReLU()),
    "channels last": _channels_last,
    "tied": _Tied,
    "old weight norm": _old_norm,
    "lazy": lambda: nn.LazyLinear(5),
    "empty": lambda: nn.Identity(),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", MAKERS)
def test_equal_modules_hash_equal(name):
    module = MAKERS[name]()
    estimator = SimCLR(module)
    first = joblib.hash(estimator)
    assert joblib.hash(estimator) == joblib.hash(clone(estimator)) == first
    if name != "old weight norm":  # what it has computed comes back as a leaf
        assert joblib.hash(pickle.loads(pickle.dumps(estimator))) == first
    with torch.no_grad():
        for parameter in module.parameters():
            if not isinstance(parameter, nn.UninitializedParameter):
                parameter[(0,) * parameter.ndim] += 1
                assert joblib.hash(estimator) != first
                break
    assert joblib.hash(SimCLR(nn.Linear(5, 6))) != first


def test_modules_in_lists_and_of_fits_hash_equal():
    nets = [nn.Linear(5, 4), nn.Linear(5, 4)]
    lfr = LFR(projectors=nets, n_targets=None)
    assert joblib.hash(lfr) == joblib.hash(clone(lfr))
    model = SimCLR(max_epochs=1, embedding_dim=4, random_state=0).fit(X).encoder_
    assert joblib.hash(SimCLR(model)) == joblib.hash(SimCLR(copy.deepcopy(model)))


@pytest.mark.parametrize("name", ["batch norm", "channels last", "tied"])
def test_what_is_hashed_is_a_whole_pickle(name):
    module = MAKERS[name]().eval()
    module.requires_grad_(False)
    x = torch.randn({"batch norm": (4, 2, 9), "channels last": (4, 3, 8, 8)}.get(name, (4, 5)))
    again = pickle.loads(pickle.dumps(by_value(module), HASH_PROTOCOL))
    assert torch.equal(again(x), module(x))
    state, expected = again.state_dict(), module.state_dict()
    assert list(state) == list(expected)
    assert [v.stride() for v in state.values()] == [v.stride() for v in expected.values()]
    assert not any(p.requires_grad for p in again.parameters())
    assert len(list(again.parameters())) == len(list(module.parameters()))  # ties are kept


def test_other_pickles_are_left_alone(monkeypatch):
    def fail(value):
        raise AssertionError(value)

    monkeypatch.setattr("sslearn._base.by_value", fail)
    for protocol in {pickle.DEFAULT_PROTOCOL, pickle.HIGHEST_PROTOCOL} - {HASH_PROTOCOL}:
        assert (
            pickle.loads(pickle.dumps(SimCLR(nn.Linear(5, 4)), protocol)).encoder.in_features == 5
        )


def test_a_search_behind_a_module_trains_once_a_fold(tmp_path, monkeypatch):
    fits = []
    fit = SimCLR._fit

    def counted(self, X, *arguments):
        fits.append(len(X))
        return fit(self, X, *arguments)

    monkeypatch.setattr(SimCLR, "_fit", counted)
    y = np.arange(len(X)) % 2
    simclr = SimCLR(
        nn.Linear(5, 8), projector=nn.Linear(8, 4), max_epochs=1, batch_size=16, random_state=0
    )
    pipeline = make_pipeline(simclr, LogisticRegression(), memory=str(tmp_path))
    GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1, 10]}, cv=2, refit=False).fit(X, y)
    assert fits == [24, 24]


class TestVersions:
    """A pickle carries the versions that it was made with."""

    @pytest.fixture
    def fitted(self):
        return small("SimCLR").fit(rows("table"))

    def test_equal_ones_pass_in_silence(self, fitted):
        again = pickle.loads(pickle.dumps(fitted))
        assert vars(again).keys() == vars(fitted).keys()
        assert np.array_equal(again.transform(rows("table")), fitted.transform(rows("table")))

    @pytest.mark.parametrize("package", ["sslearn", "torch"])
    def test_others_are_warned_of(self, fitted, monkeypatch, package):
        with monkeypatch.context() as patched:
            patched.setattr({"sslearn": sslearn, "torch": torch}[package], "__version__", "0.0.7")
            pickled = pickle.dumps(fitted)
        message = rf"SimCLR was pickled with .*{package} 0\.0\.7.* unpickled with .*{package}"
        with pytest.warns(InconsistentVersionWarning, match=message):
            again = pickle.loads(pickled)
        assert np.array_equal(again.transform(rows("table")), fitted.transform(rows("table")))

    def test_a_pickle_without_any(self, fitted):
        made, arguments, state = fitted.__reduce_ex__(2)[:3]
        bare = made(*arguments)
        with pytest.warns(InconsistentVersionWarning, match=r"pickled with sslearn \(unknown\)"):
            bare.__setstate__({k: v for k, v in state.items() if k != "_versions"})

    def test_copies_and_clones_are_silent(self, fitted):
        for same in (copy.copy(fitted), copy.deepcopy(fitted), clone(fitted)):
            assert "_versions" not in vars(same)
