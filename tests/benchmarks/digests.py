"""Digests of the features of every method, to show that a change leaves all bits as they were.

    python tests/benchmarks/digests.py > before.txt      # at one commit
    python tests/benchmarks/digests.py | diff before.txt -   # at another

Each fit is small and has every part of a real one: default encoder and views, several epochs, a
held-out part, training in bfloat16, a Trainer with parameters of its own, a stream. Equal digests
are to be expected on one machine, with one version of torch and one thread.
"""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import sslearn

METHODS = sorted(name for name in sslearn.__all__ if name[0].isupper())
SHAPES = {
    "table": (60, 5),
    "series": (60, 2, 32),
    "image": (60, 3, 12, 12),
    "volume": (40, 1, 8, 8, 8),
}
KINDS = {
    "default": {},
    "validation": {"validation_fraction": 0.25, "n_iter_no_change": 1},
    "bfloat16": {"precision": "bfloat16"},
    "Trainer": {"trainer_params": {"enable_model_summary": False}},
    "untrained": {"max_epochs": 0},
}


def digest(model, X, fit_on) -> str:
    features = model.fit(fit_on).transform(X)
    curve = np.asarray(model.loss_curve_, dtype=np.float64)
    return hashlib.sha256(features.tobytes() + curve.tobytes()).hexdigest()[:16]


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for shape_name, shape in SHAPES.items():
        X = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        stream = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=16)
        for name in METHODS:
            small = {"max_epochs": 2, "batch_size": 16, "random_state": 0}
            for kind, params in KINDS.items():
                model = getattr(sslearn, name)(**{**small, **params})
                print(shape_name, name, kind, digest(model, X, X), flush=True)
            model = getattr(sslearn, name)(**small)
            print(shape_name, name, "stream", digest(model, X, stream), flush=True)


if __name__ == "__main__":
    main()
