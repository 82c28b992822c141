import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sslearn._methods._losses import (
    _blocks,
    barlow_twins,
    batchwise_barlow,
    feature_map_nce,
    info_nce,
    negative_cosine,
    nt_xent,
    offset_nce,
    vicreg,
)


@pytest.fixture
def of_a_block(monkeypatch):
    """Set how many rows a block has, whatever their length."""

    def set_rows(n_rows):
        monkeypatch.setattr(_blocks, "_ENTRIES", {"cpu": 1})
        monkeypatch.setattr(_blocks, "_FEWEST_ROWS", n_rows)

    return set_rows


# All in one, or in blocks that divide the rows, or do not.
rows_of_a_block = pytest.mark.parametrize("n_rows", [1000, 1, 3, 4])


def slow_nt_xent(z1, z2, temperature, groups=None):
    """Equation 1 of the paper, term by term, in float64; without the negatives of a group."""
    z = np.concatenate([np.asarray(z1, dtype=np.float64), np.asarray(z2, dtype=np.float64)])
    z = [row / np.linalg.norm(row) for row in z]
    n = len(z1)
    of = list(range(n)) if groups is None else list(groups)
    total = 0.0
    for i in range(2 * n):
        positive = (i + n) % (2 * n)
        kept = [k for k in range(2 * n) if k == positive or of[k % n] != of[i % n]]
        logits = [float(z[i] @ z[k]) / temperature for k in kept]
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


@rows_of_a_block
def test_nt_xent_in_blocks_equals_the_slow_twin(of_a_block, n_rows):
    of_a_block(n_rows)
    torch.manual_seed(0)
    z1, z2 = (torch.randn(7, 5, dtype=torch.float64) for _ in range(2))
    found = nt_xent(z1.requires_grad_(), z2, 0.1)
    assert found.item() == pytest.approx(slow_nt_xent(z1.detach(), z2, 0.1), rel=1e-10)


# Of seven samples: pairs, one group, none in common, one with all others.
GROUPS = ([0, 1, 0, 2, 1, 3, 0], [5] * 7, list(range(7)), [2, 2, 2, 2, 2, 2, 0])
groups_of_seven = pytest.mark.parametrize("groups", GROUPS)


@rows_of_a_block
@groups_of_seven
def test_nt_xent_with_groups_equals_the_slow_twin(of_a_block, n_rows, groups):
    of_a_block(n_rows)
    torch.manual_seed(0)
    z1, z2 = (torch.randn(7, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = nt_xent(z1, z2, 0.1, torch.tensor(groups))
    expected = slow_nt_xent(z1.detach(), z2.detach(), 0.1, groups)
    assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert all(g.isfinite().all() for g in torch.autograd.grad(found, (z1, z2)))


def test_a_duplicate_in_a_group_is_not_repelled():
    # A sample, others at right angles to it, and its duplicate, which turns away from it alone.
    apart = []
    for angle in torch.tensor([0.0, 0.5, 1.5], dtype=torch.float64):
        z = torch.eye(5, dtype=torch.float64)[:4]
        z[3] = torch.stack((angle.cos(), *[angle * 0] * 3, angle.sin()))
        groups = torch.tensor([0, 1, 2, 0])
        maps = [z[:, :, None]]
        losses = [
            [
                nt_xent(z, z, 0.3, of),
                batchwise_barlow(z, z, 0.3, of),
                offset_nce(z[:, :, None], z[:, :, None].expand(-1, -1, 3), 2, 3.0, groups=of),
                feature_map_nce(maps, maps, [(0, 0)], regularization=0.0, groups=of)[0],
            ]
            for of in (None, groups)
        ]
        apart.append(torch.tensor(losses))
    (repelled, kept), further = apart[0], apart[1:]
    for alone, together in further:
        assert (alone < repelled - 1e-3).all()
        torch.testing.assert_close(together, kept, rtol=1e-12, atol=1e-12)


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


def slow_negative_cosine(p, z):
    cosines = [
        float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))
        for a, b in zip(np.asarray(p), np.asarray(z), strict=True)
    ]
    return -sum(cosines) / len(cosines)


