"""Features of the stem for all samples trained on, computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["CACHE_BYTES", "StemCache"]

# Memory that features of the stem may take.
CACHE_BYTES = 2**30
# Magnitude up to which features are kept in float16, whose largest number is 65,504.
_HALF_RANGE = 3e4


class StemCache:
    """The stem's features of a few views of each sample, or of the samples themselves.

    They are kept in half precision, on the device.

    Parameters
    ----------
    draw : callable
        Returns the stem's features of one view of samples: ``draw(places)``, where places are
        numbers of the samples among those trained on.
    n_samples : int
        Number of samples trained on.
    n_kept : int
        Views kept of each sample.
    block : int
        Samples of which views are drawn at once.
    order : torch.Generator
        Draws which samples are in a block together, on the CPU.
    """

    def __init__(
        self,
        draw: Callable[[torch.Tensor], torch.Tensor],
        n_samples: int,
        n_kept: int,
        block: int,
        order: torch.Generator,
    ) -> None:
        self.n_kept = n_kept
        values: torch.Tensor | None = None
        for number in range(n_kept):
            for places in torch.randperm(n_samples, generator=order).split(block):
                found = draw(places)
                if values is None:
                    shape = (n_samples, n_kept, *found.shape[1:])
                    values = torch.empty(shape, dtype=torch.float16, device=found.device)
                if values.dtype == torch.float16 and found.abs().max() > _HALF_RANGE:
                    # Features of a caller's network may be of any magnitude.
                    values = values.to(torch.bfloat16)
                values[places.to(found.device), number] = found.to(values.dtype)
        assert values is not None
        self.values = values

    def apply(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace the features by a function of them, of the same shape."""
        for part in self.values.split(256):
            part.copy_(function(part.flatten(0, 1).float()).view_as(part))

    def views(
        self, places: torch.Tensor, n_views: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, ...]:
        """Return `n_views` different views of each sample, in random order, in float32."""
        chance = torch.rand(
            len(places), self.n_kept, generator=generator, device=self.values.device
        )
        chosen = chance.argsort(dim=1)[:, :n_views].T.flatten()
        places = places.to(self.values.device).repeat(n_views)
        return self.values[places, chosen].float().chunk(n_views)
