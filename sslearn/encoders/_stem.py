"""An encoder of two parts: a stem that is fixed, and a body that learns from its features."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ._checks import check_int, check_ints, check_option
from ._missing import takes_nan
from ._rotation import HadamardRotation

__all__ = ["Concatenation", "StemEncoder"]

# Variance below which a block of features is not scaled up any further.
_LEAST_VARIANCE = 1e-6


class StemEncoder(nn.Module):
    """A fixed stem, and a body that learns from its features; the output holds both.

    A method trains the body alone. Since the stem does not change, its features of a view
    are computed once where memory allows (``cached_views`` of the methods).

    The output is one block: the features of the stem and those of the body, both scaled to a
    total variance of 1 over training samples (see `stem_weight`), concatenated and rotated by a
    :class:`HadamardRotation`. A scaler that is fitted on few labelled samples then does no harm.

    Parameters
    ----------
    stem : torch.nn.Module
        Maps samples (n, ...) to features (n, `stem_width`). It has no parameters that learn, and
        gives equal features twice.
    body : torch.nn.Module
        Maps these features to features (n, `body_width`), and learns.
    stem_width, body_width : int
        Numbers of features.
    output : {"both", "body"}, default="both"
        Whether the features of the stem come out too. "body" gives those of the body as they are.
    stem_weight : float, default=1.0
        Deviation of the features of the stem in the output, in units of that of the body's. The
        smaller, the more the output is like that of the body alone.
    stem_blocks : tuple of int, default=None
        Numbers of neighbouring features of the stem that are a block each: in the output all
        blocks, of the stem and of the body, have the same variance, apart from `stem_weight`.
        Features of the stem behind the last block are for the body alone. If None, all are one
        block.

    See Also
    --------
    KernelBank : The stem for series.
    default_encoder : Makes and sizes such an encoder for series.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import KernelBank, StemEncoder
    >>> series = torch.randn(20, 3, 100, generator=torch.Generator().manual_seed(0))
    >>> bank = KernelBank.from_samples(series, n_features=1512)
    >>> body = torch.nn.Sequential(torch.nn.Linear(1512, 512), torch.nn.ReLU())
    >>> encoder = StemEncoder(bank, body, stem_width=1512, body_width=512)
    >>> encoder.calibrate(bank(series))
    >>> encoder.eval()(series).shape
    torch.Size([20, 2048])
    """

    stem_mean: torch.Tensor
    stem_gain: torch.Tensor
    body_mean: torch.Tensor
    body_gain: torch.Tensor

    def __init__(
        self,
        stem: nn.Module,
        body: nn.Module,
        *,
        stem_width: int,
        body_width: int,
        output: str = "both",
        stem_weight: float = 1.0,
        stem_blocks: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        check_option("StemEncoder", "output", output, ("both", "body"))
        self.stem = stem
        self.body = body
        self.stem_width = check_int("StemEncoder", "stem_width", stem_width)
        self.body_width = check_int("StemEncoder", "body_width", body_width)
        if not (isinstance(stem_weight, float | int) and 0 < stem_weight < math.inf):
            raise ValueError(
                "The 'stem_weight' parameter of StemEncoder must be a float in the range "
                f"(0.0, inf). Got {stem_weight!r} instead."
            )
        self.output = output
        self.stem_weight = float(stem_weight)
        blocks = (self.stem_width,) if stem_blocks is None else stem_blocks
        self.stem_blocks = check_ints("StemEncoder", "stem_blocks", blocks, may_be_empty=False)
        if sum(self.stem_blocks) > self.stem_width:
            raise ValueError(
                "The 'stem_blocks' parameter of StemEncoder must have a sum of at most stem_width "
                f"= {stem_width}. Got {stem_blocks!r} instead."
            )
        if output == "body":
            return
        n_fixed = sum(self.stem_blocks)
        self.register_buffer("stem_mean", torch.zeros(n_fixed))
        self.register_buffer("stem_gain", torch.ones(n_fixed))
        self.register_buffer("body_mean", torch.zeros(self.body_width))
        self.register_buffer("body_gain", torch.ones(()))
        width = n_fixed + self.body_width
        # A rotation, not a projection: it has as many columns as it needs.
        self.rotation = HadamardRotation(width, max_features=2 ** (width - 1).bit_length())

    @property
    def takes_nan(self) -> bool:
        """Whether the stem takes NaN, for values that are missing."""
        return takes_nan(self.stem)

    def extra_repr(self) -> str:
        return f"output={self.output!r}, stem_weight={self.stem_weight}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode a batch of samples: (n, ...) to (n, width)."""
        fixed = self.stem(x)
        learned = self.body(fixed)
        if self.output == "body":
            return learned
        # In one precision, also where an objective opened an autocast context.
        fixed = (fixed[:, : len(self.stem_mean)] - self.stem_mean) * self.stem_gain
        learned = (learned.to(fixed.dtype) - self.body_mean) * self.body_gain
        return self.rotation(torch.cat((fixed, learned), dim=1))

    @torch.no_grad()
    def calibrate(self, inputs: torch.Tensor, *, trained: bool = True) -> None:
        """Set the statistics that depend on samples, once the body has its weights.

        Batch norms of the body hold statistics of views, and serve samples: theirs are set to
        those of samples. And the blocks that come out get their means and scales.

        Parameters
        ----------
        inputs : torch.Tensor of shape (n, stem_width)
            The stem's features of training samples; two at least.
        trained : bool, default=True
            Whether the body has been trained. If False, its features do not come out with those
            of the stem, in as many columns: as drawn, they only take weight from these.
        """
        set_batch_statistics(self.body, inputs)
        if self.output == "body":
            return
        modes = [(module, module.training) for module in self.body.modules()]
        learned = self.body.eval()(inputs)
        for module, training in modes:
            module.training = training
        fixed = inputs[:, : len(self.stem_mean)]
        parts = fixed.split(self.stem_blocks, dim=1)
        self.stem_mean.copy_(fixed.mean(0))
        self.stem_gain.copy_(torch.cat([self.stem_weight * _gain(part) for part in parts]))
        self.body_mean.copy_(learned.mean(0))
        self.body_gain.copy_(_gain(learned)[0])
        if not trained:
            self.body_gain.zero_()


