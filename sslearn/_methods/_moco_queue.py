"""Keys of earlier samples, kept as negatives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["KeyQueue"]


class KeyQueue(nn.Module):
    """The last keys, and the numbers of their samples, or of their groups where they have some.

    It starts with random directions. New keys wait until :meth:`advance`, after the optimizer
    step: the batches of one step, where gradients are accumulated, see the same queue.

    Parameters
    ----------
    size : int
        Keys that are kept.
    width : int
        Width of a key.
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
        """Return the numbers of the samples of new keys; -1 in a stream, where they have none."""
        if index is None:
            return torch.full((len(keys),), -1, device=keys.device)
        return index.to(keys.device)

    def same_row_mask(self, rows: torch.Tensor) -> torch.Tensor:
        """Return, of shape (n, size), which kept keys are of the queries' own samples."""
        numbered = torch.where(rows >= 0, rows, -2)  # -1 is no sample, and does not equal itself
        return numbered[:, None] == self.rows

    def add(self, keys: torch.Tensor, rows: torch.Tensor) -> None:
        """Keep keys of unit length until the end of the step."""
        self._waiting.append((keys.detach(), rows))

    def advance(self) -> None:
        """Replace the oldest keys by those that wait."""
        size = len(self.keys)
        for keys, rows in self._waiting:
            # Of a batch larger than the queue only the last keys stay.
            keys, rows = keys[-size:], rows[-size:]
            # A ring: the oldest keys are overwritten, and no tensor is moved.
            places = torch.arange(self._oldest, self._oldest + len(keys), device=keys.device)
            places %= size
            self.keys[places] = keys
            self.rows[places] = rows
            self._oldest = (self._oldest + len(keys)) % size
        self._waiting.clear()
