"""The same work through sslearn, a bare torch loop, lightly's recipe and nidl, alternately.

    python tests/benchmarks/peers.py [--work table series image views digits] [--repeats 5]
        [--peers sslearn bare lightly nidl] [--methods SimCLR BYOL LFR] [--threads 2] [--env DIR]

Same arrays, encoder, head, batch, passes, optimizer and threads; views as near as each allows. All
contenders run in one environment, which the script makes outside the repository at first use: torch
and Lightning as in the interpreter that runs it, the peers at the versions below. Each measurement
is a process of its own, ``_peers_work.py``; the contenders take turns, in another order each time.

- bare: the loops of ``fit_speed.py``, and one for LFR whose targets are computed once.
- lightly: the recipe of its documentation: Dataset with a transform per row, DataLoader,
  LightningModule with NTXentLoss and self.log, Trainer with its defaults. Images: its transforms,
  on PIL images, with the strengths of sslearn's defaults; otherwise the same views, per row.
- nidl: its SimCLR estimator, fed in the same way.

Lightly and nidl run with no workers in the DataLoader and with two in the first round, and from
then on with what was faster. BYOL and LFR are measured beside the bare loop alone. Printed are
medians: rows (views) per second of a whole fit, set-up included, and of its steady part, that is
what a fit of all rows takes more than one of a quarter of them; the peak memory of the process (not
of DataLoader workers); how many times as fast sslearn is, whole fits of the same round compared,
and the same by CPU time of all threads and workers, which other work on the machine moves less. For
digits also the seconds of the shortest fit, of 6, 8, 11, 16, 23, 32, ... passes, whose features a
probe with five labels per class reads with 82% accuracy.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("_peers_work.py")
PEERS = {"lightly": ["lightly==1.6.0"], "nidl": ["nidl==0.0.2"]}
CONTENDERS, METHODS = ("sslearn", "bare", *PEERS), ("SimCLR", "BYOL", "LFR")
WORKS = ("table", "series", "image", "views", "digits")
# At least so many times as fast as the other.
GOALS = {
    ("table", "lightly"): 3,
    ("series", "lightly"): 1.3,
    ("image", "lightly"): 1.4,
    ("views", "lightly"): 30,
    ("table", "nidl"): 75,
}
BARE = 0.95
ACCURACY = 82.0  # raw pixels: 81%


def pinned(name):
    return f"{name}=={importlib.metadata.version(name).split('+')[0]}"


def install(python, *what):
    """Run pip and return why it failed, in its last words, or None."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    done = subprocess.run(command, capture_output=True, text=True)
    return last_line(done.stderr) if done.returncode else None


def last_line(text):
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason")


def environment(folder, peers):
    """Make the environment, or take it as it is if it holds what is asked for.

    Returns its interpreter, and the peers that are missing with the reason.
    """
    if folder.resolve().is_relative_to(ROOT):
        sys.exit(f"--env must be outside the repository. Got {folder}.")
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pins = [pinned("torch"), pinned("lightning"), f"pytorch-{pinned('lightning')}"]
    note = folder / "peers.json"
    known = json.loads(note.read_text()) if note.exists() else {}
    base = [*pins, "-e", str(ROOT)]
    if known.get("base") != base:
        print(f"making {folder} with {' '.join(base)}", flush=True)
        venv.create(folder, with_pip=True, clear=bool(known))  # nothing but what it made before
        failed = install(python, *base)
        if failed:
            sys.exit(f"sslearn could not be installed in {folder}: {failed}")
        known = {"base": base, "peers": []}
    missing = {}
    for peer in peers:
        if PEERS[peer] not in known["peers"]:
            print(f"installing {', '.join(PEERS[peer])}", flush=True)
            failed = install(python, *PEERS[peer], *pins)
            if failed:
                missing[peer] = failed
                continue
            known["peers"].append(PEERS[peer])
        answer = ask(python, {"import": peer})
        if "failed" in answer:
            missing[peer] = answer["failed"]
    note.write_text(json.dumps(known))
    return python, missing


