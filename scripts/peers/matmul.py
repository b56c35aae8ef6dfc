"""The arithmetic alone: the matrix products of one epoch, forward and backward, in the better of two layouts.

No gather, no bias, no activation, no loss, no update: a lower limit for anything that uses the same library's products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from time import perf_counter

import torch
from torch import Tensor

from peers.mnist import BATCH, CLASSES, IMAGES, PIXELS, WIDTH, training_set


def feature_major(sizes: Sequence[int], members: int, batch: int) -> Callable[[Tensor], None]:
    """One minibatch's products with activations [K, features, B]; the first layer is one product."""
    K, B = members, batch
    w1, g1 = torch.randn(K * sizes[1], sizes[0]), torch.empty(K * sizes[1], sizes[0])
    weights = [torch.randn(K, o, i) for i, o in pairwise(sizes[1:])]
    gradients = [torch.empty_like(w) for w in weights]
    forth, back, deltas = ([torch.randn(K, o, B) for o in sizes[1:]] for _ in range(3))

    def products(x_BI: Tensor) -> None:
        torch.mm(w1, x_BI.t(), out=forth[0].view(-1, B))
        for layer, w in enumerate(weights):
            torch.bmm(w, forth[layer], out=forth[layer + 1])
        for layer in reversed(range(len(weights))):
            torch.bmm(deltas[layer + 1], forth[layer].mT, out=gradients[layer])
            torch.bmm(weights[layer].mT, deltas[layer + 1], out=back[layer])
        torch.mm(deltas[0].view(-1, B), x_BI, out=g1)

    return products


def batch_major(sizes: Sequence[int], members: int, batch: int) -> Callable[[Tensor], None]:
    """The same products with activations [K, B, features], the first layer's as one product [B, K * features]."""
    K, B = members, batch
    w1, g1 = torch.randn(sizes[0], K * sizes[1]), torch.empty(sizes[0], K * sizes[1])
    weights = [torch.randn(K, i, o) for i, o in pairwise(sizes[1:])]
    gradients = [torch.empty_like(w) for w in weights]
    z1, d1 = (torch.randn(B, K * sizes[1]) for _ in range(2))
    forth, back, deltas = ([torch.randn(K, B, o) for o in sizes[1:]] for _ in range(3))
    forth[0] = z1.view(B, K, sizes[1]).transpose(0, 1)

    def products(x_BI: Tensor) -> None:
        torch.mm(x_BI, w1, out=z1)
        for layer, w in enumerate(weights):
            torch.bmm(forth[layer], w, out=forth[layer + 1])
        for layer in reversed(range(len(weights))):
            torch.bmm(forth[layer].mT, deltas[layer + 1], out=gradients[layer])
            torch.bmm(deltas[layer + 1], weights[layer].mT, out=back[layer])
        torch.mm(x_BI.t(), d1, out=g1)

    return products


def prepare(
    members: int = 1, widths: Sequence[int] = (WIDTH,), batch: int = BATCH, images: int = IMAGES
) -> tuple[Callable[[], float], None]:
    """(run one epoch's products and return the seconds for each member, no accuracy)."""
    minibatches = torch.from_numpy(training_set(images)[0][: images // batch * batch]).split(batch)
    sizes = [PIXELS, *widths, CLASSES]

    def seconds(products: Callable[[Tensor], None], xs: tuple[Tensor, ...]) -> float:
        start = perf_counter()
        for x_BI in xs:
            products(x_BI)
        return (perf_counter() - start) / members

    layouts = [layout(sizes, members, batch) for layout in (feature_major, batch_major)]

    @cache
    def better() -> Callable[[Tensor], None]:
        return min(layouts, key=lambda products: min(seconds(products, minibatches[:60]) for _ in range(3)))

    # The choice falls in the untimed first epoch, while no other contender starts up.
    return lambda: seconds(better(), minibatches), None