def _gain(features: torch.Tensor) -> torch.Tensor:
    """Return the factor that brings the features of a block to a total variance of 1, for each."""
    variance = features.var(0, correction=0).sum().clamp_min(_LEAST_VARIANCE)
    return variance.rsqrt().expand(features.shape[1])


class Concatenation(nn.ModuleDict):
    """Modules that see the same input; their features are concatenated.

    Parameters
    ----------
    modules : mapping from str to torch.nn.Module, default=None
        Each maps a batch (n, ...) to features (n, d). If None, they are added later by name.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import Concatenation
    >>> both = Concatenation({"first": torch.nn.Linear(3, 2), "second": torch.nn.Linear(3, 4)})
    >>> both(torch.zeros(5, 3)).shape
    torch.Size([5, 6])
    """

    @property
    def is_fixed(self) -> bool:
        """Whether nothing in it moves during training."""
        return all(getattr(module, "is_fixed", False) for module in self.values())

    @property
    def takes_nan(self) -> bool:
        """Whether all of them take NaN, for values that are missing."""
        return all(map(takes_nan, self.values()))

    def forward(self, x: torch.Tensor, *args: torch.Tensor) -> torch.Tensor:
        """Encode a batch: (n, ...) to (n, sum of d). What follows, as a mask, goes to each."""
        return torch.cat([module(x, *args) for module in self.values()], dim=1)


@torch.no_grad()
def set_batch_statistics(module: nn.Module, inputs: torch.Tensor) -> None:
    """Set the running statistics of batch norms to those of one batch; frozen ones stay.

    Parameters
    ----------
    module : torch.nn.Module
        Network with batch norms, in any mode, which it keeps.
    inputs : torch.Tensor of shape (n, ...)
        A batch, of two samples at least.
    """
    norms = [
        norm
        for norm in module.modules()
        if isinstance(norm, _BatchNorm)
        and norm.track_running_stats
        and not getattr(norm, "_sslearn_frozen", False)
    ]
    if not norms:
        return
    modes = [(child, child.training) for child in module.modules()]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # an average over batches, here of one
    module(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for child, training in modes:
        child.training = training
