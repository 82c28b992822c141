"""What a network that rests makes of each row, computed once and looked up."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .._data._rows import Rows
from .._data._training_data import TrainingData
from .._objective import Batch

__all__ = ["RowCache"]

# What the looked-up outputs of one network, or several side by side, may take.
_BYTES = 2**30


class RowCache:
    """A function of rows, whose values for the rows trained on are kept where that is possible.

    They are kept when the function is sure to give the same again, rows can be asked for by number
    (not those of a stream) and all values together take at most 1 GiB. Otherwise, and for held-out
    rows, the function is called.

    Parameters
    ----------
    data : TrainingData
        The rows trained on.
    function : callable
        From standardised rows (n, ...) to a tensor (n, width).
    width : int
        Of what the function returns.
    deterministic : bool
        Whether the same rows always give the same.
    """

    def __init__(
        self,
        data: TrainingData,
        function: Callable[[torch.Tensor], torch.Tensor],
        width: int,
        *,
        deterministic: bool = True,
    ) -> None:
        self.function = function
        self.values: torch.Tensor | None = None
        self.place: torch.Tensor | None = None
        fits = 4 * width * len(data) <= _BYTES
        if not (deterministic and fits and isinstance(data.rows, Rows)):
            return
        with torch.no_grad():
            self.values = data.map(function)
        if data.index is not None:
            self.place = torch.full((len(data.rows),), -1, device=self.values.device)
            self.place[data.index.to(self.values.device)] = torch.arange(
                len(data), device=self.values.device
            )

    @torch.no_grad()
    def __call__(self, batch: Batch, *, trained_on: bool) -> torch.Tensor:
        """Return the function of a batch; `trained_on` tells that none of its rows is held out."""
        if self.values is None or batch.index is None or not trained_on:
            return self.function(batch.x)
        index = batch.index.to(self.values.device)
        return self.values[index if self.place is None else self.place[index]]
