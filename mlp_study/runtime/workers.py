"""Several processes of this machine, each of which trains one thing after the other: one a GPU, or one a core.

The parent hands out what there is to do and waits; workers write the records, so that nothing finished is lost with
one.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mlp_study.errors import StudyError
from mlp_study.runtime.startup import import_lightning

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

POLL = 0.5  # seconds between two looks for a signal
LEAVE = 30.0  # seconds that a worker has to end

Item = TypeVar("Item")
Tell = Callable[[Any], None]
Begin = Callable[[Tell], AbstractContextManager[Callable[[Any], Any]]]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(workers: int) -> int:
    """Threads of each of ``workers`` processes that divide the cores."""
    return max(1, cores() // workers)


@dataclass(frozen=True)
class _Note:
    """What a worker says while it trains."""

    content: Any


@dataclass
class _Worker(Generic[Item]):
    """A process, and what it trains."""

    number: int
    process: SpawnProcess
    pipe: Connection
    item: Item | None = None


class Pool(Generic[Item]):
    """``count`` processes.

    Args:
        begin: called in each worker with a function that tells the parent something; within the context that it
            returns, the worker trains each item by the callable that the context gives. It travels by pickle.
        count: how many processes.
        died: a worker has died, with this exit status, over the item: what to do instead of it.
        raise_if_asked: raises when the parent is to stop.
        heard: gets what a worker tells, after the item that it tells it of.
    """

    def __init__(
        self,
        begin: Begin,
        count: int,
        *,
        died: Callable[[Item, int | None], Sequence[Item]],
        raise_if_asked: Callable[[], None],
        heard: Callable[[Item, Any], None] | None = None,
    ) -> None:
        self._begin, self._count = pickle.dumps(begin), count
        self._died, self._raise_if_asked, self._heard = died, raise_if_asked, heard

    def run(self, items: Sequence[Item], after: Callable[[Item, Any], None]) -> None:
        """Train all, in this order as far as there are workers; ``after`` gets each item with the worker's answer.

        Raises:
            StudyError, KeyboardInterrupt: a worker's, or ``raise_if_asked``'s; workers are told to stop, and write what
                they have.
        """
        waiting = collections.deque(items)
        crew = [self._hire(number) for number in range(min(self._count, len(waiting)))]
        try:
            while waiting or any(worker.item is not None for worker in crew):
                self._raise_if_asked()
                for worker in crew:
                    if worker.item is None and waiting:
                        worker.item = waiting.popleft()
                        with contextlib.suppress(OSError):  # it has died: `_listen` finds the end of its pipe
                            worker.pipe.send(worker.item)
                self._listen(crew, waiting, after)
        except (StudyError, KeyboardInterrupt):
            for worker in crew:
                if worker.process.pid and worker.process.is_alive():
                    os.kill(worker.process.pid, signal.SIGTERM)  # it writes what it has
            raise
        finally:
            _dismiss(crew)

    def _hire(self, number: int) -> _Worker[Item]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._begin, self._count)
        process = context.Process(target=_work, args=arguments, name=f"worker-{number}")
        with _environment(number, self._count):
            process.start()
        theirs.close()
        return _Worker(number, process, ours)

    def _listen(
        self, crew: list[_Worker[Item]], waiting: collections.deque[Item], after: Callable[[Item, Any], None]
    ) -> None:
        """What workers say within the next moment; a dead one is replaced."""
        ready = wait([worker.pipe for worker in crew if worker.item is not None], timeout=POLL)
        for place, worker in enumerate(crew):
            if worker.pipe not in ready or worker.item is None:
                continue
            try:
                answer = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                waiting.extendleft(self._died(worker.item, worker.process.exitcode))
                crew[place] = self._hire(worker.number)
                continue
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, _Note):
                if self._heard is not None:
                    self._heard(worker.item, answer.content)
                continue
            done, worker.item = worker.item, None
            after(done, answer)


def _dismiss(crew: Sequence[_Worker[Any]]) -> None:
    for worker in crew:
        worker.pipe.close()  # a worker that reads on finds the end
    for worker in crew:
        worker.process.join(timeout=LEAVE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextlib.contextmanager
def _environment(number: int, workers: int) -> Iterator[None]:
    """The environment that a worker is born with: its threads and its GPU must be known before torch is imported."""
    threads, gpus = str(threads_of(workers)), visible_gpus()
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


def _work(pipe: Connection, begin: bytes, workers: int) -> None:
    """A worker's life: train each item it is sent; answer with what came of it, or with what stopped it."""
    import_lightning()  # before the imports that unpickling makes
    import torch

    def tell(note: Any) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: what is begun is finished all the same
            pipe.send(_Note(note))

    torch.set_num_threads(threads_of(workers))
    try:
        of_this_worker: Begin = pickle.loads(begin)
        with of_this_worker(tell) as act:
            while True:
                item: Any = pipe.recv()
                pipe.send(act(item))
    except (EOFError, OSError):
        pass  # the parent is done, or gone
    except (StudyError, KeyboardInterrupt) as error:
        with contextlib.suppress(OSError):
            pipe.send(error)
