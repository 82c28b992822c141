import math

import numpy as np
import pytest
import torch
from torch import nn

from sslearn._losses import nt_xent


def slow_nt_xent(z1, z2, temperature):
    """Equation 1 of the paper, term by term, in float64."""
    z = np.concatenate([np.asarray(z1, dtype=np.float64), np.asarray(z2, dtype=np.float64)])
    z = [row / np.linalg.norm(row) for row in z]
    n = len(z1)
    total = 0.0
    for i in range(2 * n):
        positive = (i + n) % (2 * n)
        logits = [float(z[i] @ z[k]) / temperature for k in range(2 * n) if k != i]
        top = max(logits)
        log_sum = top + math.log(sum(math.exp(value - top) for value in logits))
        total += log_sum - float(z[i] @ z[positive]) / temperature
    return total / (2 * n)


GRID = [(n, d, t) for n in (1, 2, 5, 16) for d in (1, 8, 33) for t in (0.01, 0.1, 0.5, 2.0)]


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.bfloat16, 2e-5)]
)
@pytest.mark.parametrize(("n", "d", "temperature"), GRID)
def test_nt_xent_equals_the_slow_twin(n, d, temperature, dtype, rtol):
    generator = torch.Generator().manual_seed(n * 100 + d)
    z1, z2 = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    z1, z2 = z1.to(dtype), z2.to(dtype)
    loss = nt_xent(z1, z2, temperature)
    # The twin gets the same rounded numbers: the loss itself is computed in float32 at least.
    expected = slow_nt_xent(z1.double(), z2.double(), temperature)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(loss) == pytest.approx(expected, rel=rtol, abs=rtol * max(1, 1 / temperature))


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(0.07, 8.708552), (0.1, 6.219164), (0.5, 2.313941), (1.0, 2.080632)],
)
def test_nt_xent_known_values(temperature, expected):
    torch.manual_seed(0)
    z1, z2 = torch.randn(4, 8), torch.randn(4, 8)
    assert float(nt_xent(z1, z2, temperature)) == pytest.approx(expected, abs=2e-6)


def test_nt_xent_of_special_rows():
    same = torch.ones(4, 5)
    assert float(nt_xent(same, same, 0.3)) == pytest.approx(math.log(7), abs=1e-6)
    eye = torch.eye(4, 128)
    expected = math.log(1 + 6 * math.exp(-2))
    assert float(nt_xent(eye, eye, 0.5)) == pytest.approx(expected, abs=1e-6)
    assert float(nt_xent(eye, eye, 1e-4)) == pytest.approx(0.0, abs=1e-6)
    assert float(nt_xent(eye[:1], -eye[1:2], 0.5)) == 0.0  # one row has no negatives
    line = torch.arange(1.0, 9.0)[:, None] * torch.ones(1, 3)
    assert float(nt_xent(line, 2 * line, 0.5)) == pytest.approx(math.log(15), abs=1e-6)


def test_nt_xent_does_not_see_lengths():
    torch.manual_seed(0)
    z1, z2 = torch.randn(6, 8), torch.randn(6, 8)
    assert float(nt_xent(10 * z1, 0.1 * z2)) == pytest.approx(float(nt_xent(z1, z2)), rel=1e-6)
    assert float(nt_xent(z2, z1)) == pytest.approx(float(nt_xent(z1, z2)), rel=1e-6)


def test_nt_xent_gradient():
    torch.manual_seed(0)
    z1, z2 = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.2), (z1, z2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nt_xent_keeps_its_digits_under_autocast(dtype):
    torch.manual_seed(0)
    x = torch.randn(64, 16)
    head = nn.Linear(16, 32)
    with torch.autocast("cpu", dtype):
        z = head(x)
        loss = nt_xent(z, z + 0.1, 0.05)
    loss.backward()
    assert z.dtype == dtype
    assert loss.dtype == torch.float32
    rounded = [view.detach().double() for view in (z, z + 0.1)]
    assert float(loss.detach()) == pytest.approx(slow_nt_xent(*rounded, 0.05), rel=5e-3)
    assert torch.isfinite(head.weight.grad).all()


def test_nt_xent_of_zero_rows_is_finite():
    z = torch.zeros(4, 3, requires_grad=True)
    loss = nt_xent(z, z, 0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_nt_xent_refuses_temperatures(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0"):
        nt_xent(torch.eye(2), torch.eye(2), temperature)


def test_nt_xent_refuses_shapes():
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(3, 3\)"):
        nt_xent(torch.eye(2), torch.eye(3))
