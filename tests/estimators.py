"""The public estimators and the kinds of input that the common tests go through."""

import numpy as np

from sslearn import AMDIM, BYOL, CPC, LFR, BarlowTwins, MoCo, SimCLR, SimSiam, VICReg
from sslearn._modules import Features

ESTIMATORS = {
    cls.__name__: cls for cls in (SimCLR, BYOL, SimSiam, BarlowTwins, VICReg, MoCo, LFR, CPC, AMDIM)
}

# One small shape for each kind of input.
SHAPES = {
    "table": (6,),
    "series": (2, 20),
    "image": (3, 8, 8),
    "volume": (1, 5, 6, 4),
}


def small(estimator, **params):
    """An estimator that fits in a fraction of a second."""
    settings = {
        "max_epochs": 2,
        "batch_size": 16,
        "embedding_dim": 8,
        "random_state": 0,
        "device": "cpu",
    }
    if params.get("encoder") is not None:
        del settings["embedding_dim"]
    if estimator == "LFR":
        settings["n_candidates"] = 12
    return ESTIMATORS[estimator](**{**settings, **params})


def rows(kind, n=24, dtype=np.float32, seed=0):
    """Random rows of a kind of input."""
    rng = np.random.default_rng(seed)
    shape = (n, *SHAPES[kind])
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 100, size=shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


def encoder_shape(name, kind):
    """The shape of what the encoder of an estimator sees of a kind of input."""
    estimator = ESTIMATORS[name]()
    return estimator._encoder_shape(estimator._sample_shape(SHAPES[kind]))


def trained_module(estimator):
    """The caller's encoder in what was fitted, wherever the method keeps it."""
    return [m for m in estimator.encoder_.modules() if isinstance(m, Features)][-1].module
