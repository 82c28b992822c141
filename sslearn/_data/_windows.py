"""Recordings of which a fit sees random windows."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..encoders._own_length import own_lengths
from ._rows import Rows, Stream, chunk_rows

__all__ = ["WindowedRows", "windowed_rows", "windows_in_the_middle"]


def windowed_rows(
    rows: Rows | Stream,
    length: int,
    seed: int,
    held_out: torch.Tensor | None,
    *,
    has_missing: bool,
) -> WindowedRows:
    """Return random windows of recordings, see :class:`WindowedRows`, if `rows` are recordings."""
    if isinstance(rows, Stream) or len(rows.item_shape) != 2 or rows.n_given:
        got = "a stream" if isinstance(rows, Stream) else f"samples of shape {rows.item_shape}"
        got += " with given views" if rows.n_given else ""
        raise ValueError(
            "The 'encoder' parameter may be Windows for series with numbers, in an array, a list "
            f"or a Dataset of samples (channels, time). Got {got} instead."
        )
    return WindowedRows(rows, length, seed, held_out, has_missing=has_missing)


def windows_in_the_middle(rows: Rows | Stream, length: int) -> WindowedRows:
    """Return the window in the middle of each recording, for recordings that are held out."""
    every = torch.arange(0 if isinstance(rows, Stream) else len(rows))
    return windowed_rows(rows, length, 0, every, has_missing=True)


class WindowedRows(Rows):
    """One random window of each recording, another one each time that it is read.

    Parameters
    ----------
    rows : Rows
        The recordings, (channels, time).
    length : int
        Steps of a window, at most those of the longest recording.
    seed : int
        Seed of the places of windows.
    held_out : Tensor of shape (m,) or None
        Numbers of the recordings that are held out: of these it is always the window in the middle.
    has_missing : bool
        Whether values may be missing, at the ends of recordings too.
    """

    is_fixed = False

    def __init__(
        self,
        rows: Rows,
        length: int,
        seed: int,
        held_out: torch.Tensor | None,
        *,
        has_missing: bool,
    ) -> None:
        self.rows = rows
        self.source, self.tensor, self._typed = rows.source, rows.tensor, rows._typed
        channels, n_steps = rows.sample_shape
        self.length = min(length, n_steps)
        self.item_shape = self.read_shape = self.sample_shape = (channels, self.length)
        # Features are means over as many windows as there are.
        self.any_length = True
        self.generator = torch.Generator().manual_seed(seed)
        lengths = torch.full((len(rows),), n_steps)
        if has_missing:
            size = chunk_rows(rows.sample_shape)
            lengths = torch.cat([own_lengths(part).cpu() for part in rows.slices(size)])
        self.room = (lengths - self.length).clamp_(min=0)
        self.in_the_middle = torch.zeros(len(rows), dtype=torch.bool)
        if held_out is not None:
            self.in_the_middle[held_out] = True

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Return windows of the recordings of a 1-D integer tensor, in their own dtype."""
        numbers = index.cpu()
        part = torch.rand(len(numbers), generator=self.generator)
        part = part.masked_fill_(self.in_the_middle[numbers], 0.5)
        starts = (part * (self.room[numbers] + 1)).long().clamp_(max=self.room[numbers]).tolist()
        if self.tensor is not None:  # nothing else of a recording is read
            cut = [
                self.tensor[i, :, s : s + self.length] for i, s in zip(numbers, starts, strict=True)
            ]
            return torch.stack(cut)
        whole = self.rows.take(index)
        return torch.stack([x[:, s : s + self.length] for x, s in zip(whole, starts, strict=True)])

    def slices(self, size: int) -> Iterator[torch.Tensor]:
        """Yield windows of all recordings in order, `size` at a time."""
        for numbers in torch.arange(len(self)).split(size):
            yield self.take(numbers)
