"""scikit-learn's callbacks on estimators here, and the online probe."""

import pickle
import signal
import warnings

import numpy as np
import pytest
import sklearn
import torch
from estimators import ESTIMATORS, rows, small
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sslearn import SimCLR
from sslearn._sklearn._callback_support import CallbackSupport
from sslearn.callbacks import OnlineProbe
from sslearn.encoders import default_encoder

NEW = parse_version(sklearn.__version__) >= parse_version("1.9")
# Older versions of scikit-learn call newer ones of scipy by arguments that these deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")
needs_callbacks = pytest.mark.skipif(not NEW, reason="scikit-learn below 1.9 has no callbacks")


@pytest.fixture
def data():
    X = rows("table", n=60)
    y = (X[:, 0] > 0).astype(int)
    return X, y


def _probe(X, y, **params):
    return OnlineProbe(LogisticRegression(), X[:40], y[:40], X[40:], y[40:], **params)


def _weights(model):
    return [value.numpy().tobytes() for value in model.encoder_.state_dict().values()]


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Recorder:
    """Keeps what it is told; `ask` also asks for a fitted estimator."""

    def __init__(self, stop_after=None):
        self.told = []
        self.stop_after = stop_after

    def setup(self, estimator, context):
        self.told.append(("setup", context.task_name, context.max_subtasks))

    def teardown(self, estimator, context):
        self.told.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.told.append(("begin", context.task_name, context.task_id, X is not None, y))

    def on_fit_task_end(self, estimator, context):
        self.told.append(("end", context.task_name, context.task_id))
        return self.stop_after is not None and context.task_id + 1 >= self.stop_after


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
class TestEveryEstimator:
    @pytest.mark.parametrize("trainer_params", [None, {"accumulate_grad_batches": 1}])
    def test_the_tasks_of_a_fit(self, name, data, trainer_params):
        X, _ = data
        recorder = Recorder()
        model = small(name, trainer_params=trainer_params).set_callbacks(recorder).fit(X, "labels")
        told = [("begin", "fit", 0, True, "labels")]
        for i in range(2):
            told += [("begin", "epoch", i, True, "labels"), ("end", "epoch", i)]
        told = [("setup", "fit", 2), *told, ("end", "fit", 0), ("teardown", "fit")]
        assert recorder.told == told
        assert _weights(model) == _weights(small(name, trainer_params=trainer_params).fit(X))

    def test_a_callback_may_end_the_training(self, name, data):
        model = small(name, max_epochs=9).set_callbacks(Recorder(stop_after=3)).fit(data[0])
        assert model.n_iter_ == 3

    def test_the_probe_changes_nothing(self, name, data):
        X, y = data
        probe = _probe(X, y, every=2)
        model = small(name, max_epochs=5).set_callbacks(probe).fit(X)
        assert [epoch for epoch, _ in probe.history_] == [2, 4, 5]
        assert all(0 <= score <= 1 for _, score in probe.history_)
        plain = small(name, max_epochs=5).fit(X)
        assert _weights(model) == _weights(plain)
        assert model.loss_curve_ == plain.loss_curve_
        features = plain.transform(X)
        expected = LogisticRegression().fit(features[:40], y[:40]).score(features[40:], y[40:])
        assert probe.history_[-1] == (5, expected)


