"""The first stage of ``fit``: X as samples or a stream, a held-out part, statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .._modules import takes_nan, windows_of
from ._categories import spread_categories
from ._groups import Groups, read_groups
from ._held_out import HeldOut, read_held_out, warn_of_other_scale
from ._rows import Rows, Stream
from ._seeds import Seeds
from ._statistics import Statistics
from ._training_data import TrainingData, compute_statistics
from ._validation import too_few_rows, validate_rows
from ._windows import windowed_rows

__all__ = ["ReadData", "read_data"]

# Frames from the warning of an X_val of another scale up to the caller of an estimator's fit.
_TO_THE_CALLER = 7


@dataclass
class ReadData:
    """X as it was read: the first stage."""

    data: TrainingData
    held_out: HeldOut | None
    statistics: Statistics


def read_data(
    estimator,
    X: Any,
    groups: Any,
    X_val: Any,
    *,
    batch_size: int,
    most_batches: int | None,
    device: torch.device,
    seeds: Seeds,
) -> ReadData:
    """Read X, and ``X_val``, for an estimator that is fitted.

    Attributes that describe the input are set. Of a stream at most `most_batches` are read.
    """
    rows = validate_rows(estimator, X, reset=True, batch_size=batch_size)
    if isinstance(rows, Rows):
        rows = rows.to(device)
    else:
        rows.limit = most_batches
    in_pairs = getattr(estimator, "positives", "views") == "group"
    of = read_groups(groups, rows, in_pairs=in_pairs)
    trained_on, index = _split(rows, estimator.validation_fraction, seeds.split, of)
    # Categories come out one-hot from here on.
    own = estimator.encoder
    spread_categories(estimator, rows, index, unseen_is_nan=own is None or takes_nan(own))
    rows.view_as(estimator._sample_shape(rows.sample_shape))
    statistics = compute_statistics(rows, index, type(estimator).__name__)
    if isinstance(rows, Stream) and (rows.n_rows or 0) < 2:
        raise ValueError(too_few_rows(estimator, rows.n_rows or 0, rows.item_shape))
    windows = windows_of(estimator.encoder)
    if windows is not None:
        if getattr(estimator, "keep_objective", False):
            raise ValueError(
                "The 'keep_objective' parameter must be False with an encoder of Windows, since "
                "what was trained takes single windows. Got True instead."
            )
        missing = statistics.where_missing is not None
        rows = windowed_rows(rows, windows.length, seeds.windows, index, has_missing=missing)
    estimator.any_length_ = rows.any_length
    standardize = statistics.layer(estimator.standardize).to(device)
    held_out = None if index is None else HeldOut(rows, index)
    where_missing = statistics.where_missing
    if X_val is not None:
        held_out = read_held_out(estimator, X_val, rows, batch_size, device)
        where_missing = where_missing or held_out.where_missing
        warn_of_other_scale(held_out, statistics, stacklevel=_TO_THE_CALLER)
    data = TrainingData(
        rows,
        trained_on,
        standardize,
        device,
        seeds.reference,
        statistics.extremes,
        where_missing=where_missing,
    )
    data.groups = of
    return ReadData(data, held_out, statistics)


def _split(
    rows: Rows | Stream, fraction: float | None, seed: int, groups: Groups | None = None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the numbers of the samples trained on (None: all) and of those held out."""
    if fraction is None:
        return None, None
    if isinstance(rows, Stream):
        raise ValueError(
            "The 'validation_fraction' parameter needs samples with numbers, not an "
            "IterableDataset or DataLoader. Set it to None."
        )
    if groups is not None:
        return groups.split(fraction, seed)
    n_held_out = round(fraction * len(rows))
    if min(n_held_out, len(rows) - n_held_out) < 2:
        raise ValueError(
            f"The 'validation_fraction' parameter is {fraction}: of {len(rows)} samples that "
            f"holds out {n_held_out} and leaves {len(rows) - n_held_out} to train on, while a "
            "minimum of 2 each is required."
        )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return order[n_held_out:].sort().values, order[:n_held_out].sort().values