def ask(python, arguments):
    """Run one measurement in a process of its own."""
    # NumPy's linear algebra keeps to the number of threads too.
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    threads = str(arguments.get("threads", 1))
    with tempfile.TemporaryDirectory() as scratch:  # for logs and checkpoints of the peers
        done = subprocess.run(
            [str(python), str(WORKER), json.dumps(arguments)],
            cwd=scratch,
            env={**os.environ, **dict.fromkeys(limits, threads)},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        return {"failed": last_line(done.stderr)}
    return json.loads(last_line(done.stdout))


def rounds(python, arguments, method, work, contenders):
    """Measure all contenders alternately: a list of results for each, in the order of rounds."""
    shared = {"work": work, "method": method, "threads": arguments.threads}
    if work == "digits":
        shared["accuracy"] = ACCURACY
    results = {contender: [] for contender in contenders}
    workers = {contender: [0, 2] if contender in PEERS else [0] for contender in contenders}
    for i in range(arguments.repeats):
        for contender in list(results) if i % 2 else list(results)[::-1]:
            tried = [
                {"workers": n, **ask(python, {**shared, "contender": contender, "workers": n})}
                for n in workers[contender]
            ]
            found = [result for result in tried if "failed" not in result]
            if not found:
                print(f"  {contender} is left out: {tried[0]['failed']}", flush=True)
                del results[contender]
                continue
            best = max(found, key=lambda result: result["whole"])
            workers[contender] = [best["workers"]]
            results[contender].append(best)
    return results


def report(work, results):
    """Print a line for each contender."""
    median = lambda values: statistics.median(list(values))  # noqa: E731
    for name, found in results.items():
        line = f"  {name:<8} {found[-1]['workers'] if name in PEERS else '':>7}"
        line += f" {median(r['whole'] for r in found):>11,.0f}"
        line += f" {median(r['steady'] for r in found):>11,.0f}"
        line += f" {median(r['peak_mb'] for r in found):>8,.0f}"
        if name != "sslearn" and "sslearn" in results:
            pairs = list(zip(results["sslearn"], found, strict=True))
            ratios = [ours["whole"] / other["whole"] for ours, other in pairs]
            by_cpu = median(ours["cpu"] / other["cpu"] for ours, other in pairs)
            goal = BARE if name == "bare" else GOALS.get((work, name))
            line += f" {median(ratios):>8.2f} ({min(ratios):.2f} to {max(ratios):.2f}"
            line += f"; by CPU time {by_cpu:.2f}" + (f"; goal {goal})" if goal else ")")
        if "to_accuracy" in found[0]:
            needed = [r["to_accuracy"] for r in found if r["to_accuracy"] is not None]
            line += (
                f"   {median(needed):.1f} s, {median(r['epochs'] for r in found):.0f} epochs to "
                f"{ACCURACY:.0f}% ({len(needed)} of {len(found)} runs)"
                if needed
                else f"   {ACCURACY:.0f}% not reached: {median(r['accuracy'] for r in found):.1f}%"
            )
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--peers", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    name = f"sslearn-peers-torch-{importlib.metadata.version('torch')}"
    parser.add_argument("--env", type=Path, default=Path(tempfile.gettempdir()) / name)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    asked = [peer for peer in PEERS if peer in arguments.peers]
    python, missing = environment(arguments.env, asked)
    about = ask(python, {"import": "versions", "threads": arguments.threads})
    print(f"{time.strftime('%Y-%m-%d')}, {about['machine']}")
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items() if version))
    for peer, reason in missing.items():
        print(f"{peer} is left out, it cannot be installed or imported here: {reason}")
    present = [name for name in arguments.peers if name not in missing]
    columns = f"{'':<10} {'workers':>7} {'whole /s':>11} {'steady /s':>11} {'peak MB':>8}"
    print(f"{columns} {'sslearn is':>8} times as fast")
    for method in arguments.methods:
        for work in arguments.work:
            contenders = [c for c in present if method == "SimCLR" or c not in PEERS]
            if work == "views":
                contenders = [c for c in contenders if c in ("sslearn", "lightly")]
            if method != "SimCLR" and work in ("views", "digits"):
                continue
            print(f"{method}, {work}", flush=True)
            report(work, rounds(python, arguments, method, work, contenders))
    print(f"{(time.perf_counter() - begun) / 60:.0f} minutes in all")


if __name__ == "__main__":
    main()
