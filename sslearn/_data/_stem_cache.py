"""Features of the stem for all samples trained on, computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["CACHE_BYTES", "StemCache", "chosen_views"]

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
    n_given : int
        Views that are given of each sample: `draw` returns the features of all of them, one view
        after the other. `n_kept` is a multiple of it.
    """

    def __init__(
        self,
        draw: Callable[[torch.Tensor], torch.Tensor],
        n_samples: int,
        n_kept: int,
        block: int,
        order: torch.Generator,
        n_given: int = 1,
    ) -> None:
        self.n_kept = n_kept
        self.n_given = n_given
        values: torch.Tensor | None = None
        for number in range(0, n_kept, n_given):
            for places in torch.randperm(n_samples, generator=order).split(block):
                found = draw(places).unflatten(0, (n_given, -1)).transpose(0, 1)
                if values is None:
                    shape = (n_samples, n_kept, *found.shape[2:])
                    values = torch.empty(shape, dtype=torch.float16, device=found.device)
                if values.dtype == torch.float16 and found.abs().max() > _HALF_RANGE:
                    # Features of a caller's network may be of any magnitude.
                    values = values.to(torch.bfloat16)
                drawn = slice(number, number + n_given)
                values[places.to(found.device), drawn] = found.to(values.dtype)
        assert values is not None
        self.values = values

    def apply(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Replace the features by a function of them, of the same shape."""
        for part in self.values.split(256):
            part.copy_(function(part.flatten(0, 1).float()).view_as(part))

    def views(
        self, places: torch.Tensor, n_views: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, ...]:
        """Return `n_views` different views of each sample, in random order, in float32.

        Given views are those of one draw, and keep their order if they are all taken.
        """
        if self.n_given > 1:
            return self._given(places, n_views, generator)
        chance = torch.rand(
            len(places), self.n_kept, generator=generator, device=self.values.device
        )
        chosen = chance.argsort(dim=1)[:, :n_views].T.flatten()
        places = places.to(self.values.device).repeat(n_views)
        return self.values[places, chosen].float().chunk(n_views)

    def _given(
        self, places: torch.Tensor, n_views: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, ...]:
        device, n_draws = self.values.device, self.n_kept // self.n_given
        drawn = self.values[places.to(device)].unflatten(1, (n_draws, self.n_given))
        if n_draws > 1:
            number = torch.randint(n_draws, (len(places),), generator=generator, device=device)
            drawn = drawn[torch.arange(len(places), device=device), number]
        else:
            drawn = drawn[:, 0]
        return chosen_views(drawn, n_views, generator).float().chunk(n_views)


def chosen_views(views: torch.Tensor, n_views: int, generator: torch.Generator) -> torch.Tensor:
    """Return `n_views` of the given views (n, n_given, ...) of each sample, one after the other.

    If there are more, others are drawn for each sample; otherwise they keep their order.
    """
    n, n_given = views.shape[:2]
    if n_views == n_given:
        return views.transpose(0, 1).flatten(0, 1)
    chance = torch.rand(n, n_given, generator=generator, device=views.device)
    chosen = chance.argsort(dim=1)[:, :n_views].T.flatten()
    return views[torch.arange(n, device=views.device).repeat(n_views), chosen]
