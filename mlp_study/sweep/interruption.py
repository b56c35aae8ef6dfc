"""Signals during a sweep: what is finished is written, then the sweep ends."""

from __future__ import annotations

import signal
from typing import Any

from lightning.pytorch import Trainer

from mlp_study.runtime.signals import interruption
from mlp_study.training.stopping import SignalListener


class Interruption(SignalListener):
    """Remembers the first signal, so that no file is cut short; a second Ctrl-C acts at once.

    While a population trains, training itself answers the signal; this callback covers one that came before, and one
    that a parent process passes on.

    Args:
        passed_on: a number that a parent process sets to the signal; None for none.
    """

    def __init__(self, passed_on: Any = None) -> None:
        super().__init__()
        self._signal, self._passed_on = "", passed_on

    @property
    def signal(self) -> str:
        """The first signal's name; empty for none."""
        if not self._signal and self._passed_on is not None and self._passed_on.value:
            self._signal = signal.Signals(self._passed_on.value).name
        return self._signal

    def _ask(self, number: int, frame: Any) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = self._signal or signal.Signals(number).name

    def raise_if_asked(self) -> None:
        """Raise ``Interrupted``, or ``Preempted``, after a signal."""
        if self.signal:
            raise interruption(self.signal, f"stopped by {self.signal}")

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Let training answer a signal that it has not heard itself: it writes a checkpoint and ends."""
        if self.signal and not pl_module.stop_signal:
            pl_module.stop_signal = self.signal
