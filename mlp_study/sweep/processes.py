"""Several processes on this machine train a plan: one a GPU, or a few on many cores that they divide.

The parent hands out populations and waits; workers write the records. A worker that dies takes nothing with it that is
finished: its population goes to a new worker, and after ``ATTEMPTS`` deaths it is split to find the run that kills.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import Interrupted, StudyError
from mlp_study.sweep.executor import Executor, Keeping
from mlp_study.sweep.interruption import Interruption
from mlp_study.sweep.plan import Population
from mlp_study.sweep.store import Store

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

log = logging.getLogger(__name__)

ATTEMPTS = 2  # deaths of a worker on a population before it is split
POLL = 0.5  # seconds between two looks for a signal


def default_workers() -> int:
    """One a GPU; without GPUs one for every four cores."""
    import torch

    return torch.cuda.device_count() or max(1, cores() // 4)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Worker:
    """A process and the population it trains."""

    number: int
    process: SpawnProcess
    pipe: Connection
    population: Population | None = None


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

    def run(self, populations: Sequence[Population], after: Callable[[Population, int], None]) -> None:
        """Train all; ``after`` is called as each population ends. Raises what ``Executor.run`` raises."""
        waiting = collections.deque(sorted(populations, key=lambda p: -p.work))  # long ones first
        crew = [self._hire(number) for number in range(min(self.workers, len(waiting)))]
        with self.stop:
            try:
                while waiting or any(worker.population for worker in crew):
                    self.stop.raise_if_asked()
                    for worker in crew:
                        if worker.population is None and waiting:
                            worker.population = waiting.popleft()
                            worker.pipe.send(worker.population)
                    self._listen(crew, waiting, after)
            except (Interrupted, KeyboardInterrupt, StudyError):
                for worker in crew:
                    if worker.process.pid and worker.process.is_alive():
                        os.kill(worker.process.pid, signal.SIGTERM)  # it writes what it has
                raise
            finally:
                self._dismiss(crew)
            store = Store(self.folder)
            try:  # what processes of other commands have taken, and left
                Executor(store, self.keeping).run(populations, after)
            finally:
                store.close()

    def _hire(self, number: int) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self.folder, self.keeping, self.retry_failed, number, self.workers)
        process = context.Process(target=work, args=arguments, name=f"sweep-{number}")
        with _environment(number, self.workers):
            process.start()
        theirs.close()
        return Worker(number, process, ours)

    def _listen(
        self, crew: list[Worker], waiting: collections.deque[Population], after: Callable[[Population, int], None]
    ) -> None:
        """What workers say within the next moment; a dead one is replaced."""
        ready = wait([worker.pipe for worker in crew if worker.population], timeout=POLL)
        for place, worker in enumerate(crew):
            if worker.pipe not in ready or worker.population is None:
                continue
            try:
                trained = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                waiting.extendleft(self._after_death(worker.population, worker.process.exitcode))
                crew[place] = self._hire(worker.number)
                continue
            if isinstance(trained, BaseException):
                raise trained
            done, worker.population = worker.population, None
            after(done, trained)

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

    def _dismiss(self, crew: Sequence[Worker]) -> None:
        for worker in crew:
            worker.pipe.close()  # a worker that reads on finds the end
        for worker in crew:
            worker.process.join(timeout=30)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


@contextlib.contextmanager
def _environment(number: int, workers: int) -> Iterator[None]:
    """The environment that a worker is born with: its threads and its GPU must be known before torch is imported."""
    threads, gpus = str(max(1, cores() // workers)), visible_gpus()
    born_with = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    if gpus:
        born_with["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    before = {name: os.environ.get(name) for name in born_with}
    os.environ.update(born_with)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names CUDA_VISIBLE_DEVICES takes."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def work(pipe: Connection, folder: Path, keeping: Keeping, retry_failed: bool, number: int, workers: int) -> None:
    """A worker's life: train each population it is sent; answer how many runs it trained, or what stopped it."""
    import torch

    from mlp_study.records import tracking

    torch.set_num_threads(max(1, cores() // workers))
    store = Store(folder)
    executor = Executor(store, keeping, retry_failed=retry_failed)
    try:
        with executor.stop:
            while True:
                population: Any = pipe.recv()
                executor.stop.raise_if_asked()
                pipe.send(executor.population(population.cells))
    except (EOFError, OSError):
        pass  # the parent is done, or gone
    except (StudyError, KeyboardInterrupt) as error:
        with contextlib.suppress(OSError):
            pipe.send(error)
    finally:
        store.close()
        tracking.wait()
