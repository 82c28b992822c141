"""Whole ``fit``, set-up included, beside a hand-written torch loop on the same work.

    python tests/benchmarks/fit_speed.py [table tiny series image kernels columns volumes]
        [--method BYOL] [--repeats 7] [--busy]

The loop is what one would write for speed: the data in one standardised tensor, a batched index,
both views in one forward pass, fused AdamW, no logging; for BYOL the slow copy is moved by one
multi-tensor operation. "kernels", "columns" and "volumes" are the default encoders for series,
tables and volumes: the loop, too, computes the fixed features of eight views a sample once.
Ratio 1.00: fit costs nothing over it.
"""

import argparse
import copy
import itertools
import math
import time

import numpy as np
import torch
from _side_by_side import header, side_by_side
from torch import nn

from sslearn import BYOL, SimCLR
from sslearn._methods._losses import negative_cosine, nt_xent
from sslearn._training._optimization import parameter_groups
from sslearn.augment import default_augment
from sslearn.encoders import ViewWhitening, default_encoder

GOALS = {
    "SimCLR": {
        **{"table": 0.95, "tiny": 0.95, "series": 0.97, "image": 0.97},
        **{"kernels": 0.97, "columns": 0.97, "volumes": 0.97},
    },
    "BYOL": {"table": 0.9, "tiny": 0.9, "series": 0.9, "image": 0.9},
}


def mlp(*widths):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def work(name):
    """Rows, encoder, head, batch size and epochs of a piece of work."""
    rng = np.random.default_rng(0)
    if name == "table":
        return rng.normal(size=(50_000, 64)), mlp(64, 256, 256), mlp(256, 128, 64), 256, 3
    if name == "tiny":
        return rng.normal(size=(50_000, 64)), mlp(64, 64), mlp(64, 64), 128, 3
    if name == "kernels":
        return rng.normal(size=(2048, 9, 128)), None, mlp(512, 128, 64), 128, 20
    if name == "columns":
        X = rng.normal(size=(4096, 20)).astype(np.float32)
        width = default_encoder((20,), rows=torch.from_numpy(X)).body_width
        return X, None, mlp(width, 128, 64), 256, 20
    if name == "volumes":
        X = rng.integers(0, 256, size=(256, 1, 20, 20, 20)).astype(np.uint8)
        return X, None, mlp(1024, 128, 64), 32, 100
    if name == "series":
        return rng.normal(size=(2048, 9, 128)), *encoder_and_head((9, 128)), 128, 2
    images = rng.integers(0, 256, size=(2048, 3, 32, 32)).astype(np.uint8)
    return images, *encoder_and_head((3, 32, 32)), 128, 1


def encoder_and_head(shape):
    """The default encoder of samples of a shape, and a head that fits it."""
    encoder = default_encoder(shape)
    with torch.no_grad():
        width = encoder.eval()(torch.zeros(1, *shape)).shape[1]
    return encoder.train(), mlp(width, 128, 64)


def simclr(encoder, head):
    module = nn.Sequential(encoder, head).train()
    return module, lambda views: nt_xent(*module(views).chunk(2), 0.2), lambda progress: None


def byol(encoder, head):
    width = head[-1].out_features
    online = nn.Sequential(encoder, head)
    target = copy.deepcopy(online).requires_grad_(False)
    module = nn.Sequential(online, mlp(width, width, width)).train()
    followed, own = list(online.parameters()), list(target.parameters())

    def loss(views):
        p1, p2 = module(views).chunk(2)
        with torch.no_grad():
            z1, z2 = target(views).chunk(2)
        return 4 + 2 * (negative_cosine(p1, z2) + negative_cosine(p2, z1))

    def after_step(progress):
        with torch.no_grad():
            torch._foreach_lerp_(own, followed, 0.01 * (math.cos(math.pi * progress) + 1) / 2)

    return module, loss, after_step


def bare_loop(
    method,
    X,
    encoder,
    head,
    batch_size,
    epochs,
    augment,
    *,
    device="cpu",
    dtype=None,
    compiled=False,
):
    """Train as one would by hand; `dtype` is that of autocast, `compiled` asks for CUDA graphs."""
    encoder, head = copy.deepcopy(encoder).to(device), copy.deepcopy(head).to(device)
    data = torch.from_numpy(X).to(device)
    images = data.ndim == 4
    if images:
        encoder = encoder.to(memory_format=torch.channels_last)
        axes = (0, 2, 3)
        mean = (data.float() / 255).mean(axes, keepdim=True)
        std = (data.float() / 255).std(axes, keepdim=True)
    else:
        axes = (0, *range(2, data.ndim))
        data = (data - data.mean(axes, keepdim=True)) / data.std(axes, keepdim=True)
    module, loss_of, after_step = method(encoder, head)
    if compiled:
        loss_of = torch.compile(loss_of, mode="reduce-overhead")
    optimizer = torch.optim.AdamW(parameter_groups(module, 1e-4), lr=1e-3, fused=True)
    generator = torch.Generator(device).manual_seed(0)
    n_batches = len(data) // batch_size
    for epoch in range(epochs):
        order = torch.randperm(len(data), generator=generator, device=device)
        for i in range(n_batches):
            x = data[order[i * batch_size : (i + 1) * batch_size]]
            if images:
                x = x.float() / 255
            views = augment(torch.cat((x, x)), generator)
            if images:
                views = ((views - mean) / std).contiguous(memory_format=torch.channels_last)
            with torch.autocast(data.device.type, dtype, enabled=dtype is not None):
                loss = loss_of(views)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            after_step((epoch * n_batches + i) / (epochs * n_batches))


