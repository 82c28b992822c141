"""What a method's author is given."""

import pytest
import torch
from estimators import ESTIMATORS, rows, small
from torch import nn

from sslearn._objective import joined, jointly


def test_jointly_is_one_forward_pass_of_all_views():
    seen = []

    def module(x):
        seen.append(x.clone())
        return 2 * x

    views = torch.randn(3, 4), torch.randn(3, 4)
    first, second = jointly(module, views)
    assert torch.equal(first, 2 * views[0])
    assert torch.equal(second, 2 * views[1])
    assert len(seen) == 1


class _InPlace(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place

    def forward(self, x):
        return x.mul_(0.5).relu_() if self.in_place else (x * 0.5).relu()


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_modules_that_begin_in_place(name):
    def loss_curve(in_place):
        torch.manual_seed(0)
        encoder = nn.Sequential(_InPlace(in_place), nn.Linear(6, 8))
        params = {"encoder": encoder, "max_epochs": 3}
        if "predictor" in ESTIMATORS[name]._parameter_constraints:
            params["predictor"] = lambda width: nn.Sequential(
                _InPlace(in_place), nn.Linear(width, width)
            )
        return small(name, **params).fit(rows("table")).loss_curve_

    if ESTIMATORS[name]._univariate:
        pytest.skip("needs maps or patches")
    assert loss_curve(True) == loss_curve(False)


def test_chunks_of_one_tensor_are_joined_without_a_copy():
    whole = torch.randn(6, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    a, b, c = whole.chunk(3)
    assert joined((a, b, c)) is whole
    for views in (
        (b, a, c),
        (a, b),
        (a, a, a),
        (a.clone(), b, c),
        (a, b, whole[1:3]),
        (a, b, c * 1),
    ):
        together = joined(views)
        assert together is not whole
        assert torch.equal(together, torch.cat(views))
    offset = torch.randn(8, 3)[2:]
    assert torch.equal(joined(tuple(offset.chunk(2))), offset)
    norm = nn.BatchNorm2d(2)
    views = whole.chunk(2)
    expected = norm(torch.cat(views))
    torch.testing.assert_close(torch.cat(jointly(norm, views)), expected)
