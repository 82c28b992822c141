"""The training loop: optimizer steps, phases and epochs, without Lightning."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from .._data._batches import Batches
from .._data._held_out import HeldOut
from .._data._seeds import Seeds
from .._objective import Batch, Objective
from .._process_state import StopOnInterrupt
from ._auto import automatic_rate
from ._history import Diverged, EpochListener, History, Interrupted, Patience, RunningLoss
from ._optimization import NOTHING_MOVES
from ._passes import Passes
from ._progress import Clock, epoch_line, opening_line
from ._rank import RankMonitor, collapse_message
from ._schedules import LearningRate
from ._settings import Settings, given_callbacks

__all__ = ["TrainingLoop"]


class TrainingLoop:
    """Losses, the work around each step, and the epochs; either driver makes the steps.

    Parameters
    ----------
    objective : Objective
        Prepared, on the device.
    batches : Batches
        Makes the batches.
    held_out : HeldOut or None
        Samples whose loss is computed after each epoch.
    settings : Settings
        Parameters shared by all estimators.
    seeds : Seeds
        Seeds of this fit.
    stop : StopOnInterrupt
        Signals of this fit.
    listener : EpochListener
        Called when an epoch begins and ends.
    """

    def __init__(
        self,
        objective: Objective,
        batches: Batches,
        held_out: HeldOut | None,
        settings: Settings,
        seeds: Seeds,
        stop: StopOnInterrupt,
        listener: EpochListener,
    ) -> None:
        self.objective = objective
        self.batches = batches
        self.data = data = batches.data
        self.held_out = held_out
        self.settings = settings
        self.stop = stop
        self.listener = listener
        self.passes = passes = Passes(data, settings, len(objective.phases), seeds.order)
        self.generator = torch.Generator(data.device).manual_seed(seeds.views)
        self.held_out_seed = seeds.held_out_views
        if settings.max_epochs:
            batches.prepare(passes.batch_size, self.generator, self._check_stop)
        self.monitor = RankMonitor(
            objective,
            data,
            seeds.watched,
            max(passes.batches_per_epoch, 1),
            passes.samples_per_batch,
        )
        self.patience = Patience(settings.n_iter_no_change)
        self.can_move = [p for p in objective.parameters() if p.requires_grad]
        self.learning_rate = settings.learning_rate or automatic_rate(
            settings.optimizer,
            passes.batches_per_epoch * settings.max_epochs,
            passes.batch_size,
            n_axes=len(data.sample_shape),
            few_layers=data.few_layers,
        )
        self.history = History(
            rank_curve=self.monitor.points,
            batch_size=getattr(data.rows, "batch_size", None) or passes.batch_size,
            learning_rate=self.learning_rate,
        )
        #: Measurements of the epoch that has ended, for loggers and progress bars.
        self.measured: dict[str, float] = {}
        self.running_loss = RunningLoss(data.device)
        self.phase: int | None = None
        self.step = 0
        self.n_steps = 0
        self.ends_early = False
        self.clock = Clock()
        self.rate: LearningRate | None = None

    def __deepcopy__(self, memo: dict) -> TrainingLoop:
        # Callbacks that keep a copy of the module must not copy the data with it.
        return self

    @property
    def finished(self) -> bool:
        """Whether the objective needs no more steps, though there are epochs left."""
        return self.ends_early and self.step >= self.n_steps

    def chunks(self, *, single: bool) -> Iterator[tuple[int, torch.Tensor]]:
        """Iterate over one epoch, see :meth:`Passes.chunks`."""
        if self.epoch <= self.settings.max_epochs:
            self.listener.begin_epoch()
        yield from self.passes.chunks(single=single, finished=lambda: self.finished)

    # --- one step --------------------------------------------------------------------------

    def begin(self, optimizer: torch.optim.Optimizer, n_steps: int) -> None:
        """Prepare `n_steps` steps of an optimizer, fewer if the objective counts its own."""
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
        self._print_opening()
        self.clock.start()

    @torch.no_grad()
    def settle(self) -> None:
        """Make one pass without a step, for batch statistics; the weights stay as drawn."""
        self._print_opening()
        for phase, items in self.chunks(single=True):
            self._check_stop()
            if phase != self.phase:
                self.phase = phase
                self.objective.start_phase(self.objective.phases[phase], self.data)
            if not self.objective.features.training:
                continue  # the encoder is trained in other phases, or not at all
            item = items if self.data.is_stream else items[0]
            self._loss(self.batches.make(item, self.generator))
            # Queues must be filled; averages of weights that do not move stay the same.
            self.objective.after_step(self.step, self.passes.batches_per_epoch)

    def enter_phase(self, phase: int) -> None:
        """Set the modes, and which parameters are trained, when a phase begins."""
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

    def loss_on(self, item: torch.Tensor) -> torch.Tensor:
        """Return the training loss of one batch of a chunk, for either driver."""
        self._check_stop()
        loss = self._loss(self.batches.make(item, self.generator))
        self.running_loss.add(loss)
        return loss

    def _loss(self, batch: Batch) -> torch.Tensor:
        dtype = self.settings.autocast
        if dtype is None:
            return _check_scalar(self.objective.batch_loss(batch), self.objective)
        # A cache of cast weights would outlive the step if another context is open around it.
        with torch.autocast(self.data.device.type, dtype, cache_enabled=False):
            return _check_scalar(self.objective.batch_loss(batch), self.objective)

    def after_step(self) -> None:
        """Finish an optimizer step: the objective's hook, and the rate of the next step."""
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
        for item in (items,) if self.data.is_stream else items:
            loss = self.loss_on(item)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            self.after_step()
            if self.finished:
                break
        if self.data.is_stream:
            self.check_loss_sometimes()
            return
        self._check_loss()
        self.passes.adapt((time.monotonic() - begun) / len(items))

    # --- epochs ----------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Number of the current epoch, from 1."""
        return len(self.history.loss_curve) + 1

    def check_loss_sometimes(self) -> None:
        """Check the loss if it has not been read for a while."""
        if self.running_loss.is_due:
            self._check_loss()

    def _check_loss(self) -> float:
        total = self.running_loss.read()
        if not math.isfinite(total):
            raise self._diverged(total)
        return total

    def _diverged(self, loss: float) -> Diverged:
        return Diverged.in_epoch(self.epoch, loss, self.settings, self.learning_rate)

    def _check_stop(self) -> None:
        if self.stop.requested:
            raise Interrupted

    def end_epoch(self) -> bool:
        """Record an epoch that has ended; True when it is time to stop."""
        settings, history = self.settings, self.history
        self.measured = {}
        # A callback may make further passes after the last epoch, as weight averaging does.
        if not self.running_loss.count or len(history.loss_curve) >= settings.max_epochs:
            return False
        # Losses, which must be finite.
        loss = self._check_loss() / self.running_loss.count
        watched = loss
        validation: float | None = None
        if self.held_out is not None:
            watched = validation = self._held_out_loss()
            if not math.isfinite(validation):
                raise self._diverged(validation)
        history.loss_curve.append(loss)
        if validation is not None:
            history.validation_loss_curve.append(validation)
        history.n_steps = self.step
        self.running_loss.reset()
        self.phase = None
        assert self.rate is not None
        self.rate.end_epoch(watched, self.step)
        epoch = len(history.loss_curve)
        # The rank: always after the last epoch, at which callbacks see it, too.
        (self.monitor.end if epoch == settings.max_epochs else self.monitor.end_epoch)(epoch)
        of_objective = self.objective.measured(max(0, self.step - 1), self.n_steps)
        self.measured = {**history.measured(epoch), **of_objective}
        # Whoever may end the training: a signal, patience, a callback, the objective.
        if self.stop.requested:
            self._print_epoch(epoch)
            raise Interrupted
        patient = not self.patience.update(watched, self.objective)
        ends = self.listener.end_epoch(history) or not patient or self.finished
        self.measured.update(self.listener.scores(epoch))
        self._print_epoch(epoch)
        return ends

    def _print_opening(self) -> None:
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

    def _print_epoch(self, epoch: int) -> None:
        if self.settings.verbose == 1:
            left = self.clock.left(self.step / self.n_steps)
            print(epoch_line(self.settings, epoch, self.measured, left))

    def end(self) -> History:
        """Finish with the weights to keep: the best ones, if training may stop early."""
        objective, history = self.objective, self.history
        if len(history.loss_curve) < self.settings.max_epochs:  # else passes of callbacks follow
            history.n_steps = self.step
        restored = self.patience.restore(objective)
        # The weights may differ from those whose rank was measured last: a callback may have
        # averaged them, and the pass of an untrained encoder sets its statistics.
        restored |= bool(given_callbacks(self.settings.trainer_params)) or not history.loss_curve
        for parameter in self.can_move:
            parameter.requires_grad_(True)
        objective.zero_grad(set_to_none=True)
        # The last loss is finite, but its gradient may not have been.
        if not all(bool(torch.isfinite(p).all()) for p in self.can_move):
            raise self._diverged(float("nan"))
        self.monitor.end(len(history.loss_curve), restored=restored)
        if history.loss_curve and self.monitor.collapsed:
            history.collapse = collapse_message(
                history.rank_curve, self.settings, self.learning_rate, self.batches.drowned
            )
        objective.cpu()
        return history

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """Return the loss of the held-out samples, in eval mode, on the same views each time."""
        assert self.held_out is not None
        self.objective.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.data.device)
        n_samples = 0
        for n, batch in self.batches.held_out(
            self.held_out, self.settings.batch_size, self.held_out_seed
        ):
            self._check_stop()
            total += self._loss(batch).detach() * n
            n_samples += n
        return float(total) / n_samples


def _check_scalar(loss: Any, objective: Objective) -> torch.Tensor:
    """Return the loss of an objective if it is a scalar that can be trained on."""
    if isinstance(loss, torch.Tensor) and loss.ndim == 0:
        if loss.requires_grad or not torch.is_grad_enabled():
            return loss
        got = "one without a gradient"
    else:
        is_tensor = isinstance(loss, torch.Tensor)
        got = f"shape {tuple(loss.shape)}" if is_tensor else type(loss).__name__
    raise TypeError(
        f"The loss of {type(objective).__name__} must be a scalar tensor that has a gradient. Got "
        f"{got} instead."
    )
