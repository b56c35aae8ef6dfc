"""A bar over the whole sweep: population, epoch, members that still train, and the time left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

from mlp_study.lightning import Callback, Trainer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress, TaskID

    from mlp_study.config import RunConfig
    from mlp_study.sweep.plan import Population


class SweepProgress(Callback):
    """One rich bar; its length is the estimated work of all populations, so that the time left is believable.

    Args:
        populations: what there is to do.
        shown: whether to draw it.
    """

    def __init__(self, populations: Sequence[Population], shown: bool) -> None:
        self._total = {p.name: p.work for p in populations}
        self._count = len(populations)
        self._shown = shown
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._before = self._share = 0.0
        self._number = 0

    def __enter__(self) -> Self:
        if self._shown:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            left = (TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[state]}"))
            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), *left)
            self._task = self._bar.add_task("sweep", total=sum(self._total.values()), state="")
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, population: Population) -> None:
        """The next population is about to train."""
        self._number += 1
        self._share = population.work

    def end(self, population: Population) -> None:
        """The population is done, trained here or elsewhere."""
        self._before += self._total.pop(population.name, 0.0)
        self._share = 0.0
        self._show(self._before, "")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One block further."""
        if self._bar is None:
            return
        epochs = pl_module.configs[0].trainer.max_epochs
        done = pl_module.updates.step_count / (epochs * pl_module.feed.steps_per_epoch)
        live, members = len(pl_module.active_places()), len(pl_module.configs)
        state = f"epoch {pl_module.epochs_done + 1}/{epochs}, {live} of {members} members"
        self._show(self._before + done * self._share, state)

    def _show(self, completed: float, state: str) -> None:
        if self._bar is not None and self._task is not None:
            what = f"population {min(self._number, self._count)}/{self._count}"
            self._bar.update(self._task, completed=completed, description=what, state=state)


def wanted(config: RunConfig) -> bool:
    """Whether the bar is asked for; by default where stdout is a terminal."""
    return sys.stdout.isatty() if config.trainer.progress is None else config.trainer.progress
