"""A progress bar over epochs and blocks, with loss, accuracy and the time left; silent when nobody looks."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mlp_study.config.schema import RunConfig


class ProgressBar(Callback):
    """Show one rich bar for the whole training of a population."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Begin."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, TextColumn("{task.fields[state]}"))
        total = pl_module.configs[0].trainer.max_epochs * pl_module.feed.sizes.steps
        self._task = self._bar.add_task("training", total=total, completed=pl_module.updates.step_count, state="")
        self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Advance by one block."""
        if self._bar is not None and self._task is not None:
            losses = pl_module.block_losses_SK[-1]
            epoch = f"epoch {pl_module.epochs_done + 1}/{pl_module.configs[0].trainer.max_epochs}"
            self._bar.update(
                self._task,
                completed=pl_module.updates.step_count,
                description=epoch,
                state=f"loss {losses.nanmedian():.4f} {self._seen}",
            )

    _seen = ""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Show the newest validation accuracy: a member's own, or the population's median."""
        found = [rows[-1].get("val/accuracy", math.nan) for rows in pl_module.curves if rows]
        if found:
            middle = sorted(found)[len(found) // 2]
            self._seen = f"accuracy {middle:.4f}" + (f" (median of {len(found)})" if len(found) > 1 else "")

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Give the terminal back."""
        self.on_train_end(trainer, pl_module)


def progress_callbacks(config: RunConfig) -> list[Callback]:
    """Return the bar if ``trainer.progress`` asks for it; by default where stdout is a terminal."""
    wanted = sys.stdout.isatty() if config.trainer.progress is None else config.trainer.progress
    return [ProgressBar()] if wanted else []
