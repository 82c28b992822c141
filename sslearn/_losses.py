"""Losses as plain functions. Paper symbols are mapped to names where they are used.

All are computed in float32 at least, whatever the precision of their input and also under
autocast: a similarity divided by a temperature of 0.1 keeps two digits in bfloat16.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

__all__ = [
    "barlow_twins",
    "batchwise_barlow",
    "feature_map_nce",
    "info_nce",
    "negative_cosine",
    "nt_xent",
    "offset_labels",
    "offset_nce",
    "resolve_loss",
    "vicreg",
]

# Variance below which a projection counts as constant in a batch.
_CONSTANT = 1e-8


def _in_full_precision(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Let a loss of two tensors of the same shape (n, d) see float32 at least, autocast off."""

    @functools.wraps(loss)
    def checked(a: torch.Tensor, b: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        if a.shape != b.shape or a.ndim != 2:
            raise ValueError(
                f"{loss.__name__} needs two projections of the same shape (n, d). "
                f"Got {tuple(a.shape)} and {tuple(b.shape)} instead."
            )
        with torch.autocast(a.device.type, enabled=False):
            return loss(*_full(a, b), *args, **kwargs)

    return checked


def _full(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Cast to one dtype that holds them all, float32 at least."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors), torch.float32)
    return [t.to(dtype) for t in tensors]


def resolve_loss(
    given: str | Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    known: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the loss that a ``loss`` parameter names, or the caller's own, checked."""
    if isinstance(given, str):
        return known[given]

    def checked(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        loss = given(a, b)
        has_gradient = getattr(loss, "requires_grad", False) or not torch.is_grad_enabled()
        if not (isinstance(loss, torch.Tensor) and loss.ndim == 0 and has_gradient):
            kind = type(loss).__name__
            if isinstance(loss, torch.Tensor):
                kind = f"shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
            raise ValueError(
                "The 'loss' parameter is a callable and must return a scalar tensor that has a "
                f"gradient. Got {kind} instead."
            )
        return loss

    return checked


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0. Got {temperature!r} instead.")


@_in_full_precision
def nt_xent(z1: torch.Tensor, z2: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    """Normalised temperature-scaled cross entropy of SimCLR (arXiv 2002.05709, equation 1).

    Row i of `z1` and row i of `z2` are each other's positive; the other 2 n - 2 rows are the
    negatives. Computed as one matrix product and one log-softmax, never in exp space: with
    T = 0.01, exp(1 / T) overflows float32.

    Parameters
    ----------
    z1, z2 : Tensor of shape (n, d)
        Projections of the two views; normalised here.
    temperature : float
        T of the paper, above 0.

    Returns
    -------
    Tensor
        Scalar, the mean over the 2 n rows.
    """
    _check_temperature(temperature)
    n = len(z1)
    z = F.normalize(torch.cat((z1, z2)), dim=1)  # (2n, d)
    z = z * temperature**-0.5  # cheaper on (2n, d) than dividing (2n, 2n)
    similarity = z @ z.T  # (2n, 2n)
    similarity.fill_diagonal_(float("-inf"))
    positive = torch.arange(2 * n, device=z.device).roll(n)  # i <-> i + n
    return F.cross_entropy(similarity, positive)


@_in_full_precision
def info_nce(
    queries: torch.Tensor,
    keys: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float = 0.2,
    excluded: torch.Tensor | None = None,
) -> torch.Tensor:
    """Contrast each query's own key with a pool of others (MoCo, arXiv 1911.05722, equation 1).

    Parameters
    ----------
    queries, keys : Tensor of shape (n, d)
        Row i of `keys` is the positive of row i of `queries`; normalised here.
    negatives : Tensor of shape (m, d)
        Keys of other rows, of unit length already.
    temperature : float
        tau of the paper, above 0.
    excluded : bool Tensor of shape (n, m), optional
        True where a negative is one of the query's own row and must not count.

    Returns
    -------
    Tensor
        Scalar, the mean over the queries.
    """
    _check_temperature(temperature)
    queries = F.normalize(queries, dim=1) / temperature
    positive = (queries * F.normalize(keys, dim=1)).sum(1, keepdim=True)  # (n, 1)
    others = queries @ negatives.to(queries.dtype).T  # (n, m)
    if excluded is not None:
        others = others.masked_fill(excluded, float("-inf"))
    logits = torch.cat((positive, others), dim=1)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


@_in_full_precision
def negative_cosine(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Minus the cosine of each prediction and its target (SimSiam, arXiv 2011.10566, equation 1).

    BYOL's squared distance of unit vectors (arXiv 2006.07733, equation 2) is 2 + 2 times this.

    Parameters
    ----------
    p, z : Tensor of shape (n, d)
        Predictions and targets. Stopping the gradient of the targets is the caller's affair.

    Returns
    -------
    Tensor
        Scalar, the mean over the rows: -1 where they agree, 0 where orthogonal, 1 where opposite.
    """
    return -(F.normalize(p, dim=1) * F.normalize(z, dim=1)).sum(1).mean()


@_in_full_precision
def barlow_twins(
    z1: torch.Tensor, z2: torch.Tensor, off_diagonal_weight: float = 0.005
) -> torch.Tensor:
    """Redundancy reduction (arXiv 2103.03230, equation 1).

    C is the cross-correlation of the two views' projections, each standardised over the batch by
    itself, so that the loss does not see their scales; the loss draws C to the identity.

    Parameters
    ----------
    z1, z2 : Tensor of shape (n, d)
        Projections of the two views. A dimension that is constant in the batch correlates with
        none.
    off_diagonal_weight : float
        lambda of the paper.

    Returns
    -------
    Tensor
        Scalar, summed over the d x d entries of C.
    """
    a, b = (_standardised(z) for z in (z1, z2))
    return _from_identity(a.T @ b / len(a), off_diagonal_weight)  # of (d, d)


def _standardised(z: torch.Tensor) -> torch.Tensor:
    z = z - z.mean(0)
    # Clamped, not added to: the result is then exactly the same for z and for 10 z.
    return z * z.square().mean(0).clamp_min(_CONSTANT).rsqrt()


@_in_full_precision
def batchwise_barlow(
    p: torch.Tensor, z: torch.Tensor, off_diagonal_weight: float = 0.01
) -> torch.Tensor:
    """Barlow Twins' loss over the rows of a batch (LFR, arXiv 2310.07756).

    C holds the cosine of every prediction with every target; the loss draws it to the identity:
    each prediction points where its own target does, and away from those of other rows.

    Parameters
    ----------
    p, z : Tensor of shape (n, d)
        Predictions and targets; a row of zeros has a cosine of 0 with all.
    off_diagonal_weight : float
        lambda of the paper.

    Returns
    -------
    Tensor
        Scalar, summed over the n x n entries of C.
    """
    cosines = F.normalize(p, dim=1) @ F.normalize(z, dim=1).T  # (n, n)
    return _from_identity(cosines, off_diagonal_weight)


def _from_identity(c: torch.Tensor, off_diagonal_weight: float) -> torch.Tensor:
    """Squared distance of a square matrix from the identity, weighted off the diagonal."""
    diagonal = c.diagonal()
    off_diagonal = c.square().sum() - diagonal.square().sum()
    return (diagonal - 1).square().sum() + off_diagonal_weight * off_diagonal


@_in_full_precision
def vicreg(
    z1: torch.Tensor,
    z2: torch.Tensor,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> torch.Tensor:
    """Variance, invariance, covariance (arXiv 2105.04906, equation 6).

    As in the authors' code, which the published weights belong to: the squared distance is a
    mean over the dimensions too, and the variance term the mean of both views.

    Parameters
    ----------
    z1, z2 : Tensor of shape (n, d)
        Projections (expander outputs) of the two views; n of one has no variance to speak of.
    invariance_weight, variance_weight, covariance_weight : float
        lambda, mu and nu of the paper.

    Returns
    -------
    Tensor
        Scalar.
    """
    invariance = F.mse_loss(z1, z2)
    variance = covariance = z1.new_zeros(())
    n, d = z1.shape
    for z in (z1, z2):
        z = z - z.mean(0)
        spread = (z.square().sum(0) / max(n - 1, 1) + 1e-4).sqrt()
        variance = variance + F.relu(1 - spread).mean() / 2
        products = z.T @ z / max(n - 1, 1)  # (d, d)
        off_diagonal = products.square().sum() - products.diagonal().square().sum()
        covariance = covariance + off_diagonal / d
    return (
        invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
    )


def offset_labels(grid: Sequence[int], offset: int) -> torch.Tensor:
    """Return which position lies `offset` steps ahead of each that has such a one.

    Parameters
    ----------
    grid : sequence of int
        (b, h, ...): rows of the batch and the sizes of their grids.
    offset : int
        Steps along the first axis of a grid.

    Returns
    -------
    Tensor of shape (b * (h - offset) * ...,), int
        Numbers of positions in the order (b, h, ...).
    """
    numbers = torch.arange(math.prod(grid)).view(*grid)
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
    labels = offset_labels((b, h, *others), offset).to(targets.device)
    with torch.autocast(targets.device.type, enabled=False):
        found, wanted = (_by_position(t) for t in _full(predictions, targets))
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
    anchor, positive = _full(anchor, positive)
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
    are many: autograd would keep six copies of them, and this two.
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