def slow_barlow_twins(z1, z2, weight=0.005):
    """Equation 1 of the paper, entry by entry."""
    z1, z2 = np.asarray(z1), np.asarray(z2)
    z1, z2 = z1 - z1.mean(0), z2 - z2.mean(0)
    total = 0.0
    for i in range(z1.shape[1]):
        for j in range(z1.shape[1]):
            length = math.sqrt((z1[:, i] ** 2).sum()) * math.sqrt((z2[:, j] ** 2).sum())
            c = float((z1[:, i] * z2[:, j]).sum()) / length
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def slow_batchwise_barlow(p, z, weight=0.01):
    p, z = np.asarray(p), np.asarray(z)
    total = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            c = float(p[i] @ z[j]) / (np.linalg.norm(p[i]) * np.linalg.norm(z[j]))
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def slow_vicreg(z1, z2, *weights):
    """Equation 6 of the paper with the means of the authors' code, entry by entry."""
    z1, z2 = np.asarray(z1), np.asarray(z2)
    n, d = z1.shape
    invariance = sum((a - b) ** 2 for a, b in zip(z1.ravel(), z2.ravel(), strict=True)) / (n * d)
    variance = covariance = 0.0
    for z in (z1, z2):
        c = np.cov(z, rowvar=False).reshape(d, d)
        for j in range(d):
            variance += max(0.0, 1 - math.sqrt(c[j, j] + 1e-4)) / (2 * d)
            covariance += sum(c[i, j] ** 2 for i in range(d) if i != j) / d
    terms = (invariance, variance, covariance)
    return sum(w * term for w, term in zip(weights or (25.0, 25.0, 1.0), terms, strict=True))


def slow_info_nce(queries, keys, negatives, temperature, excluded=None):
    total = 0.0
    for i, (query, key) in enumerate(zip(queries.numpy(), keys.numpy(), strict=True)):
        query, key = query / np.linalg.norm(query), key / np.linalg.norm(key)
        logits = [query @ key / temperature]
        for j, negative in enumerate(negatives.numpy()):
            if excluded is None or not excluded[i, j]:
                logits.append(query @ negative / temperature)
        top = max(logits)
        total += top + math.log(sum(math.exp(v - top) for v in logits)) - logits[0]
    return total / len(queries)


TWINS = {
    "negative_cosine": (negative_cosine, slow_negative_cosine),
    "barlow_twins": (barlow_twins, slow_barlow_twins),
    "batchwise_barlow": (batchwise_barlow, slow_batchwise_barlow),
    "vicreg": (vicreg, slow_vicreg),
}
every_loss = pytest.mark.parametrize("name", ["nt_xent", *TWINS])


def _loss(name):
    return nt_xent if name == "nt_xent" else TWINS[name][0]


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 5), (16, 4), (40, 33), (140, 3), (3, 140)])
@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 1e-4)]
)
def test_losses_equal_their_slow_twins(name, n, d, dtype, rtol):
    loss, slow = TWINS[name]
    generator = torch.Generator().manual_seed(n * 100 + d)
    z1, z2 = (torch.randn(n, d, generator=generator).to(dtype) for _ in range(2))
    found = loss(z1, z2)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert float(found) == pytest.approx(slow(z1.double(), z2.double()), rel=rtol, abs=rtol)


@pytest.mark.parametrize("name", ["negative_cosine", "batchwise_barlow"])
def test_losses_of_several_targets_are_the_mean(name):
    loss = _loss(name)
    torch.manual_seed(0)
    p, z = (torch.randn(3, 7, 4, dtype=torch.float64) for _ in range(2))
    each = [float(loss(a, b)) for a, b in zip(p, z, strict=True)]
    assert float(loss(p, z)) == pytest.approx(sum(each) / 3, rel=1e-12)
    for other in ("nt_xent", "barlow_twins", "vicreg"):  # these know no targets
        with pytest.raises(ValueError, match="same shape"):
            _loss(other)(p, z)


