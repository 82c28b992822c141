"""One measurement of ``peers.py``, in a process of its own; the last line it prints is JSON.

    python tests/benchmarks/_peers_work.py '{"contender": "lightly", "work": "table", "threads": 2}'

Keys: ``contender``, ``work``, ``method`` (SimCLR), ``workers`` of the DataLoader (0), ``threads``
and ``accuracy`` (seconds until a probe of digits reaches it; None). Or ``import``: only a try.
"""

import copy
import functools
import importlib.metadata
import importlib.util
import json
import os
import random
import re
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import fit_speed
import numpy as np
import torch
from _side_by_side import machine
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import sslearn
from sslearn._methods._lfr_projectors import RandomProjector, calibrate
from sslearn._methods._losses import batchwise_barlow
from sslearn._training._optimization import parameter_groups
from sslearn.augment import ColorJitter, Compose, RandomResizedCrop, default_augment

TEMPERATURE, RATE, DECAY, TARGETS = 0.2, 1e-3, 1e-4, 6
# Passes that take about five seconds on two cores; all is reported per second.
EPOCHS = {"table": 3, "series": 6, "image": 3, "views": 60, "digits": 8}
# (rows, passes) of contenders that would take minutes.
FEWER = {
    ("nidl", "table"): (4096, 1),
    ("nidl", "series"): (2048, 2),
    ("nidl", "image"): (2048, 2),
    ("lightly", "views"): (2048, 2),
}
# Lengths of the fits whose features are probed, each sqrt(2) times the one before.
PROBED = (6, 8, 11, 16, 23, 32, 45, 64, 90)


