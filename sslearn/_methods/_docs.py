"""Docstrings of the methods: the text that they share, written once.

:func:`shared_docs` completes the docstring of a method when its class is made, so ``help``, Sphinx
and scikit-learn's HTML tooltips show the whole text. A method documents its own parameters and
those that mean something more there; all others are looked up here.
"""

from __future__ import annotations

import inspect
import re
from typing import TypeVar

__all__ = ["shared_docs"]

T = TypeVar("T", bound=type)

# Parameter: type, then description. The default is added from the signature.
_PARAMETERS = {
    "encoder": """nn.Module or callable
    Maps (n, ...) to one float tensor (n, ...), which is flattened. A module is copied and
    training starts from its weights; layers that are wholly frozen stay frozen. A callable is
    called as ``encoder(sample_shape)`` under the seed and returns a module. If None, a default
    for the kind of input, see :func:`sslearn.encoders.default_encoder`.""",
    "embedding_dim": """int
    Width of the default encoder's features. If None, 512 for tables (1024 or more above 96
    columns), 2048 for series, images and volumes. A number leaves out those of the stem, which do
    not learn.""",
    "augment": """callable
    Draws the views: ``augment(x, generator)`` on a whole batch, see :mod:`sslearn.augment`. If
    None, the default for the kind of input, or the views that X gives, see
    :class:`~sslearn.augment.GivenViews`. To search over its parameters (``augment__noise``),
    pass an object such as ``GaussianNoise()``.""",
    "cached_views": """int or "auto"
    Views of each sample of which the features of the encoder's stem are computed once, before the
    first step; each step takes two of them. The stem is the part that does not change: the
    :class:`~sslearn.encoders.TableBank`, :class:`~sslearn.encoders.KernelBank` or
    :class:`~sslearn.encoders.PatchBank` of the default encoder, or leading layers of yours that are
    frozen. More are more varied, and take more time and memory. 0 draws new views at each step.
    "auto" is 8 where memory allows, and 0 for a residual network behind a stem, see 'What "auto"
    means' in the user guide. Views that X gives are kept all or none. Ignored where there is no
    stem, and for streams.""",
    "positives": """{"views", "group"}
    Pairs that are made alike. "views": two views of a sample. "group": a view of a sample and one
    of another sample of its group, by the ``groups`` of ``fit``, drawn anew at each step; for a
    sample that is alone in its group, and for ``X_val``, two views of itself. Features then keep
    what a group has in common, such as the patient, and lose what differs within it. Needs
    ``groups``, and is refused where X gives the views.""",
    "categorical_features": """array-like or "from_dtype"
    Features of a table that are categories: a boolean mask of shape (n_features,), or indices or
    names of columns. "from_dtype" takes the columns of a data frame that have a categorical dtype
    (in an array there are none). In an array a category is an int from 0 to 16,777,215; the
    categories of a categorical dtype may be anything. Each becomes a one-hot column of what the
    views and the encoder see, up to 1000 for a feature, and a view replaces a category as a whole.
    One that was not seen in ``fit`` is taken as missing; for an encoder of your own that takes no
    NaN, it is 0 in all columns. If None, all features are numbers.""",
    "standardize": """bool
    Standardise each feature of a table, each channel otherwise, with the statistics of the
    training samples. Features of zeros and ones are only centred, those that are constant in
    training become 0, and values far outside the range of nearly all samples are clipped, in
    ``transform`` too. Images and volumes are scaled to [0, 1] first: by 255 if their numbers fill
    a byte, whatever the dtype, otherwise by the range of each channel (by one range for the three
    channels of a photograph). Views are drawn from the result. If False, samples are only cast to
    float32, and images and volumes that fill a byte divided by 255; views see [0, 1] in any case.
    """,
    "max_epochs": """int or "auto"
    Passes over the samples. "auto" depends on their number, see 'What "auto" means' in the user
    guide. 0 gives the untrained encoder: its initial weights, after one pass for batch
    statistics; of the default encoder for series, the features of the bank of kernels alone.""",
    "batch_size": """int or "auto"
    Samples in a step. A last batch that is not full is dropped; fewer samples than this make one
    batch. "auto" depends on their number, see 'What "auto" means' in the user guide.""",
    "learning_rate": """float or "auto"
    Highest learning rate of the schedule. "auto" depends on the kind of input, the optimizer and
    the number of steps, see 'What "auto" means' in the user guide.""",
    "weight_decay": """float
    Decay of the weights, not of biases and normalisation layers. Decoupled for "adamw", added to
    the gradient otherwise.""",
    "optimizer": """{"adamw", "adam", "sgd", "lars"} or callable
    A callable takes parameter groups, which hold learning rate and decay, and returns a
    ``torch.optim.Optimizer``; a ``functools.partial`` of a class carries betas or momentum.""",
    "lr_schedule": """{"cosine", "constant", "plateau"}, callable or dict
    Learning rate of each step. "plateau" divides the rate by 10 after 10 epochs without a better
    (validation) loss. A class of ``torch.optim.lr_scheduler``, a ``functools.partial`` of one
    (``partial(ReduceLROnPlateau, factor=0.5, patience=30)``), or a function of one argument is
    called with the optimizer and returns a scheduler, which advances after each epoch; put it in
    ``{"scheduler": ..., "interval": "step"}`` to advance it after each optimizer step. A
    ``ReduceLROnPlateau`` gets the (validation) loss of the epoch. Any other callable takes
    (step, n_steps) and returns the factor on ``learning_rate``.""",
    "warmup_fraction": """float
    Fraction of all steps over which the learning rate rises linearly; only for an ``lr_schedule``
    given by its name.""",
    "validation_fraction": """float
    Fraction of the samples that is held out; their loss, on the same views each time, is kept in
    ``validation_loss_curve_``. With ``groups`` whole groups are held out. If None, train on all
    samples.""",
    "n_iter_no_change": """int
    Stop after this many epochs without a better validation loss, and restore the best weights.
    Needs ``validation_fraction``, or the ``X_val`` of ``fit``. If None, train for all epochs.""",
    "keep_objective": """bool
    Keep all that was trained as ``objective_``: heads, target networks and projectors too, which
    ``transform`` does not need. ``objective_(x)`` returns their outputs for raw samples.""",
    "device": """str
    "cpu", "cuda" or "cuda:<number>"; "auto" is the first GPU if there is one.""",
    "precision": """{"auto", "float32", "bfloat16", "float16"}
    Precision of training; the weights stay float32. "auto" is bfloat16 on a GPU that supports it
    and float32 elsewhere, also on every CPU: there "bfloat16" is faster only with hardware
    support.""",
    "trainer_params": """dict
    Further arguments of ``lightning.Trainer`` (``accumulate_grad_batches``,
    ``gradient_clip_val``, ``callbacks``, ...), except those that have a parameter here.
    Callbacks, loggers and progress bars see, after each epoch, "loss", "validation_loss",
    "effective_rank" (in some epochs), "ema_decay" (BYOL, MoCo) and the "probe_score" of an
    ``OnlineProbe``. Callbacks that keep a state (EarlyStopping, ModelCheckpoint) start each fit
    from a fresh state, which can be read after it; a learning rate that a callback sets is kept.
    Costs about half a millisecond a step. If None, training does without these.""",
    "random_state": """int, RandomState instance or None
    Seed of weights, order and views. An int gives the same features each time on the CPU, with
    the same number of threads.""",
    "verbose": """int
    1: a line with the values chosen by "auto", and a line per epoch; 2: a progress bar over all
    steps in place of the lines per epoch.""",
}

