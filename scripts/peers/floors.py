"""The least that an epoch can take on a device: the larger of its arithmetic and its memory traffic, both measured.

Arithmetic: the floating-point operations of all members' matrix products, at the rate of one large product. Memory: the
members' weights, read once by the forward pass, read once and written once by the update, at the rate of a large copy;
minibatches, activations and gradients count as if they never left the caches.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter

import torch

from peers.mnist import BATCH, CLASSES, IMAGES, PIXELS, WIDTH

SIZES = (PIXELS, WIDTH, CLASSES)
WEIGHTS = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(SIZES))
# Forward, and backward to the weights, in each layer; backward to the inputs in all but the first.
FLOP = 2 * BATCH * sum((2 if layer == 0 else 3) * i * o for layer, (i, o) in enumerate(pairwise(SIZES)))


def prepare(
    device: str = "cpu", *, images: int = IMAGES, side: int = 8192, megabytes: int = 1024
) -> tuple[Callable[[], float], None]:
    """(measure both rates and return an epoch's least seconds for each member, no accuracy).

    Args:
        device: where to measure.
        images: of an epoch.
        side: rows and columns of the product that gives the arithmetic rate.
        megabytes: size of the copy that gives the memory rate.
    """
    a, b, c = (torch.rand(side, side, device=device) for _ in range(3))
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def best(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(5):
            start = perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            taken.append(perf_counter() - start)
        return min(taken)

    def least() -> float:
        flop_a_second = 2 * side**3 / best(lambda: torch.mm(a, b, out=c))
        bytes_a_second = 2 * source.nbytes / best(lambda: target.copy_(source))
        return images // BATCH * max(FLOP / flop_a_second, 3 * 4 * WEIGHTS / bytes_a_second)

    return least, None
