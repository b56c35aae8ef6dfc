"""A minimal hand-written PyTorch loop over in-memory tensors: what one writes to train one network quickly."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from peers.mnist import BATCH, CLASSES, LEARNING_RATE, WIDTH, test_set, training_set


def prepare() -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its seconds, accuracy on the test images)."""
    images, labels = (torch.from_numpy(array) for array in training_set())
    model = nn.Sequential(nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)

    def epoch() -> float:
        start = perf_counter()
        order = torch.randperm(len(images))
        for batch in order.split(BATCH):
            loss = cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return perf_counter() - start

    def accuracy() -> float:
        images, labels = (torch.from_numpy(array) for array in test_set())
        with torch.no_grad():
            return float((model(images).argmax(1) == labels).float().mean())

    return epoch, accuracy
