"""AMDIM's contrast of feature maps, forward and backward, beside its direct formulation.

    python tests/benchmarks/amdim_speed.py [--repeats 15]

Batch 128, 256 channels, maps of 1 x 1, 5 x 5 and 7 x 7, comparisons "01, 02, 11", both directions;
the channels of a place lie side by side in memory, as AMDIM's heads leave them, for both.
The direct formulation makes all scores (B, B, positions), masks of that shape for positives and
negatives, and sums exponentials. Peak memory is that of a process of its own, over what it holds
before.
"""

import argparse
import math
import subprocess
import sys
from pathlib import Path

import torch
from _side_by_side import header, side_by_side

from sslearn._methods._losses import feature_map_nce

BATCH, CHANNELS, SIZES, COMPARISONS, CLIP = 128, 256, (1, 5, 7), ((0, 1), (0, 2), (1, 1)), 20.0


def maps():
    torch.manual_seed(0)
    return [[_map(size) for size in SIZES] for _ in range(2)]


def _map(size):
    made = torch.randn(BATCH, CHANNELS, size, size).to(memory_format=torch.channels_last)
    return made.requires_grad_()


def ours(first, second):
    return feature_map_nce(first, second, COMPARISONS, clip=CLIP).mean()


def direct(first, second):
    total = 0.0
    for i, j in COMPARISONS:
        for a, p in ((first, second), (second, first)):
            anchor, positive = a[i].flatten(2), p[j].flatten(2)
            n, n_places = len(anchor), positive.shape[2]
            place = torch.randint(0, anchor.shape[2], (n,))
            source = anchor[torch.arange(n), :, place]
            scores = torch.einsum("id,jdl->ijl", source, positive) / math.sqrt(CHANNELS)
            regularizer = 0.05 * scores.square().mean()
            scores = CLIP * torch.tanh(scores / CLIP)
            is_own = torch.eye(n).unsqueeze(2).expand(n, n, n_places)
            is_other = 1 - is_own
            own = (is_own * scores).sum(1)  # (n, positions)
            others = (is_other * scores - CLIP * is_own).flatten(1)
            largest = others.max(1, keepdim=True)[0].detach()
            sums = (is_other.flatten(1) * torch.exp(others - largest)).sum(1, keepdim=True)
            loss = torch.log(torch.exp(own - largest) + sums) - (own - largest)
            total = total + (loss.mean() + regularizer) / 2
    return total / len(COMPARISONS)


def step(function, views):
    for view in views:
        for x in view:
            x.grad = None
    function(*views).backward()


def products(views):
    """All matrix products of a step, and nothing else."""
    pairs = []
    for i, j in COMPARISONS:
        source = views[0][i].detach()[..., 0, 0].contiguous()
        targets = views[1][j].detach().permute(0, 2, 3, 1).reshape(-1, CHANNELS)
        pairs += [(source, targets, torch.randn(BATCH, len(targets)))] * 2  # both directions

    def run():
        for source, targets, pull in pairs:
            source @ targets.T
            pull @ targets
            pull.T @ source

    return run


def memory(what):
    """A figure of this process in megabytes, as Linux keeps them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 2**10
    raise RuntimeError(what)


def peak(name):
    """Megabytes a step takes at its peak, in a new process."""
    out = subprocess.run(
        [sys.executable, __file__, "--peak", name], capture_output=True, text=True, check=True
    )
    return float(out.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peak", choices=["ours", "direct"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    functions = {"ours": ours, "direct": direct}
    views = maps()
    if arguments.peak:
        for x in views[0] + views[1]:
            x.grad = torch.zeros_like(x)
        small = [[x.detach()[:4].clone().requires_grad_() for x in view] for view in views]
        functions[arguments.peak](*small).backward()  # what is loaded at the first call
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = memory("VmRSS")
        functions[arguments.peak](*views).backward()
        print(memory("VmHWM") - before)
        return
    header("contrast of feature maps")
    states = []
    for function in functions.values():
        torch.manual_seed(1)
        states.append(function(*views).item())
    assert math.isclose(*states, rel_tol=1e-4), states
    a, b, ratio, low, high = side_by_side(
        lambda: step(ours, views), lambda: step(direct, views), arguments.repeats
    )
    # What neither can do without: the products of the scores, forward and backward.
    least, *_ = side_by_side(products(views), lambda: None, arguments.repeats)
    print(
        f"ours {1000 * a:.1f} ms, direct {1000 * b:.1f} ms, direct / ours {ratio:.2f} "
        f"({low:.2f} to {high:.2f}; goal 2), the products alone {1000 * least:.1f} ms"
    )
    mine, theirs = (sorted(peak(name) for _ in range(3))[1] for name in ("ours", "direct"))
    print(f"peak: ours {mine:.0f} MB, direct {theirs:.0f} MB, ratio {theirs / mine:.2f} (goal 2)")


if __name__ == "__main__":
    main()
