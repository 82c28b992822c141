"""Choosing diverse items, compared with the loop that research code uses.

    python tests/benchmarks/dpp_speed.py

The loop keeps the whole kernel and updates one vector at a time; here only the rows of the chosen
items are touched, and of features no kernel is built.
"""

import math
import time
import tracemalloc

import numpy as np
import torch
from _side_by_side import header, side_by_side

from sslearn._methods._lfr_selection import greedy_map, most_diverse


def plain_loop(kernel, k, epsilon=1e-10):
    """Greedy MAP as published with arXiv 1709.05135, one item at a time."""
    n = kernel.shape[0]
    coordinates = np.zeros((k, n))
    gain = np.copy(np.diag(kernel))
    chosen = [int(np.argmax(gain))]
    while len(chosen) < k:
        t, item = len(chosen) - 1, chosen[-1]
        along = kernel[item, :] - np.dot(coordinates[:t, item], coordinates[:t, :])
        along /= math.sqrt(gain[item])
        coordinates[t, :] = along
        gain -= np.square(along)
        gain[item] = -np.inf
        chosen.append(int(np.argmax(gain)))
        if gain[chosen[-1]] < epsilon:
            break
    return chosen


def of_kernel(kernel, k):
    return greedy_map(kernel.diagonal(), kernel.__getitem__, k)[0]


def main():
    header("greedy MAP")
    torch.manual_seed(0)
    outputs = [torch.randn(128, 64) for _ in range(1000)]
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        most_diverse(outputs, 10)
        times.append(time.perf_counter() - begun)
    print(f"1,000 candidates of 128 x 64, 10 chosen: {np.median(times):.3f} s (goal 0.25)")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, 200))
    # By blocks: one product of this size ends some builds of OpenBLAS with a segmentation fault.
    kernel = np.concatenate([block @ features.T for block in np.split(features, 20)])
    assert of_kernel(kernel, 100).tolist() == plain_loop(kernel, 100)
    ours, loop, ratio, low, high = side_by_side(
        lambda: of_kernel(kernel, 100), lambda: plain_loop(kernel, 100), 9
    )
    print(
        f"N = 20,000, k = 100, kernel given: {1000 * ours:.1f} ms, loop {1000 * loop:.1f} ms, "
        f"loop / ours {ratio:.2f} ({low:.2f} to {high:.2f}; goal 2)"
    )
    tracemalloc.start()
    begun = time.perf_counter()
    diagonal = np.einsum("nd,nd->n", features, features)
    greedy_map(diagonal, lambda item: features @ features[item], 100)
    seconds = time.perf_counter() - begun
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    print(f"of features, no kernel: {1000 * seconds:.1f} ms, peak {peak:.0f} MB (goal 100)")


if __name__ == "__main__":
    main()
