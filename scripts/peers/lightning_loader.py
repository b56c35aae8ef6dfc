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
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from peers.mnist import BATCH, CLASSES, LEARNING_RATE, WIDTH, test_set, training_set


class Classifier(lightning.LightningModule):
    """The network with its recipe."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
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


class Images(Dataset[tuple[Tensor, int]]):
    """What torchvision.datasets.MNIST does for an image, without its download."""

    def __init__(self, images_NI: NDArray[np.float32], labels_N: NDArray[np.int64]) -> None:
        self.images = np.rint(255 * images_NI).astype(np.uint8).reshape(-1, 28, 28)
        self.labels = labels_N.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Lambda(torch.flatten)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[number])), self.labels[number]


def prepare(*, torchvision: bool = False) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its seconds, accuracy on the test images)."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    arrays = training_set()
    images: Dataset[Any] = Images(*arrays) if torchvision else TensorDataset(*map(torch.from_numpy, arrays))
    loader = DataLoader(images, batch_size=BATCH, shuffle=True)
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
