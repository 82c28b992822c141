"""Channels-last, the layout of memory in which convolutions are fastest.

Networks of this package use it for their input, and for their weights during training, which saves
a tenth of the time; the caller's networks keep the layout that they have. Published weights are
contiguous, because many tools accept no others.
"""

import operator
import platform
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "MIN_PRODUCT_ROWS",
    "ChannelsLast",
    "Conv2d",
    "Conv3d",
    "Linear",
    "as_channels_last",
    "linear",
    "to_memory_format",
]

# Matrix products of fewer rows than this, with one thread and with several, may use another kernel
# and round differently (seen: 3 and 11).
MIN_PRODUCT_ROWS = 8, 32
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class ChannelsLast(nn.Module):
    """A network whose weights :func:`to_memory_format` may convert to channels-last."""


def to_memory_format(module: nn.Module, *, channels_last: bool) -> None:
    """Convert the convolutions of all :class:`ChannelsLast` networks in a module, in place."""
    for network in module.modules():
        if isinstance(network, ChannelsLast):
            for tensor in (*network.parameters(), *network.buffers()):
                if tensor.ndim in _FORMATS:
                    layout = _FORMATS[tensor.ndim] if channels_last else torch.contiguous_format
                    tensor.data = tensor.data.contiguous(memory_format=layout)


def as_channels_last(x: torch.Tensor) -> torch.Tensor:
    """Convert a batch to channels-last, with the strides of many samples even if there is one.

    A batch of one sample, or of one channel, is channels-last and contiguous at once by torch's
    rules, and is then convolved by other kernels, which round differently. In an exported network
    nothing is converted.
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
    """A convolution that computes one sample in the same way as many.

    For a batch of one small sample torch uses another kernel, which rounds differently.
    """

    padding: Any
    stride: Any
    dilation: Any
    groups: Any

    def _conv_forward(self, x, weight, bias):
        # The batch size is compared last: in an exported network it is not a number.
        if _has_onednn(x) and x.shape[0] == 1:
            return torch.mkldnn_convolution(
                x, weight, bias, self.padding, self.stride, self.dilation, self.groups
            )
        return super()._conv_forward(x, weight, bias)  # type: ignore[misc]


class Conv2d(_SameKernels, nn.Conv2d):
    """See :class:`_SameKernels`."""


class Conv3d(_SameKernels, nn.Conv3d):
    """See :class:`_SameKernels`; on the CPU small volumes are convolved in float32.

    In bfloat16 the gradient of the weights reads memory that was never written if the volume is
    smaller than the kernel (oneDNN in torch 2.13, on processors with AVX-512 BF16): it differs
    from call to call, and may be NaN.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        under_autocast = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if under_autocast and any(map(operator.lt, x.shape[2:], self.kernel_size)):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Map features (n, d) linearly; without a gradient, few samples in the same way as many."""
    exported = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if exported or torch.is_grad_enabled() or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    n, least = x.shape[0], MIN_PRODUCT_ROWS[torch.get_num_threads() > 1]
    if n >= least:
        return F.linear(x, weight, bias)
    return F.linear(F.pad(x, (0, 0, 0, least - n)), weight, bias)[:n]


class Linear(nn.Linear):
    """A linear layer by :func:`linear`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight, self.bias)


_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")


def _has_onednn(x: torch.Tensor) -> bool:
    """Return whether oneDNN computes convolutions of many such samples, without a gradient."""
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