def test_weights_of_the_terms():
    torch.manual_seed(0)
    z1, z2 = (torch.randn(9, 5, dtype=torch.float64) for _ in range(2))
    assert float(barlow_twins(z1, z2, 0.3)) == pytest.approx(slow_barlow_twins(z1, z2, 0.3))
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (2.0, 3.0, 4.0)):
        found = float(vicreg(z1 / 2, z2 / 3, *weights))
        assert found == pytest.approx(slow_vicreg(z1 / 2, z2 / 3, *weights))


def test_negative_cosine_known_values():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert float(negative_cosine(z, 3 * z)) == -1
    assert float(negative_cosine(z, z.flip(0))) == 0
    assert float(negative_cosine(z, -z)) == 1


def test_barlow_twins_known_values():
    # Two decorrelated dimensions, the same in both views: C is the identity.
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_twins(z, z)) == pytest.approx(0, abs=1e-12)
    # Both dimensions the same: every entry of C is 1.
    same = z[:, :1].repeat(1, 2)
    assert float(barlow_twins(same, same, 0.5)) == pytest.approx(2 * 0.5, rel=1e-6)
    assert float(barlow_twins(z, -z)) == pytest.approx(2 * 4, rel=1e-6)


@pytest.mark.parametrize(("weight", "expected"), [(0.01, 4.373667), (1.0, 5.603746)])
def test_batchwise_barlow_known_values(weight, expected):
    torch.manual_seed(0)
    p, z = torch.randn(4, 8), torch.randn(4, 8)
    assert float(batchwise_barlow(p, z, weight)) == pytest.approx(expected, abs=2e-6)
    assert float(batchwise_barlow(10 * p, z, weight)) == pytest.approx(expected, rel=1e-5)


def test_batchwise_barlow_of_special_rows():
    eye = torch.eye(4)
    assert float(batchwise_barlow(eye, eye)) == 0
    assert float(batchwise_barlow(torch.ones(4, 3), torch.ones(4, 3))) == pytest.approx(0.12)
    assert float(batchwise_barlow(torch.zeros(4, 3), eye[:, :3])) == 4
    one = torch.tensor([[2.0], [3.0], [-1.0]])  # one-dimensional targets: cosines of 1 and -1
    assert float(batchwise_barlow(one, one, 0.5)) == pytest.approx(3.0)


def test_barlow_twins_does_not_see_scale_or_offset():
    torch.manual_seed(0)
    z = torch.randn(32, 6)
    expected = float(barlow_twins(z, z))
    assert float(barlow_twins(z, 10 * z)) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert float(barlow_twins(z, 1e-3 * z + 5)) == pytest.approx(expected, rel=1e-2, abs=1e-6)
    other = torch.randn(32, 6)
    expected = float(barlow_twins(z, other))
    assert float(barlow_twins(z, 10 * other)) == pytest.approx(expected, rel=1e-5)
    assert float(barlow_twins(other, z)) == pytest.approx(expected, rel=1e-5)


def test_vicreg_known_values():
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(vicreg(z, z)) == 0  # it agrees, varies by more than 1 and is decorrelated
    assert float(vicreg(torch.zeros(4, 3), torch.zeros(4, 3))) == pytest.approx(25 * 0.99)
    assert float(vicreg(z, z + 1)) == pytest.approx(25)  # only the invariance sees an offset
    torch.manual_seed(0)
    z1, z2 = torch.randn(8, 5), torch.randn(8, 5)
    order = torch.randperm(8)
    assert float(vicreg(z1[order], z2[order])) == pytest.approx(float(vicreg(z1, z2)), rel=1e-5)
    assert float(vicreg(z2, z1)) == pytest.approx(float(vicreg(z1, z2)), rel=1e-6)


@rows_of_a_block
@groups_of_seven
@pytest.mark.parametrize("shape", [(7, 3), (2, 7, 3), (7, 9)])
def test_batchwise_barlow_with_groups_equals_the_slow_twin(of_a_block, n_rows, groups, shape):
    of_a_block(n_rows)
    torch.manual_seed(0)
    p, z = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found = batchwise_barlow(p, z, 0.3, torch.tensor(groups))
    several = [(p, z)] if p.ndim == 2 else list(zip(p, z, strict=True))
    total = 0.0
    for one, other in several:
        for i in range(7):
            for j in range(7):
                c = nn.functional.cosine_similarity(one[i], other[j], dim=0)
                if i == j:
                    total = total + (c - 1) ** 2
                elif groups[i] != groups[j]:
                    total = total + 0.3 * c**2
    expected = total / len(several)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected, (p, z))
    torch.testing.assert_close(torch.autograd.grad(found, (p, z)), wanted)


