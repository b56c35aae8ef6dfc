"""Signals during training: a checkpoint within a moment, then an orderly end."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path
from typing import Any, Self

from lightning.pytorch import Callback, Trainer

from mlp_study.errors import DataError
from mlp_study.runtime.signals import SIGNALS, Work, heard, interruption
from mlp_study.training.checkpoint import write_checkpoint
from mlp_study.training.module import PopulationModule

log = logging.getLogger(__name__)


class SignalListener(Callback):
    """Answer ``SIGNALS`` by ``_ask`` while entered; in a thread other than the main one it hears none."""

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
            if (earlier := heard()) is not None:
                self._ask(earlier, None)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        raise NotImplementedError  # Lightning's Callback is no ABC


class Stopping(SignalListener):
    """End training after the block in flight when a signal comes, or after the epoch if that was its last block.

    A second Ctrl-C acts at once; schedulers repeat their signals, and those change nothing. One that comes when
    training is done is handed to whoever listened before, such as a sweep with more to train.

    Args:
        module: the population.
        path: where its checkpoint goes when a signal ends it; None for none.
    """

    def __init__(self, module: PopulationModule, path: Path | None) -> None:
        super().__init__()
        self.module, self.path = module, path

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        first = signal.Signals[self.module.stop_signal] if self.module.stop_signal else None
        handler = self._before[first] if first is not None else None
        listener = getattr(handler, "__self__", None)
        if first is not None and isinstance(listener, Work):
            listener.noted = first
        elif first is not None and callable(handler) and handler is not signal.default_int_handler:
            handler(first, None)

    def _ask(self, number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        if self.module.stop_signal and number == signal.SIGINT:
            # not KeyboardInterrupt: the Trainer would answer it by exit code 1
            raise interruption(name, f"stopped at once by a second signal, {name}")
        self.module.stop_signal = self.module.stop_signal or name

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Listen to SIGTERM again: the Trainer has set a handler of its own, which would cut a validation short."""
        if self._before:
            signal.signal(signal.SIGTERM, self._ask)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop between two blocks of an epoch."""
        epochs = self.module.epochs_done + 1
        if self.module.stop_signal and self.module.updates.step_count < epochs * self.module.feed.sizes.steps:
            self._stop()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop between two epochs."""
        done = self.module.epochs_done >= self.module.configs[0].trainer.max_epochs
        if self.module.stop_signal and not done and not trainer.should_stop:
            self._stop()

    def _stop(self) -> None:
        if self.path is not None:
            try:
                write_checkpoint(self.path, self.module)
            except DataError as error:
                log.warning("%s", error)
        name, epoch = self.module.stop_signal, self.module.epochs_done + 1
        raise interruption(name, f"stopped by {name} in epoch {epoch}; what was finished is recorded")
