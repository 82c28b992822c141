"""Choosing the most diverse of many: greedy MAP of a determinantal point process.

The greedy choice adds, time and again, the item that raises log det of the kernel of the chosen
ones most (Chen, Zhang, Zhou 2018, arXiv 1709.05135): O(N k^2), of the kernel only its diagonal and
the k rows of the chosen items. All in float64: in float32 rounding chooses, and duplicates with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["greedy_map", "greedy_map_of_features", "most_diverse"]

# What is left of an item, as a part of the largest diagonal entry, below which it lies in the span
# of those chosen before.
_NOTHING = 1e-10
# Items whose gains differ by less than this part are equal, and the first one is taken: otherwise
# rounding would choose.
_TIE = 1e-9
# Candidates whose cosines are computed in one call, while they fit into the caches.
_AT_ONCE = 16


def greedy_map(kernel, k: int) -> np.ndarray:
    """Return the greedy MAP of a kernel, in the order of choice.

    Parameters
    ----------
    kernel : array-like of shape (N, N)
        Symmetric and positive semi-definite.
    k : int
        Items to choose, at most N. When the kernel's rank gives out earlier, the rest are those of
        the largest diagonal entries, with a warning.

    Returns
    -------
    ndarray of shape (k,), int
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"greedy_map needs a square kernel. Got shape {kernel.shape} instead.")
    return _told(*_greedy(kernel.diagonal(), kernel.__getitem__, k))


def greedy_map_of_features(features, k: int) -> np.ndarray:
    """Return the greedy MAP of the kernel ``features @ features.T``, which is never built.

    Parameters
    ----------
    features : array-like of shape (N, d)
        One row for each item.
    k : int
        See :func:`greedy_map`.

    Returns
    -------
    ndarray of shape (k,), int
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2:
        raise ValueError(
            "greedy_map_of_features needs features of shape (N, d). "
            f"Got shape {features.shape} instead."
        )
    diagonal = np.einsum("nd,nd->n", features, features)
    return _told(*_greedy(diagonal, lambda item: features @ features[item], k))


def _greedy(
    diagonal: np.ndarray, row: Callable[[int], np.ndarray], k: int
) -> tuple[np.ndarray, int]:
    """Return the items in the order of choice, and after how many of them the rank gave out."""
    n = len(diagonal)
    if not 1 <= k <= n:
        raise ValueError(f"k must be in the range [1, {n}], the number of items. Got {k!r}.")
    if not np.isfinite(diagonal).all():
        raise ValueError("The kernel must be finite. Got NaN or infinity on its diagonal.")
    gain = np.array(diagonal, dtype=np.float64)  # squared distance to the span of those chosen
    nothing = _NOTHING * max(gain.max(), 0.0)
    coordinates = np.empty((k, n))  # of all items along the chosen ones, orthonormalised
    chosen: list[int] = []
    for t in range(k):
        largest = gain.max()
        if not largest > nothing:
            return _filled(chosen, diagonal, k), t
        item = int(np.argmax(gain >= largest - _TIE * largest))
        along = coordinates[t]
        np.dot(coordinates[:t, item], coordinates[:t], out=along)
        np.subtract(row(item), along, out=along)
        along /= np.sqrt(gain[item])
        gain -= along * along
        gain[item] = -np.inf
        chosen.append(item)
    return np.array(chosen), k


def _filled(chosen: list[int], diagonal: np.ndarray, k: int) -> np.ndarray:
    order = np.argsort(-diagonal, kind="stable")
    rest = order[~np.isin(order, chosen)]
    return np.concatenate([np.array(chosen, dtype=int), rest[: k - len(chosen)]])


def _told(chosen: np.ndarray, rank: int) -> np.ndarray:
    """Warn where the rank gave out, in the name of whoever called."""
    if rank < len(chosen):
        warnings.warn(
            f"The kernel has rank {rank}: only so many of {len(chosen)} items differ. The rest are "
            "those of the largest diagonal entries, which add nothing new.",
            stacklevel=3,
        )
    return chosen


def most_diverse(outputs: Sequence[torch.Tensor], k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Choose the candidates whose outputs on the same rows tell those rows apart most differently.

    Candidate i is described by S_i, the cosines between the rows of its outputs; the kernel is the
    cosine of these matrices, K_ij = <S_i, S_j> / (|S_i| |S_j|) (arXiv 2310.07756, section 3).

    Parameters
    ----------
    outputs : sequence of Tensors of shape (B, d_i)
        Outputs of each candidate on the same B rows.
    k : int
        Candidates to choose.

    Returns
    -------
    chosen : ndarray of shape (k,), int
        In the order of choice.
    kernel : ndarray of shape (k, k)
        Of the chosen ones, its diagonal exactly 1.
    n_different : int
        How many of them, the first, differ; the rest add nothing new.
    """
    units = [F.normalize(o.detach().double().flatten(1), dim=1) for o in outputs]  # (B, d_i)
    n_rows = len(units[0])
    if all(unit.shape[1] ** 2 < n_rows for unit in units):
        row = _row_by_products(units)
    else:
        row = _row_by_cosines(units)
    rows: dict[int, np.ndarray] = {}

    def kept(item: int) -> np.ndarray:
        rows[item] = row(item)
        rows[item][item] = 1.0
        return rows[item]

    chosen, n_different = _greedy(np.ones(len(units)), kept, k)
    kernel = np.stack([(rows[i] if i in rows else kept(i))[chosen] for i in chosen])
    return chosen, (kernel + kernel.T) / 2, n_different


def _row_by_cosines(units: list[torch.Tensor]) -> Callable[[int], np.ndarray]:
    """Rows of the kernel from all S_i, each once: half of a symmetric matrix says all of it."""
    n_rows = len(units[0])
    across, down = torch.triu_indices(n_rows, n_rows)
    places = (across * n_rows + down).to(units[0].device)
    # An entry off the diagonal stands for two.
    weights = torch.full(places.shape, 2**0.5, dtype=torch.float64, device=places.device)
    weights[across == down] = 1.0
    described = torch.empty(len(units), len(places), dtype=torch.float64)
    for start in range(0, len(units), _AT_ONCE):
        part = units[start : start + _AT_ONCE]
        if len({unit.shape for unit in part}) == 1:
            stacked = torch.stack(part)
            cosines = torch.bmm(stacked, stacked.mT)
        else:
            cosines = torch.stack([unit @ unit.T for unit in part])
        half = cosines.view(len(part), -1).index_select(1, places).mul_(weights)
        described[start : start + len(part)] = F.normalize(half, dim=1, eps=1e-300)
    return lambda item: (described @ described[item]).numpy()


def _row_by_products(units: list[torch.Tensor]) -> Callable[[int], np.ndarray]:
    """Rows of the kernel by <S_i, S_j> = |R_i' R_j|^2, cheaper where outputs are narrow."""
    widths = [unit.shape[1] for unit in units]
    beside = torch.cat(units, dim=1)  # (B, sum of d_i)
    owner = torch.repeat_interleave(torch.arange(len(units)), torch.tensor(widths))
    lengths = torch.stack([(unit.T @ unit).square().sum() for unit in units]).sqrt().cpu()

    def row(item: int) -> np.ndarray:
        squares = (units[item].T @ beside).square().sum(0).cpu()  # (sum of d_i,)
        products = torch.zeros(len(units), dtype=torch.float64).index_add_(0, owner, squares)
        return (products / (lengths * lengths[item]).clamp_min(1e-300)).numpy()

    return row
