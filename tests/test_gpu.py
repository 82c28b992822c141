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


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precisions(precision):
    model = small("SimCLR", device="cuda", precision=precision, max_epochs=3)
    model.fit(rows("image", n=70))
    assert np.isfinite(model.loss_curve_).all()


def test_tensors_on_the_gpu():
    X = torch.from_numpy(rows("table", n=70)).cuda()
    for device in ("cuda", "cpu"):
        assert small("SimCLR", device=device).fit(X).transform(X).shape == (70, 8)
