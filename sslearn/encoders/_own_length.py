"""Series that end early or have gaps, NaN: each is encoded at its own length, its gaps filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

__all__ = ["at_own_length", "fill_gaps", "has_missing", "own_lengths", "own_series"]


def has_missing(x: torch.Tensor) -> bool:
    """Return whether a batch has missing values; in an exported network there are none."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling() or x.is_meta:
        return False
    # A sum is several times faster than a test of all values, and is NaN if one of them is.
    return bool(x.sum().isnan()) and bool(x.isnan().any())


def own_lengths(x: torch.Tensor) -> torch.Tensor:
    """Return the number of steps up to the last known one, in any channel, of each series."""
    steps = torch.arange(1, x.shape[2] + 1, device=x.device)
    return (steps * x.isnan().all(1).logical_not()).amax(1)


def fill_gaps(x: torch.Tensor) -> torch.Tensor:
    """Fill missing values of each channel by straight lines, and at the ends by the nearest value.

    A channel without any value becomes 0, the mean of standardised samples.
    """
    missing, last = x.isnan(), x.shape[2] - 1
    steps = torch.arange(last + 1, device=x.device).expand_as(x)
    before = steps.masked_fill(missing, -1).cummax(2).values
    after = steps.masked_fill(missing, last + 1).flip(2).cummin(2).values.flip(2)
    # Beyond the first and the last value there is one neighbour alone.
    left = torch.where(before < 0, after, before).clamp_(max=last)
    right = torch.where(after > last, before, after).clamp_(min=0)
    share = (steps - left) / (right - left).clamp_min(1)
    filled = torch.lerp(x.gather(2, left), x.gather(2, right), share.to(x.dtype))
    return torch.where(missing, filled.nan_to_num(0.0), x)


def own_series(
    x: torch.Tensor,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]]:
    """Iterate over the series of a batch, those of one length together, cut to their own length.

    Features of a series then do not depend on how far it was padded, nor on the others.

    Parameters
    ----------
    x : torch.Tensor of shape (n, channels, time)
        A batch in which missing values are NaN.

    Yields
    ------
    places : torch.Tensor of shape (m,)
        Numbers of the series.
    series : torch.Tensor of shape (m, channels, length)
        The series, with gaps filled.
    known : torch.Tensor of shape (m, length), or None
        True at steps at which a channel is known. If None, the series have no gaps.
    """
    lengths = own_lengths(x)
    n_missing = x.isnan().flatten(1).sum(1)
    # A series that has no more missing values than steps after its end has no gaps.
    has_gaps = n_missing > (x.shape[2] - lengths) * x.shape[1]
    for key in (2 * lengths + has_gaps).unique().tolist():
        length, gaps = divmod(key, 2)
        places = ((lengths == length) & (has_gaps == bool(gaps))).nonzero()[:, 0]
        series = x[places, :, : max(length, 1)]
        if gaps or not length:
            yield places, fill_gaps(series), series.isnan().all(1).logical_not()
        else:
            yield places, series, None


def at_own_length(
    function: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Return the features (n, d) that a function of series and of their known steps gives.

    It is called for the series of each length, see :func:`own_series`.
    """
    features: torch.Tensor | None = None
    for places, series, known in own_series(x):
        found = function(series, known)
        if features is None:
            features = found.new_empty(len(x), *found.shape[1:])
        features[places] = found
    assert features is not None
    return features
