"""Channels-last, the layout of memory in which convolutions are fastest.

Networks of this package lay their input out so, and their weights while they are trained, which
saves a tenth of the time; a network of the caller's keeps the layout that it has. Weights that are
published are contiguous: many tools take no others.
"""

import platform
from typing import Any

import torch
from torch import nn

__all__ = ["ChannelsLast", "Conv2d", "Conv3d", "as_channels_last", "to_memory_format"]

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class ChannelsLast(nn.Module):
    """A network whose weights :func:`to_memory_format` may lay out channels-last."""


def to_memory_format(module: nn.Module, *, channels_last: bool) -> None:
    """Lay the convolutions of all :class:`ChannelsLast` networks in a module out, in place."""
    for network in module.modules():
        if isinstance(network, ChannelsLast):
            for tensor in (*network.parameters(), *network.buffers()):
                if tensor.ndim in _FORMATS:
                    layout = _FORMATS[tensor.ndim] if channels_last else torch.contiguous_format
                    tensor.data = tensor.data.contiguous(memory_format=layout)


def as_channels_last(x: torch.Tensor) -> torch.Tensor:
    """Lay a batch out channels-last, with the strides of many samples also where there is one.

    A batch of one sample, or of one channel, is channels-last and contiguous at once by torch's
    rules, and is then convolved by other kernels, which round differently. An exported network has
    no layout.
    """
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return x
    _, channels, *sizes = x.shape
    step, strides = channels, [1]
    for size in reversed(sizes):
        strides.insert(1, step)
        step *= size
    if x.stride() == (step, *strides):
        return x
    laid = torch.empty_strided(x.shape, (step, *strides), dtype=x.dtype, device=x.device)
    return laid.copy_(x)


class _SameKernels(nn.Module):
    """A convolution that computes one sample as it computes many.

    For a batch of one small sample torch takes a kernel of its own, which rounds differently.
    """

    padding: Any
    stride: Any
    dilation: Any
    groups: Any

    def _conv_forward(self, x, weight, bias):
        # Its number is looked at last: where a network is exported, it is none.
        if _has_onednn(x) and x.shape[0] == 1:
            return torch.mkldnn_convolution(
                x, weight, bias, self.padding, self.stride, self.dilation, self.groups
            )
        return super()._conv_forward(x, weight, bias)  # type: ignore[misc]


class Conv2d(_SameKernels, nn.Conv2d):
    """See :class:`_SameKernels`."""


class Conv3d(_SameKernels, nn.Conv3d):
    """See :class:`_SameKernels`."""


_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


def _has_onednn(x: torch.Tensor) -> bool:
    """Tell whether oneDNN computes convolutions of many samples like these, without a gradient."""
    return (
        _IS_X86
        and not torch.jit.is_tracing()
        and not torch.compiler.is_compiling()
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()
        and not torch.is_autocast_enabled("cpu")
    )
