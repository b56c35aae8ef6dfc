"""Several processes on this machine train a plan: one a GPU, or a few on many cores that they divide.

A worker that dies takes nothing with it that is finished: its population goes to a new worker, and after ``ATTEMPTS``
deaths it is split to find the run that kills.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import Preempted, StudyError
from mlp_study.runtime import signals
from mlp_study.runtime.processes import cores, start_resource_tracker, threads_of, visible_gpus
from mlp_study.sweep import worker
from mlp_study.sweep.executor import After, Executor, SavePolicy
from mlp_study.sweep.plan import Population
from mlp_study.sweep.store import Store

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig

log = logging.getLogger(__name__)

ATTEMPTS = 2  # deaths of a worker on a population before it is split
POLL = 0.5  # seconds between two looks for a signal
WORTH_A_PROCESS = 4.0  # seconds of work, as ``estimates.work`` counts them: the start of a process takes three


def default_workers() -> int:
    """One a GPU; without GPUs one for every four cores."""
    return len(visible_gpus()) or max(1, cores() // 4)


def workers_for(config: RunConfig, work: float) -> int:
    """As many processes as pay: on a CPU one a core, each of one thread, if there is work for them.

    Two processes of one thread train faster than one of two: no operation is too small to be divided, and no thread
    waits for another. A GPU, and a number of threads that is asked for, mean one process.

    Args:
        config: one of the runs.
        work: of all runs, as ``estimates.work`` counts it.
    """
    if config.trainer.threads is not None or config.trainer.accelerator not in ("auto", "cpu") or visible_gpus():
        return 1
    return max(1, min(cores(), int(work / WORTH_A_PROCESS)))


class ProcessesExecutor:
    """Like ``Executor``, with ``workers`` processes, each a pool of one: a death breaks its own pool only.

    Args:
        folder: the sweep's folder.
        policy: which models and metadata are saved.
        workers: how many processes.
        retry_failed: whether runs that are recorded as failed are trained again.
        say: told, once, that processes of other commands are waited for.
    """

    def __init__(
        self,
        folder: Path,
        policy: SavePolicy,
        workers: int,
        retry_failed: bool = False,
        say: Callable[[str], object] = log.info,
    ) -> None:
        self.folder, self.policy, self.workers, self.retry_failed = folder, policy, workers, retry_failed
        self.say = say
        self._context = multiprocessing.get_context("spawn")
        self._asked: Any = self._context.RawValue("i", 0)  # the signal that workers are to answer
        self._deaths: collections.Counter[str] = collections.Counter()

    def run(self, populations: Sequence[Population], after: After = lambda *_: None) -> None:
        """Train all; ``after`` is called as each population ends. Raises what ``Executor.run`` raises."""
        with signals.deferred(), contextlib.closing(Store(self.folder)) as store:
            cells = [cell for p in populations for cell in p.cells]
            new = [
                cell for cell in cells if not store.finished(cell.run_id)
            ]  # the others' models are not ours to judge
            self._share_out(sorted(populations, key=lambda p: -p.work), after, store)  # long ones first
            left = Executor(store, self.policy, say=self.say)
            left.run(populations)  # what processes of other commands have taken, and left
            self.policy.keep_best_of_all(new, store)

    def _share_out(self, populations: Sequence[Population], after: After, store: Store) -> None:
        """Keep all workers busy until every population is done."""
        start_resource_tracker()
        waiting = collections.deque(populations)
        pools = {number: self._pool(number) for number in range(min(self.workers, len(waiting)))}
        training: dict[Future[int], tuple[int, Population]] = {}
        try:
            while waiting or training:
                signals.raise_if_asked()
                for number in sorted(pools.keys() - {number for number, _ in training.values()})[: len(waiting)]:
                    population = waiting.popleft()
                    training[self._submitted(pools, number, population)] = number, population
                for future in wait(training, POLL, FIRST_COMPLETED).done:
                    number, population = training.pop(future)
                    try:
                        after(population, future.result())
                    except BrokenProcessPool:
                        pools[number].shutdown()
                        pools[number] = self._pool(number)
                        waiting.extendleft(self._after_death(population, store))
        except (StudyError, KeyboardInterrupt) as error:  # the others write what they have
            self._asked.value = signal.SIGUSR1 if isinstance(error, Preempted) else signal.SIGTERM
            raise
        finally:
            _dismiss(list(pools.values()))

    def _submitted(self, pools: dict[int, ProcessPoolExecutor], number: int, population: Population) -> Future[int]:
        rest = (population, self.folder, self.policy, self.retry_failed)
        with contextlib.suppress(BrokenProcessPool):
            return pools[number].submit(worker.train, *rest)
        pools[number] = self._pool(number)  # its process has died without work
        return pools[number].submit(worker.train, *rest)

    def _pool(self, number: int) -> ProcessPoolExecutor:
        threads, gpus = str(threads_of(self.workers)), visible_gpus()
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        return ProcessPoolExecutor(1, self._context, worker.begin, (environment, self._asked))

    def _after_death(self, population: Population, store: Store) -> list[Population]:
        """The population again, or its halves; a single run that kills its process twice is left out."""
        self._deaths[population.name] += 1
        log.warning("a process training %d runs died", len(population.cells))
        if self._deaths[population.name] < ATTEMPTS:
            return [population]
        cells = population.cells
        if len(cells) == 1:
            error = RuntimeError(f"its process died {ATTEMPTS} times")
            Executor(store, self.policy).record_failure(cells[0], error)
            return []
        middle = len(cells) // 2
        return [
            replace(population, cells=part, work=population.work * len(part) / len(cells))
            for part in (cells[:middle], cells[middle:])
        ]


def _dismiss(pools: Sequence[ProcessPoolExecutor]) -> None:
    """End all workers; what they train is finished, or written as a checkpoint where a signal has come."""
    leaving = []
    for pool in pools:
        with contextlib.suppress(BrokenProcessPool):
            leaving.append(pool.submit(worker.leave))
    wait(leaving)
    for pool in pools:
        pool.shutdown()
