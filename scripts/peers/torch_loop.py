"""A minimal hand-written PyTorch loop over in-memory tensors: what one writes to train one network quickly."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from peers.mnist import BATCH, CLASSES, IMAGES, LEARNING_RATE, PIXELS, WIDTH, test_set, training_set


def prepare(
    device: str = "cpu", *, compiled: bool = False, images: int = IMAGES
) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its seconds, accuracy on the test images).

    ``compiled`` lets torch.compile fuse the forward and the backward pass, on a GPU into CUDA graphs.
    """
    images_NI, labels_N = (torch.from_numpy(array).to(device) for array in training_set(images))
    model = nn.Sequential(nn.Linear(PIXELS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def loss_of(x_BI: Tensor, y_B: Tensor) -> Tensor:
        return cross_entropy(model(x_BI), y_B)

    loss_here = torch.compile(loss_of, mode="reduce-overhead") if compiled else loss_of

    def epoch() -> float:
        start = perf_counter()
        for batch in torch.randperm(images, device=device).split(BATCH):
            loss = loss_here(images_NI[batch], labels_N[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - start

    def accuracy() -> float:
        images_NI, labels_N = (torch.from_numpy(array).to(device) for array in test_set())
        with torch.no_grad():
            return float((model(images_NI).argmax(1) == labels_N).float().mean())

    return epoch, accuracy
