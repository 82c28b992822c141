"""Whole ``fit`` of LFR beside the loop that recomputes what does not change.

    python tests/benchmarks/lfr_speed.py [--width 64] [--cycles 2] [--repeats 5]

The paper's regime for HAR: three convolutions (2304 features), six random projectors, linear
predictors, batches of 128; a cycle is one epoch for the encoder and five for the predictors. The
loop, as one writes it, asks all projectors and the encoder anew for each batch, in all six. ``fit``
looks targets up, and features too while the encoder rests. ``--width 2304`` is the published width
of the projections, where the predictors, 31.9 million weights, take most of the time in both.
"""

import argparse
import copy
import functools
import sys
from pathlib import Path

import numpy as np
import torch
from _side_by_side import header, side_by_side
from torch import nn

from sslearn import LFR
from sslearn._methods._losses import batchwise_barlow
from sslearn._training._optimization import parameter_groups

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from plot_lfr_har import published_encoder, published_projector

N, SHAPE, TARGETS, BATCH, PREDICTOR_EPOCHS = 7352, (9, 128), 6, 128, 5


def plain_loop(data, encoder, projectors, predictors, cycles):
    encoder, predictors = copy.deepcopy(encoder), copy.deepcopy(predictors)
    make = functools.partial(torch.optim.Adam, lr=3e-4, betas=(0.9, 0.99))
    for_encoder = make(parameter_groups(encoder, 3e-4))
    for_predictors = make(parameter_groups(predictors, 3e-4))
    generator = torch.Generator().manual_seed(0)
    for _ in range(cycles):
        for phase in range(1 + PREDICTOR_EPOCHS):
            encoder.train(phase == 0).requires_grad_(phase == 0)
            predictors.requires_grad_(phase > 0)
            optimizer = for_predictors if phase else for_encoder
            order = torch.randperm(len(data), generator=generator)
            for index in order[: len(data) // BATCH * BATCH].split(BATCH):
                x = data[index]
                with torch.no_grad():
                    targets = [projector(x) for projector in projectors]
                h = encoder(x)
                losses = [
                    batchwise_barlow(predictor(h), target)
                    for predictor, target in zip(predictors, targets, strict=True)
                ]
                optimizer.zero_grad()
                torch.stack(losses).mean().backward()
                optimizer.step()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--cycles", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    header(f"fit of LFR over a loop that recomputes, projections {arguments.width} wide")
    torch.manual_seed(0)
    X = np.random.default_rng(0).normal(size=(N, *SHAPE)).astype(np.float32)
    encoder = published_encoder(SHAPE)
    features = encoder.eval()(torch.zeros(2, *SHAPE)).shape[1]
    projectors = [published_projector(SHAPE, arguments.width) for _ in range(TARGETS)]
    for projector in projectors:
        projector.eval()(torch.zeros(2, *SHAPE))  # makes the lazy layer
        projector.requires_grad_(False)
    predictors = nn.ModuleList(nn.Linear(features, arguments.width) for _ in range(TARGETS))
    model = LFR(
        encoder,
        projectors=projectors,
        predictors=list(predictors),
        n_targets=None,
        predictor_epochs=PREDICTOR_EPOCHS,
        max_epochs=arguments.cycles,
        batch_size=BATCH,
        learning_rate=3e-4,
        weight_decay=3e-4,
        lr_schedule="constant",
        warmup_fraction=0.0,
        device="cpu",
        random_state=0,
    )
    model.fit(X[: 2 * BATCH])  # imports
    data = torch.from_numpy(X)
    ours, loop, ratio, low, high = side_by_side(
        lambda: model.fit(X),
        lambda: plain_loop(data, encoder, projectors, predictors, arguments.cycles),
        arguments.repeats,
    )
    seen = N // BATCH * BATCH * (1 + PREDICTOR_EPOCHS) * arguments.cycles
    print(
        f"fit {ours:.2f} s, {seen / ours:,.0f} rows/s; loop {loop:.2f} s, "
        f"{seen / loop:,.0f} rows/s; ratio {ratio:.2f} ({low:.2f} to {high:.2f}; goal 3)"
    )


if __name__ == "__main__":
    main()
