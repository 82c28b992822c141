"""Losses of projections, one row for each sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ..._calls import call
from ._blocks import by_blocks
from ._precision import averaged_over_targets, in_full_precision

__all__ = [
    "barlow_twins",
    "batchwise_barlow",
    "info_nce",
    "negative_cosine",
    "nt_xent",
    "resolve_loss",
    "vicreg",
]

# Variance below which a projection counts as constant in a batch.
_CONSTANT = 1e-8
# Rows of a matrix of products up to which it takes no longer to make than what replaces it.
_SMALL = 128


def resolve_loss(
    given: str | Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    known: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the loss that a ``loss`` parameter names, or the caller's own, checked."""
    if isinstance(given, str):
        return known[given]
    words = (
        "is called as loss(predictions, targets) and must return a scalar tensor that has a "
        "gradient"
    )

    def checked(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        loss = call(given, "loss", a, b, words=words)
        has_gradient = getattr(loss, "requires_grad", False) or not torch.is_grad_enabled()
        if not (isinstance(loss, torch.Tensor) and loss.ndim == 0 and has_gradient):
            kind = type(loss).__name__
            if isinstance(loss, torch.Tensor):
                kind = f"shape {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
            raise ValueError(f"The 'loss' parameter {words}. Got {kind} instead.")
        return loss

    return checked


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0. Got {temperature!r} instead.")


@in_full_precision
def nt_xent(
    z1: torch.Tensor,
    z2: torch.Tensor,
    temperature: float = 0.5,
    groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalised temperature-scaled cross entropy of SimCLR (arXiv 2002.05709, equation 1).

    Row i of `z1` and row i of `z2` are each other's positive; the other 2 n - 2 rows are the
    negatives. Computed as a matrix product and a log-softmax, never in exp space: with T = 0.01,
    exp(1 / T) overflows float32.

    Parameters
    ----------
    z1, z2 : Tensor of shape (n, d)
        Projections of the two views; normalised here.
    temperature : float
        T of the paper, above 0.
    groups : Tensor of shape (n,), optional
        Group of each sample. Samples of one group are no negatives of each other.

    Returns
    -------
    Tensor
        Scalar, the mean over the 2 n rows.
    """
    _check_temperature(temperature)
    n = len(z1)
    z = F.normalize(torch.cat((z1, z2)), dim=1)  # (2n, d)
    z = z * temperature**-0.5  # cheaper on (2n, d) than dividing (2n, 2n)
    positive = torch.arange(2 * n, device=z.device).roll(n)  # i <-> i + n

    def part(rows: slice, some: torch.Tensor, every: torch.Tensor) -> torch.Tensor:
        similarity = some @ every.T  # (rows, 2n)
        # Detached, for the gradient at -inf is 0 as it is.
        similarity.detach().diagonal(rows.start).fill_(float("-inf"))
        if groups is not None:
            excluded = groups.repeat(2)[rows, None] == groups.repeat(2)
            excluded.scatter_(1, positive[rows, None], False)
            similarity.detach().masked_fill_(excluded, float("-inf"))
        return F.cross_entropy(similarity, positive[rows], reduction="sum") / len(positive)

    return by_blocks(part, (z,), (z,), 2 * n)


@in_full_precision
def info_nce(
    queries: torch.Tensor,
    keys: torch.Tensor,
    negatives: torch.Tensor,
    temperature: float = 0.2,
    excluded: Callable[[slice], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Contrast each query's own key with a pool of others (MoCo, arXiv 1911.05722, equation 1).

    Parameters
    ----------
    queries, keys : Tensor of shape (n, d)
        Row i of `keys` is the positive of row i of `queries`; normalised here.
    negatives : Tensor of shape (m, d)
        Keys of other samples, of unit length already.
    temperature : float
        tau of the paper, above 0.
    excluded : callable, optional
        Gets a slice of the n queries and returns a bool tensor of shape (length, m): True where a
        negative is of the query's own sample and must not count.

    Returns
    -------
    Tensor
        Scalar, the mean over the queries.
    """
    _check_temperature(temperature)
    queries = F.normalize(queries, dim=1) / temperature
    # Not among the pool: the positive is the first of m + 1 classes.
    positive = (queries * F.normalize(keys, dim=1)).sum(1, keepdim=True)  # (n, 1)
    n = len(queries)

    def part(
        rows: slice, queries: torch.Tensor, positive: torch.Tensor, negatives: torch.Tensor
    ) -> torch.Tensor:
        others = queries @ negatives.T  # (rows, m)
        if excluded is not None:
            others.detach().masked_fill_(excluded(rows), float("-inf"))
        logits = torch.cat((positive, others), dim=1)
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        return F.cross_entropy(logits, labels, reduction="sum") / n

    negatives = negatives.to(queries.dtype)
    return by_blocks(part, (queries, positive), (negatives,), len(negatives))


@averaged_over_targets
def negative_cosine(p: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Minus the cosine of each prediction and its target (SimSiam, arXiv 2011.10566, equation 1).

    BYOL's squared distance of unit vectors (arXiv 2006.07733, equation 2) is 2 + 2 times this.

    Parameters
    ----------
    p, z : Tensor of shape (n, d) or (k, n, d)
        Predictions and targets. Stopping the gradient of the targets is left to the caller.

    Returns
    -------
    Tensor
        Scalar, the mean over the rows: -1 where they agree, 0 where orthogonal, 1 where opposite.
    """
    return -(F.normalize(p, dim=-1) * F.normalize(z, dim=-1)).sum(-1).mean()


@in_full_precision
def barlow_twins(
    z1: torch.Tensor, z2: torch.Tensor, off_diagonal_weight: float = 0.005
) -> torch.Tensor:
    """Redundancy reduction (arXiv 2103.03230, equation 1).

    C is the cross-correlation of the two views' projections, each standardised over the batch by
    itself, so that the loss does not depend on their scales; the loss pushes C towards the
    identity.

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
    return _from_identity(a.T / len(a), b.T, off_diagonal_weight)  # C is (d, d)


def _standardised(z: torch.Tensor) -> torch.Tensor:
    z = z - z.mean(0)
    # Clamped, not added to: the result is then exactly the same for z and for 10 z.
    return z * z.square().mean(0).clamp_min(_CONSTANT).rsqrt()


@averaged_over_targets
def batchwise_barlow(
    p: torch.Tensor,
    z: torch.Tensor,
    off_diagonal_weight: float = 0.01,
    groups: torch.Tensor | None = None,
) -> torch.Tensor:
    """Barlow Twins' loss over the samples of a batch (LFR, arXiv 2310.07756).

    C holds the cosine of every prediction with every target; the loss pushes it towards the
    identity: each prediction points to its own target, and away from those of other samples.

    Parameters
    ----------
    p, z : Tensor of shape (n, d) or (k, n, d)
        Predictions and targets, of k targets at once; a row of zeros has a cosine of 0 with all.
    off_diagonal_weight : float
        lambda of the paper.
    groups : Tensor of shape (n,), optional
        Group of each sample. Cosines of different samples of one group are left out.

    Returns
    -------
    Tensor
        Scalar, summed over the n x n entries of C, the mean over the targets.
    """
    a, b = (F.normalize(x, dim=-1) for x in (p, z))
    if groups is not None:
        return _from_identity_across(a, b, off_diagonal_weight, groups)
    return _from_identity(a, b, off_diagonal_weight)  # C is (..., n, n)


def _from_identity(a: torch.Tensor, b: torch.Tensor, off_diagonal_weight: float) -> torch.Tensor:
    """Squared distance of C = a @ b.mT from the identity, weighted off the diagonal.

    The mean over matrices, if there are several (..., n, n).
    """
    off_diagonal, diagonal = _off_diagonal(a, b)
    total = (diagonal - 1).square().sum() + off_diagonal_weight * off_diagonal
    return total / a[..., 0, 0].numel()


def _from_identity_across(
    a: torch.Tensor, b: torch.Tensor, off_diagonal_weight: float, groups: torch.Tensor
) -> torch.Tensor:
    """As :func:`_from_identity`, of C without the pairs of one group off its diagonal."""
    n, n_matrices = len(groups), a[..., 0, 0].numel()

    def part(rows: slice, some: torch.Tensor, every: torch.Tensor) -> torch.Tensor:
        c = some.movedim(0, -2) @ every.mT  # (..., rows, n)
        return (c.square() * (groups[rows, None] != groups)).sum()

    across = by_blocks(part, (a.movedim(-2, 0),), (b,), n * n_matrices)
    total = ((a * b).sum(-1) - 1).square().sum() + off_diagonal_weight * across
    return total / n_matrices


def _off_diagonal(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sum of squares off the diagonal of C = a @ b.mT, and the diagonal.

    Where C, of (..., n, n), is much larger than `a` and `b`, of (..., n, d), it is not made: its
    sum of squares is the trace of C.mT @ C, and so of a.mT @ a @ b.mT @ b.
    """
    n, d = a.shape[-2:]
    if n <= max(_SMALL, d if b is a else 2 * d):
        c = a @ b.mT
        diagonal = c.diagonal(dim1=-2, dim2=-1)
        squares = c.square().sum()
    else:
        diagonal = (a * b).sum(-1)
        products = a.mT @ a  # (..., d, d)
        squares = (products * (products if b is a else b.mT @ b)).sum()
    return squares - diagonal.square().sum(), diagonal


@in_full_precision
def vicreg(
    z1: torch.Tensor,
    z2: torch.Tensor,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> torch.Tensor:
    """Variance, invariance, covariance (arXiv 2105.04906, equation 6).

    As in the authors' code, for which the published weights were chosen: the squared distance is a
    mean over the dimensions too, and the variance term the mean of both views.

    Parameters
    ----------
    z1, z2 : Tensor of shape (n, d)
        Projections (expander outputs) of the two views; a single sample has no variance.
    invariance_weight, variance_weight, covariance_weight : float
        lambda, mu and nu of the paper.

    Returns
    -------
    Tensor
        Scalar.
    """
    # s(Z, Z') of the paper: both views have the same projection.
    invariance = F.mse_loss(z1, z2)
    variance = covariance = z1.new_zeros(())
    n, d = z1.shape
    for z in (z1, z2):
        z = z - z.mean(0)
        # v(Z): a hinge, which acts only below a standard deviation of 1.
        spread = (z.square().sum(0) / max(n - 1, 1) + 1e-4).sqrt()
        variance = variance + F.relu(1 - spread).mean() / 2
        # c(Z): dimensions that do not covary are not redundant.
        columns = z.T * max(n - 1, 1) ** -0.5  # whose products are the covariances, (d, d)
        covariance = covariance + _off_diagonal(columns, columns)[0] / d
    return (
        invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance
    )
