"""What every estimator promises, on every kind of input."""

import copy
import gc
import logging
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import warnings

import joblib
import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, SHAPES, encoder_shape, rows, small, trained_module
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from sslearn._data._statistics import Statistics

every_estimator = pytest.mark.parametrize("name", sorted(ESTIMATORS))
every_kind = pytest.mark.parametrize("kind", sorted(SHAPES))
# Those in new processes take seconds, and what is imported is the same for all.
in_processes = pytest.mark.parametrize(
    "name",
    [n if n == "SimCLR" else pytest.param(n, marks=pytest.mark.slow) for n in ESTIMATORS],
)


@parametrize_with_checks([cls(max_epochs=2, batch_size=32) for cls in ESTIMATORS.values()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def _fingerprint(estimator):
    weights = [value.numpy().tobytes() for value in estimator.encoder_.state_dict().values()]
    return weights, estimator.loss_curve_


def _flat_encoder(shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 8), nn.BatchNorm1d(8))


@every_estimator
@every_kind
class TestEveryKind:
    def test_fit_transform(self, name, kind):
        X = rows(kind)
        estimator = small(name)
        assert estimator.fit(X) is estimator
        features = estimator.transform(X)
        assert features.shape == (len(X), 8)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        assert features.flags.c_contiguous
        assert estimator.n_features_in_ == X.shape[1]
        assert estimator.input_shape_ == X.shape[1:]
        assert estimator.n_iter_ == len(estimator.loss_curve_) == 2
        assert np.isfinite(estimator.loss_curve_).all()
        assert list(estimator.get_feature_names_out()) == [f"{name.lower()}{i}" for i in range(8)]
        assert not estimator.encoder_.training
        np.testing.assert_array_equal(small(name).fit_transform(X), features)

    def test_y_is_not_used(self, name, kind):
        X = rows(kind)
        y = np.arange(len(X))
        assert _fingerprint(small(name).fit(X, y)) == _fingerprint(small(name).fit(X))

    def test_same_seed_same_bits_in_a_thread(self, name, kind):
        X = rows(kind)
        here = _fingerprint(small(name).fit(X))
        assert _fingerprint(small(name).fit(X)) == here
        assert _fingerprint(small(name, random_state=1).fit(X)) != here
        found = []
        thread = threading.Thread(target=lambda: found.append(_fingerprint(small(name).fit(X))))
        thread.start()
        thread.join()
        assert found == [here]

    def test_globals_are_left_alone(self, name, kind, tmp_path, monkeypatch, capfd):
        monkeypatch.chdir(tmp_path)
        X = rows(kind)
        torch.manual_seed(3)
        np.random.seed(3)
        random.seed(3)
        filters, dtype = list(warnings.filters), torch.get_default_dtype()
        loggers = {n: logging.getLogger(n).level for n in list(logging.root.manager.loggerDict)}
        threads, environment = torch.get_num_threads(), dict(os.environ)
        before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            small(name).fit(X).transform(X)
        assert not caught, [str(w.message) for w in caught]
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()
        assert random.getstate() == before[2]
        assert warnings.filters == filters
        assert torch.get_default_dtype() == dtype
        assert torch.get_num_threads() == threads
        assert torch.is_grad_enabled()
        assert dict(os.environ) == environment
        assert {n: logging.getLogger(n).level for n in loggers} == loggers
        assert list(tmp_path.iterdir()) == []
        out, err = capfd.readouterr()
        assert (out, err) == ("", "")

    def test_the_callers_state_does_not_change_results(self, name, kind):
        X = rows(kind)
        expected = _fingerprint(small(name).fit(X))
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad():
                assert _fingerprint(small(name).fit(X)) == expected
            with torch.inference_mode():
                assert _fingerprint(small(name).fit(X)) == expected
            with torch.autocast("cpu"):
                assert _fingerprint(small(name).fit(X)) == expected
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)

    def test_the_callers_encoder_is_left_alone(self, name, kind):
        X = rows(kind)
        encoder = _flat_encoder(encoder_shape(name, kind))
        before = {key: value.clone() for key, value in encoder.state_dict().items()}
        estimator = small(name, encoder=encoder).fit(X)
        assert estimator.encoder is encoder
        assert encoder.training
        assert all(p.grad is None for p in encoder.parameters())
        for key, value in encoder.state_dict().items():
            assert torch.equal(value, before[key])
        # It is where training starts, for every fold.
        assert _fingerprint(clone(estimator).fit(X)) == _fingerprint(estimator)
        fitted = trained_module(estimator)
        assert not torch.equal(fitted[1].weight, encoder[1].weight)

    def test_encoder_as_a_callable(self, name, kind):
        X = rows(kind)
        estimator = small(name, encoder=_flat_encoder).fit(X)
        assert estimator.transform(X).shape == (len(X), 8)
        assert _fingerprint(clone(estimator).fit(X)) == _fingerprint(estimator)

    def test_pickle_joblib_clone(self, name, kind, tmp_path):
        X = rows(kind)
        estimator = small(name).fit(X)
        features = estimator.transform(X)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(estimator)).transform(X), features)
        joblib.dump(estimator, tmp_path / "model.joblib")
        np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").transform(X), features)
        copied = clone(estimator)
        assert not hasattr(copied, "encoder_")
        assert copied.get_params() == estimator.get_params()
        # The whitening of a stem has 1,512 x 1,512 numbers, of images and volumes 1,008 x 1,008.
        most = {"series": 11e6, "image": 5e6, "volume": 5e6}.get(kind, 4e6)
        assert len(pickle.dumps(estimator)) < most, "heads or optimizer state were kept"

    def test_wrong_shapes(self, name, kind):
        X = rows(kind)
        estimator = small(name).fit(X)
        with pytest.raises(ValueError, match=f"features.*{name}|{name}.*shape"):
            estimator.transform(np.concatenate([X, X], axis=1))
        if X.ndim > 2:
            with pytest.raises(ValueError, match=f"{name} is expecting samples of shape"):
                estimator.transform(np.concatenate([X, X], axis=-1))
        with pytest.raises(ValueError, match=name):
            estimator.transform(X[..., None])
        with pytest.raises(ValueError, match="0 sample"):
            estimator.transform(X[:0])

    # Two rows say little of projectors.
    @pytest.mark.filterwarnings("ignore:Only . of the . targets of LFR")
    def test_few_rows(self, name, kind):
        X = rows(kind)
        for n in (2, 3, 17):  # fewer than a batch; a last batch of one row
            estimator = small(name).fit(X[:n])
            assert np.isfinite(estimator.transform(X)).all()
        with pytest.raises(ValueError, match="1 sample.*minimum of 2 is required"):
            small(name).fit(X[:1])
        assert estimator.transform(X[:1]).shape == (1, 8)

    @pytest.mark.filterwarnings("ignore:Only . of the . targets of LFR")
    def test_constant_rows_and_features(self, name, kind):
        X = rows(kind)
        X[:, 0] = 7
        assert np.isfinite(small(name).fit(X).transform(X)).all()
        X[:] = -3
        assert np.isfinite(small(name).fit(X).transform(X)).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, name, kind, bad):
        X = rows(kind)
        good = small(name).fit(X)
        X[(3,) + (0,) * (X.ndim - 1)] = bad
        if np.isnan(bad) and kind in ("table", "series"):
            # A missing value.
            assert np.isfinite(good.transform(X)).all()
            assert np.isfinite(small(name).fit(X).transform(X)).all()
            return
        message = "Input X contains " + ("NaN" if np.isnan(bad) else "infinity")
        with pytest.raises(ValueError, match=message):
            small(name).fit(X)
        with pytest.raises(ValueError, match=message):
            good.transform(X)
        with pytest.raises(ValueError, match=message):
            small(name).fit(torch.from_numpy(X))

    def test_failed_fit_leaves_nothing(self, name, kind):
        X = rows(kind)
        estimator = small(name)
        parameters = set(vars(estimator))
        estimator.fit(X)
        for params, data in (
            ({"learning_rate": -1.0}, X),
            ({"learning_rate": 1e-3}, X[:1]),
            ({"learning_rate": 1e30, "optimizer": "sgd", "warmup_fraction": 0.0}, X),
        ):
            estimator.set_params(**params)
            with pytest.raises(ValueError, match="learning_rate|minimum of 2"):
                estimator.fit(data)
            assert set(vars(estimator)) == parameters
            with pytest.raises(NotFittedError):
                estimator.transform(X)
            estimator.set_params(learning_rate=1e-3, optimizer="adamw").fit(X)

    def test_a_row_does_not_depend_on_its_batch(self, name, kind):
        X = rows(kind, n=200)
        estimator = small(name).fit(X)
        together = estimator.transform(X)
        alone = np.concatenate([estimator.transform(X[i : i + 1]) for i in range(20)])
        atol = 1e-5 * together.std()
        np.testing.assert_allclose(together[:20], alone, rtol=0, atol=atol)
        with torch.inference_mode():
            direct = estimator.encoder_(torch.from_numpy(X)).numpy()
        np.testing.assert_allclose(together, direct, rtol=0, atol=atol)

    @pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
    def test_traced_on_some_rows_runs_on_others(self, name, kind):
        X = rows(kind)
        encoder = small(name).fit(X).encoder_
        traced = torch.jit.trace(encoder, torch.from_numpy(X[:4]))
        # The older ONNX exporter has no such operator.
        assert "aten::mT" not in str(traced.inlined_graph)
        for n in (1, 9):
            x = torch.from_numpy(X[:n])
            torch.testing.assert_close(traced(x), encoder(x), rtol=1e-5, atol=1e-6)

    @pytest.mark.slow
    def test_exported_for_any_number_of_rows(self, name, kind):
        X = rows(kind)
        encoder = small(name).fit(X).encoder_
        shapes = ({0: torch.export.Dim("n")},)
        program = torch.export.export(encoder, (torch.from_numpy(X[:4]),), dynamic_shapes=shapes)
        x = torch.from_numpy(X[:9])
        torch.testing.assert_close(program.module()(x), encoder(x), rtol=1e-5, atol=1e-6)

    def test_set_output(self, name, kind):
        pytest.importorskip("pandas")
        X = rows(kind)
        frame = small(name).set_output(transform="pandas").fit_transform(X)
        assert list(frame.columns) == [f"{name.lower()}{i}" for i in range(8)]


