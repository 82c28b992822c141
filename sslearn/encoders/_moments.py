"""Moments of the channels of samples, for networks that look at them."""

import torch

__all__ = ["moments", "with_rescaled"]

# Variance below which a channel of a standardised sample counts as constant.
_FAINTEST = 1e-5


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance over space of each channel of a map, in float32 at least.

    In one pass, by the mean of squares: ``torch.var`` is many times slower on channels-last maps.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    space = tuple(range(2, x.ndim))
    mean = x.mean(dim=space)
    return mean, (x.square().mean(dim=space) - mean.square()).clamp_min(0)


def with_rescaled(x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Append every channel of samples once more, with zero mean and unit deviation in each.

    Returns
    -------
    x : torch.Tensor of shape (n, 2 * channels, ...)
        The channels as they were, then the rescaled ones.
    taken : list of two torch.Tensor of shape (n, channels)
        What the rescaling takes away: the mean, and the decimal logarithm of the deviation.
    """
    # In two passes: a sensor may rest far from zero.
    space = tuple(range(2, x.ndim))
    mean = x.mean(dim=space, keepdim=True)
    centred = x - mean
    deviation = (centred.square().mean(dim=space, keepdim=True) + _FAINTEST).sqrt()
    taken = [mean.flatten(1), deviation.log10().flatten(1)]
    return torch.cat([x, centred / deviation], dim=1), taken