@rows_of_a_block
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_info_nce_equals_its_slow_twin(of_a_block, temperature, n_rows):
    of_a_block(n_rows)
    torch.manual_seed(0)
    queries, keys = (torch.randn(6, 8, dtype=torch.float64) for _ in range(2))
    negatives = nn.functional.normalize(torch.randn(11, 8, dtype=torch.float64), dim=1)
    excluded = torch.rand(6, 11) < 0.3
    for mask in (None, excluded):
        rows = None if mask is None else mask.__getitem__
        found = float(info_nce(queries, keys, negatives, temperature, rows))
        assert found == pytest.approx(slow_info_nce(queries, keys, negatives, temperature, mask))
    # Everything excluded: nothing to tell the key from.
    everything = torch.ones(6, 11).bool().__getitem__
    assert float(info_nce(queries, keys, negatives, 0.2, everything)) == 0
    with pytest.raises(ValueError, match="temperature must be above 0"):
        info_nce(queries, keys, negatives, 0.0)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_in_half_precision(name, dtype):
    torch.manual_seed(0)
    # As large as float16 gets after a head, where a sum of squares no longer fits into it.
    z1, z2 = ((100 * torch.randn(64, 32)).to(dtype).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss(name)(z1, z2)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(z1.grad).all()
    exact = _loss(name)(z1.detach().double(), z2.detach().double())
    assert float(loss.detach()) == pytest.approx(float(exact), rel=1e-3)


@every_loss
@pytest.mark.parametrize("n", [1, 4])
def test_losses_of_constant_and_zero_rows_are_finite(name, n):
    for value in (0.0, 3.0):
        z1 = torch.full((n, 3), value, requires_grad=True)
        loss = _loss(name)(z1, torch.full((n, 3), value))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(z1.grad).all()


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("n", "d"), [(5, 4), (130, 1), (2, 130)])
def test_gradients(name, n, d):
    torch.manual_seed(0)
    z1, z2 = (torch.randn(n, d, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(TWINS[name][0], (z1, z2))


@every_loss
def test_losses_refuse_shapes(name):
    with pytest.raises(ValueError, match=rf"{name} needs .*\(2, 2\) and \(3, 3\)"):
        _loss(name)(torch.eye(2), torch.eye(3))
    with pytest.raises(ValueError, match=r"\(3,\) and \(3,\)"):
        _loss(name)(torch.ones(3), torch.ones(3))


@rows_of_a_block
@pytest.mark.parametrize("own_row", [True, False])
@pytest.mark.parametrize("grid", [(5,), (4, 3), (3, 2, 2)])
@pytest.mark.parametrize("groups", [None, [0, 1, 0], [0, 1, 2], [4, 4, 4]])
def test_offset_nce_equals_a_slow_twin(of_a_block, grid, own_row, n_rows, groups):
    of_a_block(n_rows)
    torch.manual_seed(0)
    b, d, offset = 3, 4, 2
    targets = torch.randn(b, d, *grid, dtype=torch.float64)
    predictions = torch.randn(b, d, grid[0] - offset, *grid[1:], dtype=torch.float64)
    of = None if groups is None else torch.tensor(groups)
    found = offset_nce(predictions, targets, offset, 0.3, own_row=own_row, groups=of)
    of = groups or range(b)
    losses = []
    for i in range(b):
        for place in np.ndindex(grid[0] - offset, *grid[1:]):
            right = (place[0] + offset, *place[1:])
            p = predictions[(i, slice(None), *place)]
            scores = {
                (j, other): 0.3 * p @ targets[(j, slice(None), *other)]
                for j in range(b)
                for other in np.ndindex(*grid)
                if (own_row if j == i else of[j] != of[i]) or (j == i and other == right)
            }
            every = torch.stack(list(scores.values()))
            losses.append(every.logsumexp(0) - scores[i, right])
    torch.testing.assert_close(found, torch.stack(losses).mean())


def test_offset_nce_has_as_many_predictions_as_targets_ahead():
    with pytest.raises(ValueError, match=r"offset_nce needs predictions of shape \(b, d, h - 2"):
        offset_nce(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), 2)


def test_offset_nce_known_values():
    # Alike everywhere: chance, among all positions or those of other rows and the right one.
    same = torch.ones(4, 2, 5)
    assert offset_nce(same[:, :, :3], same, 2).item() == pytest.approx(np.log(20), abs=1e-6)
    other = offset_nce(same[:, :, :3], same, 2, own_row=False).item()
    assert other == pytest.approx(np.log(16), abs=1e-6)
    one = torch.ones(1, 2, 5)
    assert offset_nce(one[:, :, :3], one, 2, own_row=False).item() == 0.0


def _apart(first, second, comparisons, **kwargs):
    """Return the losses of feature maps and their regularizers, at the same positions."""
    state = torch.get_rng_state()
    losses = feature_map_nce(first, second, comparisons, regularization=0.0, **kwargs)
    torch.set_rng_state(state)
    return losses, feature_map_nce(first, second, comparisons, **kwargs) - losses


def test_feature_map_nce_known_values():
    torch.manual_seed(0)
    a1, a2, b1, b2 = (torch.rand(3, 5, 2, 2) for _ in range(4))
    losses, regularizers = _apart([a1, a2], [b1, b2], [(0, 1), (1, 1)], clip=10.0)
    torch.testing.assert_close(losses, torch.tensor([2.235065, 2.190210]), rtol=0, atol=1e-6)
    assert regularizers.sum().item() == pytest.approx(0.032384, abs=1e-6)
    torch.manual_seed(0)
    a, p = torch.rand(4, 8, 1, 1), torch.rand(4, 8, 1, 1)
    both, regularizers = _apart([a], [p], [(0, 0)], clip=10.0)
    assert both.item() == pytest.approx(1.382073, abs=1e-6)
    assert regularizers.item() == pytest.approx(0.021365, abs=1e-6)
    for maps, value in (((a, p), 1.378200), ((p, a), 1.385946)):
        one, _ = _apart(*([m] for m in maps), [(0, 0)], clip=10.0, bidirectional=False)
        assert one.item() == pytest.approx(value, abs=1e-6)


def test_feature_map_nce_of_a_batch_of_one():
    maps = [torch.rand(1, 4, 3, requires_grad=True)]
    losses = feature_map_nce(maps, maps, [(0, 0)])
    assert losses.item() == 0.0
    losses.sum().backward()


@rows_of_a_block
@pytest.mark.parametrize("shapes", [((3, 2), (4, 4)), ((7,), (1,)), ((2, 2, 2), (3, 1, 2))])
@pytest.mark.parametrize("groups", [None, [0, 1, 0, 2], [0, 1, 2, 3], [1, 1, 1, 0], [0] * 4])
def test_feature_map_nce_equals_a_slow_twin(of_a_block, shapes, n_rows, groups):
    of_a_block(n_rows)
    torch.manual_seed(0)
    b, d, clip = 4, 6, 3.0
    maps = [
        [torch.randn(b, d, *s, dtype=torch.float64, requires_grad=True) for s in shapes]
        for _ in range(2)
    ]
    comparisons = [(0, 1), (1, 0), (1, 1)]
    found = feature_map_nce(
        *maps,
        comparisons,
        clip=clip,
        regularization=0.3,
        generator=torch.Generator().manual_seed(5),
        groups=None if groups is None else torch.tensor(groups),
    )
    of = groups or range(b)
    generator = torch.Generator().manual_seed(5)
    for k, (i, j) in enumerate(comparisons):
        total = 0.0
        for first, second in (maps, maps[::-1]):
            anchor, positive = first[i].flatten(2), second[j].flatten(2)
            place = torch.randint(0, anchor.shape[2], (b,), generator=generator)
            scores = torch.empty(b, b, positive.shape[2], dtype=torch.float64)
            for n in range(b):
                for m in range(b):
                    for at in range(positive.shape[2]):
                        scores[n, m, at] = anchor[n, :, place[n]] @ positive[m, :, at] / d**0.5
            total = total + 0.3 * scores.square().mean() / 2
            scores = clip * torch.tanh(scores / clip)
            for n in range(b):
                others = [scores[n, m].exp().sum() for m in range(b) if of[m] != of[n]]
                others = sum(others, torch.zeros(()))
                for at in range(positive.shape[2]):
                    own = scores[n, n, at]
                    loss = -(own - torch.log(own.exp() + others))
                    total = total + loss / (2 * b * positive.shape[2])
        torch.testing.assert_close(found[k], total)
        every = [x for view in maps for x in view]
        gradients = [
            torch.autograd.grad(loss, every, retain_graph=True, materialize_grads=True)
            for loss in (found[k], total)
        ]
        torch.testing.assert_close(*gradients)


def test_feature_map_losses_are_float32_at_least():
    torch.manual_seed(0)
    maps = [torch.randn(4, 8, 5, dtype=torch.bfloat16) * 20 for _ in range(2)]
    losses = feature_map_nce([maps[0]], [maps[1]], [(0, 0)])
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = torch.randn(4, 8, 5)
        loss = offset_nce(x[:, :, :3], x, 2)
        assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, offset_nce(x[:, :, :3], x, 2))


