"""An encoder for every kind of data."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ._checks import check_ints
from ._kernels import KernelBank
from ._layout import Linear
from ._log_length import LogLength
from ._mlp import MLP
from ._own_length import has_missing, own_lengths
from ._patches import PatchBank
from ._pixels import BankAndPixels, Flat, LastValues
from ._principal import PrincipalAxes
from ._resnet import ResNet
from ._segments import SegmentMeans
from ._stem import Concatenation, StemEncoder
from ._table_bank import TableBank
from ._whitening import ViewWhitening

__all__ = ["default_encoder"]

# One wide layer for tables: after a second one a linear probe finds less. Behind a bank it has this
# many features at least, which fill up a power of 2; those of the bank that come out have half its
# deviation.
_TABLE_WIDTH, _WIDTH = 1024, 128
_LEAST_LEARNED, _WEIGHT_OF_COLUMNS = 384, 0.5
# Features of the bank for series, at most, and of the layer that learns: 2,048 columns in all.
_BANK_WIDTH, _LEARNED_WIDTH = 1536, 512
# Segments of each channel whose means are part of the bank, their columns at most, and the part of
# the kernels' variance that they would have if the mean of a segment varied as its steps do. And
# the part of the variance of these means from which on samples count as aligned.
_N_SEGMENTS, _MOST_SEGMENTS, _WEIGHT_OF_SEGMENTS = 8, 168, 0.12
_COMMON = 0.015
# The part of the kernels' variance that the length of a series has, if lengths differ. (Folds of
# five sets of gestures, untrained: 65.4% are right with it, and 63.1% without.)
_WEIGHT_OF_LENGTH = 0.05
# The same for images: principal axes of the responses to many patches if there are
# enough samples to find them, and else the responses to a few.
_AXES, _LEARNED_FROM_IMAGES = 1024, 1024
_N_PATCHES, _N_FEW_PATCHES, _PER_AXIS = 200, 56, 2
# Deviation of the features of patches in the output, for images and for volumes: with few labels
# the learned ones are better.
_WEIGHT_OF_PATCHES = {3: 0.7, 4: 1.0}
# Side from which on a layer learns from the patches of images of one channel. In smaller ones a
# patch is half of the image, and its responses confuse a shift with a change of form: a network on
# the pixels learns which is which, and is small enough there to be trained. (Held-out training
# samples, 5 labels a class, network and patches against layer on patches: digits 97.7 and 95.9,
# MNIST averaged to 8 and to 12 pixels a side 83.4 and 80.4, 89.6 and 87.4. CIFAR-10, in colour, so:
# 25.5 and 25.0, 25.9 and 26.2, and less with 10% of the labels, so images of colours and bands stay
# with the layer. The network alone is below both with all labels of CIFAR-10.)
_NETWORK_BELOW, _WEIGHT_NEXT_TO_NETWORK = 16, 0.3


def default_encoder(
    sample_shape: Sequence[int],
    embedding_dim: int | None = None,
    rows: torch.Tensor | None = None,
) -> nn.Module:
    """Choose an encoder for samples of a given shape.

    The networks are small enough to train on a few CPU cores and sized for 10^2 to 10^5 samples;
    with more data or a GPU, a larger :class:`ResNet` or your own module gives better features.

    Parameters
    ----------
    sample_shape : sequence of int
        Shape of one sample, without the batch axis: (features,) for tables, (channels, time) for
        series, (channels, height, width) for images, (channels, depth, height, width) for
        volumes.
    embedding_dim : int, default=None
        Number of output features. If None, 2048 for series, images and volumes with `rows`, 512 for
        tables with `rows` (1024 or more above 96 columns), 1024 for tables without, and otherwise
        statistics of all stages (448 for images of 17 to 64 pixels, 448 and two for each channel
        for series). A number makes a :class:`StemEncoder` give the features of its part that
        learns only, and a ResNet those of its last stage only, which usually are worse.
    rows : torch.Tensor of shape (n, *sample_shape), default=None
        Standardised training samples, from which come the bins and landmarks for tables, the
        thresholds of the kernels for series, and the patches for images and volumes. If None,
        tables get an :class:`MLP`, and all others a :class:`ResNet`.

    Returns
    -------
    torch.nn.Module
        With `rows` a :class:`StemEncoder`: a bank of features that is fixed, and one layer on
        these, which learns. The bank of tables is a :class:`TableBank`, whose columns and
        coordinates come out next to the layer of 384 features or more. The others are followed by
        a :class:`ViewWhitening`: for series a :class:`KernelBank` of at most 1,512 features, joined
        by :class:`SegmentMeans` of eight segments where samples are aligned (of fewer from 22
        channels on, of none beyond 84) and by :class:`LogLength` where lengths differ, with a layer
        of 512; otherwise a :class:`PatchBank`, with a layer of 1024: for images of 200 patches and
        :class:`PrincipalAxes` of 1024 of its features if `rows` are 2,048 or more, and else of 56
        patches, which have 1,008 features. For images of one channel and less than 16 pixels a
        side, a :class:`ResNet` that sees the pixels is in the place of the layer, next to 56
        patches. Without `rows` an :class:`MLP` with one hidden layer of 1024 for tables, and a
        :class:`ResNet` for all others. Weights are drawn from torch's default generator.

    Examples
    --------
    >>> import torch
    >>> from sslearn.encoders import default_encoder
    >>> encoder = default_encoder((9, 128))
    >>> encoder(torch.zeros(4, 9, 128)).shape
    torch.Size([4, 466])
    """
    shape = check_ints("default_encoder", "sample_shape", sample_shape, may_be_empty=True)
    if not 1 <= len(shape) <= 4:
        raise ValueError(
            "The 'sample_shape' parameter of default_encoder must have 1 (table), 2 (series), "
            f"3 (image) or 4 (volume) axes. Got {sample_shape!r} instead."
        )
    if len(shape) == 1:
        if rows is None:
            return MLP(shape[0], hidden_dims=(_TABLE_WIDTH,), embedding_dim=embedding_dim)
        return _on_columns(rows, embedding_dim)
    if len(shape) == 2 and rows is not None:
        return _on_kernels(rows, embedding_dim)
    if len(shape) >= 3 and rows is not None:
        return _on_patches(rows, embedding_dim)
    return _network(shape, embedding_dim)


def _on_columns(rows: torch.Tensor, embedding_dim: int | None) -> StemEncoder:
    """Make a bank of features of a table, and a layer on them."""
    bank = TableBank.from_rows(rows)
    # The bins are for the layer alone, which makes better features of them.
    given = bank.widths[:2]
    # As many columns in all as the rotation has: a power of 2.
    total = 2 ** (sum(given) + _LEAST_LEARNED - 1).bit_length()
    learned = total - sum(given)
    return _with_layer(bank, bank.n_features, learned, embedding_dim, _WEIGHT_OF_COLUMNS, given)


def _on_kernels(rows: torch.Tensor, embedding_dim: int | None) -> StemEncoder:
    """Make a bank of kernels, and of what else distinguishes such series, and a layer on it."""
    channels = rows.shape[1]
    n_segments = min(_N_SEGMENTS, rows.shape[2], _MOST_SEGMENTS // channels)
    aligned = n_segments and SegmentMeans(channels, n_segments).common_course(rows) > _COMMON
    n_means = n_segments * channels if aligned else 0
    differ = has_missing(rows) and len(own_lengths(rows).unique()) > 1
    # In rows of a multiple of four columns, products do not depend on the place in a batch.
    n_lengths = 4 - n_means % 4 if differ else 0
    others = n_means + n_lengths
    n_features = (_BANK_WIDTH - others) // KernelBank.n_kernels * KernelBank.n_kernels
    kernels = KernelBank.from_samples(rows, n_features=n_features)
    bank: dict[str, nn.Module] = {"kernels": kernels}
    if aligned:
        total = _WEIGHT_OF_SEGMENTS * n_features
        bank["segments"] = SegmentMeans.from_samples(rows, n_segments, total_variance=total)
    if differ:
        total = _WEIGHT_OF_LENGTH * n_features
        bank["length"] = LogLength.from_samples(rows, n_lengths, total_variance=total)
    made = Concatenation(bank) if others else kernels
    parts: OrderedDict[str, nn.Module] = OrderedDict(bank=made)
    return _on_bank(parts, n_features + others, _LEARNED_WIDTH, embedding_dim)


def _on_patches(rows: torch.Tensor, embedding_dim: int | None) -> StemEncoder:
    """Make a bank of patches, and a layer on its features."""
    rows = rows.detach().float().cpu()  # where banks are made
    small = rows.ndim == 4 and rows.shape[1] == 1 and max(rows.shape[2:]) < _NETWORK_BELOW
    # In a volume a patch costs as much as fifteen in an image, and more patches gained nothing.
    # Next to a network 56 patches were measured, and there are few pixels.
    many = rows.ndim == 4 and not small and len(rows) >= _PER_AXIS * _AXES
    n_patches = _N_PATCHES if many else _N_FEW_PATCHES
    bank = PatchBank.from_samples(rows, n_patches=n_patches)
    parts: OrderedDict[str, nn.Module] = OrderedDict(bank=bank)
    width = bank.n_features
    if width > _AXES:
        parts["axes"] = PrincipalAxes.from_features(bank(rows), _AXES)
        width = _AXES
    if small:
        return _next_to_network(nn.Sequential(parts), width, tuple(rows.shape[1:]), embedding_dim)
    weight = _WEIGHT_OF_PATCHES[rows.ndim - 1]
    return _on_bank(parts, width, _LEARNED_FROM_IMAGES, embedding_dim, weight)


def _next_to_network(
    bank: nn.Module, width: int, shape: tuple[int, ...], embedding_dim: int | None
) -> StemEncoder:
    """Put a network on the pixels of small images, next to a bank of features."""
    parts = {"patches": bank, "pixels": Flat()}
    stem = BankAndPixels(
        OrderedDict(bank=Concatenation(parts), whitening=ViewWhitening(width, rest=True))
    )
    network = _network(shape, embedding_dim)
    with torch.no_grad():
        n_learned = network.eval()(torch.zeros(2, *shape)).shape[1]
    return StemEncoder(
        stem,
        nn.Sequential(OrderedDict(pixels=LastValues(shape), network=network.train())),
        stem_width=width + math.prod(shape),
        body_width=n_learned,
        output="both" if embedding_dim is None else "body",
        stem_weight=_WEIGHT_NEXT_TO_NETWORK,
        # The pixels themselves are for the network alone.
        stem_blocks=(width,),
    )


def _network(shape: Sequence[int], embedding_dim: int | None) -> ResNet:
    """Make a network, which gives the features of its last stage if a number is asked for."""
    settings = resnet_settings(shape)
    if embedding_dim is not None:
        settings |= {"embedding_dim": embedding_dim, "pool": "mean"}
    return ResNet(shape[0], **settings)


def _on_bank(
    parts: OrderedDict[str, nn.Module],
    width: int,
    learned: int,
    embedding_dim: int | None,
    stem_weight: float = 1.0,
) -> StemEncoder:
    """Whiten the features of a bank, and put a layer that learns on them."""
    parts["whitening"] = ViewWhitening(width)
    return _with_layer(nn.Sequential(parts), width, learned, embedding_dim, stem_weight)


def _with_layer(
    stem: nn.Module,
    width: int,
    learned: int,
    embedding_dim: int | None,
    stem_weight: float,
    stem_blocks: tuple[int, ...] | None = None,
) -> StemEncoder:
    """Put a layer that learns on a stem, of `learned` features unless a number is asked for."""
    learned = learned if embedding_dim is None else embedding_dim
    body = nn.Sequential(Linear(width, learned, bias=False), nn.BatchNorm1d(learned), nn.ReLU())
    return StemEncoder(
        stem,
        body,
        stem_width=width,
        body_width=learned,
        output="both" if embedding_dim is None else "body",
        stem_weight=stem_weight,
        stem_blocks=stem_blocks,
    )


def resnet_settings(shape: Sequence[int]) -> dict[str, Any]:
    """Size a :class:`ResNet` for series, images or volumes of a shape."""
    n_dims, size = len(shape) - 1, max(shape[1:])
    # The first stage works at the highest resolution and costs most, so it is narrow where the
    # resolution stays high, with a strided stem where it would still cost too much.
    stem, width, n_stages = "small", 32, 3
    if n_dims == 1 and size > 256:
        stem = "strided"
    elif n_dims == 2 and size > 64:
        stem, n_stages = "strided", 4
    elif n_dims == 2 and size > 16:
        stem = "halved"
    elif n_dims == 2:
        width = 16
    elif n_dims == 3 and size > 16:
        stem, width = "strided", 16
    elif n_dims == 3:
        width, n_stages = 8, 4
    # A map of one position has no deviation: the last stage keeps two along its longest axis.
    n_stages = min(n_stages, max(1, (size - 1).bit_length()))
    return {
        "n_dims": n_dims,
        "embedding_dim": _WIDTH,
        "width": width,
        "depth": (1,) * n_stages,
        "stem": stem,
        "pool": "statistics",
        # The contrast of an image is often chance, and the views change it.
        "rescale": n_dims == 1,
    }
