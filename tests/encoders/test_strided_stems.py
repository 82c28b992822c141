"""Stems of images and volumes: strided convolutions of few channels, and samples of any kind."""

import math

import numpy as np
import pytest
import torch

from sslearn import VICReg
from sslearn.encoders import PatchBank, default_encoder


def _noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Patches at a stride, of one channel to more than a vector block has; the last ones are so few
# samples that their patches are single positions.
STRIDED = [
    *(((channels, 40, 36), 12) for channels in (1, 2, 3, 7, 8, 15, 16, 17, 60)),
    ((1, 512, 9), 12),
    ((3, 224, 224), 4),
    *(((channels, 36, 33, 34), 4) for channels in (1, 2, 3, 9)),
    ((7, 1, 40), 2),
    ((15, 1, 40), 2),
    ((15, 1, 1, 40), 2),
]


@pytest.mark.parametrize(("shape", "n"), STRIDED)
def test_gradients_through_strided_patches(shape, n):
    """Compare with float64, which oneDNN does not compute, while freed memory holds NaN.

    A convolution that writes past its memory ends the process, sooner or later, or has wrong
    gradients; one that reads what it never wrote differs from call to call.
    """
    samples = _noise(n, *shape)
    bank = PatchBank.from_samples(samples, n_patches=3)
    assert bank.stride == 2
    # oneDNN's gradient of a strided convolution of single positions is at fault.
    assert max(bank.patch_size) > 1 or bank.conv.stride == (1,) * len(bank.size)
    assert (n > 2) == (max(bank.patch_size) > 1)
    found = set()
    for size in (100, 3_000, 70_000, 300_000):
        freed = [torch.full((size,), math.nan) for _ in range(5)]
        del freed
        x = samples[:2].clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            bank(x).square().sum().backward()
        found.add(x.grad.numpy().tobytes())
    assert len(found) == 1
    exact = samples[:2].double().requires_grad_()
    PatchBank.double(bank)(exact).square().sum().backward()
    # Roots of small means magnify rounding; what comes from elsewhere in memory is far off.
    most = exact.grad.abs().max().item()
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=0.02, atol=0.02 * most)


def _units(X):
    """Give each channel a unit of its own, as kelvins next to shares."""
    units = 10.0 ** np.linspace(-3, 4, X.shape[1])
    return (X * units.reshape(-1, *[1] * (X.ndim - 2)) + 3 * units.max()).astype(np.float64)


AS = {
    "floats": lambda X: X,
    "bytes": lambda X: np.clip(40 * X + 128, 0, 255).astype(np.uint8),
    "units": _units,
    "constant": lambda X: np.full_like(X, 7),
}
# Images from 8 to 512 pixels a side and of 1 to 60 bands, volumes from 8 voxels a side.
SLOW = [
    *[((60, 40, 33), kind) for kind in ("bytes", "units")],
    *[((1, 512, 512), kind) for kind in ("bytes", "constant")],
    *[((bands, 8, 8, 8), kind) for bands in (1, 5) for kind in AS],
    ((2, 34, 20, 20), "units"),
]
SAMPLES = [
    *[((bands, 8, 8), kind) for bands in (1, 3, 60) for kind in AS],
    *[((4, 16, 16), kind) for kind in AS],
    *[((2, 8, 8, 8), kind) for kind in AS],
    *[pytest.param(shape, kind, marks=pytest.mark.slow) for shape, kind in SLOW],
]


@pytest.mark.filterwarnings("ignore:X has samples of shape", "ignore:All .* constant")
@pytest.mark.parametrize(("shape", "kind"), SAMPLES)
def test_samples_of_any_kind_are_fitted(shape, kind):
    X = AS[kind](_noise(12, *shape).numpy())
    model = VICReg(max_epochs=1, batch_size=6, random_state=0, device="cpu", cached_views=2)
    features = model.fit(X).transform(X)
    assert features.shape[1] <= 2048
    assert np.isfinite(features).all()
    # What is constant has features that are; all else differs, in whatever unit.
    assert (features.std(0).max() < 1e-3) == (kind == "constant")


@pytest.mark.parametrize("shape", [(3, 20, 20), (3, 8, 8), (3, 8, 8, 8)])
def test_each_channel_counts_in_whatever_unit(shape):
    x = _noise(30, *shape)
    torch.manual_seed(0)
    plain = VICReg(max_epochs=0, random_state=0, device="cpu").fit(x.numpy())
    model = VICReg(max_epochs=0, random_state=0, device="cpu").fit(_units(x.numpy()))
    torch.testing.assert_close(
        torch.from_numpy(model.transform(_units(x.numpy()))),
        torch.from_numpy(plain.transform(x.numpy())),
        rtol=0.05,
        atol=0.02,
    )
    assert default_encoder(shape, None, x) is not None
