"""Blocks of the heap are used again. In processes of their own: it cannot be undone."""

import pickle
import platform
import subprocess
import sys

import numpy as np
import pytest

from sslearn import SimCLR

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like"
)

# Blocks of the heap are used again; all others are mapped anew, and their pages filled with zeros.
SCRIPT = """
import pickle
import re
import sys
import torch
from sslearn._process_state import keep_freed_memory

if len(sys.argv) > 1:
    with open(sys.argv[1], "rb") as file:
        model, X = pickle.load(file)
{call}
block = torch.ones(4_000_000)
with open("/proc/self/maps") as maps:
    heap = next(line for line in maps if line.endswith("[heap]\\n"))
first, last = (int(end, 16) for end in re.findall("[0-9a-f]+", heap)[:2])
print(first <= block.data_ptr() < last)
"""


def comes_from_the_heap(call, *arguments):
    command = [sys.executable, "-c", SCRIPT.format(call=call), *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip() == "True"


OFF = "import os; os.environ['SSLEARN_KEEP_FREED_MEMORY'] = '0'; keep_freed_memory()"


@pytest.mark.parametrize(
    ("call", "kept"), [("keep_freed_memory()", True), ("", False), (OFF, False)]
)
def test_large_blocks_come_from_the_heap(call, kept):
    assert comes_from_the_heap(call) == kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "kept"), [("model.fit(X)", True), ("model.transform(X)", True), ("", False)]
)
def test_fit_and_transform_see_to_it(call, kept, tmp_path):
    X = np.random.default_rng(0).normal(size=(16, 4))
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps((SimCLR(max_epochs=1).fit(X), X)))
    assert comes_from_the_heap(call, path) == kept
