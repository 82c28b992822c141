"""Ways to compute the same features that round differently."""

import copy
from contextlib import contextmanager

import torch

__all__ = ["ROUNDING_WAYS", "threads"]


@contextmanager
def threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_batches(encoder, x, size):
    return torch.cat([encoder(part) for part in x.split(size)])


def _on_two_threads(encoder, x):
    with threads(2):
        return encoder(x)


def _without_onednn(encoder, x):
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        return encoder(x)
    finally:
        torch._C._set_mkldnn_enabled(before)


def _under_autocast(encoder, x):
    with torch.autocast("cpu", torch.bfloat16):
        return encoder(x)


ROUNDING_WAYS = {
    "one-by-one": lambda encoder, x: _in_batches(encoder, x, 1),
    "by-seven": lambda encoder, x: _in_batches(encoder, x, 7),
    "two-threads": _on_two_threads,
    "without-onednn": _without_onednn,
    "float64": lambda encoder, x: copy.deepcopy(encoder).double()(x.double()).float(),
    "autocast": _under_autocast,
}
