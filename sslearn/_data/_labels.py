"""Labels in the items of a dataset or the batches of a loader."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

__all__ = ["read_labels"]


def read_labels(pairs: Any) -> np.ndarray:
    """Return the labels of a torch Dataset or DataLoader of pairs (x, y), in its order.

    Parameters
    ----------
    pairs : Dataset or DataLoader
        Iterated once.

    Raises
    ------
    ValueError
        When an item is not a pair of a sample and its label.
    """
    in_batches = isinstance(pairs, DataLoader) and pairs.batch_size is not None
    in_batches |= isinstance(pairs, DataLoader) and pairs.batch_sampler is not None
    items = pairs
    if not isinstance(pairs, DataLoader | IterableDataset):
        items = (pairs[i] for i in range(len(pairs)))
    found = [_label(item) for item in items]
    arrays = [label.cpu().numpy() if isinstance(label, torch.Tensor) else label for label in found]
    if in_batches:
        return np.concatenate([np.atleast_1d(np.asarray(array)) for array in arrays])
    return np.asarray(arrays)


def _label(item: Any) -> Any:
    if not isinstance(item, tuple | list) or len(item) != 2:
        n = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise ValueError(
            "The labels of a Dataset or DataLoader are read from its items, which must be pairs "
            f"(x, y). Got {type(item).__name__}{n} instead; pass the labels by themselves."
        )
    return item[1]