def test_random_maps_come_from_the_generator():
    maps = [torch.randn(4, 8, 3), torch.randn(4, 8, 1)]
    seen = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(0)
        before = torch.get_rng_state()
        losses = feature_map_nce(maps, maps, [(1, -1)], generator=generator)
        assert torch.equal(before, torch.get_rng_state())
        seen.add(round(losses.item(), 4))
    assert len(seen) > 1


def _nt_xent(z1, z2):
    return nt_xent(z1, z2, 0.2)


def _info_nce(queries, keys, negatives):
    other = torch.arange(len(negatives)) % 5
    return info_nce(
        queries,
        keys,
        negatives,
        0.3,
        lambda rows: torch.arange(len(queries))[rows, None] == other,
    )


def _some_groups(n):
    return torch.arange(n) * 2 // 5 % 7


def _of_groups(loss, number):
    return lambda a, b: loss(a, b, number, _some_groups(a.shape[-2]))


def _offset_nce(own_row, with_groups=False):
    def loss(p, t):
        groups = _some_groups(len(p)) if with_groups else None
        offset = t.shape[1] - p.shape[1]
        return offset_nce(p.mT, t.mT, offset, 0.3, own_row=own_row, groups=groups)

    return loss


def _feature_maps(first, second, groups=None):
    generator = torch.Generator().manual_seed(0)
    return feature_map_nce(
        *([x.mT] for x in (first, second)),
        [(0, 0)],
        clip=2.0,
        generator=generator,
        groups=groups,
    ).sum()


