"""How much features say of the group of a sample."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.utils import check_array

from ..groups._labels import numbered

__all__ = ["group_leakage"]


def group_leakage(features, groups, *, n_neighbors=1) -> float:
    """Share of nearest neighbours from the same group, compared with chance.

    Features of several samples of one patient, site or recording often say more of the group than
    of what is asked. The share of the neighbours that are of the same group is divided by its
    expectation where the labels of the groups are permuted among the samples: 1 is no leakage, 10
    means that neighbours are ten times as often of the same group as by chance. Distances are
    Euclidean: standardise features whose scales differ first.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of samples, for example of a test part.
    groups : array-like of shape (n_samples,)
        Group of each sample: numbers or strings.
    n_neighbors : int, default=1
        Neighbours of each sample that are counted.

    Returns
    -------
    float
        The ratio, 0 or more; at most the inverse of the share expected by chance.

    Raises
    ------
    ValueError
        If there is not one group for each sample, if no group has two samples, or if all samples
        are of one group.

    Notes
    -----
    The expectation is exact: two samples are of one group with the probability of a pair drawn at
    random, the sum of n_g (n_g - 1) over the groups, divided by n (n - 1).

    Where all samples of a group have the same label, features that separate the labels better
    also have a higher leakage. Compare features of the same samples only.

    Examples
    --------
    >>> import numpy as np
    >>> from sslearn.metrics import group_leakage
    >>> groups = np.repeat([0, 1, 2], 4)
    >>> features = groups[:, None] + np.linspace(0, 0.1, 12)[:, None]
    >>> round(group_leakage(features, groups), 3)
    3.667
    """
    # A quarter of a second, which those who import sslearn for other things need not wait.
    from sklearn.neighbors import NearestNeighbors

    features = check_array(features, dtype=[np.float64, np.float32], input_name="features")
    n = len(features)
    groups = numbered(groups, n)
    if not isinstance(n_neighbors, Integral) or not 1 <= int(n_neighbors) < n:
        raise ValueError(
            f"The 'n_neighbors' parameter must be a whole number from 1 to {n - 1}, one less than "
            f"the samples. Got {n_neighbors!r} instead."
        )
    sizes = np.bincount(groups)
    expected = np.sum(sizes * (sizes - 1.0)) / (n * (n - 1.0))
    if expected == 0:
        raise ValueError(
            f"The 'groups' parameter must give two samples the same label. Got {n} different "
            "labels instead."
        )
    # Without points to look at, neighbours are those of each sample but itself.
    near = NearestNeighbors(n_neighbors=n_neighbors).fit(features).kneighbors(return_distance=False)
    return float(np.mean(groups[near] == groups[:, None]) / expected)
