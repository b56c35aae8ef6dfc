"""What a worker process of a sweep does. Only the standard library is imported here: the environment comes first."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlp_study.sweep.executor import Executor, SavePolicy
    from mlp_study.sweep.plan import Population


class Own:
    """The state of a worker process.

    Attributes:
        asked: shared with the parent: the number of the signal that all workers are to answer; 0 for none.
        training: held while it trains.
        executor: trains, from the first population on.
    """

    asked: Any = None
    training = threading.Lock()
    executor: Executor | None = None


def begin(environment: Mapping[str, str], asked: Any) -> None:
    """Prepare this process before it imports torch: threads and GPU are read then.

    Args:
        environment: what it gets besides its parent's.
        asked: see ``Own``.
    """
    os.environ.update(environment)
    Own.asked = asked
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has died; what it trains is finished first."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    with Own.training:
        with suppress(Exception):
            leave()
        os._exit(1)


def train(population: Population, folder: Path, policy: SavePolicy, retry_failed: bool) -> int:
    """Train a population into the sweep's folder; returns how many of its runs were trained here."""
    from mlp_study.runtime.startup import import_lightning

    import_lightning()
    from mlp_study.sweep.executor import Executor
    from mlp_study.sweep.interruption import Interruption
    from mlp_study.sweep.store import Store

    with Own.training:
        if Own.executor is None:
            Own.executor = Executor(Store(folder), policy, retry_failed=retry_failed)
            Own.executor.stop = Interruption(Own.asked).__enter__()  # for as long as the process lives
        Own.executor.stop.raise_if_asked()
        return Own.executor.population(population.cells)


def leave() -> None:
    """Give back what is locked, and wait until all W&B runs are complete."""
    from mlp_study.records import wandb_run

    if Own.executor is not None:
        Own.executor.store.close()
        wandb_run.wait()
