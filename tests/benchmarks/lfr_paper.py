"""LFR beside its paper (arXiv 2310.07756, table 1) on the seizures of Epilepsy and on Adult.

    python tests/benchmarks/lfr_paper.py FOLDER [epilepsy adult adult_complete] [--seeds 3]

HAR is in ``examples/plot_lfr_har.py``. Shorter recipes than the paper's: for Epilepsy its encoder,
default projectors and 20 cycles; for Adult the default parameters but for 10 epochs. Rows and
linear probe as in ``quality.py``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from _linear_probe import linear
from _side_by_side import header
from quality import DATA, measure

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from plot_lfr_har import published_encoder

PUBLISHED = {"epilepsy": 97.9, "adult": None, "adult_complete": 85.2}
TABLE = {"max_epochs": 10}
SETTINGS = {
    "epilepsy": {"encoder": published_encoder, "max_epochs": 20, "batch_size": 64},
    "adult": TABLE,
    "adult_complete": TABLE,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    header("LFR beside its paper")
    for name in arguments.names:
        data = DATA[name](arguments.folder)
        X_train, X_test, y_train, y_test, groups = data
        flat = (part.reshape(len(part), -1) for part in (X_train, X_test))
        print(f"{name}: raw {linear(*flat, y_train, y_test, groups)[0]:.2f}", flush=True)
        for method in ("LFR (untrained)", "LFR"):
            found = [measure(data, method, SETTINGS[name], s) for s in range(arguments.seeds)]
            accuracies = [row[0] for row in found]
            print(
                f"{name}: {method} {np.mean(accuracies):.2f} +- {np.std(accuracies):.2f} "
                f"({', '.join(f'{a:.2f}' for a in accuracies)}), fit "
                f"{np.mean([row[-1] for row in found]):.0f} s, published {PUBLISHED[name]}",
                flush=True,
            )


if __name__ == "__main__":
    main()