class TestOnlineProbe:
    def test_it_sees_the_features_of_its_epoch(self, data):
        # With a constant rate and the same seed, a fit of two epochs is the first half of four.
        X, y = data
        probe = _probe(X, y, every=2, scoring="neg_log_loss")
        params = {"lr_schedule": "constant", "warmup_fraction": 0.0, "encoder": default_encoder}
        small("SimCLR", max_epochs=4, **params).set_callbacks(probe).fit(X)
        half = small("SimCLR", max_epochs=2, **params).fit(X).transform(X)
        model = LogisticRegression().fit(half[:40], y[:40])
        p = model.predict_proba(half[40:])[np.arange(20), y[40:]]
        assert probe.history_[0] == (2, pytest.approx(np.log(p).mean()))

    def test_after_early_stopping_the_best_weights_are_probed(self, data):
        X, y = data
        probe = _probe(X, y, every=1, scoring="neg_log_loss")
        model = small("SimCLR", max_epochs=50, learning_rate=0.1, validation_fraction=0.3)
        model.set_params(n_iter_no_change=2).set_callbacks(probe).fit(X)
        assert model.n_iter_ < 50
        assert [epoch for epoch, _ in probe.history_] == list(range(1, model.n_iter_ + 1))
        features = model.transform(X)
        fitted = LogisticRegression().fit(features[:40], y[:40])
        p = fitted.predict_proba(features[40:])[np.arange(20), y[40:]]
        assert probe.history_[-1][1] == pytest.approx(np.log(p).mean())

    def test_what_it_draws_does_not_change_what_is_learned(self, data):
        class Draws(LogisticRegression):
            def fit(self, X, y):
                torch.randn(7)
                np.random.rand(7)
                return super().fit(X, y)

        X, y = data
        encoder = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.5))
        probe = OnlineProbe(Draws(), X[:40], y[:40], X[40:], y[40:], every=1)
        model = small("SimCLR", encoder=encoder).set_callbacks(probe).fit(X)
        assert _weights(model) == _weights(small("SimCLR", encoder=encoder).fit(X))

    def test_any_kind_of_rows_and_target(self, data):
        X, _ = data
        probe = OnlineProbe(Ridge(), torch.from_numpy(X), X[:, 1], X.tolist(), X[:, 1], every=1)
        small("SimCLR").set_callbacks(probe).fit(X)
        assert len(probe.history_) == 2

    def test_clones_share_it_and_every_fit_has_a_history(self, data):
        X, y = data
        probe = _probe(X, y, every=1)
        model = small("SimCLR").set_callbacks(probe)
        assert clone(model)._skl_callbacks == [probe]
        GridSearchCV(model, {"learning_rate": [1e-3, 1e-2]}, cv=2, error_score="raise").fit(X)
        assert [len(history) for history in probe.histories_] == [2] * 5
        assert probe.history_ is probe.histories_[-1]

    def test_in_a_pipeline_it_sits_on_the_step(self, data):
        X, y = data
        scaled = StandardScaler().fit_transform(X)
        probe = _probe(scaled, y, every=1)
        pipeline = make_pipeline(StandardScaler(), small("SimCLR"), LogisticRegression())
        pipeline[1].set_callbacks(probe)
        pipeline.fit(X, y)
        assert len(probe.history_) == 2

    @needs_callbacks
    def test_a_pipeline_itself_is_refused(self, data):
        X, y = data
        probe = _probe(X, y, every=1)
        with pytest.raises(TypeError, match="Got Pipeline; in a pipeline, set it on the step"):
            make_pipeline(StandardScaler(), LogisticRegression()).set_callbacks(probe).fit(X, y)

    def test_worker_processes_do_not_fail(self, data):
        X, y = data
        probe = _probe(X, y, every=1)
        grid = {"learning_rate": [1e-3, 1e-2]}
        model = small("SimCLR").set_callbacks(probe)
        GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X)
        assert [len(history) for history in probe.histories_] == [2]  # the refit, in this process

    def test_a_pickle_does_not_carry_its_data(self, data):
        X, y = data
        large = np.repeat(X, 1000, axis=0)
        probe = OnlineProbe(LogisticRegression(), large, np.repeat(y, 1000), X, y)
        model = small("SimCLR").set_callbacks(probe).fit(X)
        stored = pickle.dumps(model)
        assert len(stored) < large.nbytes / 2
        loaded = pickle.loads(stored)
        np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
        assert loaded._skl_callbacks[0].history_ == probe.history_
        assert probe.X is large  # this one goes on
        loaded.fit(X)
        assert loaded._skl_callbacks[0].history_ == []

    def test_a_failed_fit_leaves_the_estimator_as_it_was(self, data):
        X, y = data

        class Fails(LogisticRegression):
            def fit(self, X, y):
                raise RuntimeError("no probe today")

        model = small("SimCLR")
        before = set(vars(model))
        model.set_callbacks(OnlineProbe(Fails(), X, y, X, y, every=1))
        with pytest.raises(RuntimeError, match="no probe today"):
            model.fit(X)
        assert set(vars(model)) == before | {"_skl_callbacks"}
        model.set_callbacks()
        assert set(vars(model)) == before

    @pytest.mark.parametrize("kind", ["loader", "dataset", "mixed"])
    def test_labels_come_from_the_items(self, data, kind, monkeypatch):
        X, y = data
        y = np.where(y, "yes", "no")
        numbers = {"yes": 1, "no": 0}
        pairs = [(x, numbers[label]) for x, label in zip(X, y, strict=True)]
        train, held_out = Items(pairs[:40]), Items(pairs[40:])
        if kind == "loader":
            train, held_out = (DataLoader(rows, batch_size=16) for rows in (train, held_out))
        labels = [numbers[label] for label in y[40:]] if kind == "mixed" else None
        if kind == "mixed":
            held_out = X[40:]
        probe = OnlineProbe(LogisticRegression(), train, X_val=held_out, y_val=labels, every=1)
        small("SimCLR").set_callbacks(probe).fit(X)
        numbered = np.array([numbers[label] for label in y])
        plain = _probe(X, numbered, every=1)
        small("SimCLR").set_callbacks(plain).fit(X)
        assert probe.history_ == plain.history_
        small("SimCLR").set_callbacks(probe).fit(X)  # again, with the labels that were read
        assert probe.histories_[0] == probe.histories_[1]
        assert pickle.loads(pickle.dumps(probe)).y is None

    def test_samples_without_labels(self, data):
        X, y = data
        tensors = TensorDataset(torch.from_numpy(X))
        message = "'X' and 'y' parameters of OnlineProbe must be samples and .* Got ndarray without"
        with pytest.raises(ValueError, match=message):
            OnlineProbe(LogisticRegression(), X, X_val=X, y_val=y)
        with pytest.raises(ValueError, match="'X_val' and 'y_val' .* Got list without labels"):
            OnlineProbe(LogisticRegression(), X, y, X.tolist())
        with pytest.raises(ValueError, match="'X_val' parameter of OnlineProbe .* Got None"):
            OnlineProbe(LogisticRegression(), X, y)
        three = TensorDataset(*[torch.from_numpy(X)] * 3)
        for rows_of, found in (
            (tensors, "list of 1"),
            (three, "list of 3"),
            (Items(X), "Tensor"),
        ):
            probe = OnlineProbe(LogisticRegression(), DataLoader(rows_of), X_val=X, y_val=y)
            before = small("SimCLR")
            with pytest.raises(ValueError, match=rf"must be pairs \(x, y\)\. Got {found}"):
                before.set_callbacks(probe).fit(X)
            assert not hasattr(before, "encoder_")

    def test_bad_input(self, data):
        X, y = data
        for every in (0, -1, 2.5, True, None):
            with pytest.raises(ValueError, match=r"'every' parameter of OnlineProbe .* Got"):
                _probe(X, y, every=every)
        with pytest.raises(ValueError, match=r"'X' and 'y' .* 60 samples and 59 labels"):
            OnlineProbe(LogisticRegression(), X, y[1:], X, y)
        with pytest.raises(ValueError, match=r"'X_val' and 'y_val' .* 60 samples and 3 labels"):
            OnlineProbe(LogisticRegression(), X, y, X, y[:3])
        with pytest.raises(ValueError, match="scoring"):
            _probe(X, y, scoring="no such score")
        with pytest.raises(AttributeError, match="once an estimator .* has been fitted"):
            _ = _probe(X, y).history_
        with pytest.raises(ValueError, match="expecting 6 features"):
            small("SimCLR").set_callbacks(_probe(X[:, :4], y, every=1)).fit(X)