# Methods whose encoder sees one channel or more, and a table as a series of one.
_UNIVARIATE = {
    "standardize": """bool
    Standardise each channel with the statistics of the training samples. A table is one channel:
    put a ``StandardScaler`` before it if its columns differ in scale. Channels that are constant
    in training become 0, and values far outside the range of nearly all samples are clipped, in
    ``transform`` too. Images and volumes are scaled to [0, 1] first: by 255 if their numbers fill
    a byte, whatever the dtype, otherwise by the range of each channel (by one range for the three
    channels of a photograph). Views are drawn from the result. If False, samples are only cast to
    float32, and images and volumes that fill a byte divided by 255; views see [0, 1] in any case.
    """,
}

# Methods without views.
_WITHOUT_VIEWS = {
    "standardize": """bool
    Standardise each feature of a table, each channel otherwise, with the statistics of the
    training samples. Features of zeros and ones are only centred, those that are constant in
    training become 0, and values far outside the range of nearly all samples are clipped, in
    ``transform`` too. Images and volumes are scaled to [0, 1] first: by 255 if their numbers fill
    a byte, whatever the dtype, otherwise by the range of each channel (by one range for the three
    channels of a photograph). If False, samples are only cast to float32, and images and volumes
    that fill a byte divided by 255.""",
    "validation_fraction": """float
    Fraction of the samples that is held out; their loss is kept in ``validation_loss_curve_``.
    With ``groups`` whole groups are held out. If None, train on all samples.""",
}

