"""Losses that tell places apart: of patches (CPC) and of feature maps (AMDIM)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ._precision import full

__all__ = ["feature_map_nce", "offset_labels", "offset_nce"]


def offset_labels(
    grid: Sequence[int], offset: int, device: torch.device | None = None
) -> torch.Tensor:
    """Return which position lies `offset` steps ahead of each that has such a one.

    Parameters
    ----------
    grid : sequence of int
        (b, h, ...): rows of the batch and the sizes of their grids.
    offset : int
        Steps along the first axis of a grid.
    device : torch.device, optional
        Of the result.

    Returns
    -------
    Tensor of shape (b * (h - offset) * ...,), int
        Numbers of positions in the order (b, h, ...).
    """
    numbers = torch.arange(math.prod(grid), device=device).view(*grid)
    return numbers[:, offset:].flatten()


def offset_nce(
    predictions: torch.Tensor,
    targets: torch.Tensor,
    offset: int,
    scale: float = 0.1,
    *,
    own_row: bool = True,
) -> torch.Tensor:
    """Find what stands `offset` steps ahead among all positions of the batch (CPC, 1807.03748).

    Parameters
    ----------
    predictions : Tensor of shape (b, d, h - offset, ...)
        Of the target `offset` steps further along the first axis of the grid, from each position
        that has such a one.
    targets : Tensor of shape (b, d, h, ...)
        At every position of the grids of b rows.
    offset : int
        Steps along the first axis of the grid.
    scale : float
        Factor on the products of predictions and targets.
    own_row : bool
        Count the other positions of the same row of the batch among the negatives too. Where a
        row looks the same all along, they are none.

    Returns
    -------
    Tensor
        Scalar, the mean over the predictions.
    """
    b, d, h, *others = targets.shape
    if predictions.shape != (b, d, h - offset, *others):
        raise ValueError(
            f"offset_nce needs predictions of shape (b, d, h - {offset}, ...) for targets of shape "
            f"(b, d, h, ...). Got {tuple(predictions.shape)} and {tuple(targets.shape)} instead."
        )
    labels = offset_labels((b, h, *others), offset, targets.device)
    with torch.autocast(targets.device.type, enabled=False):
        found, wanted = (_by_position(t) for t in full(predictions, targets))
        logits = (found * scale) @ wanted.T  # (positions with a target, positions)
        if not own_row:
            rows = torch.arange(b, device=labels.device)
            owners = [rows.repeat_interleave(len(t) // b) for t in (found, wanted)]
            excluded = owners[0][:, None] == owners[1]
            excluded[torch.arange(len(labels), device=labels.device), labels] = False
            logits.masked_fill_(excluded, float("-inf"))
        return F.cross_entropy(logits, labels)


def _by_position(maps: torch.Tensor) -> torch.Tensor:
    """Turn maps (b, d, ...) into a row for each position: (b * positions, d)."""
    return maps.flatten(2).mT.reshape(-1, maps.shape[1])


def feature_map_nce(
    anchors: Sequence[torch.Tensor],
    positives: Sequence[torch.Tensor],
    comparisons: Sequence[tuple[int, int]],
    *,
    clip: float = 20.0,
    bidirectional: bool = True,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrast feature maps of two views, across scales (AMDIM, arXiv 1906.00910).

    For each row a position of a map of one view is drawn; it is to be closer to every position of
    a map of the row's other view than to all positions of other rows' maps.

    Parameters
    ----------
    anchors, positives : sequence of Tensors of shape (b, d, ...)
        The maps of each view, embedded; their sizes may differ.
    comparisons : sequence of (int, int)
        Map of the anchor, map of the positive; -1 for one drawn at random.
    clip : float
        c of ``c * tanh(score / c)``, which keeps scores from growing.
    bidirectional : bool
        Take each view for the anchor, and the mean.
    generator : torch.Generator, optional
        Of the positions and random maps.

    Returns
    -------
    losses : Tensor of shape (n_comparisons,)
    regularizer : Tensor
        Scalar: 0.05 times the mean squared score before the clip, summed over comparisons.
    """
    directions = [(anchors, positives), (positives, anchors)][: 2 if bidirectional else 1]
    n_maps = len(anchors)
    losses, squares = [], []
    with torch.autocast(anchors[0].device.type, enabled=False):
        for comparison in comparisons:
            # A random map waits for the device: which one decides the shapes of what follows.
            source, target = (
                int(_draw(n_maps, 1, anchors[0].device, generator)) if i < 0 else i
                for i in comparison
            )
            found = [_one_against_all(a[source], p[target], clip, generator) for a, p in directions]
            loss, square = (torch.stack(each).mean() for each in zip(*found, strict=True))
            losses.append(loss)
            squares.append(square)
    return torch.stack(losses), 0.05 * torch.stack(squares).sum()


def _draw(
    high: int, n: int, device: torch.device, generator: torch.Generator | None
) -> torch.Tensor:
    return torch.randint(0, high, (n,), device=device, generator=generator)


def _one_against_all(
    anchor: torch.Tensor, positive: torch.Tensor, clip: float, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Contrast one position of each row's `anchor` with all positions of `positive`."""
    anchor, positive = full(anchor, positive)
    b, d = anchor.shape[:2]
    if b < 2:  # nothing to tell a row from
        return anchor.sum() * 0.0, anchor.sum() * 0.0
    flat = anchor.flatten(2)
    place = _draw(flat.shape[2], b, flat.device, generator)
    rows = torch.arange(b, device=flat.device)
    source = flat[rows, :, place] / (math.sqrt(d) * clip)  # (b, d)
    loss, square = _Contrast.apply(source, _by_position(positive), clip)
    return loss, square * clip**2


class _Contrast(torch.autograd.Function):
    """Softplus of what others have over each own position, and the mean squared score.

    Of (b, d) and (b * positions, d). Written with its gradient, since the scores (b, b * positions)
    are many: autograd would keep a copy of them for each operation, and this keeps two in all.
    """

    @staticmethod
    def forward(ctx, source: torch.Tensor, targets: torch.Tensor, clip: float):
        b = len(source)
        scores = source @ targets.T  # (b, b * positions), in units of the clip
        square = torch.linalg.vector_norm(scores).square() / scores.numel()
        clipped = torch.tanh(scores)
        blocks = clipped.view(b, b, -1)
        rows = torch.arange(b, device=scores.device)
        own = blocks[rows, rows]  # (b, positions)
        blocks[rows, rows] = -math.inf
        largest = clipped.amax(1, keepdim=True)
        weights = (clipped - largest).mul_(clip).exp_()  # 0 for the row's own
        total = weights.sum(1, keepdim=True)
        margin = clip * (largest - own) + total.log()
        loss = F.softplus(margin).mean()
        # What each score moves the loss by: `weights`, from here on.
        pull = torch.sigmoid(margin) * (clip / margin.numel())  # (b, positions)
        weights *= pull.sum(1, keepdim=True) / total
        weights.view(b, b, -1)[rows, rows] = -pull
        blocks[rows, rows] = own
        weights.addcmul_(weights * clipped, clipped, value=-1)  # times 1 - tanh^2
        ctx.save_for_backward(source, targets, scores, weights)
        return loss, square

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_loss: torch.Tensor, of_square: torch.Tensor):
        source, targets, scores, weights = ctx.saved_tensors
        gradient = weights * of_loss
        gradient.addcmul_(scores, of_square * (2 / scores.numel()))
        return gradient @ targets, gradient.T @ source, None
