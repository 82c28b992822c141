"""Times two functions alternately in one process, and prints what they took."""

import datetime
import platform
import statistics
import time

import torch


def header(title):
    print(f"{title}: {datetime.date.today()}, {machine()}, torch {torch.__version__}")


def machine():
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            name = next(line.split(":")[1].strip() for line in info if "model name" in line)
    except (OSError, StopIteration):
        pass
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    n_threads = torch.get_num_threads()
    return f"{name}, {n_threads} thread{'s' if n_threads > 1 else ''}{gpu}"


def side_by_side(ours, bare, repeats=7, clock=time.perf_counter):
    """Median seconds of each, and the median of the ratios bare / ours of neighbouring runs.

    The order within a pair alternates too; the first pair is not counted.
    """
    times = []
    for i in range(repeats + 1):
        pair = {}
        for function in (ours, bare) if i % 2 else (bare, ours):
            begun = clock()
            function()
            pair[function] = clock() - begun
        if i:
            times.append((pair[ours], pair[bare]))
    ratios = [b / a for a, b in times]
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )
