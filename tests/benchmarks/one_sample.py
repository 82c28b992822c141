"""Time ``transform`` of one sample beside the bare module, alternately; medians on one thread.

    python tests/benchmarks/one_sample.py

The bare module is ``encoder_`` under ``torch.inference_mode``. Run it on an idle core.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import torch

from sslearn import SimCLR

SHAPES = {"table": (200, 20), "frame": (200, 20), "series": (64, 9, 128), "image": (64, 3, 32, 32)}
ROUNDS = 1000


def timed(function, x) -> float:
    start = time.perf_counter()
    function(x)
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print(f"{'':8}{'bare, ms':>10}{'transform, ms':>15}{'difference':>12}")
    for name, shape in SHAPES.items():
        X = rng.normal(size=shape).astype(np.float32)
        x = torch.from_numpy(X[:1])
        if name == "frame":
            X = pd.DataFrame(X, columns=[f"column_{i}" for i in range(shape[1])])
        model = SimCLR(max_epochs=1, random_state=0).fit(X)
        bare = torch.inference_mode()(model.encoder_)
        pairs = np.array([(timed(bare, x), timed(model.transform, X[:1])) for _ in range(ROUNDS)])
        median, difference = np.median(pairs, axis=0), np.median(pairs[:, 1] - pairs[:, 0])
        print(f"{name:8}{median[0]:10.3f}{median[1]:15.3f}{difference:12.3f}")


if __name__ == "__main__":
    main()