def load(name):
    """Rows, networks and views of a piece of work; the same weights in every process."""
    torch.manual_seed(0)
    if name == "digits":
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        X, y = load_digits(return_X_y=True)
        # The test part is for the table of qualities alone.
        X, _, y, _ = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
        X = (X.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        (encoder, head), batch_size = fit_speed.encoder_and_head((1, 8, 8)), 128
        # Views that lightly's transforms can draw too.
        jitter = ColorJitter(saturation=0.0, hue=0.0)
        augment = Compose([RandomResizedCrop(scale=(0.3, 1.0), flip=0.0), jitter])
    else:
        known = "image" if name == "views" else name
        X, encoder, head, batch_size, _ = fit_speed.work(known)
        X = X if X.dtype == np.uint8 else X.astype(np.float32)
        augment, y = default_augment(X.shape[1:]), None
    return SimpleNamespace(
        name=name, X=X, y=y, encoder=encoder, head=head, batch_size=batch_size, augment=augment
    )


def standardised(X):
    """All rows as one float tensor, as the loops of ``fit_speed.py`` have them, and statistics."""
    data = torch.from_numpy(X)
    data = data.float() / 255 if data.ndim == 4 else data
    axes = (0, *range(2, data.ndim))
    mean, std = data.mean(axes, keepdim=True), data.std(axes, keepdim=True)
    return (data - mean) / std, mean.flatten(), std.flatten()


# --- contenders: fit(method, work, X, epochs, workers) returns the trained encoder, or a model ----


def fit_sslearn(method, work, X, epochs, workers):
    settings = {
        "max_epochs": epochs,
        "batch_size": work.batch_size,
        "learning_rate": RATE,
        "weight_decay": DECAY,
        "lr_schedule": "constant",
        "warmup_fraction": 0.0,
        "device": "cpu",
        "random_state": 0,
    }
    if method == "LFR":
        projectors, predictors = random_targets(work)
        settings.update(projectors=projectors, predictors=predictors, n_targets=None)
        settings.update(alternate=False, predictor_epochs=0)
    else:
        settings.update(augment=work.augment, projector=work.head)
    if method == "SimCLR":
        settings["temperature"] = TEMPERATURE
    if method == "BYOL":
        settings["predictor"] = fit_speed.mlp(*[work.head[-1].out_features] * 3)
    return getattr(sslearn, method)(work.encoder, **settings).fit(X)


def fit_bare(method, work, X, epochs, workers):
    if method == "LFR":
        return lfr_loop(work, X, epochs)
    kept = []

    def made(encoder, head):
        kept.append(encoder)
        return getattr(fit_speed, method.lower())(encoder, head)

    fit_speed.bare_loop(made, X, work.encoder, work.head, work.batch_size, epochs, work.augment)
    return kept[0]


def random_targets(work):
    shape = work.X.shape[1:]
    with torch.no_grad():
        width = work.encoder.eval()(torch.zeros(2, *shape)).shape[1]
    work.encoder.train()
    projectors = [RandomProjector(shape, 64).eval().requires_grad_(False) for _ in range(TARGETS)]
    return projectors, [nn.Linear(width, 64) for _ in range(TARGETS)]


def lfr_loop(work, X, epochs):
    """LFR's joint regime as one writes it for speed: the targets of all rows computed once."""
    projectors, predictors = random_targets(work)
    encoder, predictors = copy.deepcopy(work.encoder), nn.ModuleList(predictors)
    data = standardised(X)[0]
    if data.ndim == 4:
        data = data.contiguous(memory_format=torch.channels_last)
        encoder = encoder.to(memory_format=torch.channels_last)
    with torch.no_grad():
        for projector in projectors:
            calibrate(projector, data[:128])
        looks = [torch.cat([p(x) for p in projectors], dim=1) for x in data.split(1024)]
    targets = torch.cat(looks)
    module = nn.ModuleList([encoder, predictors]).train()
    groups = parameter_groups(module, DECAY)
    for group in groups:
        group.pop("lars", None)
    optimizer = torch.optim.Adam(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    generator = torch.Generator().manual_seed(0)
    n_rows = len(data) // work.batch_size * work.batch_size
    for _ in range(epochs):
        for index in torch.randperm(len(data), generator=generator)[:n_rows].split(work.batch_size):
            h = encoder(data[index])
            each = targets[index].split(64, dim=1)
            losses = [batchwise_barlow(p(h), z) for p, z in zip(predictors, each, strict=True)]
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            optimizer.step()
    return encoder


class Rows(Dataset):
    """What tutorials write: one row an item, which a transform turns into two views."""

    def __init__(self, rows, transform):
        self.rows = rows
        self.transform = transform

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.transform(self.rows[i])


def per_sample(work, X, workers, pair):
    """DataLoader of pairs of views; ``pair`` makes a transform to two views from one to a view."""
    shuffled = {"batch_size": work.batch_size, "shuffle": True, "drop_last": True}
    if X.ndim != 4:
        rows = standardised(X)[0]
        view = table_view if X.ndim == 2 else series_view
        made = pair(functools.partial(view, rows))
        return DataLoader(Rows(rows, made), num_workers=workers, **shuffled)
    from lightly.transforms.simclr_transform import SimCLRViewTransform
    from PIL import Image

    _, mean, std = standardised(X)
    grey = X.shape[1] == 1
    # The strengths of sslearn.augment's defaults: half of lightly's, and no blur, as is advised
    # for small images.
    view = SimCLRViewTransform(
        input_size=X.shape[2],
        cj_strength=0.5,
        cj_hue=0.0 if grey else 0.2,
        min_scale=0.3 if grey else 0.2,
        random_gray_scale=0.0 if grey else 0.2,
        hf_prob=0.0 if grey else 0.5,
        gaussian_blur=0.0,
        normalize={"mean": mean.tolist(), "std": std.tolist()},
    )
    pixels = np.ascontiguousarray(X[:, 0] if grey else X.transpose(0, 2, 3, 1))
    pair = pair(view)
    rows = Rows(pixels, lambda pixels: pair(Image.fromarray(pixels)))
    return DataLoader(rows, num_workers=workers, **shuffled)


def table_view(rows, x):
    """Corruption by entries of random other rows, and noise, as sslearn.augment's default."""
    donors = rows[torch.randint(len(rows), x.shape), torch.arange(len(x))]
    x = torch.where(torch.rand(x.shape) < 0.6, donors, x)
    return x + 0.1 * torch.randn(x.shape)


def series_view(rows, x):
    """Crop, scaling, dropped channels, mask of time and noise, as sslearn.augment's default."""
    channels, time_ = x.shape
    length = round(random.uniform(0.5, 1.0) * time_)
    start = random.randint(0, time_ - length)
    x = F.interpolate(x[None, :, start : start + length], time_, mode="linear")[0]
    kept = torch.rand(channels, 1) >= 0.1
    x = x * (kept * (1 + 0.2 * torch.randn(channels, 1)))
    if random.random() < 0.5:
        start = random.randint(0, time_ - time_ // 4)
        x[:, start : start + time_ // 4] = 0
    return x + 0.1 * torch.randn(x.shape)


def fit_lightly(method, work, X, epochs, workers):
    """The recipe of lightly's documentation, with the Trainer's defaults."""
    import pytorch_lightning as pl
    from lightly.loss import NTXentLoss
    from lightly.transforms.multi_view_transform import MultiViewTransform

    class SimCLR(pl.LightningModule):
        def __init__(self, backbone, projection_head):
            super().__init__()
            self.backbone = backbone
            self.projection_head = projection_head
            self.criterion = NTXentLoss(temperature=TEMPERATURE)

        def forward(self, x):
            return self.projection_head(self.backbone(x))

        def training_step(self, batch, batch_index):
            x0, x1 = batch
            loss = self.criterion(self.forward(x0), self.forward(x1))
            self.log("train_loss_ssl", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=RATE, weight_decay=DECAY)

    loader = per_sample(work, X, workers, lambda view: MultiViewTransform([view, view]))
    if work.name == "views":
        for _ in range(epochs):
            for _ in loader:
                pass
        return None
    model = SimCLR(copy.deepcopy(work.encoder), copy.deepcopy(work.head))
    trainer = pl.Trainer(max_epochs=epochs, devices=1, accelerator="cpu")
    trainer.fit(model=model, train_dataloaders=loader)
    return model.backbone


def fit_nidl(method, work, X, epochs, workers):
    """nidl's estimator, with the parameters that its example for MNIST gives."""
    from nidl.estimators.ssl import SimCLR
    from nidl.transforms import MultiViewsTransform

    first, last = work.head[0], work.head[-1]
    model = SimCLR(
        encoder=copy.deepcopy(work.encoder),
        proj_input_dim=first.in_features,
        proj_hidden_dim=first.out_features,
        proj_output_dim=last.out_features,
        temperature=TEMPERATURE,
        learning_rate=RATE,
        weight_decay=DECAY,
        lr_scheduler="none",
        max_epochs=epochs,
        random_state=0,
        accelerator="cpu",
        devices=1,
    )
    model.fit(per_sample(work, X, workers, lambda view: MultiViewsTransform(view, n_views=2)))
    return model.encoder


def draw_views(method, work, X, epochs, workers):
    """sslearn.augment's default views of all rows, a batch at once."""
    torch.ones(7_500_000)  # what a network's activations do for malloc, see image_views.py
    generator = torch.Generator().manual_seed(0)
    data = torch.from_numpy(X)
    for _ in range(epochs):
        for x in data.split(work.batch_size):
            x = x.float() / 255
            work.augment(torch.cat((x, x)), generator)


FITS = {"sslearn": fit_sslearn, "bare": fit_bare, "lightly": fit_lightly, "nidl": fit_nidl}


# --- the measurement ------------------------------------------------------------------------------


def measure(contender, work, method="SimCLR", workers=0, accuracy=None):
    """Rows (views) per second of a whole fit, of its steady part and of CPU time; peak memory."""
    task = load(work)
    fit = draw_views if (contender, work) == ("sslearn", "views") else FITS[contender]
    n_rows, epochs = FEWER.get((contender, work), (len(task.X), EPOCHS[work]))
    X = task.X[:n_rows]

    def timed(rows, epochs):
        begun = time.perf_counter()
        fitted = fit(method, task, rows, epochs, workers)
        seen = len(rows) // task.batch_size * task.batch_size * epochs
        return fitted, time.perf_counter() - begun, seen * (2 if work == "views" else 1)

    timed(X[: 2 * task.batch_size], 1)  # imports
    _, short, few = timed(X[: len(X) // 4], epochs)
    busy = cpu_seconds()
    _, seconds, seen = timed(X, epochs)
    busy = cpu_seconds() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 if sys.platform == "linux" else 1024
    )
    found = {
        "whole": seen / seconds,
        "steady": (seen - few) / (seconds - short),
        "cpu": seen / busy,
        "peak_mb": peak * 1024 / 1e6,
    }
    if accuracy is not None:
        from digits import accuracy as probe

        for epochs in PROBED:
            fitted, seconds, _ = timed(X, epochs)
            reached, _ = probe(features(fitted, X), task.y, None, None)
            found.update(to_accuracy=None, epochs=epochs, accuracy=reached)
            if reached >= accuracy:
                found["to_accuracy"] = seconds
                break
    return found


def cpu_seconds():
    """Of all threads, and of DataLoader workers that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def features(fitted, X):
    if not isinstance(fitted, nn.Module):
        return fitted.transform(X)
    fitted.eval()
    with torch.no_grad():
        return torch.cat([fitted(x) for x in standardised(X)[0].split(512)]).numpy()


def mend_torchvision():
    """Declare the operators of torchvision's compiled part, where it does not load.

    Its wheel on PyPI is compiled for CUDA. Beside a CPU build of torch that part is left out, and
    the import fails at the first operator that is described and not there. They belong to object
    detection; the transforms are Python and PIL, and as fast as ever.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        folder = Path(importlib.util.find_spec("torchvision").origin).parent
        described = (folder / "_meta_registrations.py").read_text()
        for operator in sorted(set(re.findall(r'"torchvision::(\w+)"', described))):
            LIBRARY.define(f"{operator}() -> ()")


LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # operators go when it goes
IMPORTED = {
    "bare": "torch",
    "sslearn": "sslearn",
    "lightly": "lightly.transforms",
    "nidl": "nidl.estimators.ssl",
}


def main():
    arguments = json.loads(sys.argv[1])
    torch.set_num_threads(arguments.pop("threads", 2))
    tried = arguments.pop("import", None)
    # sslearn's too: Lightning imports it where it is installed.
    if "bare" not in (tried, arguments.get("contender")):
        mend_torchvision()
    if tried is None:
        found = measure(**arguments)
    elif tried == "versions":
        names = [
            "torch",
            "lightning",
            "scikit-learn",
            "numpy",
            "lightly",
            "nidl",
            "torchvision",
            "pillow",
        ]
        installed = {d.name.lower(): d.version for d in importlib.metadata.distributions()}
        found = {"machine": machine(), "versions": {n: installed.get(n) for n in names}}
    else:
        importlib.import_module(IMPORTED[tried])
        found = {}
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
