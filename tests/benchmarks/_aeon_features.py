"""Features of series that need no labels and no training, from aeon.

aeon is no dependency of the project: these rows are measured in an environment of their own, which
has aeon, torch and what the benchmark else needs. It is imported here alone.
"""

import time

import numpy as np

# Series a call: Hydra holds the responses of 512 kernels to all of them.
BATCH = 256


class AeonMissing(ImportError):
    """aeon cannot be imported."""


def _minirocket(seed):
    from aeon.transformations.collection.convolution_based import MiniRocket

    return [(MiniRocket(random_state=seed), None)]


def _multirocket_hydra(seed):
    from aeon.transformations.collection.convolution_based import HydraTransformer, MultiRocket

    # As in aeon's classifier of both: Hydra's counts by their square root.
    hydra = HydraTransformer(random_state=seed, output_type="numpy")
    return [(hydra, _root), (MultiRocket(random_state=seed), None)]


def _catch22(seed):
    from aeon.transformations.collection.feature_based import Catch22

    return [(Catch22(replace_nans=True), None)]


def _root(counts):
    return np.sqrt(np.maximum(counts, 0))


AEON = {
    "MiniRocket": _minirocket,
    "MultiRocket-Hydra": _multirocket_hydra,
    "Catch22": _catch22,
}


def aeon_features(name, X_train, X_test, seed):
    """Features of both parts as float32, and the seconds of the fit and of the second part."""
    try:
        transformers = AEON[name](seed)
    except ImportError as error:
        raise AeonMissing(
            f"The features of {name} need aeon and torch: pip install aeon torch."
        ) from error
    train, test = (part.astype(np.float64) for part in (X_train, X_test))  # of Catch22
    begun = time.perf_counter()
    for transformer, _ in transformers:
        transformer.fit(train)
    fit_s = time.perf_counter() - begun
    train = _transformed(transformers, train)
    begun = time.perf_counter()
    test = _transformed(transformers, test)
    return train, test, fit_s, time.perf_counter() - begun


def _transformed(transformers, X):
    batches = [X[first : first + BATCH] for first in range(0, len(X), BATCH)]
    blocks = []
    for transformer, after in transformers:
        found = np.concatenate([np.asarray(transformer.transform(batch)) for batch in batches])
        found = found.astype(np.float32)
        # Flat series have no autocorrelation, say: a feature that is not a number tells nothing.
        np.nan_to_num(found, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        blocks.append(found if after is None else after(found))
    return np.concatenate(blocks, axis=1)