@every_estimator
def test_same_bits_in_a_worker_process(name):
    X = rows("table")

    def fit():
        torch.set_num_threads(1)
        return _fingerprint(small(name).fit(X))

    found = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(fit)() for _ in range(2))
    here = _fingerprint(small(name).fit(X))
    assert found == [here, here]


@every_estimator
@every_kind
def test_grid_search_without_labels(name, kind):
    X = rows(kind, n=30)
    grid = {"learning_rate": [1e-3, 3e-3]}
    search = GridSearchCV(small(name), grid, cv=2, n_jobs=2, error_score="raise").fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    serial = GridSearchCV(small(name), grid, cv=2, error_score="raise").fit(X)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"], rtol=1e-3
    )


@every_estimator
def test_pipeline_with_memory_hits_its_cache(name, tmp_path):
    X = rows("table")
    for encoder in (None, _flat_encoder):
        memory = joblib.Memory(tmp_path / str(encoder is None), verbose=0)
        for expected_calls in (2, 2):  # the scaler and the estimator; then from the cache
            pipeline = make_pipeline(
                StandardScaler(), small(name, encoder=encoder), StandardScaler(), memory=memory
            )
            pipeline.fit(X)
            stored = list((tmp_path / str(encoder is None)).rglob("output.pkl"))
            assert len(stored) == expected_calls


