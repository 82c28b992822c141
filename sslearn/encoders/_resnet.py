"""One residual network for series, images and volumes."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ._checks import check_int, check_ints, check_option, is_count
from ._layout import ChannelsLast, Conv2d, Conv3d, as_channels_last
from ._moments import moments, with_rescaled

__all__ = ["ResNet"]

# Kernel and stride of the stems that reduce the resolution.
_STEMS = {"halved": (5, 2), "strided": (7, 2)}
# Variance below which a channel of a map counts as constant.
_FAINTEST = 1e-4
# Input channels below which oneDNN's strided 1 x 1 convolutions of channels-last maps write past
# their memory in the backward pass: the vector blocks of AVX-512, twice those of AVX2.
_ONEDNN_BLOCK = 16


class ResNet(ChannelsLast):
    """Residual network over one, two or three spatial dimensions.

    A stem is followed by stages of residual blocks with two convolutions each [1]_. Stage ``i``
    has ``width * 2**i`` channels, the last one ``embedding_dim``; every stage after the first
    halves the resolution. The features are the mean over space of the output of the last stage, or
    statistics of all stages.

    Parameters
    ----------
    in_channels : int
        Number of channels of the input.
    n_dims : {1, 2, 3}, default=2
        Number of spatial dimensions: 1 for series, 2 for images, 3 for volumes. Their sizes are
        free, down to one step or pixel.
    embedding_dim : int, default=128
        Number of channels of the last stage; with ``pool="mean"`` also of output features.
    width : int, default=32
        Number of channels of the stem and of the first stage.
    depth : sequence of int, default=(1, 1, 1)
        Number of residual blocks in each stage.
    stem : {"small", "halved", "strided"}, default="small"
        ``"small"`` is one convolution at full resolution, for small inputs. ``"halved"`` is one of
        kernel 5 that halves the resolution: most of the time goes into the first stage.
        ``"strided"`` is a convolution of kernel 7 and a max-pooling, which together reduce the
        resolution by 4, for large inputs.
    kernel_size : int or None, default=None
        Odd length of the kernels along each spatial axis, in the blocks and in the small stem.
        If None, 5 in one dimension and 3 in two or three.
    norm : {"batch", "layer", "none"}, default="batch"
        Normalisation after each convolution. ``"layer"`` normalises each sample over its channels
        and positions, so that samples do not affect one another in training; ``"none"`` normalises
        nothing.
    pool : {"mean", "statistics"}, default="mean"
        Pooling that gives the features. ``"mean"``: the mean over space of the last stage, never
        negative. ``"statistics"``: mean and standard deviation over space of every stage, as in
        [2]_ for the last: what late stages have learned to ignore is still in the early ones.
    rescale : bool, default=False
        Whether the network sees every channel twice: as it is, and brought to zero mean and unit
        deviation within the sample, as in [3]_. A movement a hundred times fainter than another
        then counts as much. With ``pool="statistics"`` mean and decimal logarithm of the
        deviation of every channel are among the features.

    See Also
    --------
    MLP : Encoder for tables.
    default_encoder : Choose and size an encoder from the shape of a sample.

    Notes
    -----
    The ResNet-18 of [1]_ is ``width=64, depth=(2, 2, 2, 2), embedding_dim=512``, with
    ``stem="strided"`` for ImageNet and ``stem="small"`` as commonly used for 32 x 32 images.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016. arXiv:1512.03385
    .. [2] K. Okabe, T. Koshinaka and K. Shinoda, "Attentive Statistics Pooling for Deep Speaker
       Embedding", Interspeech 2018. arXiv:1803.10963
    .. [3] D. Ulyanov, A. Vedaldi and V. Lempitsky, "Instance Normalization: The Missing Ingredient
       for Fast Stylization", 2016. arXiv:1607.08022

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import ResNet
    >>> encoder = ResNet(3, embedding_dim=64, width=8)
    >>> images = torch.zeros(2, 3, 32, 32)
    >>> encoder(images).shape
    torch.Size([2, 64])
    >>> [tuple(m.shape) for m in encoder.feature_maps(images)]
    [(2, 8, 32, 32), (2, 16, 16, 16), (2, 64, 8, 8)]
    """

    def __init__(
        self,
        in_channels: int,
        *,
        n_dims: int = 2,
        embedding_dim: int = 128,
        width: int = 32,
        depth: Sequence[int] = (1, 1, 1),
        stem: str = "small",
        kernel_size: int | None = None,
        norm: str = "batch",
        pool: str = "mean",
        rescale: bool = False,
    ) -> None:
        super().__init__()
        check_option("ResNet", "n_dims", n_dims, (1, 2, 3))
        check_option("ResNet", "stem", stem, ("small", *_STEMS))
        check_option("ResNet", "norm", norm, ("batch", "layer", "none"))
        check_option("ResNet", "pool", pool, ("mean", "statistics"))
        check_option("ResNet", "rescale", rescale, (False, True))
        self.in_channels = check_int("ResNet", "in_channels", in_channels)
        self.n_dims = n_dims
        self.embedding_dim = check_int("ResNet", "embedding_dim", embedding_dim)
        self.width = check_int("ResNet", "width", width)
        self.depth = check_ints("ResNet", "depth", depth, may_be_empty=False)
        self.pool = pool
        self.rescale = rescale
        if kernel_size is None:
            # A step of a series has two neighbours, a pixel eight: to see as much context the
            # kernel must be longer, and in one dimension that costs little.
            kernel_size = 5 if n_dims == 1 else 3
        elif not is_count(kernel_size) or kernel_size % 2 == 0:
            # An even kernel would shift the map, and an axis of length 1 would vanish.
            raise ValueError(
                "The 'kernel_size' parameter of ResNet must be an odd int or None. "
                f"Got {kernel_size!r} instead."
            )
        self.kernel_size = int(kernel_size)

        stem_kernel, stem_stride = _STEMS.get(stem, (self.kernel_size, 1))
        self.stem = nn.Sequential(
            *_conv_norm(
                n_dims, self.in_channels * (1 + rescale), self.width, stem_kernel, stem_stride, norm
            ),
            nn.ReLU(inplace=True),
        )
        if stem == "strided":
            self.stem.append(_max_pool(n_dims, 3, 2))
        self.stages = nn.ModuleList()
        channels = self.width
        for i, n_blocks in enumerate(self.depth):
            is_last = i == len(self.depth) - 1
            out_channels = self.embedding_dim if is_last else self.width * 2**i
            stage = nn.Sequential()
            for j in range(n_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(
                    _ResidualBlock(n_dims, channels, out_channels, self.kernel_size, stride, norm)
                )
                channels = out_channels
            self.stages.append(stage)

    def feature_maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the output of each stage.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, ...)
            A batch of samples with ``n_dims`` spatial axes.

        Returns
        -------
        list of torch.Tensor of shape (n, channels[i], ...)
            One map per stage, from fine to coarse. The last one has ``embedding_dim`` channels.
        """
        return self._run(x)[0]

    def _run(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the map of each stage, and the features of the sample itself."""
        if x.ndim != self.n_dims + 2 or x.shape[1] != self.in_channels or 0 in x.shape[2:]:
            axes = ("time",) if self.n_dims == 1 else ("depth", "height", "width")[-self.n_dims :]
            raise ValueError(
                f"ResNet expects a batch of shape (n, {self.in_channels}, {', '.join(axes)}), no "
                f"axis empty. Got {tuple(x.shape)} instead."
            )
        of_sample: list[torch.Tensor] = []
        if self.rescale:
            x, of_sample = with_rescaled(x)
        series = self.n_dims == 1
        # What follows keeps the layout. On CPUs channels-last is 1.3 to 2 times faster.
        x = self.stem(as_channels_last(x.unsqueeze(2) if series else x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x.squeeze(2) if series else x)
        return maps, of_sample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Encode a batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n, in_channels, ...)
            A batch of samples with ``n_dims`` spatial axes.

        Returns
        -------
        torch.Tensor of shape (n, n_features)
            The features: ``embedding_dim`` of the last stage, or statistics of all.
        """
        maps, features = self._run(x)
        if self.pool == "mean":
            return maps[-1].mean(dim=tuple(range(2, x.ndim)))
        for found in maps:
            mean, variance = moments(found)
            features += [mean, (variance + _FAINTEST).sqrt()]
        # Moments are never computed in less than float32; the output has the weights' dtype.
        return torch.cat(features, dim=1).to(next(self.parameters()).dtype)


class _ResidualBlock(nn.Module):
    """Two convolutions, added to a shortcut."""

    def __init__(
        self,
        n_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv_norm(n_dims, in_channels, out_channels, kernel_size, stride, norm),
            nn.ReLU(inplace=True),
            *_conv_norm(n_dims, out_channels, out_channels, kernel_size, 1, norm),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or in_channels != out_channels:
            self.shortcut.extend(_conv_norm(n_dims, in_channels, out_channels, 1, stride, norm))
        # The block starts as its shortcut, which keeps the scale of the activations in networks
        # of any depth; without normalisation the last convolution takes its role.
        for parameter in self.residual[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(x) + self.residual(x), inplace=True)


def _conv_norm(
    n_dims: int, in_channels: int, out_channels: int, kernel_size: int, stride: int, norm: str
) -> list[nn.Module]:
    """Make a convolution that keeps or divides the resolution, and its normalisation."""
    kernel = _axes(n_dims, kernel_size)
    layers: list[nn.Module] = []
    if kernel_size == 1 and stride > 1 and in_channels < _ONEDNN_BLOCK:
        # Such a convolution reads every stride-th position; a pooling window of one picks these.
        layers.append(_max_pool(n_dims, 1, stride))
        stride = 1
    make_conv: Callable[..., Conv2d | Conv3d] = Conv3d if n_dims == 3 else Conv2d
    conv = make_conv(
        in_channels,
        out_channels,
        kernel,
        stride=_axes(n_dims, stride),
        padding=tuple(length // 2 for length in kernel),
        bias=norm == "none",  # the norms add one of their own
    )
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    layers.append(conv)
    if norm == "batch":
        batch_norm = nn.BatchNorm3d if n_dims == 3 else nn.BatchNorm2d
        layers.append(batch_norm(out_channels))
    elif norm == "layer":
        layers.append(nn.GroupNorm(1, out_channels))
    return layers


def _max_pool(n_dims: int, kernel_size: int, stride: int) -> nn.Module:
    pool = nn.MaxPool3d if n_dims == 3 else nn.MaxPool2d
    kernel = _axes(n_dims, kernel_size)
    padding = tuple(length // 2 for length in kernel)
    return pool(kernel, stride=_axes(n_dims, stride), padding=padding)


def _axes(n_dims: int, size: int) -> tuple[int, ...]:
    """Repeat `size` for each spatial axis.

    A series is an image of height 1 inside the network: torch has no channels-last layout for
    one dimension, and its convolutions are up to twice slower without it.
    """
    return (1, size) if n_dims == 1 else (size,) * n_dims
