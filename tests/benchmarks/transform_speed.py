"""``transform`` beside the bare forward pass at the batch size that suits it best.

    python tests/benchmarks/transform_speed.py [table series image] [--repeats 7]

The bare pass is ``encoder_`` in inference mode over slices of the array (channels-last for
images), into one preallocated array; batch sizes 16 to 8192 are tried and the fastest is taken.
"""

import argparse
import time

import numpy as np
import torch
from _side_by_side import header, side_by_side

from sslearn import SimCLR

GOAL = 0.95


def rows(name):
    rng = np.random.default_rng(0)
    if name == "table":
        return rng.normal(size=(50_000, 64)).astype(np.float32)
    if name == "series":
        return rng.normal(size=(4096, 9, 128)).astype(np.float32)
    return rng.integers(0, 256, size=(2048, 3, 32, 32)).astype(np.uint8)


def bare(encoder, X, size, width):
    out = np.empty((len(X), width), dtype=np.float32)
    source, target = torch.from_numpy(X), torch.from_numpy(out)
    with torch.inference_mode():
        for i in range(0, len(X), size):
            x = source[i : i + size]
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            target[i : i + size] = encoder(x)
    return out


def fastest(encoder, X, width):
    times = {}
    for size in (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192):
        if size > len(X):
            break
        taken = []
        for _ in range(3):
            begun = time.perf_counter()
            bare(encoder, X, size, width)
            taken.append(time.perf_counter() - begun)
        times[size] = min(taken)
    return min(times, key=times.get)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=["table", "series", "image"])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    header("transform over the bare forward pass")
    print(f"{'rows':<8} {'rows/s':>9} {'bare':>9} {'at':>5} {'ratio':>6} {'min':>5} {'max':>5}")
    for name in arguments.names or ["table", "series", "image"]:
        X = rows(name)
        estimator = SimCLR(max_epochs=1, device="cpu", random_state=0).fit(X[:512])
        width = estimator.transform(X[:1]).shape[1]
        size = fastest(estimator.encoder_, X, width)
        ours = lambda: estimator.transform(X)  # noqa: B023, E731
        other = lambda: bare(estimator.encoder_, X, size, width)  # noqa: B023, E731
        a, b, ratio, low, high = side_by_side(ours, other, arguments.repeats)
        print(
            f"{name:<8} {len(X) / a:9.0f} {len(X) / b:9.0f} {size:5d} {ratio:6.3f} {low:5.2f} "
            f"{high:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