@every_estimator
@pytest.mark.parametrize("fill", [1e12, 9.96921e36, 1e200])
def test_one_bad_row_leaves_the_others_apart(name, fill):
    X = np.random.default_rng(0).normal(size=(100, 6))
    X[0] = fill
    features = small(name, embedding_dim=None).fit(X).transform(X)
    assert len(np.unique(features[1:].round(4), axis=0)) == 99


@every_estimator
def test_a_column_that_was_constant_says_nothing_later(name):
    X = np.c_[rows("table", n=60, dtype=np.float64), np.zeros(60), np.arange(60) % 2]
    estimator = small(name).fit(X)
    expected = estimator.transform(X)
    for value in (1, 100, 1e300):
        moved = X.copy()
        moved[:, 6] = value
        if ESTIMATORS[name]._univariate:  # one channel: each value is a step of the same series
            assert np.isfinite(estimator.transform(moved)).all()
            continue
        np.testing.assert_array_equal(estimator.transform(moved), expected)
        moved = X.copy()
        moved[:, 7] = value  # of two values in training: bounded
        assert np.abs(estimator.transform(moved)).max() < 10 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SimCLR", "kernels of the encoder distinguish"),
        ("LFR", "kernels of the encoder distinguish"),
        ("AMDIM", "noise of the views"),
    ],
)
def test_what_the_noise_drowns_is_told_to_the_caller(name, words):
    X = rows("series", n=100)
    X[::5] *= 1e4
    with pytest.warns(
        UserWarning, match=f"80% of the samples differ by less than the {words}"
    ) as told:
        small(name).fit(X)
    assert [warning.filename for warning in told] == [__file__]


def test_a_look_at_the_axes_is_told_to_the_caller():
    X = np.random.default_rng(0).normal(size=(24, 60, 3)).astype(np.float32)
    with pytest.warns(UserWarning, match="time comes first") as told:
        small("SimCLR", max_epochs=1).fit(X)
    assert [warning.filename for warning in told] == [__file__]


def test_statistics_are_let_go_before_training():
    alive = []

    def augment(x, generator):
        alive.append(any(type(held) is Statistics for held in gc.get_objects()))
        return x + torch.randn(x.shape, generator=generator)

    small("SimCLR", max_epochs=1, augment=augment).fit(rows("table"))
    assert alive
    assert not any(alive)


@every_estimator
@every_kind
def test_the_same_numbers_give_the_same_features_in_every_dtype(name, kind):
    X = np.random.default_rng(0).integers(0, 17, size=(24, *SHAPES[kind]))
    expected = small(name).fit(X).transform(X)
    for dtype in (np.uint8, np.float32):
        found = small(name).fit(X.astype(dtype)).transform(X.astype(dtype))
        np.testing.assert_array_equal(found, expected)


