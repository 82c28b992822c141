"""The passes over the data: how many batches they have, and which samples are in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from .._data._rows import Rows, Stream
from .._data._training_data import TrainingData
from ._settings import Settings, train_limit

__all__ = ["Passes"]

# How long a chunk of batches should last, and the most batches in one.
_CHUNK_SECONDS = 0.25
_MAX_CHUNK = 4096


class Passes:
    """Iterates over the data, one pass per phase of an epoch.

    Parameters
    ----------
    data : TrainingData
        Samples to train on.
    settings : Settings
        Batch size, and limits set by ``trainer_params``.
    n_phases : int
        Number of passes that make an epoch.
    seed : int
        Seed of the order of the samples.
    """

    def __init__(self, data: TrainingData, settings: Settings, n_phases: int, seed: int) -> None:
        self.data = data
        self.settings = settings
        self.n_phases = n_phases
        self.order = torch.Generator().manual_seed(seed)
        self._chunk = 1

    @property
    def batch_size(self) -> int:
        return min(self.settings.batch_size, len(self.data))

    @property
    def samples_per_batch(self) -> float:
        """Mean number of samples in a batch; the caller sets those of a stream."""
        rows = self.data.rows
        if not isinstance(rows, Stream):
            return self.batch_size
        return (rows.n_rows or 0) / max(rows.n_batches or 0, 1)

    @property
    def batches_per_phase(self) -> int:
        rows = self.data.rows
        found = rows.n_batches if isinstance(rows, Stream) else len(self.data) // self.batch_size
        n_batches, limit = found or 0, train_limit(self.settings.trainer_params)
        if limit is None or self.n_phases == 1:
            return n_batches
        # Each phase is limited here; a Trainer would skip the later phases of an epoch.
        is_share = isinstance(limit, float) and limit <= 1
        return int(limit * n_batches) if is_share else min(n_batches, int(limit))

    @property
    def batches_per_epoch(self) -> int:
        return self.batches_per_phase * self.n_phases

    def chunks(
        self, *, single: bool, finished: Callable[[], bool]
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Iterate over one epoch: pairs of a phase and the samples of several batches.

        For arrays and map-style datasets these are numbers of samples, of shape (k, batch_size),
        with k = 1 if `single`; for a stream they are a batch itself. A chunk grows until it lasts
        about a quarter of a second, which changes when the loss is read and nothing else. The
        epoch ends early when `finished` returns True.
        """
        for phase in range(self.n_phases):
            if isinstance(self.data.rows, Stream):
                for batch in self._stream_batches(self.data.rows, finished):
                    yield phase, batch
                if finished():
                    return
                continue
            batches = self._index_batches(self.data.rows)[: self.batches_per_phase]
            start = 0
            while start < len(batches) and not finished():
                size = 1 if single else self._chunk
                yield phase, batches[start : start + size]
                start += size

    def _stream_batches(
        self, stream: Stream, finished: Callable[[], bool]
    ) -> Iterator[torch.Tensor]:
        """Iterate over one pass of a stream, which must have as many batches as when counted."""
        found, counted = 0, stream.n_batches or 0
        for batch in stream.batches():
            if finished():
                return
            if found == self.batches_per_phase < counted:
                break
            found += 1
            yield batch
        if found != min(counted, self.batches_per_phase):
            raise ValueError(
                f"The stream X gave {counted} batches in its first pass and {found} in a later "
                f"one. {self.settings.name} iterates over X several times and needs the same "
                "number each time."
            )

    def _index_batches(self, rows: Rows) -> torch.Tensor:
        """Return the numbers of the samples of one pass, of shape (n_batches, batch_size)."""
        index = torch.randperm(len(self.data), generator=self.order)
        if self.data.index is not None:
            index = self.data.index[index]
        if rows.tensor is not None:
            index = index.to(rows.tensor.device)
        n_batches = len(index) // self.batch_size
        return index[: n_batches * self.batch_size].view(n_batches, self.batch_size)

    def adapt(self, seconds_per_batch: float) -> None:
        """Choose the size of the next chunk by the time that a batch takes."""
        wanted = int(_CHUNK_SECONDS / max(seconds_per_batch, 1e-6))
        self._chunk = max(1, min(wanted, 4 * self._chunk, _MAX_CHUNK))