@needs_callbacks
class TestScikitLearnsOwn:
    def test_scoring_monitor(self, data):
        from sklearn.callback import ScoringMonitor

        X, y = data
        monitor = ScoringMonitor(scoring={"rank": lambda model, X, y: model.score(X)})
        model = small("SimCLR", max_epochs=3).set_callbacks(monitor).fit(X, y)
        logged = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
        assert len(logged) == 3
        assert logged[-1]["rank"] == pytest.approx(model.score(X))
        assert logged[0]["rank"] != logged[-1]["rank"]

    def test_scoring_monitor_through_search_and_pipeline(self, data):
        from sklearn.callback import ScoringMonitor

        X, y = data
        monitor = ScoringMonitor(scoring={"rank": lambda model, X, y: model.score(X)})
        step = small("SimCLR").set_callbacks(monitor)
        pipeline = make_pipeline(StandardScaler(), step, LogisticRegression())
        grid = {"simclr__learning_rate": [1e-3, 1e-2]}
        GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
        runs = monitor.get_logs(select="all")
        epochs = [row for run in runs for row in run.data if row["task_name"] == "epoch"]
        assert len(epochs) == 2 * (2 * 2 + 1)

    def test_progress_bar(self, data, capsys):
        pytest.importorskip("rich")
        from sklearn.callback import ProgressBar

        X, y = data
        pipeline = make_pipeline(StandardScaler(), small("SimCLR"), LogisticRegression())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # LogisticRegression's own affairs
            pipeline.set_callbacks(ProgressBar()).fit(X, y)
        assert "SimCLR" in capsys.readouterr().out
        small("SimCLR").set_callbacks(ProgressBar()).fit(X)
        assert "100%" in capsys.readouterr().out

    def test_what_is_not_a_callback(self):
        with pytest.raises(TypeError, match="FitCallback"):
            small("SimCLR").set_callbacks("progress")


