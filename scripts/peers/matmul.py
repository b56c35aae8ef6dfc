"""The arithmetic alone: the matrix products of one epoch, forward and backward, in the better of two layouts.

No gather, no bias, no activation, no loss, no update: a lower limit for anything that uses the same library's products.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from peers.mnist import BATCH, CLASSES, WIDTH, training_set


def feature_major(members: int) -> Callable[[Tensor], None]:
    """One minibatch's five products with activations [K, features, B]; the first layer is one product."""
    K, B = members, BATCH
    w1, z1 = torch.randn(K * WIDTH, 784), torch.empty(K * WIDTH, B)
    w2, z2 = torch.randn(K, CLASSES, WIDTH), torch.empty(K, CLASSES, B)
    g1, g2, d1, d2 = torch.empty_like(w1), torch.empty_like(w2), torch.randn(K * WIDTH, B), torch.randn(K, CLASSES, B)
    dh = torch.empty(K, WIDTH, B)

    def products(x_BI: Tensor) -> None:
        torch.mm(w1, x_BI.t(), out=z1)
        torch.bmm(w2, z1.view(K, WIDTH, B), out=z2)
        torch.bmm(d2, z1.view(K, WIDTH, B).mT, out=g2)
        torch.bmm(w2.mT, d2, out=dh)
        torch.mm(d1, x_BI, out=g1)

    return products


def batch_major(members: int) -> Callable[[Tensor], None]:
    """The same products with activations [B, K, features]."""
    K, B = members, BATCH
    w1, z1 = torch.randn(784, K * WIDTH), torch.empty(B, K * WIDTH)
    w2, z2 = torch.randn(K, WIDTH, CLASSES), torch.empty(K, B, CLASSES)
    g1, g2, d1, d2 = torch.empty_like(w1), torch.empty_like(w2), torch.randn(B, K * WIDTH), torch.randn(K, B, CLASSES)
    dh = torch.empty(K, B, WIDTH)

    def products(x_BI: Tensor) -> None:
        torch.mm(x_BI, w1, out=z1)
        h_KBI = z1.view(B, K, WIDTH).transpose(0, 1)
        torch.bmm(h_KBI, w2, out=z2)
        torch.bmm(h_KBI.mT, d2, out=g2)
        torch.bmm(d2, w2.mT, out=dh)
        torch.mm(x_BI.t(), d1, out=g1)

    return products


def prepare(members: int = 1) -> tuple[Callable[[], float], None]:
    """(run one epoch's products and return the seconds for each member, no accuracy)."""
    minibatches = torch.from_numpy(training_set()[0]).split(BATCH)

    def seconds(products: Callable[[Tensor], None], xs: tuple[Tensor, ...]) -> float:
        start = perf_counter()
        for x_BI in xs:
            products(x_BI)
        return (perf_counter() - start) / members

    layouts = [feature_major(members), batch_major(members)]
    some = minibatches[:60]
    best = min(layouts, key=lambda products: min(seconds(products, some) for _ in range(3)))
    return lambda: seconds(best, minibatches), None
