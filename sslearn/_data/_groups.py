"""Groups of samples, such as patients: how they are read, split, and paired."""

from __future__ import annotations

from typing import Any

import torch

from ..groups._labels import numbered
from ._rows import Rows, Stream

__all__ = ["Groups", "read_groups"]


class Groups:
    """The group of each sample of X.

    Parameters
    ----------
    codes : Tensor of shape (n,), int64
        Numbers of the groups, from 0.
    """

    def __init__(self, codes: torch.Tensor) -> None:
        self.codes = codes
        sizes = codes.bincount()
        # Samples in the order of their groups: a group is a run of them.
        self._order = codes.argsort(stable=True)
        self._place = self._order.argsort()
        self._size = sizes[codes]
        self._first = (sizes.cumsum(0) - sizes)[codes]

    def __len__(self) -> int:
        """Return the number of groups."""
        return int(self.codes.max()) + 1

    @property
    def all_single(self) -> bool:
        """Whether each sample has a group of its own."""
        return len(self) == len(self.codes)

    def to(self, device: torch.device) -> Groups:
        """Move to where the numbers of samples are; in place."""
        for name, value in vars(self).items():
            setattr(self, name, value.to(device))
        return self

    def of(self, index: torch.Tensor) -> torch.Tensor:
        """Return the numbers of the groups of some samples."""
        return self.codes[index.to(self.codes.device)]

    def partners(self, index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw another sample of the group of each sample; itself where it is alone."""
        chance = torch.rand(len(index), generator=generator, device=generator.device)
        index = index.to(self.codes.device)
        first, size = self._first[index], self._size[index]
        steps = 1 + (chance.to(index.device) * (size - 1)).long().clamp_max(size - 2)
        return self._order[first + (self._place[index] - first + steps) % size]

    def split(self, fraction: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numbers of the samples trained on, and of those held out: whole groups.

        These are of at least two groups each, since a group has no negatives in itself. The
        samples held out are in random order: in that of X, a batch could be of one group.
        """
        codes, n_groups = self.codes.cpu(), len(self)
        if n_groups < 4:
            raise ValueError(
                "The 'validation_fraction' parameter holds out whole groups, two or more, and "
                f"must leave two or more to train on. Got {n_groups} groups instead."
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(n_groups, generator=generator)
        sizes = codes.bincount()[order].cumsum(0)
        wanted = round(fraction * len(codes))
        n_held_out = 1 + int((sizes - wanted).abs().argmin())
        n_held_out = min(max(n_held_out, 2), n_groups - 2)
        is_held_out = torch.zeros(n_groups, dtype=torch.bool)
        is_held_out[order[:n_held_out]] = True
        (held_out,) = is_held_out[codes].nonzero(as_tuple=True)
        (trained_on,) = (~is_held_out[codes]).nonzero(as_tuple=True)
        return trained_on, held_out[torch.randperm(len(held_out), generator=generator)]


def read_groups(groups: Any, rows: Rows | Stream, *, in_pairs: bool = False) -> Groups | None:
    """Return the groups of the samples of X, or None where there are none.

    With `in_pairs`, views of a pair are taken from two samples of a group.

    Raises
    ------
    ValueError, TypeError
        If there is not one label for each sample, or one label for all.
    """
    if groups is None:
        if in_pairs:
            raise ValueError(
                "The 'groups' parameter of fit must give the group of each sample where "
                "positives='group'. Got None instead."
            )
        return None
    if isinstance(rows, Stream):
        raise ValueError(
            "The 'groups' parameter needs samples with numbers, not an IterableDataset or "
            f"DataLoader. Got groups of type {type(groups).__name__} instead of None."
        )
    if in_pairs and rows.n_given:
        raise ValueError(
            "The 'positives' parameter must be 'views' where X gives the views of each sample. Got "
            f"'group' and {rows.n_given} views instead."
        )
    found = Groups(torch.from_numpy(numbered(groups, len(rows))))
    if rows.tensor is not None:
        found.to(rows.tensor.device)
    if in_pairs and found.all_single:
        raise ValueError(
            "The 'groups' parameter must give two samples or more the same label where "
            f"positives='group'. Got {len(found)} different labels of {len(found)} samples instead."
        )
    return found
