"""What happens to members along the way: recording, early stopping, compaction, checkpoints, interruption."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from mlp_study.config.schema import EarlyStoppingConfig
from mlp_study.errors import DataError
from mlp_study.training.checkpoint import write_checkpoint
from mlp_study.training.module import PopulationModule
from mlp_study.training.probing import Probing
from mlp_study.training.results import Listener, Metrics

log = logging.getLogger(__name__)

CHECKPOINT_SHARE = 50  # a checkpoint is due when this many times its own cost has passed: 2 % of the time at most


class Recording(Callback):
    """Tell the listener each member's rows."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Tell it who trains, in the caller's order."""
        self.listener.started(pl_module.data.asked)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report the losses at every ``log_every_n_steps``."""
        module: PopulationModule = pl_module
        losses_SK = module.block_losses_SK
        assert losses_SK is not None
        first = module.updates.step_count - len(losses_SK) + 1
        every = module.configs[0].trainer.log_every_n_steps
        due = [s for s in range(len(losses_SK)) if (first + s) % every == 0]
        if not due:
            return
        for place, losses in enumerate(losses_SK[due].T.tolist()):
            k = module.live[place]
            last = module.ended[k].step if k in module.ended else math.inf
            rows: list[Metrics] = [
                {"step": first + s, "train/step_loss": loss}
                for s, loss in zip(due, losses, strict=True)
                if first + s <= last
            ]
            if rows:
                self.listener.steps_logged(module.data.order[k], rows)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Report one row a member, as ``PopulationModule.end_epoch`` wrote it."""
        module: PopulationModule = pl_module
        for k, rows in enumerate(module.curves):
            if rows and rows[-1]["epoch"] == module.epochs_done:
                self.listener.epoch_ended(module.data.order[k], rows[-1])


class EndOfEpoch(Callback):
    """End the epoch in the module; it comes first, so that the other callbacks find the rows."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write the rows."""
        pl_module.end_epoch()


class EarlyStopping(Callback):
    """End a member whose monitored value has not improved for ``patience`` looks (Prechelt 1998), as Keras counts."""

    def __init__(self) -> None:
        self.best: dict[int, float] = {}
        self.waited: dict[int, int] = {}
        self.began = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """After a resume, count again from the recorded curves."""
        if not self.began:
            for k, rows in enumerate(pl_module.curves):
                for row in rows:
                    self._look(k, pl_module.configs[k].early_stopping, row)
        self.began = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Look at each live member's newest row."""
        module: PopulationModule = pl_module
        for place in module.active_places():
            k = module.live[place]
            rule = module.configs[k].early_stopping
            if rule.patience is None or rule.monitor not in module.curves[k][-1]:
                continue
            waited = self._look(k, rule, module.curves[k][-1])
            often = module.configs[k].trainer.validate_every == 1 or rule.monitor.startswith("train/")
            seen = ("epoch" if often else "validation") + "s" * (waited != 1)
            if waited >= max(rule.patience, 1):
                module.end_member(place, "early_stopped", f"{rule.monitor} has not improved for {waited} {seen}")

    def _look(self, k: int, rule: EarlyStoppingConfig, row: Metrics) -> int:
        """Count its values in a row that have not improved, this one included."""
        if rule.patience is None or rule.monitor not in row:
            return 0
        value = row[rule.monitor] * (-1 if rule.monitor.endswith("accuracy") else 1)
        better = value < self.best.get(k, math.inf) - rule.min_delta
        self.best[k] = value if better else self.best.get(k, math.inf)
        self.waited[k] = 0 if better else self.waited.get(k, 0) + 1
        return self.waited[k]


class Compaction(Callback):
    """Close the gaps when half of the places are empty; stop when all are."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Compact or stop."""
        module: PopulationModule = pl_module
        active = len(module.active_places())
        if not active:
            trainer.should_stop = True
        elif active <= len(module.live) // 2:
            module.compact()


class Checkpoints(Callback):
    """Write a checkpoint at an epoch's end whenever that costs little against the time since the last one.

    One that cannot be written is reported once and does not end the training.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.cost, self.written, self.warned = path, 0.0, 0.0, False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write it if it is due and training goes on."""
        module: PopulationModule = pl_module
        began = time.perf_counter()
        last = module.epochs_done >= module.configs[0].trainer.max_epochs or trainer.should_stop
        if last or began - self.written < CHECKPOINT_SHARE * self.cost:
            return
        try:
            write_checkpoint(self.path, module)
        except DataError as error:
            if not self.warned:
                log.warning("%s", error)
            self.warned = True
        self.written = time.perf_counter()
        self.cost = self.written - began


def member_callbacks(listener: Listener, checkpoint: Path | None) -> list[Callback]:
    """Make the callbacks of a population, in the order in which an epoch's end must run them."""
    found = [EndOfEpoch(), Probing(), EarlyStopping(), Recording(listener), Compaction()]
    return [*found, Checkpoints(checkpoint)] if checkpoint is not None else found
