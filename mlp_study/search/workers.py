"""Which running trials still have a living process; those of dead ones are given back and run again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.runtime.processes import identity, started
from mlp_study.search.storage import BEAT, Place
from mlp_study.sweep.locks import Locks

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

WORKER = "worker"  # the trial's attribute that names its process


class Workers:
    """The signs of life of this process's trials, and the look at the others'.

    Files beside a journal or SQLite's file; in a server's database Optuna's heartbeat. A process of the same machine
    is looked up, so that its trials are free as soon as it is dead.
    """

    def __init__(self, place: Place, storage: Any, study_id: int) -> None:
        self._storage = getattr(storage, "_backend", storage)
        self._study_id = study_id
        self._claims = None if place.claims is None else Locks(place.claims)
        self._mine: dict[int, int] = {}
        self._closed = threading.Event()
        self._beat: threading.Thread | None = None

    def take(self, trials: Iterable[Any]) -> None:
        """These trials are now this process's; call it while the study is locked."""
        taken = {trial.number: trial._trial_id for trial in trials}
        self._mine |= taken
        if self._claims is not None:
            self._claims.take([str(number) for number in self._mine])
            return
        for trial_id in taken.values():
            self._storage.record_heartbeat(trial_id)  # first: with a name but no heartbeat it would never be stale
            self._storage.set_trial_user_attr(trial_id, WORKER, identity())
        if self._beat is None:
            self._beat = threading.Thread(target=self._show_life, name="heartbeat", daemon=True)
            self._beat.start()

    def give_back(self, numbers: Iterable[int]) -> None:
        """These are done."""
        done = list(numbers)
        for number in done:
            self._mine.pop(number, None)
        if self._claims is not None:
            self._claims.give_back([str(number) for number in done])

    def orphans(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those running trials whose process is dead."""
        others = [trial for trial in running if trial.number not in self._mine]
        if not others:
            return []
        if self._claims is not None:
            alive = self._claims.others()
            return [trial for trial in others if str(trial.number) not in alive]
        stale = set(self._storage._get_stale_trial_ids(self._study_id))
        return [trial for trial in others if trial._trial_id in stale or _dead(trial.user_attrs.get(WORKER, {}))]

    def close(self) -> None:
        """No more signs of life."""
        self._closed.set()
        if self._beat is not None:
            self._beat.join()
        if self._claims is not None:
            self._claims.close()

    def _show_life(self) -> None:
        while not self._closed.wait(BEAT):
            for trial_id in list(self._mine.values()):
                with contextlib.suppress(Exception):  # a server that is away for a moment
                    self._storage.record_heartbeat(trial_id)


def _dead(worker: dict[str, Any]) -> bool:
    """Whether it was a process of this machine that is no more, or one that died before it could sign."""
    if not worker:
        return True
    return bool(worker["machine"] == identity()["machine"] and started(worker["pid"]) != worker["started"])
