"""Context networks: what they see, and what they must not."""

import pytest
import torch
from torch import nn

from sslearn._methods._cpc_context import GRUContext, MaskedConvContext, check_causal

NETWORKS = {
    "gru": (lambda: GRUContext(5, 6), (7,)),
    "series": (lambda: MaskedConvContext(5, 6, 1), (7,)),
    "grid": (lambda: MaskedConvContext(5, 6, 2), (7, 5)),
    "volume": (lambda: MaskedConvContext(6, 6, 3), (4, 5, 3)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_sees_its_own_row_and_those_before(name):
    torch.manual_seed(0)
    make, grid = NETWORKS[name]
    context = make()
    width = 6 if name == "volume" else 5
    z = torch.randn(1, width, *grid, requires_grad=True)
    seen = context(z)
    assert seen.shape == (1, 6, *grid)
    for row in range(grid[0]):
        (gradient,) = torch.autograd.grad(seen[:, :, row].sum(), z, retain_graph=True)
        reached = gradient.abs().sum(1)[0].flatten(1 if len(grid) > 1 else 0)
        per_row = reached.sum(1) if len(grid) > 1 else reached
        assert (per_row[row + 1 :] == 0).all()
        assert per_row[row] > 0
        if row:
            assert per_row[row - 1] > 0


def test_every_column_sees_its_neighbours_above():
    torch.manual_seed(0)
    context = MaskedConvContext(4, 4, 2)
    z = torch.randn(8, 4, 4, 6, requires_grad=True)
    seen = context(z)
    for column in range(6):
        (gradient,) = torch.autograd.grad(seen[:, :, 2, column].sum(), z, retain_graph=True)
        above = gradient.abs().sum((0, 1))[1]
        for neighbour in {max(column - 1, 0), column, min(column + 1, 5)}:
            assert above[neighbour] > 0


def test_zeros_stand_outside():
    """A row above the first is no row of ones: an all-zero grid without biases gives zeros."""
    context = MaskedConvContext(4, 4, 2)
    for name, parameter in context.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    assert not context(torch.zeros(1, 4, 3, 3)).any()


class _Ahead(nn.Module):
    def forward(self, z):
        return z.flip(2)


class _Auxiliary(nn.Conv2d):
    def forward(self, z):
        y = super().forward(z)
        return (y, y) if self.training else y


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (_Auxiliary(4, 3, 1), "must return one float tensor .* Got tuple in train mode"),
        (nn.Conv2d(4, 3, 3, padding=1), "must not see ahead"),
        (_Ahead(), "must not see ahead"),
        (nn.Conv2d(4, 3, 3), r"Got \(1, 3, 3, 3\) for \(1, 4, 5, 5\)"),
        (nn.Conv2d(9, 3, 1), "'context' parameter does not fit"),
    ],
)
def test_own_networks_are_tried(context, message):
    with pytest.raises(ValueError, match=message):
        check_causal(context, 4, (5, 5))


def test_own_network_that_fits():
    assert check_causal(nn.Conv2d(4, 3, (1, 3), padding=(0, 1)), 4, (5, 5)) == 3
