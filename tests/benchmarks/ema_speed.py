"""One update of the slow copy of a ResNet-18, beside the bare multi-tensor operation.

    python tests/benchmarks/ema_speed.py

Ratio 1.00: an update costs nothing over ``torch._foreach_lerp_`` on lists made beforehand.
"""

import torch
from _side_by_side import header, side_by_side

from sslearn._methods._ema import MomentumCopy
from sslearn.encoders import ResNet


def main():
    header("EMA of a ResNet-18")
    online = ResNet(3, width=64, depth=(2, 2, 2, 2), embedding_dim=512)
    follower = MomentumCopy(online, 0.99, "cosine")
    own = [p.detach().clone() for p in follower.parameters()]
    followed = [p.detach() for p in online.parameters()]
    step = iter(range(10**9))

    def ours():
        for _ in range(20):
            follower.follow(next(step) % 1000, 1000)

    def bare():
        for _ in range(20):
            torch._foreach_lerp_(own, followed, 0.01)

    a, b, ratio, low, high = side_by_side(ours, bare, 51)
    print(
        f"{'update ms':>10} {'bare ms':>10} {'ours / bare':>12} {'min':>6} {'max':>6} {'goal':>6}"
    )
    print(f"{50 * a:10.3f} {50 * b:10.3f} {1 / ratio:12.3f} {1 / high:6.2f} {1 / low:6.2f}   1.10")


if __name__ == "__main__":
    main()
