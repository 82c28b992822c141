"""Moments of the channels of samples, as inputs and outputs of networks."""

import math

import torch

__all__ = ["moments", "with_rescaled"]

# Variance below which a channel of a standardised sample counts as constant.
_FAINTEST = 1e-5


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance over space of each channel of a map, in float32 at least.

    By the mean of squares: ``torch.var`` is many times slower on channels-last maps.
    """
    # A trace would keep the function as a call into Python, which cannot be saved.
    plain = not x.requires_grad or torch.jit.is_tracing()
    mean, of_squares = _means(x) if plain else _Means.apply(x)
    return mean, (of_squares - mean.square()).clamp_min(0)


def _means(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means over space of a map and of its square."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    space = tuple(range(2, x.ndim))
    return x.mean(dim=space), x.square().mean(dim=space)


class _Means(torch.autograd.Function):
    """The same with a gradient written in one pass; autograd makes six passes over the map."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return _means(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, of_mean, of_squares):
        (x,) = ctx.saved_tensors
        share = 1 / math.prod(x.shape[2:])
        everywhere = (..., *[None] * (x.ndim - 2))
        constant, slope = of_mean * share, of_squares * (2 * share)
        return torch.addcmul(constant[everywhere], slope[everywhere], x).to(x.dtype)


def with_rescaled(x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Append every channel of samples once more, with zero mean and unit deviation in each.

    Returns
    -------
    x : torch.Tensor of shape (n, 2 * channels, ...)
        The channels as they were, then the rescaled ones.
    taken : list of two torch.Tensor of shape (n, channels)
        The values that the rescaling removes: mean, and decimal logarithm of the deviation.
    """
    # In two passes, since the level of a sensor may be far from zero.
    space = tuple(range(2, x.ndim))
    mean = x.mean(dim=space, keepdim=True)
    centred = x - mean
    deviation = (centred.square().mean(dim=space, keepdim=True) + _FAINTEST).sqrt()
    taken = [mean.flatten(1), deviation.log10().flatten(1)]
    return torch.cat([x, centred / deviation], dim=1), taken
