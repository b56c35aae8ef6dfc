"""Train populations in this process, one after the other; a run that breaks is found and recorded as failed."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import load
from mlp_study.errors import Interrupted, StudyError, one_line
from mlp_study.figures.run import RunFigures
from mlp_study.records.recorder import Recorder
from mlp_study.records.run_folder import MODEL, RESULT, model_bytes, read_json
from mlp_study.records.run_summary import summary_lines
from mlp_study.runtime import signals
from mlp_study.runtime.files import WriteError, write_file
from mlp_study.sweep.hydra_files import HydraFiles, typed
from mlp_study.sweep.plan import Cell, Population
from mlp_study.sweep.store import Store
from mlp_study.training.population import train_or_resume
from mlp_study.training.results import MemberResult

if TYPE_CHECKING:
    from lightning.pytorch import Callback

log = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at runs that another process trains

After = Callable[[Population, int], None]  # told of each population that is done, and how many of its runs trained here


@dataclass
class SavePolicy:
    """Which models and metadata are saved.

    Attributes:
        hydra_files: writes each member's ``.hydra/``; None for none.
        group: the members' W&B group, unless they name one.
        save: what becomes of ``save=auto``.
        best: the best validation accuracy so far, for ``save=best``.
        best_folder: where the model of this process's best run lies.
    """

    hydra_files: HydraFiles | None = None
    group: str | None = None
    save: str = "models"
    best: float = -math.inf
    best_folder: Path | None = None

    def settled(self, config: RunConfig) -> RunConfig:
        """Return the member's config as it is recorded: with its W&B group and what is saved of it."""
        group = config.wandb.group or self.group
        save = self.save if config.save == "auto" else config.save
        return dataclasses.replace(config, save=save, wandb=dataclasses.replace(config.wandb, group=group))

    def recorder(self, cells: Sequence[Cell], folders: Sequence[Path]) -> Recorder:
        """Make what records the members."""
        if self.hydra_files is not None:
            for folder, cell in zip(folders, cells, strict=True):
                self.hydra_files.write(folder, cell)
        draw = figures_of(cells[0].config) if self.settled(cells[0].config).save == "all" else None
        return MemberRecorder(folders, overrides=[typed(cell.overrides) for cell in cells], draw=draw, patient=False)

    def keep_best(self, results: Sequence[MemberResult], folders: Sequence[Path]) -> None:
        """Of runs with ``save=best`` keep only the model of the best one so far."""
        for result, folder in zip(results, folders, strict=True):
            accuracy = result.metrics.get("val/accuracy", -math.inf)
            if result.config.save == "best" and accuracy > self.best:
                write_file(folder / MODEL, model_bytes(result))
                if self.best_folder is not None:
                    (self.best_folder / MODEL).unlink(missing_ok=True)
                self.best, self.best_folder = accuracy, folder

    def keep_best_of_all(self, cells: Sequence[Cell], store: Store) -> None:
        """Do the same over all processes, each of which has kept its own best."""
        kept = {c.run_id: store.place(c.run_id) for c in cells if self.settled(c.config).save == "best"}
        with_model = [folder for folder in kept.values() if (folder / MODEL).exists()]
        ranked = sorted(with_model, key=lambda folder: read_json(folder / RESULT).get("val/accuracy") or 0.0)
        for folder in ranked[:-1]:
            (folder / MODEL).unlink(missing_ok=True)


