"""What ``import sslearn`` costs beyond ``import torch, sklearn``, in fresh processes, in turn."""

import statistics
import subprocess
import sys
import time

GOAL = 0.3


def seconds(code):
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


def main():
    differences = []
    for _ in range(9):
        base = seconds("import torch, sklearn")
        differences.append(seconds("import torch, sklearn, sslearn") - base)
    print(
        f"import sslearn: {statistics.median(differences[1:]):.2f} s beyond torch and sklearn "
        f"(min {min(differences[1:]):.2f}, max {max(differences[1:]):.2f}; at most {GOAL})"
    )


if __name__ == "__main__":
    main()
