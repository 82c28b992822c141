"""Losses that compare positions: those of patches (CPC) and of feature maps (AMDIM)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ._blocks import by_blocks, refuse_second_gradient
from ._precision import promote

__all__ = ["feature_map_nce", "offset_nce"]


def offset_nce(
    predictions: torch.Tensor,
    targets: torch.Tensor,
    offset: int,
    scale: float = 0.1,
    *,
    own_row: bool = True,
    groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """Find the target `offset` steps ahead among all positions of the batch (CPC, 1807.03748).

    Parameters
    ----------
    predictions : Tensor of shape (b, d, h - offset, ...)
        Predictions of the target `offset` steps further along the first axis of the grid, from
        each position that has one.
    targets : Tensor of shape (b, d, h, ...)
        Targets at every position of the grids of b samples.
    offset : int
        Steps along the first axis of the grid.
    scale : float
        Factor on the products of predictions and targets.
    own_row : bool
        Whether the other positions of the same sample are negatives too. If a sample is alike at
        all positions, they are no true negatives.
    groups : Tensor of shape (b,), optional
        Group of each sample. Positions of other samples of its group are no negatives.

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
    # The positive of a prediction: the number of the position `offset` steps ahead of it.
    numbers = torch.arange(math.prod((b, h, *others)), device=targets.device)
    labels = numbers.view(b, h, *others)[:, offset:].flatten()
    rows = torch.arange(b, device=labels.device)
    counts = predictions[0, 0].numel(), targets[0, 0].numel()
    askers, owners = map(rows.repeat_interleave, counts)
    # Groups of the samples; without groups each is one of its own.
    asking, owning = map((rows if groups is None else groups).repeat_interleave, counts)

    def part(block: slice, found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        # A cross entropy over all positions of the batch: InfoNCE, the paper's equation 4.
        logits, right = found @ wanted.T, labels[block]  # (positions of the block, positions)
        # Without the other positions of its own sample or group, but with the positive.
        if not own_row or groups is not None:
            excluded = asking[block, None] == owning
            if own_row:
                excluded &= askers[block, None] != owners
            excluded.scatter_(1, right[:, None], False)
            logits.detach().masked_fill_(excluded, float("-inf"))  # where the gradient is 0
        return F.cross_entropy(logits, right, reduction="sum") / len(labels)

    with torch.autocast(targets.device.type, enabled=False):
        found, wanted = (_by_position(t) for t in promote(predictions, targets))
        return by_blocks(part, (found * scale,), (wanted,), len(wanted))


def _by_position(maps: torch.Tensor) -> torch.Tensor:
    """Turn maps (b, d, ...) into a row for each position: (b * positions, d)."""
    return maps.flatten(2).mT.reshape(-1, maps.shape[1])


def feature_map_nce(
    anchors: Sequence[torch.Tensor],
    positives: Sequence[torch.Tensor],
    comparisons: Sequence[tuple[int, int]],
    *,
    clip: float = 20.0,
    regularization: float = 0.05,
    bidirectional: bool = True,
    generator: torch.Generator | None = None,
    groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """Contrast feature maps of two views, across scales (AMDIM, arXiv 1906.00910).

    For each sample a position of a map of one view is drawn; it must be closer to every position
    of a map of the sample's other view than to all positions of other samples' maps.

    Parameters
    ----------
    anchors, positives : sequence of Tensors of shape (b, d, ...)
        The maps of each view, embedded; their sizes may differ.
    comparisons : sequence of (int, int)
        Map of the anchor, map of the positive; -1 for one drawn at random.
    clip : float
        c of ``c * tanh(score / c)``, which keeps scores from growing.
    regularization : float
        Weight of the mean squared score before the clip.
    bidirectional : bool
        Whether each view is the anchor once, and the mean is returned.
    generator : torch.Generator, optional
        Source of the positions and random maps.
    groups : Tensor of shape (b,), optional
        Group of each sample. Samples of one group are no negatives of each other.

    Returns
    -------
    Tensor of shape (n_comparisons,)
        Losses, each with its regularizer.
    """
    directions = [(anchors, positives), (positives, anchors)][: 2 if bidirectional else 1]
    n_maps = len(anchors)
    losses = []
    with torch.autocast(anchors[0].device.type, enabled=False):
        for comparison in comparisons:
            # A random map waits for the device: which one decides the shapes of what follows.
            source, target = (
                int(_draw(n_maps, 1, anchors[0].device, generator)) if i < 0 else i
                for i in comparison
            )
            found = [
                _one_against_all(a[source], p[target], clip, regularization, generator, groups)
                for a, p in directions
            ]
            losses.append(torch.stack(found).mean())
    return torch.stack(losses)


def _draw(
    high: int, n: int, device: torch.device, generator: torch.Generator | None
) -> torch.Tensor:
    return torch.randint(0, high, (n,), device=device, generator=generator)


def _one_against_all(
    anchor: torch.Tensor,
    positive: torch.Tensor,
    clip: float,
    regularization: float,
    generator: torch.Generator | None,
    groups: torch.Tensor | None,
) -> torch.Tensor:
    """Contrast one position of each sample's `anchor` with all positions of `positive`."""
    anchor, positive = promote(anchor, positive)
    b, d = anchor.shape[:2]
    if b < 2:  # no other sample is a negative
        return anchor.sum() * 0.0
    # One random position of each anchor, as the paper does for local features.
    flat = anchor.flatten(2)
    place = _draw(flat.shape[2], b, flat.device, generator)
    rows = torch.arange(b, device=flat.device)
    source = flat[rows, :, place] / (math.sqrt(d) * clip)  # (b, d)
    targets = _by_position(positive)

    def part(block: slice, some: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        excluded = None if groups is None else groups[block, None] == groups
        return _Contrast.apply(some, targets, rows[block], b, clip, regularization, excluded)

    return by_blocks(part, (source,), (targets,), len(targets))


class _Contrast(torch.autograd.Function):
    """Softplus of the margin of others over each own position, and the regularizer.

    From n of b samples, (n, d), and all targets, (b * positions, d): their part of the mean over
    all. `excluded` (n, b) is where a sample is no negative, itself included. Written with its
    gradient, since the scores (n, b * positions) are many: autograd would keep a copy of them for
    each operation, and this keeps one.
    """

    @staticmethod
    def forward(
        ctx,
        source: torch.Tensor,
        targets: torch.Tensor,
        rows: torch.Tensor,
        b: int,
        clip: float,
        regularization: float,
        excluded: torch.Tensor | None,
    ):
        scores = source @ targets.T  # (n, b * positions), in units of the clip
        weight = regularization * clip**2 / (b * len(targets))  # of a squared score
        square = torch.linalg.vector_norm(scores).square() * weight
        # The clip, then the log-sum-exp over all other samples, shifted by its largest term.
        clipped = torch.tanh(scores)
        n = len(source)
        blocks = clipped.view(n, b, -1)
        here = torch.arange(n, device=scores.device)
        own = blocks[here, rows]  # (n, positions)
        if excluded is None:
            blocks[here, rows] = -math.inf
            largest = clipped.amax(1, keepdim=True)
        else:
            blocks.masked_fill_(excluded[..., None], -math.inf)
            largest = clipped.amax(1, keepdim=True).clamp_min_(-1)  # where no negative is left
        weights = (clipped - largest).mul_(clip).exp_()  # 0 for the row's own
        total = weights.sum(1, keepdim=True)
        if excluded is not None:
            total.clamp_min_(torch.finfo(total.dtype).tiny)
            blocks.masked_fill_(excluded[..., None], 0)  # of no weight, and no longer infinite
        # -log(e^own / (e^own + total)), written as a softplus: no overflow for large scores.
        margin = clip * (largest - own) + total.log()
        loss = F.softplus(margin).sum() / len(targets)
        # From here on `weights` is the gradient of the loss by each score.
        pull = torch.sigmoid(margin) * (clip / len(targets))  # (n, positions)
        weights *= pull.sum(1, keepdim=True) / total
        weights.view(n, b, -1)[here, rows] = -pull
        blocks[here, rows] = own
        weights.addcmul_(weights * clipped, clipped, value=-1)  # times 1 - tanh^2
        weights.add_(scores, alpha=2 * weight)
        ctx.save_for_backward(source, targets, weights)
        return loss + square

    @staticmethod
    def backward(ctx, of_loss: torch.Tensor):
        refuse_second_gradient()
        source, targets, weights = ctx.saved_tensors
        of_source = weights @ targets * of_loss
        return of_source, weights.T @ (source * of_loss), None, None, None, None, None
