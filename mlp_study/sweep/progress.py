"""A bar over the whole sweep: population, epoch, members that still train, and the time left."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lightning.pytorch import Callback, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import rich.progress
    from rich.progress import TaskID

    from mlp_study.config.schema import RunConfig
    from mlp_study.sweep.plan import Population

TELL = 0.5  # seconds between two messages of a worker


@dataclass(frozen=True)
class Progress:
    """How far a population's training is.

    Attributes:
        done: its share of all steps.
        state: epoch and members, in words.
    """

    done: float
    state: str

    @classmethod
    def of(cls, module: Any) -> Self:
        """That of a population's module."""
        epochs = module.configs[0].trainer.max_epochs
        live, members = len(module.active_places()), len(module.configs)
        done = module.updates.step_count / (epochs * module.feed.sizes.steps)
        return cls(done, f"epoch {module.epochs_done + 1}/{epochs}, {live} of {members} members")


class Telling(Callback):
    """Says how far training is, now and then: a worker's progress, for the parent's bar."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self._tell, self._last = tell, 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One block further."""
        if time.monotonic() - self._last > TELL:
            self._last = time.monotonic()
            self._tell(Progress.of(pl_module))


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
        self._bar: rich.progress.Progress | None = None
        self._task: TaskID | None = None
        self._before = 0.0
        self._begun: dict[str, float] = {}  # the work that is done of populations that train now
        self._current: Population | None = None

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
        """A population is about to train here."""
        self._current = population

    def end(self, population: Population) -> None:
        """The population is done, trained here or elsewhere."""
        self._before += self._total.pop(population.name, 0.0)
        self._begun.pop(population.name, None)
        self._show("")

    def heard(self, population: Population, progress: Progress) -> None:
        """How far a population that trains now has got."""
        self._begun[population.name] = progress.done * population.work
        self._show(progress.state)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One block further, here."""
        if self._bar is not None and self._current is not None:
            self.heard(self._current, Progress.of(pl_module))

    def _show(self, state: str) -> None:
        if self._bar is not None and self._task is not None:
            number = min(self._count - len(self._total) + max(1, len(self._begun)), self._count)
            completed = self._before + sum(self._begun.values())
            self._bar.update(
                self._task, completed=completed, description=f"population {number}/{self._count}", state=state
            )


def wanted(config: RunConfig) -> bool:
    """Whether the bar is asked for; by default where stdout is a terminal."""
    return sys.stdout.isatty() if config.trainer.progress is None else config.trainer.progress