@every_estimator
@every_kind
def test_the_encoder_in_other_dtypes(name, kind):
    X = rows(kind)
    estimator = small(name, embedding_dim=None).fit(X)
    expected = torch.from_numpy(estimator.transform(X))
    with torch.no_grad():
        for dtype, tolerance in (
            (torch.float64, 1e-4),
            (torch.float16, 0.1),
            (torch.bfloat16, 0.5),
        ):
            encoder = copy.deepcopy(estimator.encoder_).to(dtype)
            found = encoder(torch.from_numpy(X))
            assert found.dtype == dtype
            assert (found.float() - expected).abs().max() < tolerance * expected.abs().max()


@every_estimator
def test_bfloat16_learns_as_float32_does(name):
    # Clusters among noise; two dozen steps bring every loss down. (The other driver gives the same
    # bits: see test_training.py.)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 128)
    X = (3 * rng.normal(size=(4, 16))[y] + rng.normal(size=(128, 16))).astype(np.float32)
    curves, features = [], []
    for precision in ("float32", "bfloat16"):
        estimator = small(
            name,
            precision=precision,
            max_epochs=6,
            batch_size=32,
            learning_rate=3e-3,
        ).fit(X)
        curves.append(np.array(estimator.loss_curve_))
        features.append(estimator.transform(X))
    exact, reduced = curves
    fall = exact[0] - exact.min()
    assert fall > 0
    # Trained on the weights of the first step, a loss hardly falls at all.
    np.testing.assert_allclose(reduced, exact, rtol=0, atol=0.15 * fall)
    found = [
        RidgeClassifier().fit(f[:40], y[:40]).score(f[40:], y[40:])
        for f in map(StandardScaler().fit_transform, features)
    ]
    assert found[1] > found[0] - 0.05


@every_estimator
def test_attributes_that_a_fit_has_not_set_stay(name):
    class Clipped(ESTIMATORS[name]):
        def fit(self, X, y=None):
            self.limits_ = np.quantile(X, [0.01, 0.99], axis=0)
            return super().fit(np.clip(X, *self.limits_), y)

    X = rows("table")
    estimator = Clipped(max_epochs=1, embedding_dim=8, device="cpu")
    estimator.note_ = "mine"
    fitted = set(vars(estimator.fit(X)))
    assert {"limits_", "note_", "encoder_"} <= fitted
    assert set(vars(estimator.fit(X))) == fitted
    with pytest.raises(ValueError, match="max_epochs"):
        estimator.set_params(max_epochs="many").fit(X)
    assert not any(
        name.endswith("_") for name in vars(estimator) if name not in ("limits_", "note_")
    )


@every_estimator
def test_unfitted(name):
    with pytest.raises(NotFittedError, match=name):
        small(name).transform(rows("table"))


FIRST_FIT = """
    import logging, sys, threading, warnings
    import numpy as np
    from sslearn import {name}
    assert "lightning" not in sys.modules and "pytorch_lightning" not in sys.modules
    X = np.random.default_rng(0).normal(size=(40, 5))
    names = ["", "lightning", "lightning.pytorch", "lightning.fabric", "torch"]
    def state():
        return (list(warnings.filters), warnings.showwarning,
                [logging.getLogger(n).level for n in names])
    before = state()
    failures = []
    def run():
        try:
            {name}(max_epochs=2, device="cpu").fit(X).transform(X)
        except BaseException as error:
            failures.append(repr(error))
    if {thread}:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    else:
        run()
    assert not failures, failures
    assert state() == before
    import os
    assert os.listdir(".") == []
"""


@in_processes
@pytest.mark.parametrize("thread", [False, True])
def test_first_fit_of_a_process_is_silent(name, thread, tmp_path):
    code = textwrap.dedent(FIRST_FIT.format(name=name, thread=thread))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@in_processes
def test_transform_does_not_import_lightning(name, tmp_path):
    X = rows("table")
    joblib.dump((small(name).fit(X), X), tmp_path / "model.joblib")
    code = (
        "import joblib, sys; model, X = joblib.load('model.joblib'); model.transform(X); "
        "assert not any('lightning' in m for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@every_estimator
def test_fits_in_several_threads_do_not_disturb_each_other(name):
    X = rows("table")
    expected = {seed: _fingerprint(small(name, random_state=seed).fit(X)) for seed in range(4)}
    found = joblib.Parallel(n_jobs=4, backend="threading")(
        joblib.delayed(lambda s: _fingerprint(small(name, random_state=s).fit(X)))(seed)
        for seed in range(4)
    )
    assert dict(enumerate(found)) == expected
