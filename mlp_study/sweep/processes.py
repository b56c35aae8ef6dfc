"""Several processes on this machine train a plan: one a GPU, or a few on many cores that they divide.

A worker that dies takes nothing with it that is finished: its population goes to a new worker, and after ``ATTEMPTS``
deaths it is split to find the run that kills.
"""

from __future__ import annotations

import collections
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.records import wandb_run
from mlp_study.runtime.workers import Pool, Tell, cores, visible_gpus
from mlp_study.sweep.executor import Executor, Keeping
from mlp_study.sweep.interruption import Interruption
from mlp_study.sweep.plan import Population
from mlp_study.sweep.progress import Progress, Telling
from mlp_study.sweep.store import Store

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig

log = logging.getLogger(__name__)

ATTEMPTS = 2  # deaths of a worker on a population before it is split
WORTH_A_PROCESS = 4.0  # seconds of work, as ``cost.work`` counts them: the start of a process takes three


def default_workers() -> int:
    """One a GPU; without GPUs one for every four cores."""
    return len(visible_gpus()) or max(1, cores() // 4)


def workers_for(config: RunConfig, work: float) -> int:
    """As many processes as pay: on a CPU one a core, each of one thread, if there is work for them.

    Two processes of one thread train faster than one of two: no operation is too small to be divided, and no thread
    waits for another. A GPU, and a number of threads that is asked for, mean one process.

    Args:
        config: one of the runs.
        work: of all runs, as ``cost.work`` counts it.
    """
    if config.trainer.threads is not None or config.trainer.accelerator not in ("auto", "cpu") or visible_gpus():
        return 1
    return max(1, min(cores(), int(work / WORTH_A_PROCESS)))


class ProcessesExecutor:
    """Like ``Executor``, with ``workers`` processes.

    Args:
        folder: the sweep's folder.
        keeping: what the members leave beside their numbers.
        workers: how many processes.
        retry_failed: whether runs that are recorded as failed are trained again.
    """

    def __init__(self, folder: Path, keeping: Keeping, workers: int, retry_failed: bool = False) -> None:
        self.folder, self.keeping, self.workers, self.retry_failed = folder, keeping, workers, retry_failed
        self.stop = Interruption()
        self._deaths: collections.Counter[str] = collections.Counter()

    def run(
        self,
        populations: Sequence[Population],
        after: Callable[[Population, int], None],
        heard: Callable[[Population, Progress], None] | None = None,
    ) -> None:
        """Train all; ``after`` is called as each population ends, ``heard`` on its way.

        Raises what ``Executor.run`` raises.
        """
        begin = partial(_begun, self.folder, self.keeping, self.retry_failed)
        cells = [cell for p in populations for cell in p.cells]
        with contextlib.closing(Store(self.folder)) as store:
            new = [
                cell for cell in cells if not store.finished(cell.run_id)
            ]  # the others' models are not ours to judge
        with self.stop:
            pool: Pool[Population] = Pool(
                begin, self.workers, died=self._after_death, raise_if_asked=self.stop.raise_if_asked, heard=heard
            )
            pool.run(sorted(populations, key=lambda p: -p.work), after)  # long ones first
            store = Store(self.folder)
            try:  # what processes of other commands have taken, and left
                Executor(store, self.keeping).run(populations, after)
                self.keeping.keep_best_of_all(new, store)
            finally:
                store.close()

    def _after_death(self, population: Population, status: int | None) -> list[Population]:
        """The population again, or its halves; a single run that kills its process twice is left out."""
        self._deaths[population.name] += 1
        log.warning("a process training %d runs died (status %s)", len(population.cells), status)
        if self._deaths[population.name] < ATTEMPTS:
            return [population]
        cells = population.cells
        if len(cells) == 1:
            store = Store(self.folder)
            error = RuntimeError(f"its process died {ATTEMPTS} times, with status {status}")
            Executor(store, self.keeping).record_failure(cells[0], error)
            store.close()
            return []
        middle = len(cells) // 2
        return [
            replace(population, cells=part, work=population.work * len(part) / len(cells))
            for part in (cells[:middle], cells[middle:])
        ]


@contextlib.contextmanager
def _begun(folder: Path, keeping: Keeping, retry_failed: bool, tell: Tell) -> Iterator[Callable[[Population], int]]:
    """A worker's executor: trains a population, and answers how many of its runs were trained here."""
    store = Store(folder)
    executor = Executor(store, keeping, [Telling(tell)], retry_failed)

    def train(population: Population) -> int:
        executor.stop.raise_if_asked()
        return executor.population(population.cells)

    try:
        with executor.stop:
            yield train
    finally:
        store.close()
        wandb_run.wait()
