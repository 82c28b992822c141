"""Seeded generators and batches of each kind, for the tests of the augmentations."""

import torch

TABLE, SERIES, IMAGE, VOLUME = (6,), (3, 20), (3, 8, 10), (2, 4, 5, 6)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n, shape, dtype=torch.float32, seed=1):
    return torch.rand(n, *shape, generator=seeded(seed)).to(dtype)
