"""What groups change on the recordings of Epilepsy: leakage of recordings, and accuracy.

    python tests/benchmarks/group_leakage.py FOLDER [SimCLR VICReg] [--seeds 1]

Prints a line for each way to use the recordings of the training part, which are others than those
of the test part. Leakage is of the features of the test part, standardised by the training part.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from _data_sets import epilepsy_by_recording
from _linear_probe import accuracy
from _probes import classified, neighbours, standardised

import sslearn
from sslearn.groups import GroupWhitening
from sslearn.metrics import group_leakage


def report(name, train, test, y, y_test, groups, groups_test):
    scaled, scaled_test = standardised(train, test)
    of, _ = classified(train, test, y, groups)
    print(
        f"{name:40s} linear {accuracy(of, y, y_test):.2f}  "
        f"neighbours {neighbours(scaled, scaled_test, y, y_test):.2f}  "
        f"leakage {group_leakage(scaled_test, groups_test):.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("methods", nargs="*", default=["SimCLR"])
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, X_test, y, y_test, groups = epilepsy_by_recording(arguments.folder)
    groups_test = np.load(arguments.folder / "epilepsy_bonn.npz")["recording_test"]
    known = (y, y_test, groups, groups_test)
    report("raw", X.reshape(len(X), -1), X_test.reshape(len(X_test), -1), *known)
    ways = {
        "no groups": ({}, None),
        "groups": ({}, groups),
        "groups, positives='group'": ({"positives": "group"}, groups),
    }
    for method in arguments.methods:
        for seed in range(arguments.seeds):
            for way, (params, of) in ways.items():
                model = getattr(sslearn, method)(random_state=seed, **params).fit(X, groups=of)
                features = [model.transform(part) for part in (X, X_test)]
                report(f"{method}, {seed}, {way}", *features, *known)
                whitening = GroupWhitening().fit(features[0], groups=groups)
                whitened = [whitening.transform(part) for part in features]
                report(f"{method}, {seed}, {way}, whitened", *whitened, *known)


if __name__ == "__main__":
    main()
