"""A person's own loop over a network whose step takes some milliseconds, with and without `mlp_study.watch`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from time import perf_counter

import torch
from torch import nn

from mlp_study.doctor.watch import watch
from peers.mnist import CLASSES, PIXELS, training_set

BATCH, WIDTH = 256, 512
IMAGES = 25_600  # a hundred steps: two looks at the default interval, and the six first ones only once


def prepare(*, watched: bool) -> tuple[Callable[[], float], None]:
    """(train a hundred steps and return a step's seconds, no accuracy)."""
    images_NI, labels_N = (torch.from_numpy(array) for array in training_set(IMAGES))
    torch.manual_seed(0)
    layers = [nn.Linear(PIXELS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)]
    model, criterion = nn.Sequential(*layers), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    health = watch(model, optimizer, warn=False) if watched else contextlib.nullcontext()
    health.__enter__()  # for the whole measurement, as a training of many epochs is watched

    def epoch() -> float:
        start = perf_counter()
        for batch in torch.randperm(IMAGES).split(BATCH):
            optimizer.zero_grad()
            criterion(model(images_NI[batch]), labels_N[batch]).backward()
            optimizer.step()
        return (perf_counter() - start) / (IMAGES // BATCH)

    return epoch, None
