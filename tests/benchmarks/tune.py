"""How the defaults were chosen: one setting changed at a time, on parts of the training parts.

    python tests/benchmarks/tune.py FOLDER --kind series [--data har] [--methods SimCLR VICReg]
        [--settings encoder views] [--splits 3] [--rows 5000] [--out tuning.csv] [--threads 2]

FOLDER holds the data sets as ``.npz`` files. For each kind of input ``CANDIDATES`` lists what is
weighed against the default. All is scored by a linear probe on rows of the training part that were
held out of the pretraining too, by subject or recording where there are any; nothing looks at the
test part. One split differs more from the next than most settings do, so what is printed in the end
is the difference from the default on the same split: its mean over splits, methods and data sets,
and its standard error. What ``--out`` holds is not run again.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from _data_sets import DATA, N_SPLITS, validation
from _side_by_side import header
from quality import KEY, METHODS, append, of_this_probe, read, run_cell
from threadpoolctl import threadpool_limits

import sslearn
from sslearn._training._auto import resolve_batch_size, resolve_max_epochs
from sslearn.augment import Compose, default_augment
from sslearn.encoders import MLP, ResNet
from sslearn.encoders._default import resnet_settings

KINDS = {
    "table": ("adult", "covertype"),
    "series": ("har", "epilepsy_by_recording"),
    "image": ("mnist", "cifar10", "digits"),
}
# One of each family: contrast with other rows, decorrelation, prediction of the other view.
JUDGES = ("SimCLR", "VICReg", "BYOL")
DEFAULT = "default"

# A candidate is a function of the rows that gives parameters of the estimator, or None where it
# does not apply to them.


def fixed(**parameters):
    return lambda X: parameters


def epochs(factor):
    return lambda X: {"max_epochs": round(factor * resolve_max_epochs("auto", len(X)))}


def batch(factor):
    return lambda X: {"batch_size": round(factor * resolve_batch_size("auto", len(X)))}


def table_encoder(**settings):
    """A perceptron that sees the columns as they are."""
    return fixed(encoder=lambda shape: MLP(shape[0], **settings))


def conv_encoder(**settings):
    """The default encoder of series or images with other settings."""
    return fixed(encoder=lambda shape: ResNet(shape[0], **{**resnet_settings(shape), **settings}))


def without(name):
    """The default views but for one augmentation."""

    def change(X):
        parts = default_augment(X.shape[1:]).augmentations
        kept = [part for part in parts if type(part).__name__ != name]
        return {"augment": Compose(kept)} if len(kept) < len(parts) else None

    return change


def views(**strengths):
    """The default views with other strengths."""

    def change(X):
        augment = default_augment(X.shape[1:])
        known = set(strengths) <= set(augment.get_params())
        return {"augment": augment.set_params(**strengths)} if known else None

    return change


TRAINING = {
    "training": {
        "half the epochs": epochs(1 / 2),
        "twice the epochs": epochs(2),
        "half the batch": batch(1 / 2),
        "twice the batch": batch(2),
    },
    "learning_rate": {f"{rate:g}": fixed(learning_rate=rate) for rate in (3e-4, 1e-3, 3e-3, 1e-2)},
    "temperature": {f"{t:g}": fixed(temperature=t) for t in (0.1, 0.2, 1.0)},
    "projection_dim": {f"{d}": fixed(projection_dim=d) for d in (32, 512)},
}
CANDIDATES = {
    "table": {
        **TRAINING,
        "encoder": {
            "no bins": table_encoder(hidden_dims=(1024,), embedding_dim=None),
            "no bins, two layers": table_encoder(hidden_dims=(1024,), embedding_dim=128),
            "128 linear features": fixed(embedding_dim=128),
        },
        "views": {
            "corrupt 15%": views(featurecorruption__rate=0.15),
            "corrupt 60%": views(featurecorruption__rate=0.6),
            "no noise": without("GaussianNoise"),
        },
    },
    "series": {
        **TRAINING,
        "encoder": {
            "width 16": conv_encoder(width=16),
            "width 64": conv_encoder(width=64),
            "4 stages": conv_encoder(depth=(1, 1, 1, 1)),
            "2 blocks a stage": conv_encoder(depth=(2, 2, 2)),
            "kernel 9": conv_encoder(kernel_size=9),
            "last stage of 256": conv_encoder(embedding_dim=256),
            "mean of the last stage": conv_encoder(pool="mean"),
            "not rescaled": conv_encoder(rescale=False),
        },
        "views": {
            "no scaling": without("Scaling"),
            "no channel dropout": without("ChannelDropout"),
            "no mask": without("TimeMask"),
            "no noise": without("GaussianNoise"),
            "stretch less": views(timecropresize__scale=(0.8, 1.0)),
            "scale more": views(scaling__sigma=0.5),
            "mask more": views(timemask__fraction=0.5),
        },
    },
    "image": {
        **TRAINING,
        "encoder": {
            "width 16": conv_encoder(width=16),
            "width 64": conv_encoder(width=64),
            "stem at full resolution": conv_encoder(stem="small"),
            "2 blocks a stage": conv_encoder(depth=(2, 2, 2)),
            "last stage of 256": conv_encoder(embedding_dim=256),
            "mean of the last stage": conv_encoder(pool="mean"),
            "rescaled too": conv_encoder(rescale=True),
        },
        "views": {
            "crop less": views(randomresizedcrop__scale=(0.5, 1.0)),
            "crop more": views(randomresizedcrop__scale=(0.08, 1.0)),
            "no colour jitter": without("ColorJitter"),
            "no grey": without("RandomGrayscale"),
        },
    },
}


def settings_of(candidate, method, X):
    """Parameters of one candidate; None where the method or the rows have no use for them."""
    found = candidate(X)
    if found is None or not set(found) <= set(getattr(sslearn, method)().get_params()):
        return None
    return found


def differences(rows, data, methods, labels):
    """Accuracy of each candidate less that of the default, on the same split by the same method."""
    scores = {
        tuple(row[name] for name in ("data", "method", "part", "settings")): float(row["linear"])
        for row in rows.values()
        if row["status"] == "ok"
        and row["data"] in data
        and row["method"] in methods
        and of_this_probe(row)
    }
    found = {}
    for (name, method, part, label), score in scores.items():
        default = scores.get((name, method, part, DEFAULT))
        if label in labels and default is not None:
            found.setdefault(label, []).append((name, score - default))
    return found


def report(rows, data, methods, labels):
    print(f"\n{'setting':>34} {'mean':>7} {'s.e.':>6} {'n':>3}  by data set")
    for label, pairs in differences(rows, data, methods, labels).items():
        values = [value for _, value in pairs]
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        each = {name: [v for of, v in pairs if of == name] for name in data}
        told = ", ".join(f"{name} {np.mean(v):+.2f}" for name, v in each.items() if v)
        print(f"{label:>34} {np.mean(values):+7.2f} {error:6.2f} {len(values):3}  {told}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=list(KINDS), required=True)
    parser.add_argument("--data", nargs="*", default=None)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=JUDGES, metavar="M")
    parser.add_argument(
        "--settings", nargs="*", help="groups, as 'encoder', or candidates, as 'encoder: width 16'"
    )
    parser.add_argument("--splits", type=int, choices=range(1, N_SPLITS + 1), default=N_SPLITS)
    parser.add_argument("--rows", type=int, default=5000, help="at most, of each split")
    parser.add_argument("--out", type=Path, default=Path("tuning.csv"))
    parser.add_argument("--threads", type=int, default=None, help="of torch and scikit-learn")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
        threadpool_limits(arguments.threads)
    groups = CANDIDATES[arguments.kind]
    known = {f"{group}: {label}": c for group, of in groups.items() for label, c in of.items()}
    asked = list(groups) if arguments.settings is None else arguments.settings
    unknown = set(asked) - set(groups) - set(known)
    if unknown:
        parser.error(f"--settings takes {', '.join((*groups, *known))}. Got {sorted(unknown)}.")
    candidates = {DEFAULT: fixed()} | {
        label: candidate
        for label, candidate in known.items()
        if label in asked or label.partition(":")[0] in asked
    }
    data = arguments.data or KINDS[arguments.kind]
    header(f"one setting of {arguments.kind} at a time")
    for name in data:
        whole = DATA[name](arguments.folder)
        for split in range(arguments.splits):
            parts = validation(*whole, split=split)
            X_train, X_test, y_train, y_test, of = parts
            if len(X_train) > arguments.rows:
                kept = np.random.default_rng(split).permutation(len(X_train))[: arguments.rows]
                of = None if of is None else of[kept]
                parts = X_train[kept], X_test, y_train[kept], y_test, of
            for label, candidate in candidates.items():
                for method in arguments.methods:
                    part = f"split {split} of {N_SPLITS}, {len(parts[0])} rows"
                    key = (name, part, method, "0", label)
                    settings = settings_of(candidate, method, parts[0])
                    done = read(arguments.out).get(key)
                    if settings is None or (done is not None and of_this_probe(done)):
                        continue
                    row = run_cell(parts, key, settings, torch.get_num_threads())
                    shown = (row.get(column, "") for column in (*KEY, "linear", "seconds"))
                    print(*shown, row.get("message", ""), flush=True)
                    append(arguments.out, row)
    report(read(arguments.out), data, arguments.methods, list(candidates)[1:])


if __name__ == "__main__":
    main()
