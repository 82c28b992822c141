"""The seeds of a fit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Seeds"]


class Seeds(NamedTuple):
    """One seed for each random thing in a fit, so that none depends on how often another draws.

    Attributes
    ----------
    order : int
        Order of the samples in each pass.
    views, held_out_views : int
        Views of the samples trained on, and of those held out.
    split : int
        Choice of the held-out samples.
    preparation : int
        Generator that an objective gets before training.
    watched : int
        Samples whose rank is measured during training.
    reference : int
        Samples that networks are made from, by quantiles of columns for example.
    windows : int
        Places of the windows of long recordings.
    """

    order: int
    views: int
    held_out_views: int
    split: int
    preparation: int
    watched: int
    reference: int
    windows: int

    @classmethod
    def from_root(cls, seed: int) -> Seeds:
        """Derive all seeds from one."""
        words = np.random.SeedSequence(seed).generate_state(len(cls._fields))
        return cls(*map(int, words))
