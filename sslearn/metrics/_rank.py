"""The effective rank of features."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils import check_array

__all__ = ["effective_rank"]


def effective_rank(features) -> float:
    """Effective rank of a matrix of features (RankMe, arXiv 2210.02885).

    The exponential of the entropy of the singular values, normalised to sum to one: n equal
    singular values give n, a collapsed representation gives 1. The features are not centred.

    Parameters
    ----------
    features : array-like of shape (n_samples, n_features)
        Features of samples; a few thousand samples are enough.

    Returns
    -------
    float
        The effective rank, between 1 and min(n_samples, n_features).

    Examples
    --------
    >>> import numpy as np
    >>> from sslearn.metrics import effective_rank
    >>> round(effective_rank(np.eye(8)), 3)
    8.0
    """
    features = check_array(features, dtype=np.float64, input_name="features")
    # Squares of singular values are eigenvalues, found many times faster. Only values below 1e-7 of
    # the largest are lost, to which the paper's own definition adds a constant of that size.
    short = torch.from_numpy(features if len(features) >= features.shape[1] else features.T)
    gram = short.T @ short
    # torch's function uses torch's threads; NumPy's waits for its own, seconds on busy cores.
    values = np.sqrt(torch.linalg.eigvalsh(gram).numpy().clip(min=0))
    total = values.sum()
    if total == 0:
        return 1.0
    p = values / total
    p = p[p > 1e-7]
    return float(np.exp(-np.sum(p * np.log(p))))