def _feature_maps_with_groups(first, second):
    return _feature_maps(first, second, _some_groups(len(first)))


# Losses of all pairs, and the shapes of their inputs for n rows.
PAIRS = {
    "nt_xent": (_nt_xent, lambda n: [(n, 3), (n, 3)]),
    "info_nce": (_info_nce, lambda n: [(n, 3), (n, 3), (2 * n, 3)]),
    "offset_nce": (_offset_nce(True), lambda n: [(n, 2, 3), (n, 4, 3)]),
    "offset_nce of other rows": (_offset_nce(False), lambda n: [(n, 2, 3), (n, 4, 3)]),
    "feature_map_nce": (_feature_maps, lambda n: [(n, 2, 3), (n, 2, 3)]),
    "nt_xent with groups": (_of_groups(nt_xent, 0.2), lambda n: [(n, 3), (n, 3)]),
    "batchwise_barlow with groups": (
        _of_groups(batchwise_barlow, 0.2),
        lambda n: [(2, n, 3), (2, n, 3)],
    ),
    "offset_nce with groups": (
        _offset_nce(True, with_groups=True),
        lambda n: [(n, 2, 3), (n, 4, 3)],
    ),
    "feature_map_nce with groups": (
        _feature_maps_with_groups,
        lambda n: [(n, 2, 3), (n, 2, 3)],
    ),
}
every_pair = pytest.mark.parametrize("name", PAIRS)


