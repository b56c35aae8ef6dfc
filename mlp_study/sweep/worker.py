"""What a worker process of a sweep does. Nothing that imports torch is imported here: the environment comes first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.runtime.signals import SIGNALS

if TYPE_CHECKING:
    from mlp_study.sweep.executor import Executor, SavePolicy
    from mlp_study.sweep.plan import Population


class Own:
    """The state of a worker process.

    Attributes:
        asked: shared with the parent: the number of the signal that all workers are to answer; 0 for none.
        training: held while it trains.
        executor: trains, from the first population on.
        deferral: lets training answer signals.
    """

    asked: Any = None
    training = threading.Lock()
    executor: Executor | None = None
    deferral: Any = None


def begin(environment: Mapping[str, str], asked: Any) -> None:
    """Prepare this process before it imports torch: threads and GPU are read then.

    Args:
        environment: what it gets besides its parent's.
        asked: see ``Own``.
    """
    for number in SIGNALS:  # until training listens: the parent passes on what concerns all
        signal.signal(number, signal.SIG_IGN)
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
    from mlp_study.runtime import signals
    from mlp_study.sweep.executor import Executor
    from mlp_study.sweep.store import Store

    with Own.training:
        if Own.executor is None:
            Own.executor = Executor(Store(folder), policy, retry_failed=retry_failed)
            Own.deferral = signals.deferred(Own.asked)
            Own.deferral.__enter__()  # for as long as the process lives
        signals.raise_if_asked()
        return Own.executor.population(population.cells)


def leave() -> None:
    """Give back what is locked, and wait until all W&B runs are complete."""
    from mlp_study.records import wandb_run

    if Own.executor is not None:
        Own.executor.store.close()
        wandb_run.wait()
