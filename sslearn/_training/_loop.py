"""One optimizer step, and the bookkeeping of steps, epochs and phases: no Lightning here."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .._data._batches import TrainingData
from .._data._rows import Rows, Stream
from .._objective import Objective
from .._process_state import StopOnInterrupt
from ._optimization import NOTHING_MOVES, LearningRate, automatic_rate
from ._progress import Clock, epoch_line, opening_line
from ._rank import RankMonitor
from ._settings import Settings, given_callbacks, train_limit

__all__ = ["Diverged", "EpochListener", "History", "Interrupted", "Patience", "TrainingLoop"]

_CHUNK_SECONDS = 0.25
_MAX_CHUNK = 4096


@dataclass
class History:
    """What came out, beside the weights."""

    loss_curve: list[float] = field(default_factory=list)
    validation_loss_curve: list[float] = field(default_factory=list)
    rank_curve: list[tuple[int, float, float]] = field(default_factory=list)
    batch_size: int = 0
    learning_rate: float = 0.0
    n_steps: int = 0
    interrupted: str | None = None
    collapse: str | None = None


class EpochListener:
    """Is told when an epoch begins and ends."""

    def begin_epoch(self) -> None:
        """Hear that an epoch begins."""

    def end_epoch(self, history: History) -> bool:
        """Hear that an epoch has ended; True ends the training."""
        return False

    def scores(self, epoch: int) -> dict[str, float]:
        """Return what has been measured of the features after an epoch, by name."""
        return {}


class Interrupted(Exception):
    """The end of a training that was asked for by a signal, on its way out of Lightning."""


class Diverged(ValueError):
    """The loss is NaN or infinite."""


class Patience:
    """Keeps the best weights, and says when to stop.

    Parameters
    ----------
    n_iter_no_change : int or None
        Epochs without improvement after which to stop; None: never, and nothing is kept.
    """

    def __init__(self, n_iter_no_change: int | None) -> None:
        self.limit = n_iter_no_change
        self.best = float("inf")
        self.waited = 0
        self.weights: dict[str, torch.Tensor] | None = None

    def update(self, loss: float, module: nn.Module) -> bool:
        if self.limit is None:
            return False
        if loss < self.best:
            self.best, self.waited = loss, 0
            self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.limit

    def restore(self, module: nn.Module) -> bool:
        """Put the best weights back; tells whether there are any."""
        if self.weights is not None:
            module.load_state_dict(self.weights)
        return self.weights is not None


class TrainingLoop:
    """Batches, losses and what follows a step, for whichever driver makes the steps.

    Parameters
    ----------
    objective : Objective
        On the device, prepared.
    data : TrainingData
        What is trained on.
    held_out : Tensor or None
        Rows whose loss is taken after each epoch.
    seeds : sequence of four ints
        Of the order of the rows, of the views, of the views of held-out rows, of the sample that
        is watched for collapse.
    listener : EpochListener
        Told when an epoch begins and ends.
    """

    def __init__(
        self,
        objective: Objective,
        data: TrainingData,
        held_out: torch.Tensor | None,
        settings: Settings,
        seeds: tuple[int, int, int, int],
        stop: StopOnInterrupt,
        listener: EpochListener,
    ) -> None:
        self.objective = objective
        self.data = data
        self.held_out = held_out
        self.settings = settings
        self.stop = stop
        self.listener = listener
        self.order = torch.Generator().manual_seed(seeds[0])
        self.views = torch.Generator(data.device).manual_seed(seeds[1])
        self.held_out_seed = seeds[2]
        self.watch = RankMonitor(
            objective, data, seeds[3], max(self.batches_per_epoch, 1), self.samples_per_batch
        )
        self.patience = Patience(settings.n_iter_no_change)
        self.can_move = [p for p in objective.parameters() if p.requires_grad]
        self.learning_rate = settings.learning_rate or automatic_rate(
            settings.optimizer,
            self.batches_per_epoch * settings.max_epochs,
            self.batch_size,
            n_axes=len(data.sample_shape),
        )
        self.history = History(
            rank_curve=self.watch.points,
            batch_size=(isinstance(data.rows, Stream) and data.rows.batch_size) or self.batch_size,
            learning_rate=self.learning_rate,
        )
        #: What was measured of the epoch that has ended, for loggers and progress bars.
        self.measured: dict[str, float] = {}
        #: Mean loss of the epoch that runs, as far as it has been read.
        self.running_loss = math.nan
        self.phase: int | None = None
        self.step = 0
        self.n_steps = 0
        self.ends_early = False
        self.clock = Clock()
        self.rate: LearningRate | None = None
        self._total = torch.zeros((), dtype=torch.float64, device=data.device)
        self._count = 0
        self._last_read = time.monotonic()
        self._chunk = 1

    def __deepcopy__(self, memo: dict) -> TrainingLoop:
        # Callbacks that keep a copy of the module must not copy the data with it.
        return self

    @property
    def finished(self) -> bool:
        """Whether the objective wants no more steps, though there are epochs left."""
        return self.ends_early and self.step >= self.n_steps

    # --- batches ---------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        return min(self.settings.batch_size, len(self.data))

    @property
    def samples_per_batch(self) -> float:
        """How many samples a batch has, on average: those of a stream are the caller's."""
        rows = self.data.rows
        if not isinstance(rows, Stream):
            return self.batch_size
        return (rows.n_rows or 0) / max(rows.n_batches or 0, 1)

    @property
    def batches_per_phase(self) -> int:
        rows = self.data.rows
        found = rows.n_batches if isinstance(rows, Stream) else len(self.data) // self.batch_size
        n_batches, limit = found or 0, train_limit(self.settings.trainer_params)
        if limit is None or len(self.objective.phases) == 1:
            return n_batches
        # Here each phase is limited; a Trainer would leave out the later ones of an epoch.
        is_share = isinstance(limit, float) and limit <= 1
        return int(limit * n_batches) if is_share else min(n_batches, int(limit))

    @property
    def batches_per_epoch(self) -> int:
        return self.batches_per_phase * len(self.objective.phases)

    def chunks(self, *, single: bool) -> Iterator[tuple[int, torch.Tensor]]:
        """Go through one epoch: (phase, rows of several batches), or one batch if `single`.

        Of rows, an index of shape (k, batch_size); of a stream, a batch itself. A chunk grows
        until it lasts about a quarter of a second, which changes when the loss is looked at and
        nothing else.
        """
        if self.epoch <= self.settings.max_epochs:
            self.listener.begin_epoch()
        for phase in range(len(self.objective.phases)):
            if isinstance(self.data.rows, Stream):
                found, counted = 0, self.data.rows.n_batches or 0
                for batch in self.data.rows.batches():
                    if self.finished:
                        return
                    if found == self.batches_per_phase < counted:
                        break
                    found += 1
                    yield phase, batch
                if found != min(counted, self.batches_per_phase):
                    raise ValueError(
                        f"The stream X gave {counted} batches in its first pass "
                        f"and {found} in a later one. {self.settings.name} goes through X several "
                        "times and needs the same number each time."
                    )
                continue
            batches = self._index_batches(self.data.rows)[: self.batches_per_phase]
            start = 0
            while start < len(batches) and not self.finished:
                size = 1 if single else self._chunk
                yield phase, batches[start : start + size]
                start += size

    def _index_batches(self, rows: Rows) -> torch.Tensor:
        """Return the numbers of the rows of one pass, of shape (n_batches, batch_size)."""
        index = torch.randperm(len(self.data), generator=self.order)
        if self.data.index is not None:
            index = self.data.index[index]
        if rows.tensor is not None:
            index = index.to(rows.tensor.device)
        n_batches = len(index) // self.batch_size
        return index[: n_batches * self.batch_size].view(n_batches, self.batch_size)

    # --- one step --------------------------------------------------------------------------

    def begin(self, optimizer: torch.optim.Optimizer, n_steps: int) -> None:
        settings = self.settings
        limit = self.objective.max_steps(
            max(1, n_steps // (settings.max_epochs * len(self.objective.phases)))
        )
        self.n_steps = n_steps if limit is None else min(n_steps, limit)
        self.ends_early = self.n_steps < n_steps
        self.rate = LearningRate(
            optimizer,
            settings.lr_schedule,
            self.n_steps,
            settings.warmup_fraction,
        )
        self.rate.set(0)
        self._tell_beginning()
        self.clock.start()

    @torch.no_grad()
    def settle(self) -> None:
        """Make one pass without a step, for batch statistics; weights stay as they are drawn."""
        self._tell_beginning()
        for phase, items in self.chunks(single=True):
            if self.stop.requested:
                raise Interrupted
            if phase != self.phase:
                self.phase = phase
                self.objective.start_phase(self.objective.phases[phase], self.data)
            if not self.objective.features.training:
                continue  # it learns in other phases, or not at all
            item = items if self.data.rows.is_stream else items[0]
            batch = self.data.batch(*self.take(item), self.views)
            with self._autocast():
                self._checked(self.objective.batch_loss(batch))
            # Queues must not wait for ever; averages of weights that stand still stay the same.
            self.objective.after_step(self.step, self.batches_per_epoch)

    def enter_phase(self, phase: int) -> None:
        """Set modes, and which parameters move, when a phase begins."""
        if phase == self.phase:
            return
        self.phase = phase
        moving = self.objective.start_phase(self.objective.phases[phase], self.data)
        if len(self.objective.phases) > 1 or moving is not None:
            moving = set(self.can_move if moving is None else moving)
            if moving.isdisjoint(self.can_move):
                name = self.objective.phases[phase]
                raise ValueError(f"{NOTHING_MOVES} that learn in the phase {name!r}.")
            for parameter in self.can_move:
                parameter.requires_grad_(parameter in moving)
                if parameter not in moving:
                    # Accumulated batches may end in the next phase, whose step would use it.
                    parameter.grad = None

    def loss_on(self, raw: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
        """Return the loss of one batch. Both drivers call this, and nothing else makes a loss."""
        if self.stop.requested:
            raise Interrupted
        batch = self.data.batch(raw, index, self.views)
        with self._autocast():
            loss = self._checked(self.objective.batch_loss(batch))
        self._total += loss.detach()
        self._count += 1
        return loss

    def _checked(self, loss: Any) -> torch.Tensor:
        """Return a loss, if it is one."""
        if isinstance(loss, torch.Tensor) and loss.ndim == 0:
            if loss.requires_grad or not torch.is_grad_enabled():
                return loss
            got = "one without a gradient"
        else:
            is_tensor = isinstance(loss, torch.Tensor)
            got = f"shape {tuple(loss.shape)}" if is_tensor else type(loss).__name__
        raise TypeError(
            f"The loss of {type(self.objective).__name__} must be a scalar tensor that has a "
            f"gradient. Got {got} instead."
        )

    def take(self, item: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the raw rows and the numbers of one batch of a chunk."""
        if isinstance(self.data.rows, Stream):
            return item, None
        return self.data.rows.take(item), item

    def after_step(self) -> None:
        """Follow an optimizer step: the objective's turn, and the rate of the next step."""
        assert self.rate is not None
        self.objective.after_step(self.step, self.n_steps)
        self.step += 1
        if self.step < self.n_steps:
            self.rate.set(self.step)

    def run(self, chunk: tuple[int, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Make all steps of a chunk: the fast driver."""
        if self.finished:  # a chunk that was fetched ahead
            return
        phase, items = chunk
        self.enter_phase(phase)
        begun = time.monotonic()
        is_stream = isinstance(self.data.rows, Stream)
        for item in (items,) if is_stream else items:
            loss = self.loss_on(*self.take(item))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            self.after_step()
            if self.finished:
                break
        if is_stream:
            self.check_loss_sometimes()
            return
        self._check_loss()
        elapsed = (time.monotonic() - begun) / len(items)
        wanted = int(_CHUNK_SECONDS / max(elapsed, 1e-6))
        self._chunk = max(1, min(wanted, 4 * self._chunk, _MAX_CHUNK))

    def _autocast(self):
        dtype = self.settings.autocast
        if dtype is None:
            return contextlib.nullcontext()
        # A cache of cast weights would outlive the step wherever another context is held open.
        return torch.autocast(self.data.device.type, dtype, cache_enabled=False)

    # --- epochs ----------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch that runs, from 1."""
        return len(self.history.loss_curve) + 1

    def check_loss_sometimes(self) -> None:
        """Test the loss now and then: reading it waits for the device."""
        if time.monotonic() - self._last_read > _CHUNK_SECONDS:
            self._check_loss()

    def _check_loss(self) -> float:
        total = float(self._total)
        self._last_read = time.monotonic()
        if not math.isfinite(total):
            self.diverged(total)
        self.running_loss = total / max(1, self._count)
        return total

    def diverged(self, loss: float) -> None:
        settings = self.settings
        raise Diverged(
            f"The loss of {settings.name} became {'nan' if math.isnan(loss) else 'infinite'} in "
            f"epoch {self.epoch} of {settings.max_epochs}. If X holds extreme values, scale it "
            f"first; otherwise lower learning_rate (it is {self.learning_rate:g}) or raise "
            f"warmup_fraction (it is {settings.warmup_fraction:g})."
        )

    def _collapse_message(self) -> str:
        settings = self.settings
        (_, before, _), *_, (epoch, rank, spread) = self.history.rank_curve
        cure = (
            f"In X {self.data.drowned} by less than the noise of the views: scale X first, or let "
            "views change less, by augment"
            if self.data.drowned
            else "Let views change less, by augment, if they leave nothing alike in a sample, "
            f"lower learning_rate (it is {self.learning_rate:g}) or raise warmup_fraction (it is "
            f"{settings.warmup_fraction:g})"
        )
        return (
            f"The representation of {settings.name} has collapsed: after epoch {epoch} the "
            f"features of all rows are nearly alike (effective rank {rank:.1f}, {before:.1f} "
            f"before training; standard deviation {spread:.2g} at unit length). {cure}; "
            "embedding_rank_curve_ shows when it happened."
        )

    def end_epoch(self) -> bool:
        """Record the losses of an epoch; True when it is time to stop."""
        settings, history = self.settings, self.history
        self.measured = {}
        # A callback may ask for passes of its own after the last epoch (weight averaging does).
        if not self._count or len(history.loss_curve) >= settings.max_epochs:
            return False
        loss = self._check_loss() / self._count
        watched = loss
        validation: float | None = None
        if self.held_out is not None:
            watched = validation = self._held_out_loss()
            if not math.isfinite(validation):
                self.diverged(validation)
        history.loss_curve.append(loss)
        if validation is not None:
            history.validation_loss_curve.append(validation)
        history.n_steps = self.step
        self._total.zero_()
        self._count = 0
        self.phase = None
        assert self.rate is not None
        self.rate.end_epoch(watched, self.step)
        epoch = len(history.loss_curve)
        # After the last epoch it looks anyway, and callbacks want to know then, too.
        (self.watch.end if epoch == settings.max_epochs else self.watch.end_epoch)(epoch)
        self._measure(epoch)
        if self.stop.requested:
            self._tell(epoch)
            raise Interrupted
        patient = not self.patience.update(watched, self.objective)
        ends = self.listener.end_epoch(history) or not patient or self.finished
        self.measured.update(self.listener.scores(epoch))
        self._tell(epoch)
        return ends

    def _measure(self, epoch: int) -> None:
        """Gather what is known after an epoch, by the names that callbacks and loggers see."""
        history = self.history
        self.measured = {"loss": history.loss_curve[-1]}
        if history.validation_loss_curve:
            self.measured["validation_loss"] = history.validation_loss_curve[-1]
        looked_at, rank, _ = history.rank_curve[-1]
        if looked_at == epoch:
            self.measured["effective_rank"] = rank
        self.measured.update(self.objective.measured(max(0, self.step - 1), self.n_steps))

    def _tell_beginning(self) -> None:
        if self.settings.verbose:
            line = opening_line(
                self.settings,
                self.data,
                batch_size=self.history.batch_size,
                learning_rate=self.learning_rate,
                n_steps=self.n_steps,
                n_weights=sum(parameter.numel() for parameter in self.can_move),
            )
            print(line)

    def _tell(self, epoch: int) -> None:
        if self.settings.verbose == 1:
            left = self.clock.left(self.step / self.n_steps)
            print(epoch_line(self.settings, epoch, self.measured, left))

    def end(self) -> History:
        """Finish with the weights that are kept: the best ones, where there was patience."""
        objective, history = self.objective, self.history
        if len(history.loss_curve) < self.settings.max_epochs:  # else passes of callbacks follow
            history.n_steps = self.step
        restored = self.patience.restore(objective)
        # What is kept need not be what was looked at: a callback may have put averages in its
        # place after the last epoch, and the pass of an untrained encoder sets its statistics.
        restored |= bool(given_callbacks(self.settings.trainer_params)) or not history.loss_curve
        for parameter in self.can_move:
            parameter.requires_grad_(True)
        objective.zero_grad(set_to_none=True)
        # The loss is finite while the last gradient may not have been.
        if not all(bool(torch.isfinite(p).all()) for p in self.can_move):
            self.diverged(float("nan"))
        self.watch.end(len(history.loss_curve), restored=restored)
        if history.loss_curve and self.watch.collapsed:
            history.collapse = self._collapse_message()
        objective.cpu()
        return history

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """Return the loss of the held-out rows, in eval mode, on the same views each time."""
        assert self.held_out is not None
        assert isinstance(self.data.rows, Rows)
        generator = torch.Generator(self.data.device).manual_seed(self.held_out_seed)
        self.objective.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.data.device)
        # Near-equal batches: in a short last one a row would have fewer negatives, and a single
        # one no statistics.
        n_batches = max(1, len(self.held_out) // self.settings.batch_size)
        for index in self.held_out.tensor_split(n_batches):
            if self.stop.requested:
                raise Interrupted
            batch = self.data.batch(self.data.rows.take(index), index, generator)
            with self._autocast():
                total += self._checked(self.objective.batch_loss(batch)).detach() * len(index)
        return float(total) / len(self.held_out)
