"""What fits reach on a GPU: beside a bare loop, beside the chip, and SimCLR on all of CIFAR-10.

    python tests/benchmarks/gpu_speed.py [table image cifar10] [--folder FOLDER] [--repeats 5]

``table``: SimCLR of 200,000 x 64 with a small perceptron, where starting kernels is most of the
time; beside it the bare loop as it is and with its loss compiled to CUDA graphs. ``image``: SimCLR
with a ResNet-18 with the stem for small images on 3 x 32 x 32 bytes, bfloat16, channels last; its
operations per second beside those of a large matrix product on the same chip (goal: 25,000 images
per second on one H200). ``cifar10``: SimCLR with that encoder on the 50,000 training images of
``cifar10_jpeg.npz`` in FOLDER, 200 epochs, then the vote of the 200 nearest (goal: 84.7% in under
ten minutes). Without a GPU it says so and measures nothing; ``--dry-run`` goes through the code on
the CPU, with little work.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _data_sets import decoded
from _probes import standardised
from _side_by_side import header, side_by_side
from fit_speed import bare_loop, mlp, simclr
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sslearn import SimCLR
from sslearn.augment import default_augment
from sslearn.encoders import ResNet


def resnet18():
    return ResNet(3, embedding_dim=512, width=64, depth=(2, 2, 2, 2))


def matrix_rate(device, dtype, n):
    """Operations per second of a large matrix product."""
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(12):
        wait(device)
        begun = time.perf_counter()
        a @ b
        wait(device)
        times.append(time.perf_counter() - begun)
    return 2 * n**3 / np.median(times)


def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()


def operations(encoder, head, shape):
    """Operations of one row of a step: two views, forward and about twice that backward."""
    module = nn.Sequential(encoder, head).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *shape))
    return 2 * 3 * counter.get_total_flops()


def speed(name, X, encoder, head, batch_size, epochs, device, repeats, dry):
    augment = default_augment(X.shape[1:])
    dtype = torch.bfloat16
    model = SimCLR(
        encoder,
        projector=head,
        temperature=0.2,
        augment=augment,
        max_epochs=epochs,
        batch_size=batch_size,
        learning_rate=1e-3,
        device=device,
        precision="bfloat16",
        random_state=0,
    )
    loop = (simclr, X, encoder, head, batch_size, epochs, augment)
    each = {"loop": lambda: bare_loop(*loop, device=device, dtype=dtype)}
    if not dry:
        each["compiled loop"] = lambda: bare_loop(*loop, device=device, dtype=dtype, compiled=True)
    seen = len(X) // batch_size * batch_size * epochs

    def ours():
        model.fit(X)
        wait(device)

    model.fit(X[: 2 * batch_size])  # imports
    for other, function in each.items():

        def theirs(function=function):
            function()
            wait(device)

        a, b, ratio, low, high = side_by_side(ours, theirs, repeats)
        print(
            f"{name}: fit {seen / a:,.0f} rows/s, {other} {seen / b:,.0f} rows/s, "
            f"ratio {ratio:.2f} ({low:.2f} to {high:.2f})",
            flush=True,
        )
    rate = matrix_rate(device, dtype, 512 if dry else 8192)
    share = seen / a * operations(encoder, head, X.shape[1:]) / rate
    print(f"{name}: {100 * share:.1f}% of the {rate / 1e12:.1f} TFLOP/s of a matrix product")


def cifar10(folder, device, dry):
    data = np.load(folder / "cifar10_jpeg.npz")
    n_train, n_test = (200, 50) if dry else (len(data["y_train"]), len(data["y_test"]))
    X_train, X_test = decoded(data, "train", range(n_train)), decoded(data, "test", range(n_test))
    y_train, y_test = data["y_train"][:n_train], data["y_test"][:n_test]
    model = SimCLR(
        resnet18(),
        max_epochs=1 if dry else 200,
        batch_size=64 if dry else 512,
        device=device,
        random_state=0,
    )
    begun = time.perf_counter()
    model.fit(X_train)
    seconds = time.perf_counter() - begun
    parts = standardised(*(model.transform(X) for X in (X_train, X_test)))
    train, test = (Normalizer().transform(part) for part in parts)
    knn = KNeighborsClassifier(200 if not dry else 5).fit(train, y_train)
    print(
        f"cifar10: {model.n_iter_} epochs in {seconds:.0f} s, kNN of the last epoch "
        f"{100 * knn.score(test, y_test):.1f}%"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["table", "image", "cifar10"])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    dry = arguments.dry_run
    header("on a GPU" + (", DRY RUN: the figures mean nothing" if dry else ""))
    if not torch.cuda.is_available() and not dry:
        print("There is no GPU here: nothing was measured.")
        return
    device = "cpu" if dry else "cuda"
    rng = np.random.default_rng(0)
    common = (device, 1 if dry else arguments.repeats, dry)
    if "table" in arguments.names:
        X = rng.normal(size=(2_000 if dry else 200_000, 64)).astype(np.float32)
        speed("table", X, mlp(64, 256, 256), mlp(256, 128, 64), 256, 1 if dry else 5, *common)
    if "image" in arguments.names:
        X = rng.integers(0, 256, size=(64 if dry else 50_000, 3, 32, 32)).astype(np.uint8)
        batch_size, epochs = (32, 1) if dry else (512, 2)
        speed("image", X, resnet18(), mlp(512, 512, 128), batch_size, epochs, *common)
    if "cifar10" in arguments.names:
        if arguments.folder is None:
            print("cifar10: not run, --folder is not given.")
        else:
            cifar10(arguments.folder, device, dry)


if __name__ == "__main__":
    main()
