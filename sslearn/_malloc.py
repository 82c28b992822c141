"""What the C library does with memory that is freed."""

import torch

__all__ = ["keep_freed_memory"]

# Just below the largest block from which glibc learns, 32 MiB on 64-bit machines.
_BLOCK = 32_000_000


def keep_freed_memory() -> None:
    """Have blocks of activations used again instead of given back to the kernel at every step.

    glibc asks the kernel for every large block, and the kernel fills its pages with zeros: a third
    of the time of a forward pass. What is large, and how much free memory is kept, follows the
    largest block that was ever freed. So one is, of which no page was touched. Costs microseconds,
    at most 64 MB of memory that stays with the process, and nothing with other C libraries.
    """
    torch.empty(_BLOCK, dtype=torch.uint8, device="cpu")
