"""Whole ``fit``, set-up included, beside a hand-written torch loop on the same work.

    python tests/benchmarks/fit_speed.py [table tiny series image] [--repeats 7]

The loop is what one would write for speed: the data in one standardised tensor, a batched index,
both views in one forward pass, fused AdamW, no logging. Ratio 1.00: fit costs nothing over it.
"""

import argparse
import copy
import itertools

import numpy as np
import torch
from _side_by_side import header, side_by_side
from torch import nn

from sslearn import SimCLR
from sslearn._losses import nt_xent
from sslearn._optimization import parameter_groups
from sslearn.augment import default_augment
from sslearn.encoders import default_encoder

GOALS = {"table": 0.95, "tiny": 0.95, "series": 0.97, "image": 0.97}


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
    if name == "series":
        return rng.normal(size=(2048, 9, 128)), default_encoder((9, 128)), mlp(128, 64), 128, 2
    images = rng.integers(0, 256, size=(2048, 3, 32, 32)).astype(np.uint8)
    return images, default_encoder((3, 32, 32)), mlp(128, 64), 128, 1


def bare_loop(X, encoder, head, batch_size, epochs, augment):
    encoder, head = copy.deepcopy(encoder), copy.deepcopy(head)
    data = torch.from_numpy(X)
    images = data.ndim == 4
    if images:
        encoder = encoder.to(memory_format=torch.channels_last)
        axes = (0, 2, 3)
        mean = (data.float() / 255).mean(axes, keepdim=True)
        std = (data.float() / 255).std(axes, keepdim=True)
    else:
        axes = (0, *range(2, data.ndim))
        data = (data - data.mean(axes, keepdim=True)) / data.std(axes, keepdim=True)
    module = nn.Sequential(encoder, head).train()
    optimizer = torch.optim.AdamW(parameter_groups(module, 1e-4), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator)
        for i in range(len(data) // batch_size):
            x = data[order[i * batch_size : (i + 1) * batch_size]]
            if images:
                x = x.float() / 255
            views = augment(torch.cat((x, x)), generator)
            if images:
                views = ((views - mean) / std).contiguous(memory_format=torch.channels_last)
            z1, z2 = module(views).chunk(2)
            loss = nt_xent(z1, z2, 0.2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(GOALS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="profile fit instead")
    arguments = parser.parse_args()
    header("fit over a bare loop")
    print(f"{'work':<8} {'fit s':>8} {'loop s':>8} {'ratio':>6} {'min':>5} {'max':>5} {'goal':>5}")
    for name in arguments.names or GOALS:
        X, encoder, head, batch_size, epochs = work(name)
        X = X if X.dtype == np.uint8 else X.astype(np.float32)
        augment = default_augment(X.shape[1:])
        estimator = SimCLR(
            encoder,
            projector=head,
            augment=augment,
            max_epochs=epochs,
            batch_size=batch_size,
            device="cpu",
            random_state=0,
        )
        estimator.fit(X[: 2 * batch_size])  # imports
        ours = lambda: estimator.fit(X)  # noqa: B023, E731
        bare = lambda: bare_loop(X, encoder, head, batch_size, epochs, augment)  # noqa: B023, E731
        if arguments.profile:
            import cProfile

            cProfile.runctx("ours()", {}, {"ours": ours}, sort="tottime")
            continue
        a, b, ratio, low, high = side_by_side(ours, bare, arguments.repeats)
        print(
            f"{name:<8} {a:8.3f} {b:8.3f} {ratio:6.3f} {low:5.2f} {high:5.2f} {GOALS[name]:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
