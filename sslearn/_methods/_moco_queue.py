"""Keys of earlier rows, kept as negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["KeyQueue"]


class KeyQueue(nn.Module):
    """The last keys that were made, and which rows they are of.

    It starts with random directions. New keys wait until :meth:`advance`, after the optimizer
    step: the batches of one step, where gradients are accumulated, see the same queue.

    Parameters
    ----------
    size : int
        Keys that are kept.
    width : int
        Of a key.
    """

    keys: torch.Tensor  # (size, width)
    rows: torch.Tensor  # (size,)

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("rows", torch.full((size,), -1))
        self._oldest = 0
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def row_numbers(self, index: torch.Tensor | None, keys: torch.Tensor) -> torch.Tensor:
        """Return the rows that new keys are of; -1 for those of a stream, which have no number."""
        if index is None:
            return torch.full((len(keys),), -1, device=keys.device)
        return index.to(keys.device)

    def same_row_mask(self, rows: torch.Tensor) -> torch.Tensor:
        """Return, of shape (n, size), which kept keys are of the rows that ask."""
        numbered = torch.where(rows >= 0, rows, -2)  # -1 is no row, and is none of its own
        return numbered[:, None] == self.rows

    def add(self, keys: torch.Tensor, rows: torch.Tensor) -> None:
        """Let keys of unit length wait for the end of the step."""
        self._waiting.append((keys.detach(), rows))

    def advance(self) -> None:
        """Put what waits in the place of the oldest keys."""
        size = len(self.keys)
        for keys, rows in self._waiting:
            keys, rows = keys[-size:], rows[-size:]
            places = torch.arange(self._oldest, self._oldest + len(keys), device=keys.device)
            places %= size
            self.keys[places] = keys
            self.rows[places] = rows
            self._oldest = (self._oldest + len(keys)) % size
        self._waiting.clear()
