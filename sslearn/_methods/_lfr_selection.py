"""Choosing the most diverse of many: greedy MAP of a determinantal point process.

The greedy choice repeatedly adds the item that raises log det of the kernel of the chosen ones most
(Chen, Zhang, Zhou 2018, arXiv 1709.05135): O(N k^2), using only the diagonal of the kernel and the
k rows of the chosen items. All in float64: in float32 rounding decides ties, even among duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

__all__ = ["greedy_map", "most_diverse"]

# Remaining gain of an item, as a fraction of the largest diagonal entry, below which it lies in the
# span of those chosen before.
_NOTHING = 1e-10
# Items whose gains differ by less than this fraction are equal, and the first one is taken:
# otherwise rounding would decide.
_TIE = 1e-9
# Candidates whose cosines are computed in one call, while they fit into the caches.
_AT_ONCE = 16


def greedy_map(
    diagonal: np.ndarray, row: Callable[[int], np.ndarray], k: int
) -> tuple[np.ndarray, int]:
    """Return the greedy MAP of a kernel, in the order of choice.

    Parameters
    ----------
    diagonal : ndarray of shape (N,)
        Diagonal of the kernel, which is symmetric and positive semi-definite.
    row : callable
        Returns a row of the kernel, by its number. Called for chosen items only.
    k : int
        Items to choose, at most N.

    Returns
    -------
    chosen : ndarray of shape (k,), int
        If the kernel's rank is less than k, the last ones are those of the largest diagonal.
    rank : int
        How many of them, the first, differ.
    """
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
        # log det grows by log(gain): the largest gain wins, the first of equal ones.
        item = int(np.argmax(gain >= largest - _TIE * largest))
        # One more row of the Cholesky factor, instead of a new determinant for each candidate.
        along = coordinates[t]
        np.dot(coordinates[:t, item], coordinates[:t], out=along)
        np.subtract(row(item), along, out=along)
        along /= np.sqrt(gain[item])
        # What the chosen item already covers of the others is no gain any more.
        gain -= along * along
        gain[item] = -np.inf
        chosen.append(item)
    return np.array(chosen), k


def _filled(chosen: list[int], diagonal: np.ndarray, k: int) -> np.ndarray:
    order = np.argsort(-diagonal, kind="stable")
    rest = order[~np.isin(order, chosen)]
    return np.concatenate([np.array(chosen, dtype=int), rest[: k - len(chosen)]])


def most_diverse(outputs: Sequence[torch.Tensor], k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Choose the candidates whose outputs distinguish the same samples most differently.

    Candidate i is described by S_i, the cosines between its outputs for different samples; the
    kernel is the cosine of these matrices, K_ij = <S_i, S_j> / (|S_i| |S_j|) (arXiv 2310.07756,
    section 3).

    Parameters
    ----------
    outputs : sequence of Tensors of shape (B, d_i)
        Outputs of each candidate on the same B samples.
    k : int
        Candidates to choose.

    Returns
    -------
    chosen : ndarray of shape (k,), int
        In the order of choice.
    kernel : ndarray of shape (k, k)
        Kernel of the chosen ones, its diagonal exactly 1.
    n_different : int
        How many of the chosen, the first ones, differ; the others add nothing new.
    """
    units = [F.normalize(o.detach().double().flatten(1), dim=1) for o in outputs]  # (B, d_i)
    n_rows = len(units[0])
    # Narrow outputs: products of d x d numbers are fewer than B x B cosines.
    if all(unit.shape[1] ** 2 < n_rows for unit in units):
        row = _row_by_products(units)
    else:
        row = _row_by_cosines(units)
    rows: dict[int, np.ndarray] = {}

    def kept(item: int) -> np.ndarray:
        rows[item] = row(item)
        rows[item][item] = 1.0  # exactly, as the diagonal that was given
        return rows[item]

    chosen, n_different = greedy_map(np.ones(len(units)), kept, k)
    kernel = np.stack([(rows[i] if i in rows else kept(i))[chosen] for i in chosen])
    return chosen, (kernel + kernel.T) / 2, n_different


def _row_by_cosines(units: list[torch.Tensor]) -> Callable[[int], np.ndarray]:
    """Return rows of the kernel from all S_i, computed once: the half of a symmetric matrix."""
    n_rows = len(units[0])
    across, down = torch.triu_indices(n_rows, n_rows)
    places = (across * n_rows + down).to(units[0].device)
    # An entry off the diagonal counts twice.
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
    """Return rows of the kernel by <S_i, S_j> = |R_i' R_j|^2, cheaper where outputs are narrow."""
    widths = [unit.shape[1] for unit in units]
    joined = torch.cat(units, dim=1)  # (B, sum of d_i)
    owner = torch.repeat_interleave(torch.arange(len(units)), torch.tensor(widths))
    lengths = torch.stack([(unit.T @ unit).square().sum() for unit in units]).sqrt().cpu()

    def row(item: int) -> np.ndarray:
        squares = (units[item].T @ joined).square().sum(0).cpu()  # (sum of d_i,)
        products = torch.zeros(len(units), dtype=torch.float64).index_add_(0, owner, squares)
        return (products / (lengths * lengths[item]).clamp_min(1e-300)).numpy()

    return row
