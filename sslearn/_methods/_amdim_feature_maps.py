"""Outputs of an encoder's intermediate layers: feature maps, fine to coarse."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from .._modules import Features, in_training
from ..encoders import ResNet

__all__ = ["FeatureMaps"]

# Layers by default, besides the features.
_LAYERS = 2


class FeatureMaps(nn.Module):
    """An encoder together with some of its layers: samples to a list of maps (n, channels, ...).

    The first map is the encoder's output, with one position; then come the layers, in order.

    Parameters
    ----------
    encoder : Features
        The encoder; names of layers are relative to its module.
    layers : sequence of str or None
        Names of submodules. If None, the last stages of a :class:`ResNet`, the last first, or the
        last children of others whose output has positions. If there are too few, the last map is
        repeated.
    sample_shape : tuple of int
        Shape of a sample, for a trial run.

    Raises
    ------
    ValueError
        When the encoder has no such layer, or its output is not a map.
    """

    def __init__(
        self, encoder: Features, layers: Sequence[str] | None, sample_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        known = [name for name, layer in encoder.module.named_modules() if _can_be_seen(layer)]
        self.n_maps = 1 + (_LAYERS if layers is None else len(layers))
        if layers is None:
            self.layers = _last_layers(encoder, sample_shape)
        else:
            self.layers = list(layers)
            for name in self.layers:
                if name not in known or not name:
                    some = [key for key in known if key]
                    listed = ", ".join(repr(key) for key in some[:12]) or "none"
                    more = f" and {len(some) - 12} more" if len(some) > 12 else ""
                    raise ValueError(
                        f"The 'feature_layers' parameter names {name!r}, which the encoder "
                        f"{type(encoder.module).__name__} does not have, or which is scripted. Its "
                        f"layers are {listed}{more}."
                    )
        #: Layers whose output a later one, which works in place, overwrites.
        self.overwritten = _overwritten(encoder, self.layers, sample_shape)
        with torch.no_grad():
            maps = self.eval()(torch.zeros(2, *sample_shape))
        #: Channels of each map.
        self.channels = [found.shape[1] for found in maps]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        # One pass: the layers are read by hooks, while the encoder computes its features.
        features, maps = _run(self.encoder, self.layers, x, self.overwritten)
        for name in self.layers:
            found = maps.get(name)
            if not isinstance(found, torch.Tensor) or found.ndim < 2 or len(found) != len(x):
                kind = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found)
                raise ValueError(
                    f"The 'feature_layers' parameter names {name!r}, which must give one tensor "
                    f"(n, channels, ...) for each batch. Got {kind} for {tuple(x.shape)}."
                )
        each = [features, *(maps[name] for name in self.layers)]
        # Too few layers by default: repeated, so that comparisons need no other numbers.
        each += each[-1:] * (self.n_maps - len(each))
        return [found.unsqueeze(2) if found.ndim == 2 else found for found in each]


def _can_be_seen(layer: nn.Module) -> bool:
    """Return whether a layer takes hooks: scripted ones do not."""
    return not isinstance(layer, torch.jit.ScriptModule)


def _run(encoder: Features, names: Collection[str], x: torch.Tensor, copied: Collection[str] = ()):
    """Return the features and the output of each named layer, for some a copy."""
    found: dict[str, Any] = {}

    def keep(name: str) -> Callable:
        def hook(module, inputs, output):
            found[name] = output.clone() if name in copied else output

        return hook

    with _hooked(encoder.module, {name: keep(name) for name in names}):
        return encoder(x), found


@contextlib.contextmanager
def _hooked(module: nn.Module, hooks: dict[str, Callable]) -> Iterator[None]:
    """Register hooks for one pass: one that stayed would travel with every copy and pickle."""
    handles = [
        module.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _overwritten(
    encoder: Features, names: Collection[str], sample_shape: tuple[int, ...]
) -> set[str]:
    """Return the layers whose output has been changed by the time the encoder is done."""

    def run(tried: Any, x: torch.Tensor) -> set[str]:
        given: dict[str, tuple[torch.Tensor, int]] = {}

        def note(name: str) -> Callable:
            def hook(module, inputs, output):
                if isinstance(output, torch.Tensor):
                    given[name] = (output, output._version)

            return hook

        with torch.no_grad(), _hooked(tried.module, {name: note(name) for name in names}):
            tried(x)
        return {name for name, (output, version) in given.items() if output._version > version}

    # In both modes: dropout works in place in one of them only.
    sample = torch.zeros(2, *sample_shape)
    return run(encoder.eval(), sample) | in_training(encoder, sample_shape, run)


def _last_layers(encoder: Features, sample_shape: tuple[int, ...]) -> list[str]:
    module = encoder.module
    if isinstance(module, ResNet):
        names = [f"stages.{i}" for i in range(len(module.stages))]
    else:
        names = [name for name, child in module.named_children() if _can_be_seen(child)]
        overwritten = _overwritten(encoder, names, sample_shape)
        sample = torch.randn(1, *sample_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            _, found = _run(encoder, names, sample, overwritten)
        names = [
            name
            for name in names
            if isinstance(found.get(name), torch.Tensor)
            and found[name].ndim > 2
            and found[name][0, 0].numel() > 1
        ]
        # A layer that returns its input, as dropout does in eval mode, adds no map.
        names = names[:1] + [
            name
            for before, name in itertools.pairwise(names)
            if not torch.equal(found[name], found[before])
        ]
    return names[: -_LAYERS - 1 : -1]