_ATTRIBUTES = """encoder_ : nn.Module
    The trained encoder including its standardisation, in eval mode, on the CPU: maps raw samples
    to features.
objective_ : nn.Module
    All networks that were trained, in eval mode, on the CPU; only with ``keep_objective``. Called
    with raw samples, a tensor, it returns their outputs by name, such as "projections".
loss_curve_ : list of float
    Mean loss of each epoch.
validation_loss_curve_ : list of float
    Loss of the held-out samples after each epoch; only with ``validation_fraction`` or ``X_val``.
embedding_rank_curve_ : list of (int, float, float)
    Epoch, effective rank and mean standard deviation, at unit length, of the features of some
    samples: before training, after some epochs, and after the last one.
n_iter_ : int
    Epochs run.
n_steps_ : int
    Optimizer steps made.
batch_size_ : int
    Samples in a batch.
learning_rate_ : float
    Highest learning rate of the schedule.
device_ : str
    Device of training.
precision_ : str
    Precision of training: "float32", "bfloat16" or "float16".
input_shape_ : tuple of int
    Shape of one sample; of the longest, if series differ in length.
any_length_ : bool
    Whether ``transform`` takes series of any length: those of ``fit`` came as a list, or end in
    NaN, or are encoded by windows.
n_features_in_ : int
    ``input_shape_[0]``: features of a table, channels otherwise.
feature_names_in_ : ndarray of str
    Names of the columns; only when X is a DataFrame whose column names are all strings.
is_categorical_ : ndarray of bool, of shape (n_features_in_,)
    Which features are categories; only with ``categorical_features``.
categories_ : dict of int to ndarray
    For the number of each feature that is a category, those seen in ``fit``, sorted; only with
    ``categorical_features``."""

# Of methods with views.
_GROUPS = """feature_groups_ : list of lists of int
    Blocks of one-hot columns that were found in a table, and change together in the default views;
    only where the views are those of tables and ``augment`` is None. Categories of
    ``categorical_features`` are not among them."""

_VIEWS = "sslearn.augment : The views, as objects."

_SEE_ALSO = """sslearn.encoders : The default encoders.
sslearn.metrics.effective_rank : The value that ``score`` returns."""

_NOTES = """On the CPU an integer ``random_state`` gives the same bits again, for the same number
of threads."""

# In the order of numpydoc.
_SECTIONS = ("Parameters", "Attributes", "See Also", "Notes", "References", "Examples")


def shared_docs(cls: T) -> T:
    """Complete the docstring of a method by the parameters and sections that all methods share.

    Parameters come out in the order of the signature. A description in the class's own docstring
    replaces the shared one.

    Raises
    ------
    TypeError
        When a parameter is documented nowhere, or one is documented that does not exist.
    """
    if cls.__doc__ is None:  # python -OO
        return cls
    summary, own = _split(inspect.cleandoc(cls.__doc__))
    signature = inspect.signature(cls)
    own["Parameters"] = _parameters(cls, signature, own.get("Parameters", ""))
    has_views = "augment" in signature.parameters
    groups = _GROUPS if has_views else None
    own["Attributes"] = _joined(own.get("Attributes"), _ATTRIBUTES, groups)
    views = _VIEWS if has_views else None
    own["See Also"] = _joined(own.get("See Also"), views, _SEE_ALSO)
    own["Notes"] = _joined(own.get("Notes"), _NOTES, between="\n\n")
    made = [f"{title}\n{'-' * len(title)}\n{own[title]}" for title in _SECTIONS if title in own]
    cls.__doc__ = "\n\n".join([summary, *made]) + "\n"
    return cls


def _split(doc: str) -> tuple[str, dict[str, str]]:
    """Return the text above the sections, and the sections."""
    summary, *parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.M)
    texts = [text.strip("\n") for text in parts[1::2]]
    return summary.strip("\n"), dict(zip(parts[::2], texts, strict=True))


def _parameters(cls: type, signature: inspect.Signature, text: str) -> str:
    # An entry begins at a line that is not indented.
    entries = [entry.rstrip() for entry in re.split(r"\n(?=\S)", text) if entry]
    own = {entry.split(" :", 1)[0]: entry for entry in entries}
    shared = dict(_PARAMETERS)
    if getattr(cls, "_univariate", False):
        shared.update(_UNIVARIATE)
    if "augment" not in signature.parameters:
        shared.update(_WITHOUT_VIEWS)
    made = []
    for name, parameter in signature.parameters.items():
        if name in own:
            made.append(own.pop(name))
        elif name in shared:
            kind, words = shared[name].rstrip().split("\n", 1)
            made.append(f"{name} : {kind}, default={_default(parameter.default)}\n{words}")
        else:
            raise TypeError(f"The docstring of {cls.__name__} must describe {name!r}.")
    if own:
        raise TypeError(f"{cls.__name__} has no parameter {', '.join(own)}, but describes it.")
    return "\n".join(made)


def _default(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _joined(*texts: str | None, between: str = "\n") -> str:
    return between.join(text for text in texts if text)
