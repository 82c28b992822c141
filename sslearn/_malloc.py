"""What the C library does with memory that is freed."""

import os

import torch

__all__ = ["keep_freed_memory"]

# Set to 0, this variable of the environment leaves the C library as it is.
_SWITCH = "SSLEARN_KEEP_FREED_MEMORY"

# Just below the largest block from which glibc learns, 32 MiB on 64-bit machines.
_BLOCK = 32_000_000


def keep_freed_memory() -> None:
    """Have blocks of activations used again instead of given back to the kernel at every step.

    glibc asks the kernel for every large block, and the kernel fills its pages with zeros: a third
    of the time of a forward pass. What is large, and how much free memory is kept, follows the
    largest block that was ever freed. So one is, of which no page was touched. Costs microseconds,
    at most 64 MB of memory that stays with the process, and nothing with other C libraries.
    ``SSLEARN_KEEP_FREED_MEMORY=0`` in the environment switches it off.
    """
    if os.environ.get(_SWITCH) == "0":
        return
    torch.empty(_BLOCK, dtype=torch.uint8, device="cpu")
