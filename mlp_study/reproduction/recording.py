"""Populations trained into their members' folders, with the figures and numbers that the sources show."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from mlp_study.data.images import ImageSet, load
from mlp_study.figures.run import RunFigures
from mlp_study.records import tracking
from mlp_study.records.recorder import FIGURES_WAIT, Recorder
from mlp_study.reproduction.measures import add_own
from mlp_study.reproduction.runs import Cell
from mlp_study.training.population import train_population
from mlp_study.training.progress import progress_callbacks
from mlp_study.training.results import MemberResult


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
    """Trains populations into their members' folders; figures and W&B of one are finished while the next trains."""

    def __init__(self) -> None:
        self._drawn: list[Future[dict[str, Path]]] = []

    def __call__(self, members: Sequence[Cell], checkpoint: Path) -> None:
        """One population; interrupted, it goes on from its checkpoint when asked for again.

        Raises:
            StudyError: the data cannot be read, or a folder not be written.
            Interrupted: SIGINT or SIGTERM asked to stop.
        """
        configs = [cell.config for cell in members]
        first = configs[0]
        images = load(first.data.name, first.data_root, **first.data.options)
        own: list[Any] = progress_callbacks(first)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        with Measuring(members, images) as recorder:
            train_population(
                configs,
                recorder,
                checkpoint=checkpoint if first.trainer.checkpoint else None,
                resume_from=checkpoint if checkpoint.is_file() else None,
                callbacks=own,
                images=images,
            )
        self._drawn += recorder.drawn
        checkpoint.unlink(missing_ok=True)

    def wait(self) -> None:
        """Until every figure is drawn and every W&B run complete."""
        wait(self._drawn, timeout=FIGURES_WAIT)
        tracking.wait()