def test_estimators_without_callbacks_make_no_copies(data, monkeypatch):
    import sslearn._fit

    copies = []
    monkeypatch.setattr(sslearn._fit, "copy_module", copies.append)
    small("SimCLR").fit(data[0])
    assert not copies


class LongLast(Recorder):
    """Is interrupted in its last task, and would take for ever otherwise."""

    def __init__(self, task_name, number):
        super().__init__()
        self.task_name = task_name
        self.number = number

    def on_fit_task_end(self, estimator, context):
        super().on_fit_task_end(estimator, context)
        if context.task_name == self.task_name:
            signal.raise_signal(self.number)
            self.told.append("after the signal")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("task_name", "n_epochs"), [("epoch", 1), ("fit", 3)])
@pytest.mark.parametrize("trainer_params", [None, {"enable_model_summary": False}])
def test_the_first_signal_ends_a_long_callback(data, number, task_name, n_epochs, trainer_params):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    callback = LongLast(task_name, number)
    model = small("SimCLR", max_epochs=3, trainer_params=trainer_params).set_callbacks(callback)
    with pytest.warns(UserWarning, match="Training interrupted by"):
        model.fit(data[0])
    assert "after the signal" not in callback.told
    assert (model.n_iter_, model.transform(data[0]).shape[0]) == (n_epochs, 60)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


class Older(*((CallbackSupport, SimCLR) if NEW else (SimCLR,))):
    """An estimator with the callbacks that it has under scikit-learn below 1.9."""


def _older(**params):
    settings = {"max_epochs": 2, "batch_size": 16, "embedding_dim": 8, "random_state": 0}
    return Older(**{**settings, "device": "cpu", **params})


class TestWithoutThoseOfScikitLearn:
    def test_the_tasks_of_a_fit_are_the_same(self, data):
        X, _ = data
        own, recorder = Recorder(), Recorder()
        small("SimCLR").set_callbacks(recorder).fit(X, "labels")
        _older().set_callbacks(own).fit(X, "labels")
        assert own.told == recorder.told
        assert own.told[-1] == ("teardown", "fit")

    def test_the_probe_and_early_ends_are_the_same(self, data):
        X, y = data
        first, second = _probe(X, y, every=2), _probe(X, y, every=2)
        model = small("SimCLR", max_epochs=5).set_callbacks(first).fit(X)
        older = _older(max_epochs=5).set_callbacks(second, Recorder()).fit(X)
        assert first.history_ == second.history_
        assert _weights(model) == _weights(older)
        assert _older(max_epochs=9).set_callbacks(Recorder(stop_after=3)).fit(X).n_iter_ == 3

    def test_clones_and_pickles_keep_them(self, data):
        X, y = data
        probe = _probe(X, y, every=1)
        model = _older().set_callbacks(probe)
        GridSearchCV(model, {"learning_rate": [1e-3, 1e-2]}, cv=2, error_score="raise").fit(X)
        assert [len(history) for history in probe.histories_] == [2] * 5
        model.fit(X)
        assert pickle.loads(pickle.dumps(model))._skl_callbacks[0].history_ == probe.history_

    def test_torn_down_after_an_error(self, data):
        X, _ = data
        recorder = Recorder()
        model = _older(learning_rate=1e30, optimizer="sgd").set_callbacks(recorder)
        before = set(vars(model))
        with pytest.raises(ValueError, match="The loss of Older became"):
            model.fit(X * 1e6)
        assert recorder.told[-1] == ("teardown", "fit")
        assert set(vars(model)) == before

    def test_what_is_not_a_callback(self):
        for wrong in ("progress", Recorder):
            with pytest.raises(TypeError, match="set_callbacks takes callbacks, objects with"):
                _older().set_callbacks(wrong)
        assert not hasattr(_older().set_callbacks(Recorder()).set_callbacks(), "_skl_callbacks")
