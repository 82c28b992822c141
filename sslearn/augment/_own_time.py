"""Views of series that end early or have gaps, NaN: each is read and cut within its own length."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders._own_length import has_missing, own_lengths

__all__ = [
    "has_gaps",
    "known_as_complete",
    "mean_square_of_steps",
    "order_of_steps",
    "read",
    "span",
    "warped",
    "window",
]

_state = threading.local()


@contextlib.contextmanager
def known_as_complete() -> Iterator[None]:
    """Spare augmentations the search for missing values, which on a GPU waits for its result."""
    before = getattr(_state, "complete", False)
    _state.complete = True
    try:
        yield
    finally:
        _state.complete = before


def has_gaps(x: Tensor) -> bool:
    """Return whether a batch of series (n, channels, time) has missing values."""
    return not getattr(_state, "complete", False) and has_missing(x)


def read(x: Tensor, positions: Tensor) -> Tensor:
    """Read series at positions (n, time), in steps, up to the length of each.

    Between two known steps values are linear. If one of them is missing, the nearer one decides:
    a gap neither grows nor shrinks but for the stretching of time.
    """
    lengths, last = own_lengths(x)[:, None], x.shape[2] - 1
    positions = torch.minimum(positions, lengths - 1)
    before = positions.long().clamp_(min=0, max=last)[:, None]
    after = (before + 1).clamp_(max=last)
    share = positions[:, None] - before
    first, second = x.gather(2, before.expand(x.shape)), x.gather(2, after.expand(x.shape))
    mixed = torch.lerp(first, second, share)
    found = torch.where(mixed.isnan(), torch.where(share < 0.5, first, second), mixed)
    beyond = torch.arange(last + 1, device=x.device) >= lengths
    return found.masked_fill_(beyond[:, None], math.nan)


def window(x: Tensor, start: Tensor, fraction: Tensor) -> Tensor:
    """Return positions (n, time) of a window of each series that is stretched to its length.

    Start and fraction, both (n,), are those of :func:`sslearn.augment._draws.window_positions`.
    """
    lengths = own_lengths(x)[:, None]
    steps = torch.arange(x.shape[2], device=x.device, dtype=x.dtype)
    first = (start * (1 - fraction))[:, None] * lengths
    return (first + fraction[:, None] * (steps + 0.5) - 0.5).clamp_(min=0)


def warped(x: Tensor, logarithms: Tensor) -> Tensor:
    """Return positions (n, time) of series that are played at changing speed.

    Its logarithms (n, n_knots) are those at even places over the length of each series.
    """
    lengths, n_knots = own_lengths(x)[:, None], logarithms.shape[1]
    steps = torch.arange(x.shape[2] - 1, device=x.device)
    places = steps * (n_knots - 1) / (lengths - 2).clamp_min(1)
    before = places.long().clamp_(max=n_knots - 2)
    speed = torch.lerp(
        logarithms.gather(1, before),
        logarithms.gather(1, before + 1),
        (places - before).clamp_(max=1.0).to(x.dtype),
    ).exp_()
    speed = speed.masked_fill_(steps >= lengths - 1, 0.0)
    passed = F.pad(speed.cumsum(1), (1, 0))
    return passed * ((lengths - 1) / passed[:, -1:].clamp_min(torch.finfo(x.dtype).tiny))


def span(x: Tensor, fraction: float, start: Tensor) -> Tensor:
    """Return which steps (n, time) are in a span; its start (n,) is in [0, 1)."""
    lengths = own_lengths(x)
    size = (fraction * lengths).long()
    first = (start * (lengths - size + 1)).long()[:, None]
    steps = torch.arange(x.shape[2], device=x.device)
    return (steps >= first) & (steps < first + size[:, None])


def order_of_steps(x: Tensor, cuts: Tensor, used: Tensor, keys: Tensor) -> Tensor:
    """Return the order (n, time) of the steps of series whose segments are permuted.

    Cuts (n, m) in [0, 1) are places in a series, the used ones (n, m) are true, and segments come
    in the order of the keys (n, m + 1). What follows the end of a series stays there.
    """
    lengths = own_lengths(x)[:, None]
    steps = torch.arange(x.shape[2], device=x.device)
    places = (1 + cuts * (lengths - 1)).long().masked_fill(~used | (lengths < 2), x.shape[2])
    segment = (steps[:, None] >= places[:, None]).sum(2)
    found = keys.gather(1, segment).masked_fill(steps >= lengths, math.inf)
    return found.sort(dim=1, stable=True).indices


def mean_square_of_steps(x: Tensor) -> Tensor:
    """Return the mean square of the known differences of neighbouring steps, (n, channels, 1)."""
    return x.diff(dim=2).square_().nanmean(2, keepdim=True).nan_to_num_(0.0)
