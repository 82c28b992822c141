"""Lightning's side of training: one module that trains any objective, and its Trainer.

Two drivers around one ``loss_on``, equal bit for bit on the CPU. *Fast*, when ``trainer_params``
is None or empty: manual optimization, and what Lightning takes for a batch is a chunk of many, so
that its half millisecond a step is paid once a quarter of a second. *Standard*, otherwise:
automatic optimization, one batch at a time, so that everything a Trainer offers (accumulation,
clipping, callbacks) works, and for float16, whose scaler needs it. No inspection of what is asked
for.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator

import torch
from torch.utils._pytree import tree_flatten

from .._data._batches import Batches
from .._data._held_out import HeldOut
from .._data._seeds import Seeds
from .._objective import Objective
from .._process_state import StopOnInterrupt, keep_freed_memory
from ._history import EpochListener, History, Interrupted
from ._lightning import CombinedLoader, LightningEnvironment, LightningModule, Trainer, quiet
from ._loop import TrainingLoop
from ._optimization import make_optimizer, parameter_groups
from ._settings import Settings, given_callbacks, train_limit
from ._trainer_callbacks import Bar, EpochEnd, Lent, has_bar, has_checkpoint

__all__ = ["check_arguments", "train"]


class _Chunks:
    """What the fast driver iterates over. Has no ``__len__`` on purpose.

    With a length, Lightning counts the chunks of the first epoch as those of every epoch and
    leaves steps out when chunks grow.
    """

    def __init__(self, steps: TrainingLoop, *, single: bool) -> None:
        self.steps = steps
        self.single = single

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        return self.steps.chunks(single=self.single)


class _Batches(_Chunks):
    """What the standard driver iterates over; its length lets Lightning count optimizer steps."""

    def __len__(self) -> int:
        return self.steps.passes.batches_per_epoch


class _Module(LightningModule):
    """What both drivers share."""

    def __init__(self, objective: Objective, steps: TrainingLoop) -> None:
        super().__init__()
        self.objective = objective
        self.steps = steps
        # Of the objective only, so that Lightning finds the parameters it clips.
        groups = parameter_groups(objective, steps.settings.weight_decay)
        self.optimizer = make_optimizer(
            steps.settings.optimizer,
            groups,
            steps.learning_rate,
            # The gradient scaler clips unscaled gradients, which fused steps do themselves.
            fused=steps.settings.autocast != torch.float16,
        )

    def configure_optimizers(self):
        return self.optimizer

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch  # row numbers; the rows are moved when they are taken


class _FastModule(_Module):
    def __init__(self, objective: Objective, steps: TrainingLoop) -> None:
        super().__init__(objective, steps)
        self.automatic_optimization = False

    def on_fit_start(self) -> None:
        steps = self.steps
        steps.begin(self.optimizer, steps.passes.batches_per_epoch * steps.settings.max_epochs)

    def training_step(self, chunk, batch_idx):
        self.steps.run(chunk, self.optimizer)


class _StandardModule(_Module):
    def configure_optimizers(self):
        # Counted here, before weight averaging adds an epoch in which no step is made.
        self.n_steps = int(self.trainer.estimated_stepping_batches)
        return super().configure_optimizers()

    def on_fit_start(self) -> None:
        self.steps.begin(self.optimizer, self.n_steps)

    def training_step(self, chunk, batch_idx):
        phase, items = chunk
        self.steps.enter_phase(phase)
        item = items if self.steps.data.is_stream else items[0]
        return self.steps.loss_on(item)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.steps.after_step()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.steps.check_loss_sometimes()


class _OneLoader(CombinedLoader):
    """One loader as a Trainer takes it; what it makes of one by itself is deprecated in torch."""

    def __init__(self, loader: _Chunks) -> None:
        self._iterables = loader
        self._flattened, self._spec = tree_flatten(loader)
        self._mode = "max_size_cycle"
        self._iterator = None
        self._limits = None


class _KeyboardInterrupt(Exception):
    """KeyboardInterrupt on its way out of Lightning, which would make SystemExit of it."""

    def __init__(self, raised: KeyboardInterrupt) -> None:
        super().__init__()
        self.raised = raised


class _NoSignals:
    """What a Trainer has in place of its own handlers, which would outlive it."""

    received_sigterm = False

    def register_signal_handlers(self) -> None:
        """Leave signals to the fit around."""

    def teardown(self) -> None:
        """Leave signals to the fit around."""


class _Trainer(Trainer):
    """A Trainer that leaves signals alone and does not warn of layers that are frozen.

    Nor do the environment variables PL_TRAINER_... count, which stand for the arguments of a class
    named Trainer.
    """

    def __init__(self, **params) -> None:
        super().__init__(**params)
        self._signal_connector = _NoSignals()  # type: ignore[assignment]
        # Of modules in eval mode. A phase sets the modes when it begins, and frozen ones stay so.
        setattr(self.fit_loop, "_warn_if_modules_in_eval_mode", lambda: None)  # noqa: B010

    def _fit_impl(self, *args, **kwargs) -> None:
        try:
            super()._fit_impl(*args, **kwargs)
        except KeyboardInterrupt as error:
            raise _KeyboardInterrupt(error) from None


def train(
    objective: Objective,
    batches: Batches,
    held_out: HeldOut | None,
    settings: Settings,
    seeds: Seeds,
    stop: StopOnInterrupt,
    listener: EpochListener | None = None,
) -> History:
    """Train an objective in place, from its first step to the last, and leave it on the CPU.

    Parameters
    ----------
    objective : Objective
        On the device of the data, prepared.
    batches : Batches
        Makes the batches of the samples trained on.
    held_out : HeldOut or None
        Samples whose loss is computed after each epoch.
    settings : Settings
        Parameters shared by all estimators.
    seeds, listener
        See :class:`TrainingLoop`.
    stop : StopOnInterrupt
        Signals of this fit. From now on the first one ends only the training.

    Raises
    ------
    Diverged
        When the loss, or a weight in the end, is NaN or infinite.
    KeyboardInterrupt
        On Ctrl-C before the first epoch has ended, and always on a second one.
    Interrupted
        On SIGTERM before the first epoch has ended.
    """
    keep_freed_memory()
    stop.soft = True
    try:
        steps = TrainingLoop(
            objective, batches, held_out, settings, seeds, stop, listener or EpochListener()
        )
    except Interrupted:  # while features of views were computed
        if stop.cause == "user":
            raise KeyboardInterrupt from None
        raise
    lent = Lent(given_callbacks(settings.trainer_params))
    bar = Bar(steps)
    # Without an epoch there is nothing for a Trainer to do.
    run = _driver(objective, steps, lent, bar) if settings.max_epochs else steps.settle
    try:
        with quiet():
            run()
    except _KeyboardInterrupt as error:
        raise error.raised from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # raised by Lightning's own lines
            raise error.__context__ from None
        raise
    except Interrupted:
        if not steps.history.loss_curve:
            if stop.cause == "user":
                raise KeyboardInterrupt from None
            raise
    except RuntimeError as error:
        # Workers of a loader that were ended by the same signal.
        ended = stop.requested and "DataLoader worker" in str(error)
        if not ended or not steps.history.loss_curve:
            raise
    finally:
        bar.close()
        lent.give_back()
    if settings.max_epochs and not steps.history.loss_curve:
        raise ValueError(
            f"{settings.name} made no step: trainer_params={settings.trainer_params!r} ends "
            "training before the first batch."
        )
    return steps.end()


def _driver(objective: Objective, steps: TrainingLoop, lent: Lent, bar: Bar) -> Callable[[], None]:
    """Return what makes all steps: a Trainer, its module and what it iterates over."""
    settings = steps.settings
    fast = not settings.trainer_params and settings.autocast != torch.float16
    module = (_FastModule if fast else _StandardModule)(objective, steps)
    loader = _Chunks(steps, single=False) if fast else _Batches(steps, single=True)
    params = _trainer_params(settings, steps.data.device)
    if len(objective.phases) > 1 and train_limit(params) is not None:
        del params["limit_train_batches"]  # limits each phase: see TrainingLoop
    # The first of all, so that the others see the losses of the epoch that has ended.
    params["callbacks"] = [EpochEnd(steps), *lent.callbacks]
    if settings.verbose > 1 and params["enable_progress_bar"] and not has_bar(lent.callbacks):
        params["callbacks"].append(bar)
        params["enable_progress_bar"] = False  # Lightning's own
    with quiet():
        trainer = _Trainer(**params)
    return functools.partial(trainer.fit, module, train_dataloaders=_OneLoader(loader))


def check_arguments(params: dict | None) -> None:
    """Refuse, before any work, what a Trainer does not take."""
    known = list(inspect.signature(Trainer).parameters)
    for key in params or {}:
        if key not in known:
            alike = difflib.get_close_matches(str(key), known, n=1)
            raise TypeError(
                "The 'trainer_params' parameter must hold arguments of lightning.Trainer. Got "
                f"{key!r} instead{f'; did you mean {alike[0]!r}?' if alike else '.'}"
            )


def _root() -> str:
    """Return where a Trainer writes, if it is asked to; the working directory may be gone."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return tempfile.gettempdir()


def _trainer_params(settings: Settings, device: torch.device) -> dict:
    given = given_callbacks(settings.trainer_params)
    params = {
        "logger": False,
        # Lightning refuses callbacks for which these are off.
        "enable_checkpointing": has_checkpoint(given),
        "enable_progress_bar": settings.verbose > 1 or has_bar(given),
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": _root(),
        **(settings.trainer_params or {}),
        # Without it Lightning finds a cluster by itself and asks for all of its tasks.
        "plugins": [LightningEnvironment()],
        "devices": 1 if device.type == "cpu" else [device.index or 0],
        "accelerator": "cpu" if device.type == "cpu" else "gpu",
        "max_epochs": settings.max_epochs,
        "use_distributed_sampler": False,
    }
    if settings.autocast == torch.float16:
        params["precision"] = "16-mixed"  # brings the gradient scaler
    return params
