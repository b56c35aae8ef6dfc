"""Which process runs which trial; the trials of dead processes are given back and run again."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mlp_study.search.storage import HEARTBEAT, StudyStorage

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

OWNER = "worker"  # the attribute of a trial in a server's database that names its process


class TrialOwners:
    """Shows that this process lives and which trials it runs, and finds trials whose process is dead.

    Beside a journal or SQLite's file these are lock files; in a server's database it is Optuna's heartbeat.
    """

    def __init__(self, storage: StudyStorage, study_id: int) -> None:
        self._storage, self._study_id = storage, study_id
        self._mine: dict[int, int] = {}
        self._closed = threading.Event()
        self._beat: threading.Thread | None = None

    def take(self, trial: Trial) -> None:
        """Make this trial this process's; call it while the study is locked."""
        self._mine[trial.number] = trial._trial_id
        if self._storage.locks is not None:
            self._storage.locks.take([str(trial.number)])
            return
        database = self._storage.database
        database.record_heartbeat(trial._trial_id)  # first: with a name but no heartbeat it would never be stale
        database.set_trial_user_attr(trial._trial_id, OWNER, f"{platform.node()} {os.getpid()}")
        if self._beat is None:
            self._beat = threading.Thread(target=self._show_life, name="heartbeat", daemon=True)
            self._beat.start()

    def give_back(self, number: int) -> None:
        """Let go of a trial that has ended."""
        self._mine.pop(number, None)
        if self._storage.locks is not None:
            self._storage.locks.give_back([str(number)])

    def orphans(self, running: Sequence[FrozenTrial]) -> Iterable[FrozenTrial]:
        """Return those running trials whose process is dead."""
        others = [trial for trial in running if trial.number not in self._mine]
        if not others:
            return []
        if self._storage.locks is not None:
            alive = self._storage.locks.others()
            return [trial for trial in others if str(trial.number) not in alive]
        stale = set(self._storage.database._get_stale_trial_ids(self._study_id))
        return [trial for trial in others if trial._trial_id in stale or OWNER not in trial.user_attrs]

    def close(self) -> None:
        """Give no more signs of life."""
        self._closed.set()
        if self._beat is not None:
            self._beat.join()

    def _show_life(self) -> None:
        while not self._closed.wait(HEARTBEAT):
            for trial_id in list(self._mine.values()):
                with contextlib.suppress(Exception):  # a server that is away for a moment
                    self._storage.database.record_heartbeat(trial_id)
