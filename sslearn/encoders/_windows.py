"""Long recordings: an encoder of windows, and the mean of its features over a recording."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from ._checks import check_int
from ._missing import takes_nan
from ._own_length import has_missing, own_lengths

__all__ = ["Windows"]

# Windows that are encoded at once.
_AT_ONCE = 256


class Windows(nn.Module):
    """Encode windows of a long recording, and average their features.

    Given to an estimator as its encoder, ``VICReg(Windows(512))``: ``fit`` then draws one random
    window of each sample at each step, of which views are taken, and what is trained sees windows
    alone. ``transform`` averages the features of windows that cover a recording from its first step
    to its last. Recordings may be of any length, in ``transform`` too.

    Parameters
    ----------
    length : int
        Steps of a window. A recording that is shorter is one window.
    encoder : torch.nn.Module or callable, default=None
        Encoder of windows, or a callable that makes one and is called with their shape, (channels,
        length). If None, an estimator makes its default encoder.
    stride : int, default=None
        Distance of the windows that are averaged. The last one ends with the recording, wherever it
        begins. If None, `length`: they do not overlap.

    See Also
    --------
    KernelBank : Features of series of any length, at once.

    Notes
    -----
    A window that is drawn at random changes from step to step, so the features of views are not
    computed once, unless ``cached_views`` is a number: of each kept view the window is another one.
    Windows in which all values are missing do not count in the average.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import Windows
    >>> mean_of_channels = torch.nn.Sequential(torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
    >>> recordings = torch.arange(10.0).expand(2, 1, 10)
    >>> Windows(4, mean_of_channels)(recordings)  # steps 0 to 3, 4 to 7 and 6 to 9
    tensor([[4.8333],
            [4.8333]])
    """

    def __init__(
        self,
        length: int,
        encoder: nn.Module | Callable[..., nn.Module] | None = None,
        *,
        stride: int | None = None,
    ) -> None:
        super().__init__()
        self.length = check_int("Windows", "length", length)
        self.encoder = encoder
        self.stride = None if stride is None else check_int("Windows", "stride", stride)

    @property
    def takes_nan(self) -> bool:
        """Whether windows may have missing values: the encoder takes NaN, or is the default one."""
        return self.encoder is None or takes_nan(self.encoder)

    def extra_repr(self) -> str:
        return f"length={self.length}, stride={self.stride}"

    def of(self, encoder: nn.Module) -> Windows:
        """Return the same windows with another encoder, which is not copied."""
        return Windows(self.length, encoder, stride=self.stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode recordings: (n, channels, time) to (n, width)."""
        if not isinstance(self.encoder, nn.Module):
            raise ValueError(
                "Windows encodes by the module in its 'encoder' parameter, or in an estimator, "
                f"which makes one. Got encoder={self.encoder!r} instead."
            )
        if x.shape[2] <= self.length:
            return self.encoder(x)
        starts = self._starts(x)
        counts = [len(of_sample) for of_sample in starts]
        places = torch.arange(len(x)).repeat_interleave(torch.tensor(counts)).tolist()
        begins = [start for of_sample in starts for start in of_sample]
        # In parts of equal size, none of which is so small that it would be rounded differently.
        n_parts = math.ceil(len(places) / _AT_ONCE)
        found = []
        for some in torch.arange(len(places)).tensor_split(n_parts):
            windows = [x[places[i], :, begins[i] : begins[i] + self.length] for i in some.tolist()]
            found.append(self.encoder(torch.stack(windows)))
        of_recordings = torch.cat(found).split(counts)
        return torch.stack([features.mean(0) for features in of_recordings])

    def _starts(self, x: torch.Tensor) -> list[list[int]]:
        """Return where the windows of each recording begin."""
        stride = self.stride or self.length
        if not has_missing(x):
            return [_covering(x.shape[2], self.length, stride)] * len(x)
        found = []
        unknown = x.isnan().all(1)
        for length, missing in zip(own_lengths(x).tolist(), unknown, strict=True):
            starts = _covering(length, self.length, stride)
            known = [s for s in starts if not bool(missing[s : s + self.length].all())]
            found.append(known or starts[:1])
        return found


def _covering(n_steps: int, length: int, stride: int) -> list[int]:
    """Return the starts of windows from the first step to the last."""
    last = max(n_steps - length, 0)
    return [*range(0, last, stride), last]
