"""Blocks of the heap are used again. In processes of their own: it cannot be undone."""

import platform
import subprocess
import sys

import pytest

# Blocks of the heap are used again; all others are mapped anew, and their pages filled with zeros.
SCRIPT = """
import re
import torch
from sslearn._malloc import keep_freed_memory

{call}
block = torch.ones(4_000_000)
with open("/proc/self/maps") as maps:
    heap = next(line for line in maps if line.endswith("[heap]\\n"))
first, last = (int(end, 16) for end in re.findall("[0-9a-f]+", heap)[:2])
print(first <= block.data_ptr() < last)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
@pytest.mark.parametrize(("call", "kept"), [("keep_freed_memory()", True), ("", False)])
def test_large_blocks_come_from_the_heap(call, kept):
    command = [sys.executable, "-c", SCRIPT.format(call=call)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(kept)
