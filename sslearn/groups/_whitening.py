"""Features that say less of the group of a sample: of its patient, site or recording."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .._sklearn import Interval, fit_context
from ..encoders import ViewWhitening
from ._labels import numbered

__all__ = ["GroupWhitening"]


class GroupWhitening(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Scale down the directions in which the means of groups differ.

    Features of several samples of one patient, site or recording are often more alike than those
    of one class, so that nearest neighbours and clusters find the group. Features, less their
    mean, are multiplied by (S + a I)^(-1/2), where S is the covariance of the groups' means and a
    its mean variance times `shrinkage`. No labels are used, and groups that were not in ``fit``
    are mapped too. A step of a pipeline behind an estimator of this package.

    Parameters
    ----------
    shrinkage : float, default=1.0
        Weight of all directions alike: the larger, the less is changed.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the groups' means, which is subtracted.
    weight_ : ndarray of shape (n_features, n_features)
        The linear map, symmetric.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Names of the features; only when X is a DataFrame whose column names are all strings.

    See Also
    --------
    sslearn.metrics.group_leakage : How often nearest neighbours are of the same group.

    Notes
    -----
    Directions in which classes differ are scaled down as well where all samples of a group are of
    one class; they are not lost, since the map has an inverse. With few groups, of which each
    class has only one or two, that may be the larger part of S: raise `shrinkage`. Known from
    speaker recognition, where what is scaled down are microphones and telephone lines [1]_.

    References
    ----------
    .. [1] A. Solomonoff, W. M. Campbell, I. Boardman, "Advances in Channel Compensation for SVM
       Speaker Recognition", ICASSP 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from sslearn.groups import GroupWhitening
    >>> from sslearn.metrics import group_leakage
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(20), 5)
    >>> features = rng.normal(size=(100, 10))
    >>> features[:, 0] += 5 * groups  # as far apart as sites with an offset each
    >>> whitened = GroupWhitening(shrinkage=0.1).fit_transform(features, groups=groups)
    >>> round(group_leakage(features, groups), 1), round(group_leakage(whitened, groups), 1)
    (23.3, 5.9)
    """

    _parameter_constraints: dict = {"shrinkage": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, shrinkage=1.0):
        self.shrinkage = shrinkage

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, groups=None):
        """Find the directions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : Ignored
            Not used, present by convention.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample: numbers or strings. If None, each sample is a group of its own.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        codes = np.arange(len(X)) if groups is None else numbered(groups, len(X))
        order = codes.argsort(kind="stable")
        sizes = np.bincount(codes)
        starts = np.cumsum(sizes) - sizes
        means = np.add.reduceat(X[order].astype(np.float64), starts) / sizes[:, None]
        self.mean_ = means.mean(0)
        # The map that makes views of one sample alike, of the groups in place of the views.
        whitening = ViewWhitening(X.shape[1], shrinkage=self.shrinkage)
        whitening.fit(torch.from_numpy(means - self.mean_)[None])
        weight = whitening.weight
        self.weight_ = np.eye(X.shape[1]) if weight is None else weight.double().numpy()
        return self

    def fit_transform(self, X, y=None, *, groups=None):
        """Find the directions, and return X in which they are scaled down.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : Ignored
            Not used, present by convention.
        groups : array-like of shape (n_samples,), default=None
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Features with less of the groups.
        """
        return self.fit(X, y, groups=groups).transform(X)

    def transform(self, X):
        """Return features in which these directions are scaled down.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Features with less of the groups, of the dtype of X.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return (X - self.mean_.astype(X.dtype)) @ self.weight_.astype(X.dtype)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
