"""Lightning as its documentation teaches it: a DataLoader over tensors, `training_step`, `self.log`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from time import perf_counter

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

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


def prepare() -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its seconds, accuracy on the test images)."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    images, labels = (torch.from_numpy(array) for array in training_set())
    loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH, shuffle=True)
    module = Classifier()

    def epoch() -> float:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)  # type: ignore[arg-type]
        trainer.fit(module, loader)
        return module.seconds

    def accuracy() -> float:
        images, labels = (torch.from_numpy(array) for array in test_set())
        with torch.no_grad():
            return float((module.model(images).argmax(1) == labels).float().mean())

    return epoch, accuracy
