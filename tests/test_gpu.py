"""What is different on a GPU; skipped where there is none."""

import numpy as np
import pytest
import torch
from estimators import ESTIMATORS, SHAPES, rows, small

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("kind", sorted(SHAPES))
def test_fit_and_transform_on_the_gpu(name, kind):
    X = rows(kind, n=70)
    torch.cuda.manual_seed(7)
    before = torch.cuda.get_rng_state()
    for trainer_params in (None, {"gradient_clip_val": 1.0}):
        model = small(name, device="auto", trainer_params=trainer_params).fit(X)
        assert torch.equal(torch.cuda.get_rng_state(), before)
        assert {p.device.type for p in model.encoder_.parameters()} == {"cpu"}
        on_gpu = model.transform(X)
        on_cpu = model.set_params(device="cpu").transform(X)
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=2e-2 * on_cpu.std())


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_learns_as_float32_does(name, precision):
    rng = np.random.default_rng(0)
    X = 3 * rng.normal(size=(4, 24))[rng.integers(0, 4, 256)] + rng.normal(size=(256, 24))
    params = {"device": "cuda", "max_epochs": 6, "batch_size": 64, "learning_rate": 3e-3}
    exact, reduced = (
        np.array(small(name, precision=p, **params).fit(X).loss_curve_)
        for p in ("float32", precision)
    )
    np.testing.assert_allclose(reduced, exact, rtol=0, atol=0.15 * (exact[0] - exact.min()))


def test_tensors_on_the_gpu():
    X = torch.from_numpy(rows("table", n=70)).cuda()
    for device in ("cuda", "cpu"):
        assert small("SimCLR", device=device).fit(X).transform(X).shape == (70, 8)