class Executor:
    """Trains populations and records their members in ``store``.

    Args:
        store: the sweep's folder.
        policy: which models and metadata are saved.
        callbacks: further Lightning callbacks for every population, such as a progress bar.
        retry_failed: whether runs that are recorded as failed are trained again.
        say: told, once, that other processes are waited for.
    """

    def __init__(
        self,
        store: Store,
        policy: SavePolicy | None = None,
        callbacks: Sequence[Callback] = (),
        retry_failed: bool = False,
        say: Callable[[str], object] = log.info,
    ) -> None:
        self.store, self.policy, self.say = store, policy or SavePolicy(), say
        self.callbacks, self.retry_failed = list(callbacks), retry_failed

    def run(self, populations: Sequence[Population], after: After = lambda *_: None) -> None:
        """Train all that is not finished; what other processes train is waited for, and taken over if they die.

        Raises:
            Interrupted: SIGINT or SIGTERM; what is finished is on disk.
            WriteError: the disk is full or read-only.
        """
        with signals.deferred():
            for waiting in self._rounds(populations):
                for population in waiting:
                    signals.raise_if_asked()
                    after(population, self.population(population.cells))
                self.retry_failed = False  # once is enough

    def _rounds(self, populations: Sequence[Population]) -> Iterator[list[Population]]:
        """All of them; then, until all are finished, those that are not: other processes train them, or have died."""
        waiting, told = list(populations), False
        while waiting:
            yield waiting
            waiting = [p for p in waiting if not all(self.store.finished(cell.run_id) for cell in p.cells)]
            if waiting and not told:
                self.say("waiting for runs that another process trains")
                told = True
            if waiting:
                time.sleep(POLL)

    def population(self, cells: Sequence[Cell]) -> int:
        """Train those of the cells that nobody else has; returns how many."""
        with self.store.claimed(cells, self.retry_failed) as mine:
            if mine:
                self._train(mine)
            return len(mine)

    def _train(self, cells: Sequence[Cell]) -> None:
        """Train them together; if that breaks, each half alone, until only what is broken has failed."""
        try:
            self._attempt(cells)
        except (Interrupted, WriteError):
            raise
        except Exception as error:
            signals.raise_if_asked()
            left = [cell for cell in cells if not self.store.finished(cell.run_id)] or list(cells)
            if len(cells) == 1:
                self.record_failure(cells[0], error)
                return
            log.warning("%d runs could not be trained together: %s", len(cells), in_words(error))
            middle = -(-len(left) // 2)
            for half in (left[:middle], left[middle:]):
                if half:
                    self._train(half)

    def _attempt(self, cells: Sequence[Cell]) -> None:
        """Train and record these members as one population, from its checkpoint if there is one."""
        configs, recorder = [self.policy.settled(cell.config) for cell in cells], self._recorder(cells)
        checkpoint = self.store.checkpoint(Population(tuple(cells)))
        with recorder:
            results = train_or_resume(configs, recorder, checkpoint, callbacks=self.callbacks)
        self.policy.keep_best(results, recorder.folders)

    def _recorder(self, cells: Sequence[Cell]) -> Recorder:
        return self.policy.recorder(cells, [self.store.place(cell.run_id) for cell in cells])

    def record_failure(self, cell: Cell, error: Exception) -> None:
        """Write the record of a run that could not be trained."""
        config = self.policy.settled(cell.config)
        result = MemberResult(config, "failed", cause=in_words(error), population={"size": 1, "index": 0})
        log.warning("run %s failed: %s", cell.run_id, result.cause)
        with self._recorder([cell]) as recorder:
            recorder.started([config])
            recorder.finished(0, result)


class MemberRecorder(Recorder):
    """Records a sweep's members; each gets the few lines in ``train.log`` that a single run's has."""

    def finished(self, k: int, result: MemberResult) -> None:
        """Write the member's folder; only its figures may come later."""
        lines = summary_lines(result, self.folders[k], self.wandb[k])
        write_file(self.folders[k] / "train.log", "".join(f"{what}: {value}\n" for what, value in lines))
        super().finished(k, result)


def figures_of(config: RunConfig) -> RunFigures:
    """What draws the figures of runs on this run's data set."""
    images = load(config.data.name, config.data_root, **config.data.options)
    return RunFigures(images, "test" if config.data.validation == "test" else "validation")


def in_words(error: BaseException) -> str:
    """An error in one line."""
    text = one_line(str(error))
    return text if isinstance(error, StudyError) else f"{type(error).__name__}: {text}"
