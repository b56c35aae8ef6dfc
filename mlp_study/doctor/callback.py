"""``mlp_study.Doctor``: a Lightning callback that says what is wrong with a training, for any LightningModule."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mlp_study.doctor.watch import Health


class Doctor(Callback):
    """Watch a fit, print what was found at its end, and log the layers' numbers to the Trainer's loggers.

        trainer = Trainer(max_epochs=10, callbacks=[mlp_study.Doctor()])
        trainer.fit(module, loader)

    Args:
        every: steps between looks, beside the first ones.
        diagnose: whether to ask ``mlp_study.diagnose`` at the fit's start, and print its answer. With several
            optimizers the training is watched only.
        stop: whether to end a fit whose values are no longer finite, or whose units are dead.
        budget: seconds that the diagnosis may take.

    Attributes:
        health: what the last fit's watch has seen; see ``mlp_study.watch``.
        diagnosis: the answer at the fit's start, if it was asked for.
    """

    def __init__(self, *, every: int = 50, diagnose: bool = False, stop: bool = False, budget: float = 30.0) -> None:
        self.every, self.diagnose, self.stop, self.budget = every, diagnose, stop, budget
        self.health: Health | None = None
        self.diagnosis: Any = None
        self._logged = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for a diagnosis, if it is wanted."""
        if not self.diagnose or len(trainer.optimizers) > 1:
            return
        from mlp_study.doctor.call import diagnose

        trainer.fit_loop.setup_data()
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else 10
        self.diagnosis = diagnose(pl_module, data=trainer.train_dataloader, epochs=epochs, budget=self.budget)
        _say(trainer, str(self.diagnosis))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch."""
        self._end()
        if trainer.optimizers:
            self.health = Health(pl_module, trainer.optimizers[0], self.every, warn=False, sees_loss=False).__enter__()
            self._logged = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """See the step's operations, where it is one that is looked at."""
        if self.health is not None:
            self.health.begin_look()

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Any) -> None:
        """Take the loss as ``training_step`` gave it."""
        if self.health is not None:
            self.health.end_look()
            if loss.device.type == "cpu" or self.health.due:
                self.health.loss(loss.detach() * trainer.accumulate_grad_batches)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Log what a look has shown, and end a training that nothing can save."""
        if self.health is None:
            return
        self.health.end_look()
        rows = self.health.rows[self._logged :]
        self._logged += len(rows)
        values = {
            f"doctor/{row.layer or row.kind}/{name}": value
            for row in rows
            for name in ("dead", "saturated", "gradient", "update")
            if math.isfinite(value := getattr(row, name))
        }
        if values:
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)
        if self.stop and self.health.hopeless:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was found."""
        if self.health is not None:
            _say(trainer, repr(self.health))
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no hook behind."""
        self._end()

    def _end(self) -> None:
        if self.health is not None:
            self.health.close()


def _say(trainer: Trainer, text: str) -> None:
    """Print where one process speaks for all."""
    if trainer.is_global_zero:
        print(text, flush=True)
