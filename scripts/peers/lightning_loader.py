"""Lightning as its documentation teaches it: a DataLoader, `training_step`, `self.log`.

Over tensors in memory; or, as its templates have it, over torchvision's data set with transforms of each image.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from time import perf_counter
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import datasets, transforms

from peers.mnist import BATCH, CLASSES, IMAGES, LEARNING_RATE, PIXELS, WIDTH, test_set, training_set


class Classifier(lightning.LightningModule):
    """The network with its recipe."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
        self.seconds = 0.0

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, labels = batch
        loss = cross_entropy(self.model(images), labels)
        self.log("train/loss", loss)
        return loss

    def on_train_epoch_start(self) -> None:
        self.start = perf_counter()

    def on_train_epoch_end(self) -> None:
        self.seconds = perf_counter() - self.start

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LEARNING_RATE)


class Images(datasets.MNIST):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's data set with its own way to an image, but files that may be compressed still."""

    def __init__(self, images: int) -> None:
        images_NI, labels_N = training_set(images)
        self.data = torch.from_numpy(np.rint(255 * images_NI).astype(np.uint8)).view(-1, 28, 28)
        self.targets = torch.from_numpy(labels_N)
        self.transform, self.target_transform = transforms.ToTensor(), None


def prepare(*, torchvision: bool = False, images: int = IMAGES) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its seconds, accuracy on the test images)."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    data: Dataset[Any] = Images(images) if torchvision else TensorDataset(*map(torch.from_numpy, training_set(images)))
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    module = Classifier()

    def epoch() -> float:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)  # type: ignore[arg-type] # all of them are bool
        trainer.fit(module, loader)
        return module.seconds

    def accuracy() -> float:
        images, labels = (torch.from_numpy(array) for array in test_set())
        with torch.no_grad():
            return float((module.model(images).argmax(1) == labels).float().mean())

    return epoch, accuracy
