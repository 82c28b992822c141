"""The objective of a method: a plain module that knows neither scikit-learn nor Lightning.

The contract, for those who write a method. All hooks have defaults; most methods write
``__init__`` and ``loss`` and nothing else.

``n_views``
    Number of views drawn from every batch; 0 turns augmentation off.
``pieces(x)``
    Tensor from which views are drawn: the samples themselves, or pieces of them, each of which is
    then augmented by itself.
``loss(*views)``
    The loss of one batch of views, ready for the encoder. A scalar tensor.
``batch_loss(batch)``
    The loss for methods that need more than the views: ``batch`` is a :class:`Batch`.
``prepare(data, generator)``
    Called once, on the device, before the optimizer is made. May select, cache and create
    parameters. ``data`` is a :class:`sslearn._data._training_data.TrainingData`, ``generator`` is
    on the CPU.
``phases``, ``start_phase(phase, data)``
    The passes over the data that make one epoch. ``start_phase`` sets train and eval modes and
    returns the parameters that are trained in the phase (if None, all that require a gradient).
``after_step(step, n_steps)``
    Called after every *optimizer* step (0-based, of ``n_steps``), for moving averages and queues.
    Never called for a validation loss.
``measured(step, n_steps)``
    Values to log after an epoch, by name, for example the momentum of an average.
``max_steps(steps_per_phase)``
    Number of optimizer steps after which training ends, where an objective counts its own steps.
    If None, training lasts for all epochs.
``features``
    The module that becomes ``encoder_``; the encoder's stem, if it has one, is put before it.
``outputs(batch)``
    Outputs of the networks, by name, of the samples themselves: what ``objective_`` returns.
``release()``
    Called after the last step: drops what was computed of samples, before the objective is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

__all__ = [
    "Batch",
    "Objective",
    "check_objective",
    "joined",
    "jointly",
    "keep_frozen",
    "mark_frozen",
]


class Batch:
    """Samples of one step, and views of them.

    Attributes
    ----------
    samples : Tensor of shape (n, ...)
        The samples themselves, standardised, not augmented; computed on access.
    x : Tensor of shape (n, ...)
        The encoder's input for these samples: the samples, or the stem's features of them where
        the encoder has a stem; computed on access.
    index : Tensor of shape (n,) or None
        Numbers of these samples in X, below ``data.n_rows``, held-out ones counted; None for a
        stream and for ``X_val``, whose samples have no number.
    views : tuple of Tensors, each of shape (n, ...)
        The encoder's input for random views of these samples. Empty when ``n_views`` is 0.
    generator : torch.Generator
        Source of every random draw of an objective, on the device of the batch.
    groups : Tensor of shape (n,) or None
        Numbers of the samples' groups, which are no negatives of each other; None without groups.
    """

    __slots__ = ("_samples", "_x", "generator", "groups", "index", "views")

    def __init__(
        self,
        samples: Callable[[], torch.Tensor],
        index: torch.Tensor | None,
        views: tuple[torch.Tensor, ...],
        generator: torch.Generator,
        x: Callable[[], torch.Tensor] | None = None,
        *,
        groups: torch.Tensor | None = None,
    ) -> None:
        self._samples = samples
        self._x = samples if x is None else x
        self.index = index
        self.views = views
        self.generator = generator
        self.groups = groups

    @property
    def samples(self) -> torch.Tensor:
        return self._samples()

    @property
    def x(self) -> torch.Tensor:
        return self._x()


class Objective(nn.Module):
    """Base class of what a method trains, with the encoder inside.

    Parameters
    ----------
    encoder : nn.Module
        Network from (n, ...) to features of shape (n, ``encoder.width``). If the whole encoder has
        a stem, which does not change, this is the part behind it.
    """

    n_views = 2
    phases: tuple[str, ...] = ("train",)

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def features(self) -> nn.Module:
        """The module whose output ``transform`` returns, behind the encoder's stem if any."""
        return self.encoder

    def pieces(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tensor from which views are drawn; by default the samples."""
        return x

    def loss(self, *views: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(
            f"{type(self).__name__} must implement loss(*views), or batch_loss(batch) where it "
            "needs more than views, and return a scalar tensor."
        )

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        return self.loss(*batch.views)

    def prepare(self, data, generator: torch.Generator) -> None:
        """Select, cache, create parameters; by default nothing."""

    def start_phase(self, phase: str, data) -> Iterable[nn.Parameter] | None:
        self.train()
        return None

    def after_step(self, step: int, n_steps: int) -> None:
        """Update after an optimizer step; by default nothing."""

    def measured(self, step: int, n_steps: int) -> dict[str, float]:
        """Return values to log after an epoch whose last step was `step`; by default none."""
        return {}

    def max_steps(self, steps_per_phase: int) -> int | None:
        """Return the number of steps after which training ends early; by default None."""
        return None

    def outputs(self, batch: Batch) -> dict[str, Any]:
        """Return the outputs of the networks for ``batch.x``, by name; by default the features."""
        return {"features": self.encoder(batch.x)}

    def release(self) -> None:
        """Drop what was computed of the training samples; by default nothing."""

    def keep(self, to_samples: nn.Module, to_inputs: nn.Module | None) -> Objective:
        """Become ``objective_``: in eval mode, and called with raw samples, as ``encoder_`` is.

        Parameters
        ----------
        to_samples : nn.Module
            Standardises raw samples.
        to_inputs : nn.Module or None
            The encoder's stem, if it has one.
        """
        self.release()
        self.to_samples = to_samples
        self.to_inputs = to_inputs
        return self.eval()

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        """Return the outputs of the networks for raw samples, by name, without gradients."""
        samples = self.to_samples(x)
        inputs = samples if self.to_inputs is None else self.to_inputs(samples)
        generator = torch.Generator(samples.device).manual_seed(0)
        # Copies, since a network may begin in place and others follow.
        return self.outputs(Batch(samples.clone, None, (), generator, x=inputs.clone))

    def train(self, mode: bool = True) -> Objective:
        """Set the mode; what the caller froze stays in eval, so its batch statistics stay too."""
        super().train(mode)
        return keep_frozen(self)  # type: ignore[return-value]


def check_objective(made: Any, author: str) -> Objective:
    """Return the objective `made` by the method named `author`, if it can be trained.

    Raises
    ------
    TypeError
        If it is no objective, or its loss does not take ``n_views`` views.
    """
    if not isinstance(made, Objective):
        raise TypeError(
            f"{author}._make_objective must return a sslearn.base.Objective. Got "
            f"{type(made).__name__} instead."
        )
    name, features = type(made).__name__, made.features
    if not isinstance(features, nn.Module):
        raise TypeError(
            f"{name}.features must be a torch.nn.Module. Got {type(features).__name__} instead."
        )
    if "batch_loss" not in vars(made) and type(made).batch_loss is Objective.batch_loss:
        signature = inspect.signature(made.loss)
        try:
            signature.bind(*range(made.n_views))
        except TypeError as error:
            raise TypeError(
                f"{name}.loss is called with as many views as n_views says, {made.n_views}. Got "
                f"one that takes {signature}."
            ) from error
    return made


def keep_frozen(module: nn.Module) -> nn.Module:
    """Put what :func:`mark_frozen` has marked back into eval mode, after the mode was set."""
    for child in module.modules():
        if getattr(child, "_sslearn_frozen", False):
            child.training = False
    return module


def mark_frozen(module: nn.Module) -> nn.Module:
    """Mark every submodule whose parameters are all frozen, so that it is kept in eval mode.

    The mark is an attribute of the submodule and so travels with a copy of it. Modules without
    parameters (dropout, activations) count as frozen inside a frozen module only.
    """
    for child in module.modules():
        child._sslearn_frozen = False  # type: ignore[assignment]
    for child in module.modules():
        parameters = list(child.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            for inner in child.modules():
                inner._sslearn_frozen = True  # type: ignore[assignment]
    return module


def jointly(
    module: Callable[[torch.Tensor], torch.Tensor],
    views: tuple[torch.Tensor, ...],
    *,
    copy: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Send all views through `module` in one forward pass.

    Batch statistics are then computed over all of them, and one pass is faster than several.

    Parameters
    ----------
    module : callable
        Function from (n, ...) to (n, ...).
    views : tuple of Tensors, each of shape (n, ...)
        Views of the same samples.
    copy : bool, default=False
        Whether the views are needed afterwards: a module that begins in place
        (``nn.ReLU(inplace=True)``) would change them.

    Returns
    -------
    tuple of Tensors
        Output of `module` for each view.

    Examples
    --------
    >>> import torch
    >>> from sslearn.base import jointly
    >>> first, second = jointly(torch.nn.Linear(3, 2), (torch.zeros(5, 3), torch.ones(5, 3)))
    >>> first.shape
    torch.Size([5, 2])
    """
    return module(torch.cat(views) if copy else joined(views)).chunk(len(views))


def joined(views: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Concatenate views; without a copy where they are the chunks of one tensor, in order."""
    whole = views[0]._base
    if whole is not None and whole.shape == (sum(map(len, views)), *views[0].shape[1:]):
        start = whole.storage_offset()
        for view in views:
            if view._base is not whole or view.storage_offset() != start:
                break
            start += len(view) * whole.stride(0)
        else:
            return whole
    return torch.cat(views)
