"""A bank of fixed kernels: the features of a series before anything is learned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ._checks import check_batch, check_int
from ._own_length import at_own_length, has_missing, own_lengths, own_series

__all__ = ["KernelBank"]

# Every kernel has nine weights, of which three are 2 and the others -1: 84 in all, sums of zero.
_LENGTH, _N_LARGE = 9, 3
_N_KERNELS = math.comb(_LENGTH, _N_LARGE)
# Channels that a kernel sees, at most.
_MAX_CHANNELS = 9
# Positions at which responses are counted; a longer series is counted at a stride, and by the
# kernels of a small dilation at this many times as many positions.
_MAX_POSITIONS, _MOST_FINER = 512, 8
# Width of the ramp of a soft count, in deviations of the responses. A step at the threshold would
# let rounding decide: flat stretches respond with exactly the same number again and again.
_RAMP = 0.1
# Least width of the ramp, for samples of unit deviation: below, there is hardly a response.
_LEAST_RAMP = 1e-3
# Training samples and responses of each kernel among which thresholds are chosen.
_N_REFERENCES, _N_RESPONSES = 256, 8192
# Deviation of a feature that is believed, in units of the resolution of its share, and magnitude
# beyond which standardised features are clipped.
_RESOLVED, _MOST = 0.25, 10.0
# Responses that are computed at once: they and their soft counts stay in the cache of a core.
_CHUNK = 2**18


class KernelBank(nn.Module):
    """Shares of time at which dilated kernels respond above thresholds.

    The 84 kernels of length 9 of MiniRocket [1]_ run over a series, and over its changes from step
    to step, at dilations from 1 to an eighth of its length, each on a random subset of the
    channels. A feature is the share of steps
    at which a response exceeds a threshold, and the thresholds are quantiles of the responses of
    training samples. Nothing is learned, and no labels are needed: make the bank by
    :meth:`from_samples`, which also standardises the features.

    Parameters
    ----------
    in_channels : int
        Number of channels of the input.
    n_steps : int
        Number of time steps for which dilations are chosen. Series of any length can be encoded.
    n_features : int, default=2016
        Number of features, rounded to a multiple of 84.
    generator : torch.Generator, default=None
        Draws the channels of the kernels. If None, torch's default generator does.

    See Also
    --------
    HadamardRotation : Spread the features evenly over the columns that come out.
    ResNet : Encoder that is trained.

    Notes
    -----
    It differs from [1]_ in four ways. Half of the features are of the changes, as in MultiRocket
    (arXiv:2102.00457). A count is soft: a step counts in part if its response is
    within a ramp about the threshold, a tenth of the deviation of the responses wide, so that
    rounding does not decide in flat stretches at a threshold. A series of more than 512
    steps is counted at 256 to 512 of them, by kernels of a small dilation at up to eight times as
    many, so that long series cost little more than short ones; on ten sets of long series that
    lost .9 points of accuracy with all labels, and .6 with five a class.
    Samples are padded with zeros for all kernels.

    NaN is a missing value. A series is encoded up to its last known step, as if it had been cut
    there: what follows is padding, and changes no bit. Gaps before that are filled by straight
    lines in each channel, and steps at which all channels are missing are not counted.

    References
    ----------
    .. [1] A. Dempster, D. F. Schmidt, G. I. Webb, "MiniRocket: A Very Fast (Almost) Deterministic
       Transform for Time Series Classification", KDD 2021, arXiv:2012.08791.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import KernelBank
    >>> series = torch.randn(20, 3, 100, generator=torch.Generator().manual_seed(0))
    >>> bank = KernelBank.from_samples(series)
    >>> bank(series).shape
    torch.Size([20, 2016])
    """

    mean: torch.Tensor
    gain: torch.Tensor

    #: Nothing in it moves during training.
    is_fixed = True
    #: NaN is a missing value, which estimators then accept.
    takes_nan = True
    #: Number of kernels, of which the number of features is a multiple.
    n_kernels = _N_KERNELS
    #: Width over which a response counts in part, in deviations of the responses.
    ramp = _RAMP

    def __init__(
        self,
        in_channels: int,
        n_steps: int,
        *,
        n_features: int = 2016,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = check_int("KernelBank", "in_channels", in_channels)
        self.n_steps = check_int("KernelBank", "n_steps", n_steps)
        n_features = check_int("KernelBank", "n_features", n_features)
        dilations = _dilations(self.n_steps)
        # Thresholds of each kernel: half of them for the series and half for its changes, spread
        # over the dilations, the first of which get one more.
        n_thresholds = max(round(n_features / _N_KERNELS), 1)
        self.layers = self._make_layers(n_thresholds - n_thresholds // 2, dilations, generator)
        self.layers_of_changes = self._make_layers(n_thresholds // 2, dilations, generator)
        #: Number of features that come out.
        self.n_features = n_thresholds * _N_KERNELS
        self.register_buffer("mean", torch.zeros(self.n_features))
        self.register_buffer("gain", torch.ones(self.n_features))

    def _make_layers(
        self, n_thresholds: int, dilations: list[int], generator: torch.Generator | None
    ) -> nn.ModuleList:
        each, more = divmod(n_thresholds, len(dilations))
        return nn.ModuleList(
            _DilatedKernels(self.in_channels, dilation, each + (i < more), generator)
            for i, dilation in enumerate(dilations[:n_thresholds])
        )

    @classmethod
    def from_samples(
        cls,
        samples: torch.Tensor,
        *,
        n_features: int = 2016,
        generator: torch.Generator | None = None,
    ) -> KernelBank:
        """Make a bank with thresholds and statistics of training samples.

        Parameters
        ----------
        samples : torch.Tensor of shape (n, channels, time)
            Standardised training samples, two at least; a few thousand are enough. Missing values
            are NaN, also after the end of shorter series: dilations are for the longest.
        n_features : int, default=2016
            Number of features, rounded to a multiple of 84.
        generator : torch.Generator, default=None
            Draws the channels of the kernels, and the samples and steps that thresholds are
            chosen from. If None, torch's default generator does.

        Returns
        -------
        KernelBank
            On the CPU.
        """
        if samples.ndim != 3:
            raise ValueError(
                "KernelBank.from_samples expects samples of shape (n, channels, time). Got "
                f"{tuple(samples.shape)} instead."
            )
        samples = samples.detach().float().cpu()
        n_steps = samples.shape[2]
        if has_missing(samples):
            lengths = own_lengths(samples)
            samples = samples[:, :, : int(lengths.max())]
            n_steps = int(lengths.median())
        bank = cls(*samples.shape[1:], n_features=n_features, generator=generator)
        bank._choose_thresholds(samples, generator)
        shares = bank.shares(samples)
        bank.mean.copy_(shares.mean(0))
        # A feature that varies by less than a share can be told apart is constant but for rounding.
        least = torch.cat([layer.resolution(n_steps) for layer in bank._all_layers()])
        bank.gain.copy_(1 / shares.std(0, correction=0).clamp_min(_RESOLVED * least))
        return bank

    def _choose_thresholds(self, samples: torch.Tensor, generator: torch.Generator | None) -> None:
        chosen = samples[torch.randperm(len(samples), generator=generator)[:_N_REFERENCES]]
        parts: list[tuple[torch.Tensor, torch.Tensor | None]] = [(chosen, None)]
        if has_missing(chosen):
            parts = [(series, known) for _, series, known in own_series(chosen)]
        of_changes = [(_changes(series), _both_steps(known)) for series, known in parts]
        for layers, signals in ((self.layers, parts), (self.layers_of_changes, of_changes)):
            for layer in layers:
                assert isinstance(layer, _DilatedKernels)
                layer.choose_thresholds(signals, generator)

    def _all_layers(self) -> Iterator[_DilatedKernels]:
        """Iterate over the layers in the order of their features."""
        for layer in itertools.chain(self.layers, self.layers_of_changes):
            assert isinstance(layer, _DilatedKernels)
            yield layer

    def shares(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the features before they are standardised, in [0, 1].

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, time)
            A batch of standardised samples.
        mask : torch.Tensor of shape (n, time), default=None
            True at the steps that are part of a sample. If None, all are.

        Returns
        -------
        torch.Tensor of shape (n, n_features)
            The shares of steps with a response above the threshold.
        """
        check_batch("KernelBank", x, self.in_channels, "time")
        x = x.to(self.mean.dtype)
        if mask is None and has_missing(x):
            return at_own_length(self._in_chunks, x)
        return self._in_chunks(x, mask, hidden=True)

    def _in_chunks(
        self, x: torch.Tensor, counted: torch.Tensor | None, *, hidden: bool = False
    ) -> torch.Tensor:
        size = max(1, _CHUNK // (_N_KERNELS * min(x.shape[2], _MAX_POSITIONS)))
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or len(x) <= size:
            return self._shares(x, counted, hidden)
        masks = itertools.repeat(None) if counted is None else counted.split(size)
        parts = zip(x.split(size), masks, strict=False)
        return torch.cat([self._shares(*part, hidden) for part in parts])

    def _shares(self, x: torch.Tensor, counted: torch.Tensor | None, hidden: bool) -> torch.Tensor:
        """Return the shares of the steps that are counted; others may be hidden, as zeros."""
        shares = []
        for layers, signal, valid in (
            (self.layers, x, counted),
            (self.layers_of_changes, _changes(x), _both_steps(counted)),
        ):
            if valid is not None and hidden:
                # What is not part of a sample is as what lies beyond its ends.
                signal = signal.masked_fill(~valid[:, None], 0.0)
            shares += [layer(signal, valid) for layer in layers]
        return torch.cat(shares, dim=1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Encode a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, time)
            A batch of standardised samples.
        mask : torch.Tensor of shape (n, time), default=None
            True at the steps that are part of a sample. If None, all are.

        Returns
        -------
        torch.Tensor of shape (n, n_features)
            The features, standardised and in [-10, 10].
        """
        if torch.is_autocast_enabled(x.device.type):
            # In half precision the responses would be too coarse for the ramps.
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x, mask)
        return ((self.shares(x, mask) - self.mean) * self.gain).clamp(-_MOST, _MOST)


class _DilatedKernels(nn.Module):
    """The 84 kernels at one dilation, and a few thresholds for each.

    The weights of a kernel have a sum of zero, so it is applied to differences of steps, with the
    cumulative sums of its weights: on smooth series the difference of two steps is exact where
    the sum of nine large products is not.
    """

    weight: torch.Tensor
    slope: torch.Tensor
    offset: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        dilation: int,
        n_thresholds: int,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.dilation = dilation
        kernels = _difference_kernels()
        channels = _channel_subsets(in_channels, generator)
        weight = torch.einsum("kl,kc->lck", kernels, channels)
        self.register_buffer("weight", weight.flatten(0, 1).contiguous())  # (8 * in_channels, 84)
        # The soft count of a response is slope * response + offset, between 0 and 1.
        self.register_buffer("slope", torch.ones(n_thresholds, _N_KERNELS))
        self.register_buffer("offset", torch.zeros(n_thresholds, _N_KERNELS))

    def stride(self, n_steps: int) -> int:
        """Return the distance of the steps at which a series is counted.

        No more than the dilation, since the responses of a kernel at neighbouring steps differ the
        more the shorter it is; unless the series is so long that this would take its time.
        """
        coarse = math.ceil(n_steps / _MAX_POSITIONS)
        return min(coarse, max(self.dilation, coarse // _MOST_FINER))

    def resolution(self, n_steps: int) -> torch.Tensor:
        """Return the share of one position, for each feature."""
        positions = len(range(0, n_steps, self.stride(n_steps)))
        return torch.full((self.slope.numel(),), 1 / positions)

    def responses(self, x: torch.Tensor) -> torch.Tensor:
        """Return the responses to a batch (n, in_channels, time): (n, positions, 84)."""
        d, n_steps = self.dilation, x.shape[2]
        stride = self.stride(n_steps)
        x = F.pad(x, (_LENGTH // 2 * d, _LENGTH // 2 * d))
        change = x[..., d:] - x[..., :-d]
        windows = [change[..., i * d : i * d + n_steps : stride] for i in range(_LENGTH - 1)]
        return torch.cat(windows, dim=1).transpose(1, 2) @ self.weight

    def forward(self, x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        """Return the shares (n, n_thresholds * 84), of all steps or of the valid ones (n, time)."""
        responses = self.responses(x)
        weight = None
        if valid is not None:
            counted = valid[:, :: self.stride(x.shape[2]), None].to(x.dtype)
            weight = counted / counted.sum(1, keepdim=True).clamp_min(1.0)
        shares = []
        # Channels last, so that slopes and offsets lie along the axis that is contiguous.
        for slope, offset in zip(self.slope, self.offset, strict=True):
            counts = torch.addcmul(offset, responses, slope).clamp_(0.0, 1.0)
            shares.append(counts.mean(1) if weight is None else counts.mul_(weight).sum(1))
        return torch.cat(shares, dim=1)

    def choose_thresholds(
        self,
        signals: Iterable[tuple[torch.Tensor, torch.Tensor | None]],
        generator: torch.Generator | None,
    ) -> None:
        """Put the thresholds at quantiles of the responses to batches, at their valid steps."""
        found = []
        for signal, valid in signals:
            of_steps = self.responses(signal)
            if valid is None:
                found.append(of_steps.flatten(0, 1))
            else:
                found.append(of_steps[valid[:, :: self.stride(signal.shape[2])]])
        responses = torch.cat(found)
        chosen = torch.randperm(len(responses), generator=generator)[:_N_RESPONSES]
        # NumPy sorts four times as fast.
        responses = torch.from_numpy(np.sort(responses[chosen].numpy(), axis=0))
        width = (_RAMP * responses.std(0, correction=0)).clamp_min(_LEAST_RAMP)
        # Multiples of the golden ratio fill the unit interval evenly, however many there are.
        order = torch.arange(1, self.slope.numel() + 1, dtype=torch.float64)
        start = torch.rand((), generator=generator, dtype=torch.float64)
        quantiles = (start + order * (math.sqrt(5) + 1) / 2).frac().view_as(self.slope.T).T
        places = (quantiles * (len(responses) - 1)).long()
        thresholds = responses.gather(0, places)
        self.slope.copy_((1 / width).expand_as(self.slope))
        self.offset.copy_(0.5 - thresholds / width)


def _changes(x: torch.Tensor) -> torch.Tensor:
    """Return the differences to the step before, of the same shape; the first is zero."""
    return x.diff(dim=2, prepend=x[..., :1])


def _both_steps(valid: torch.Tensor | None) -> torch.Tensor | None:
    """Return where a change is valid: where both of its steps are, (n, time)."""
    return None if valid is None else valid & torch.cat((valid[:, :1], valid[:, :-1]), dim=1)


def _dilations(n_steps: int) -> list[int]:
    """Return powers of 2, and the last with a kernel about as long as the series."""
    return [2**i for i in range(int(math.log2(max((n_steps - 1) / (_LENGTH - 1), 1))) + 1)]


def _difference_kernels() -> torch.Tensor:
    """Return the kernels as they apply to the differences of neighbouring steps, (84, 8)."""
    kernels = torch.full((_N_KERNELS, _LENGTH), -1.0)
    large = torch.tensor(list(itertools.combinations(range(_LENGTH), _N_LARGE)))
    kernels.scatter_(1, large, 2.0)
    # Summed by parts: what comes after the last weight is zero, as all of them sum to that.
    return -kernels.cumsum(1)[:, :-1]


def _channel_subsets(in_channels: int, generator: torch.Generator | None) -> torch.Tensor:
    """Draw the channels of each kernel, (84, in_channels): the fewer, the more likely."""
    most = min(in_channels, _MAX_CHANNELS)
    exponents = torch.rand(_N_KERNELS, generator=generator) * math.log2(most + 1)
    sizes = exponents.exp2().long().clamp(1, most)
    ranks = torch.rand(_N_KERNELS, in_channels, generator=generator).argsort(1).argsort(1)
    return (ranks < sizes[:, None]).float()
