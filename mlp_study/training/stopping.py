"""What training does at a signal: a checkpoint within a moment, then an orderly end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from mlp_study.errors import DataError
from mlp_study.runtime import signals
from mlp_study.training.checkpoint import write_checkpoint
from mlp_study.training.module import PopulationModule

log = logging.getLogger(__name__)


class Stopping(Callback):
    """Ends training after a signal: after the block in flight, or after the epoch if that was its last.

    Signals must be ``deferred`` while it trains. One that comes when training is done stays for whoever else has
    deferred them, such as a sweep with more to train.

    Args:
        module: the population.
        path: where its checkpoint goes when a signal ends it; None for none.
    """

    def __init__(self, module: PopulationModule, path: Path | None) -> None:
        self.module, self.path = module, path

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """The Trainer has put an answer of its own to SIGTERM before ours, which would cut a validation short."""
        signals.insist()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop between two blocks of an epoch."""
        epochs = self.module.epochs_done + 1
        if signals.asked() and self.module.updates.step_count < epochs * self.module.feed.sizes.steps:
            self._stop()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop between two epochs."""
        done = self.module.epochs_done >= self.module.configs[0].trainer.max_epochs
        if signals.asked() and not done and not trainer.should_stop:
            self._stop()

    def _stop(self) -> None:
        if self.path is not None:
            try:
                write_checkpoint(self.path, self.module)
            except DataError as error:
                log.warning("%s", error)
        name, epoch = signals.asked(), self.module.epochs_done + 1
        raise signals.interruption(name, f"stopped by {name} in epoch {epoch}; what was finished is recorded")