def loop_behind_a_stem(X, head, batch_size, epochs, n_kept=8):
    """A default encoder by hand: features of views from its fixed part once, then its layer."""
    torch.manual_seed(0)
    data = torch.from_numpy(X)
    # Views of volumes are of values in [0, 1], all others of standardised ones.
    unit = data.float() / 255 if data.dtype == torch.uint8 else None
    values = data if unit is None else unit
    axes = (0, *range(2, data.ndim))
    mean, std = values.mean(axes, keepdim=True), values.std(axes, keepdim=True)
    data = (values - mean) / std
    encoder = default_encoder(X.shape[1:], rows=data[:4096])
    whitenings = [module for module in encoder.stem.modules() if isinstance(module, ViewWhitening)]
    head = copy.deepcopy(head)
    augment, generator = (
        default_augment(X.shape[1:], bank=True),
        torch.Generator().manual_seed(0),
    )
    n, n_batches = len(data), len(data) // batch_size
    with torch.no_grad():
        kept = torch.empty(n, n_kept, encoder.stem_width, dtype=torch.float16)
        for k in range(n_kept):
            for part in torch.randperm(n, generator=generator).split(batch_size):
                views = augment((data if unit is None else unit)[part], generator)
                views = views if unit is None else (views - mean) / std
                kept[part, k] = encoder.stem(views).half()
        for whitening in whitenings:
            whitening.fit(kept)
            for part in kept.split(256):
                part.copy_(whitening(part.flatten(0, 1).float()).view_as(part))
    module = nn.Sequential(encoder.body, head).train()
    optimizer = torch.optim.AdamW(parameter_groups(module, 1e-4), lr=1e-3, fused=True)
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator)
        for i in order[: n_batches * batch_size].view(n_batches, batch_size):
            chosen = torch.rand(batch_size, n_kept, generator=generator).argsort(1)[:, :2]
            views = kept[i.repeat(2), chosen.T.flatten()].float()
            loss = nt_xent(*module(views).chunk(2), 0.2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        encoder.calibrate(encoder.stem(data[:4096]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=None)
    parser.add_argument("--method", choices=list(GOALS), default="SimCLR")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--busy", action="store_true", help="processor time, not the clock's")
    parser.add_argument("--profile", action="store_true", help="profile fit instead")
    arguments = parser.parse_args()
    arguments.names = arguments.names or list(GOALS[arguments.method])
    header(f"fit of {arguments.method} over a bare loop")
    print(f"{'work':<8} {'fit s':>8} {'loop s':>8} {'ratio':>6} {'min':>5} {'max':>5} {'goal':>5}")
    goals = GOALS[arguments.method]
    clock = time.process_time if arguments.busy else time.perf_counter
    for name in arguments.names:
        X, encoder, head, batch_size, epochs = work(name)
        X = X if X.dtype == np.uint8 else X.astype(np.float32)
        augment = None if encoder is None else default_augment(X.shape[1:])
        method, estimator = simclr, SimCLR(encoder, projector=head, temperature=0.2)
        if arguments.method == "BYOL":
            width = head[-1].out_features
            method = byol
            estimator = BYOL(encoder, projector=head, predictor=mlp(width, width, width))
        estimator.set_params(
            augment=augment,
            max_epochs=epochs,
            batch_size=batch_size,
            learning_rate=1e-3,
            device="cpu",
            random_state=0,
        )
        estimator.fit(X[: 2 * batch_size])  # imports
        ours = lambda: estimator.fit(X)  # noqa: B023, E731
        loop = (X, encoder, head, batch_size, epochs, augment)
        bare = lambda: bare_loop(method, *loop)  # noqa: B023, E731
        if encoder is None:
            bare = lambda: loop_behind_a_stem(X, head, batch_size, epochs)  # noqa: B023, E731
        if arguments.profile:
            import cProfile

            cProfile.runctx("ours()", {}, {"ours": ours}, sort="tottime")
            continue
        a, b, ratio, low, high = side_by_side(ours, bare, arguments.repeats, clock)
        print(
            f"{name:<8} {a:8.3f} {b:8.3f} {ratio:6.3f} {low:5.2f} {high:5.2f} {goals[name]:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
