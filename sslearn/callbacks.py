"""Callbacks for ``estimator.set_callbacks``, in addition to those of ``sklearn.callback``.

scikit-learn has these, and passes callbacks through meta-estimators, from version 1.9 on. With an
older one, set them on the estimator itself, also in a pipeline: ``pipeline[1].set_callbacks(...)``.
"""

from __future__ import annotations

from numbers import Integral

from sklearn.base import clone
from torch.utils.data import DataLoader, Dataset

from ._base import BaseSSL
from ._data._labels import read_labels

__all__ = ["OnlineProbe"]


def _check_labelled(rows, names):
    """Refuse samples without labels that have none in them either."""
    if not isinstance(rows, Dataset | DataLoader):
        raise ValueError(
            f"The {names} parameters of OnlineProbe must be samples and their labels, or a Dataset "
            f"or DataLoader of pairs (x, y) without other labels. Got {type(rows).__name__} "
            "without labels."
        )


class OnlineProbe:
    """Fits a scikit-learn estimator on the features while they are being learned.

    Every few epochs, and after the last one, a clone of ``estimator`` is fitted on the features
    of labelled samples and scored on those of held-out ones. Neither changes what is learned.

    Parameters
    ----------
    estimator : estimator
        A classifier or regressor, or a pipeline that ends in one. Only clones of it are fitted.
    X : array-like, DataFrame, Tensor, torch Dataset or DataLoader
        Samples to fit it on, as the self-supervised estimator sees them: inside a pipeline, as they
        come out of the steps before. A DataLoader must not shuffle.
    y : array-like, default=None
        Their labels. If None, those in X, a Dataset or DataLoader of pairs (x, y); read once.
    X_val : array-like, DataFrame, Tensor, torch Dataset or DataLoader
        Samples to score it on.
    y_val : array-like, default=None
        Their labels. If None, those in ``X_val``.
    every : int, default=5
        Number of epochs between two probes.
    scoring : str or callable, default=None
        Score as in :func:`sklearn.metrics.check_scoring`. If None, ``estimator.score``.

    Attributes
    ----------
    history_ : list of (int, float)
        Epoch and score of each probe of the last fit.
    histories_ : list of list of (int, float)
        The same for every fit so far, the last one at the end: clones share their callbacks, so a
        ``GridSearchCV`` has a history for each of its fits.

    See Also
    --------
    sklearn.callback.ScoringMonitor : Scores the estimator itself on the samples it is fitted on.
    sklearn.callback.ProgressBar : Shows the progress of a fit.

    Notes
    -----
    A fitted estimator keeps its callbacks. A pickled probe keeps its histories but neither
    samples nor labels, so that a saved model does not contain them; unpickled, it records nothing
    more. The same holds in the worker processes of ``n_jobs=2``: fits there are not probed, and
    no scores come back from them. Use ``n_jobs=None`` to probe the fits of a search.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sslearn import SimCLR
    >>> from sslearn.callbacks import OnlineProbe
    >>> X, y = load_iris(return_X_y=True)
    >>> probe = OnlineProbe(LogisticRegression(), X[::2], y[::2], X[1::2], y[1::2], every=2)
    >>> model = SimCLR(embedding_dim=16, max_epochs=5, random_state=0)
    >>> _ = model.set_callbacks(probe).fit(X)
    >>> [epoch for epoch, score in probe.history_]
    [2, 4, 5]
    """

    _DATA = ("X", "y", "X_val", "y_val")

    def __init__(self, estimator, X, y=None, X_val=None, y_val=None, every=5, scoring=None):
        from sklearn.metrics import check_scoring  # a second of imports, paid only with a probe

        if not isinstance(every, Integral) or isinstance(every, bool) or every < 1:
            raise ValueError(
                f"The 'every' parameter of OnlineProbe must be an int of at least 1. Got {every!r} "
                "instead."
            )
        if X_val is None:
            raise ValueError(
                "The 'X_val' parameter of OnlineProbe must be held-out samples to score on. Got "
                "None instead."
            )
        for rows, labels, names in ((X, y, "'X' and 'y'"), (X_val, y_val, "'X_val' and 'y_val'")):
            if labels is None:
                _check_labelled(rows, names)
                continue
            counted = hasattr(rows, "__len__") and not isinstance(rows, DataLoader)
            if counted and len(rows) != len(labels):
                raise ValueError(
                    f"The {names} parameters of OnlineProbe must have the same length. Got "
                    f"{len(rows)} samples and {len(labels)} labels."
                )
        self.estimator = estimator
        self.X = X
        self.y = y
        self.X_val = X_val
        self.y_val = y_val
        self.every = every
        self.scoring = scoring
        self.histories_ = []
        self._scorer = check_scoring(estimator, scoring)

    @property
    def history_(self):
        if not self.histories_:
            raise AttributeError(
                "history_ is available once an estimator with this OnlineProbe has been fitted."
            )
        return self.histories_[-1]

    def setup(self, estimator, context):
        """Begin the history of a fit."""
        if not isinstance(estimator, BaseSSL):
            raise TypeError(
                "OnlineProbe needs an estimator of sslearn that learns features. Got "
                f"{type(estimator).__name__}; in a pipeline, set it on the step: "
                "pipeline.named_steps['simclr'].set_callbacks(probe)."
            )
        # Read before the training, which an error must not come after.
        if self.X is not None and self.y is None:
            self.y = read_labels(self.X)
        if self.X_val is not None and self.y_val is None:
            self.y_val = read_labels(self.X_val)
        self.histories_.append([])

    def teardown(self, estimator, context):
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Probe the features, if it is time."""
        if self.X is None or fitted_estimator is None:
            return
        history, epoch = self.histories_[-1], fitted_estimator.n_iter_
        if context.task_name == "epoch":
            due = epoch % self.every == 0
        else:  # the fit has ended
            known = bool(history) and history[-1][0] == epoch
            due = not known or estimator.n_iter_no_change is not None
            if known and due:  # what is kept are the best weights, not the last ones
                del history[-1]
        if due:
            probe = clone(self.estimator).fit(fitted_estimator.transform(self.X), self.y)
            score = self._scorer(probe, fitted_estimator.transform(self.X_val), self.y_val)
            history.append((epoch, float(score)))

    def _score_after(self, epoch):
        """Return the score of the fit that runs, if its features were probed after an epoch."""
        history = self.histories_[-1] if self.histories_ else []
        return history[-1][1] if history and history[-1][0] == epoch else None

    def __getstate__(self):
        return {**self.__dict__, **dict.fromkeys(self._DATA)}

    def __repr__(self):
        return f"OnlineProbe({self.estimator!r}, every={self.every}, scoring={self.scoring!r})"
