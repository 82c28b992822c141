"""Views per second of the augmentations: `python tests/benchmarks/image_views.py`.

Batches of 256 (32 of the large), two threads, on the CPU. Each line gives the median and the best
of many repeats. On a machine that does other work too the best is the figure to compare: two
threads that wait for each other lose far more than the share of time that was taken from them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sslearn.augment import (
    ColorJitter,
    Compose,
    GaussianBlur,
    RandomGrayscale,
    RandomResizedCrop,
    SegmentPermutation,
    default_augment,
)

BATCH = 256


def lines() -> dict[str, Callable[[], Tensor]]:
    """Name every measurement and what it runs."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8)

    def cast() -> Tensor:
        return pixels.float().div_(255)

    images, large = cast(), torch.rand(BATCH // 8, 3, 96, 96)
    series, rows = torch.randn(BATCH, 9, 128), torch.randn(BATCH, 64)
    volumes = torch.rand(BATCH // 8, 1, 28, 28, 28)
    crop, color = RandomResizedCrop(), Compose([ColorJitter(), RandomGrayscale()])
    image_views = Compose([crop, ColorJitter(), RandomGrayscale()])
    series_views, table_views = default_augment((9, 128)), default_augment((64,))
    volume_views, permutation = default_augment((1, 28, 28, 28)), SegmentPermutation(p=1.0)
    blur = GaussianBlur(p=1.0)
    return {
        "images 3x32x32 uint8: cast, crop, flip, colour, grey": lambda: image_views(
            cast(), generator
        ),
        "  cast": cast,
        "  crop and flip": lambda: crop(images, generator),
        "  colour and grey": lambda: color(images, generator),
        "  blur": lambda: blur(images, generator),
        "images 3x96x96: blur": lambda: blur(large, generator),
        "volumes 1x28x28x28: default": lambda: volume_views(volumes, generator),
        "series 9x128: default": lambda: series_views(series, generator),
        "  segment permutation": lambda: permutation(series, generator),
        "table 64: default": lambda: table_views(rows, generator),
    }


def main(repeats: int, threads: int) -> None:
    """Print the table."""
    torch.set_num_threads(threads)
    # Memory once freed is kept by malloc up to twice the largest block that it has seen freed. In a
    # fit the network's activations see to that; without them every buffer is paged in anew, which
    # takes as long as the arithmetic.
    torch.ones(7_500_000)
    measured = lines()
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    n_views = {name: len(run()) for name, run in measured.items()}  # also the warm-up
    for _ in range(repeats // 5):  # in turns: a burst of other work hits all lines
        for name, run in measured.items():
            run()  # caches and allocator as the line itself leaves them
            for _ in range(5):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    print(f"torch {torch.__version__}, {threads} threads, {repeats} repeats")
    print(f"{'':54}{'ms':>8}{'views/s':>11}{'best':>11}")
    for name, times in seconds.items():
        n, median = n_views[name], statistics.median(times)
        print(f"{name:54}{median * 1e3:8.2f}{n / median:11,.0f}{n / min(times):11,.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    main(**vars(parser.parse_args()))
