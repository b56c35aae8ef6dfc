"""Signals during a sweep: what is finished is written, then the sweep ends."""

from __future__ import annotations

import signal
from typing import Any

from lightning.pytorch import Trainer

from mlp_study.runtime.signals import interruption
from mlp_study.training.stopping import SignalListener


class Interruption(SignalListener):
    """Remembers the first signal, so that no file is cut short; a second Ctrl-C acts at once.

    While a population trains, training itself answers the signal; this callback covers one that came before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.signal = ""

    def _ask(self, number: int, frame: Any) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or signal.Signals(number).name

    def raise_if_asked(self) -> None:
        """Raise ``Interrupted``, or ``Preempted``, after a signal."""
        if self.signal:
            raise interruption(self.signal, f"stopped by {self.signal}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """End a training that began after the signal."""
        self.raise_if_asked()