def _inputs(name, n, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(s, dtype=dtype, requires_grad=True) for s in PAIRS[name][1](n)]


@every_pair
@pytest.mark.parametrize("n_rows", [1, 3, 4, 1000])
def test_gradients_in_blocks(of_a_block, name, n_rows):
    loss, inputs = PAIRS[name][0], _inputs(name, 6)
    of_a_block(1000)
    whole = loss(*inputs)
    expected = torch.autograd.grad(whole, inputs)
    of_a_block(n_rows)
    assert torch.autograd.gradcheck(loss, inputs)
    found = loss(*inputs)
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(torch.autograd.grad(3 * found, inputs), [3 * g for g in expected])
    # Held-out rows need no gradient, and frozen parts none of theirs.
    with torch.no_grad():
        torch.testing.assert_close(loss(*inputs), whole.detach())
    rest = [x.detach() for x in inputs[1:]]
    (first,) = torch.autograd.grad(loss(inputs[0], *rest), inputs[0])
    torch.testing.assert_close(first, expected[0])


@every_pair
def test_losses_in_blocks_in_half_precision(of_a_block, name):
    loss, inputs = PAIRS[name][0], _inputs(name, 9, torch.bfloat16)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = loss(*exact)
    of_a_block(4)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(*inputs)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    of_inputs, wanted = torch.autograd.grad(found, inputs), torch.autograd.grad(expected, exact)
    assert all(gradient.dtype == torch.bfloat16 for gradient in of_inputs)
    rounded = tuple(gradient.double() for gradient in of_inputs)
    torch.testing.assert_close(rounded, wanted, rtol=1e-2, atol=1e-4)


@every_pair
def test_losses_in_blocks_are_differentiated_once(of_a_block, name):
    of_a_block(4)
    loss, inputs = PAIRS[name][0], _inputs(name, 9)
    with pytest.raises(RuntimeError, match="'create_graph' must be False"):
        torch.autograd.grad(loss(*inputs), inputs[0], create_graph=True)


class _Largest(TorchDispatchMode):
    """Takes note of the largest tensor that any operation makes, in entries."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor):
                self.entries = max(self.entries, each.untyped_storage().nbytes() // 4)
        return made


def _largest(loss, inputs):
    with _Largest() as trained:
        loss(*inputs).backward()
    with _Largest() as held_out, torch.no_grad():
        loss(*inputs)
    return max(trained.entries, held_out.entries)


@every_pair
def test_memory_of_a_block_grows_with_the_batch_not_its_square(of_a_block, name):
    of_a_block(8)
    loss, _ = PAIRS[name]
    few, many = (_largest(loss, _inputs(name, n, torch.float32)) for n in (200, 800))
    assert many <= 4.1 * few
    of_a_block(10_000)
    assert _largest(loss, _inputs(name, 200, torch.float32)) >= 200**2


@pytest.mark.parametrize("name", ["batchwise_barlow", "barlow_twins", "vicreg"])
@pytest.mark.parametrize("shape", [(2000, 3), (3, 2000), (300, 300)])
def test_memory_of_products_is_that_of_what_they_are_of(name, shape):
    torch.manual_seed(0)
    z1, z2 = (torch.randn(shape, requires_grad=True) for _ in range(2))
    assert _largest(_loss(name), (z1, z2)) <= 2 * max(z1.numel(), 128**2)


@pytest.mark.parametrize("name", ["nt_xent", "info_nce"])
def test_defaults_are_one_block(name):
    loss, _ = PAIRS[name]
    shapes = {"nt_xent": [(256, 3)] * 2, "info_nce": [(256, 3), (256, 3), (4096, 3)]}
    inputs = [torch.randn(s, requires_grad=True) for s in shapes[name]]
    assert "Blocks" not in type(loss(*inputs).grad_fn).__name__
    assert "Blocks" in type(loss(*(x.repeat(5, 1) for x in inputs)).grad_fn).__name__
