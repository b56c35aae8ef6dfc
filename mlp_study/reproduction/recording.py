"""Populations trained into their members' folders, with the figures and numbers that the sources show."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.data.images import ImageSet, load
from mlp_study.errors import StudyError
from mlp_study.figures.run import RunFigures
from mlp_study.records import tracking
from mlp_study.records.recorder import FIGURES_WAIT, Recorder
from mlp_study.reproduction.measures import add_own
from mlp_study.reproduction.runs import Batch, Cell, claims_in
from mlp_study.runtime.workers import Pool, Tell
from mlp_study.sweep.executor import rounds
from mlp_study.sweep.interruption import Interruption
from mlp_study.sweep.progress import Progress, SweepProgress, Telling, wanted
from mlp_study.training.population import train_or_resume
from mlp_study.training.results import MemberResult

if TYPE_CHECKING:
    from mlp_study.runtime.lightning import Callback


class Measuring(Recorder):
    """A recorder that adds what this study measures besides, and draws figures of each variant's first seed only.

    Args:
        members: of the population.
        images: what they train on.
    """

    def __init__(self, members: Sequence[Cell], images: ImageSet) -> None:
        overrides = [[f"+experiment={cell.experiment}", f"experiment.variant={cell.variant}"] for cell in members]
        draw = RunFigures(images, "test")
        super().__init__([cell.folder for cell in members], overrides=overrides, draw=draw, patient=False)
        self.members, self.images = members, images
        self.drawn: list[Future[dict[str, Path]]] = []

    def finished(self, k: int, result: MemberResult) -> None:
        """Measure, then record."""
        add_own(result, self.images, check_gradient=self.members[k].check_gradient)
        super().finished(k, result)

    def _drawn(self, k: int, result: MemberResult) -> Future[dict[str, Path]] | None:
        future = super()._drawn(k, result) if self.members[k].config.seed == 0 else None
        self.drawn += [future] if future else []
        return future


class Trainer:
    """Trains batches into their members' folders; figures and W&B of one are finished while the next trains.

    Args:
        callbacks: further Lightning callbacks, such as a progress bar.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        self.stop = Interruption()
        self.callbacks = [*callbacks, self.stop]
        self._drawn: list[Future[dict[str, Path]]] = []

    def __call__(self, batch: Batch) -> int:
        """Those of its runs that are missing and that nobody else trains, as one population; returns how many.

        Interrupted, it goes on from its checkpoint when asked for again.

        Raises:
            StudyError: the data cannot be read, or a folder not be written.
            Interrupted: SIGINT or SIGTERM asked to stop.
        """
        self.stop.raise_if_asked()
        claims = claims_in(batch.cells[0].top)
        with (
            contextlib.closing(claims),
            claims.claimed(lambda: [cell.name for cell in batch.cells if not cell.finished]) as mine,
        ):
            if mine:
                self._train(batch.part(mine))
        return len(mine)

    def _train(self, batch: Batch) -> None:
        configs = [cell.config for cell in batch.cells]
        first = configs[0]
        images = load(first.data.name, first.data_root, **first.data.options)
        with Measuring(batch.cells, images) as recorder:
            train_or_resume(configs, recorder, batch.checkpoint, callbacks=self.callbacks, images=images)
        self._drawn += recorder.drawn

    def wait(self) -> None:
        """Until every figure is drawn and every W&B run complete."""
        wait(self._drawn, timeout=FIGURES_WAIT)
        tracking.wait()


def train_all(batches: Sequence[Batch], workers: int, say: Callable[[str], None]) -> int:
    """Train all batches, by this process or by so many others, each of which has its share of the cores.

    What processes of other commands train is waited for, and taken over if they die.

    Args:
        batches: in the order to begin them.
        workers: how many train at a time.
        say: told of each batch: before it trains here, after it was trained elsewhere.

    Returns:
        How many runs were trained for this command.

    Raises:
        StudyError: what a batch has raised.
        Interrupted: SIGINT or SIGTERM asked to stop; what is finished stays.
    """
    if not batches:
        return 0
    bar = SweepProgress([batch.population for batch in batches], wanted(batches[0].cells[0].config))
    count, number, trained = len(batches), itertools.count(1), 0
    trainer, alone = Trainer([bar]), min(workers, count) == 1

    def after(batch: Batch, here: int) -> None:
        nonlocal trained
        trained += here
        bar.end(batch.population)
        say(f"population {next(number)}/{count} is trained: {batch.words}")

    def died(batch: Batch, status: int | None) -> list[Batch]:
        raise StudyError(f"a process that trained {batch.words} died with status {status}; the same command goes on")

    def heard(batch: Batch, progress: Progress) -> None:
        bar.heard(batch.population, progress)

    with bar, trainer.stop as stop:
        if not alone:
            pool = Pool(_trainer, min(workers, count), died=died, raise_if_asked=stop.raise_if_asked, heard=heard)
            pool.run(batches, after)
        left = [batch for batch in batches if not batch.finished]
        for turn, waiting in enumerate(rounds(left, lambda batch: batch.finished, say)):
            for batch in waiting:
                if alone and turn == 0:
                    say(f"population {next(number)}/{count}: {batch.words}")
                bar.begin(batch.population)
                trained += trainer(batch)
                bar.end(batch.population)
    trainer.wait()
    return trained


@contextlib.contextmanager
def _trainer(tell: Tell) -> Iterator[Trainer]:
    """A worker's trainer."""
    trainer = Trainer([Telling(tell)])
    try:
        with trainer.stop:
            yield trainer
    finally:  # the pool ends it by an exception
        trainer.wait()
