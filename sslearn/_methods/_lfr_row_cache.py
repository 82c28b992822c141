"""Cached outputs of a frozen network, one for each sample."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .._data._rows import Rows
from .._data._training_data import TrainingData
from .._objective import Batch

__all__ = ["RowCache"]

# Memory for the outputs of one network, or of several concatenated.
_BYTES = 2**30


class RowCache:
    """A function of samples, whose values for the training samples are kept where that is possible.

    They are kept when the function is deterministic, samples have numbers (not those of a stream)
    and all values together take at most 1 GiB. Otherwise, and for held-out samples, the function
    is called.

    Parameters
    ----------
    data : TrainingData
        The training samples.
    function : callable
        From standardised samples (n, ...), or what the encoder takes of them, to a tensor
        (n, width).
    width : int
        Width of the function's output.
    deterministic : bool
        Whether the same samples always give the same output.
    of_samples : bool
        Whether the function takes samples, or what the encoder takes.
    """

    def __init__(
        self,
        data: TrainingData,
        function: Callable[[torch.Tensor], torch.Tensor],
        width: int,
        *,
        deterministic: bool = True,
        of_samples: bool = True,
    ) -> None:
        self.function = function
        self.data = data
        self.of_samples = of_samples
        self.values: torch.Tensor | None = None
        fits = 4 * width * len(data) <= _BYTES
        if not (deterministic and fits and isinstance(data.rows, Rows) and data.rows.is_fixed):
            return
        with torch.no_grad():
            self.values = (data.map if of_samples else data.map_inputs)(function)

    @torch.no_grad()
    def __call__(self, batch: Batch, *, trained_on: bool) -> torch.Tensor:
        """Return the function of a batch; with `trained_on` none of its samples is held out."""
        if self.values is None or batch.index is None or not trained_on:
            return self.function(batch.samples if self.of_samples else batch.x)
        # Numbers count all samples of X; the values are those of the training part only.
        return self.values[self.data.places(batch.index.to(self.values.device))]
