"""How far a sweep is, from its folder's files alone: nothing is written, nobody is asked."""

from __future__ import annotations

import collections
import csv
import io
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlp_study.errors import ConfigError, DataError, spelt_out
from mlp_study.records.run_folder import CURVES, RESULT, read_json, read_rows
from mlp_study.runtime.reading import read_bytes
from mlp_study.sweep.locks import Held, held_in
from mlp_study.sweep.printing import duration
from mlp_study.sweep.store import INSIDE, LOCKS, MANIFEST, Store, asked_for
from mlp_study.sweep.table import CSV

FAILURES_SHOWN = 10


@dataclass(frozen=True)
class Worker:
    """A process that trains.

    Attributes:
        where: its machine and number, with its SLURM job if it has one.
        runs: how many it trains together.
        since: when it took them, in seconds since 1970.
        epoch: the last one that its first run has written down.
    """

    where: str
    runs: int
    since: float
    epoch: int


@dataclass
class Status:
    """A sweep at a moment.

    Attributes:
        folder: the sweep's.
        runs: how many were asked for; those that left a trace if that was not written down.
        outcomes: finished runs by outcome, failed ones too.
        running: runs that a living process trains.
        checkpointed: of those that wait, runs that go on from a checkpoint.
        workers: the living processes.
        failures: id and cause of the first failed runs.
        began: when the first run was finished, in seconds since 1970; None if none is.
        last: when the last one was.
    """

    folder: str
    runs: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    running: int = 0
    checkpointed: int = 0
    workers: list[Worker] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    began: float | None = None
    last: float | None = None

    @property
    def done(self) -> int:
        """Finished and not failed."""
        return sum(self.outcomes.values()) - self.failed

    @property
    def failed(self) -> int:
        """Recorded as failed."""
        return self.outcomes.get("failed", 0)

    @property
    def waiting(self) -> int:
        """Neither finished nor in training."""
        return self.runs - self.done - self.failed - self.running

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "done": self.done, "failed": self.failed, "waiting": self.waiting}


def read_status(folder: Path) -> Status:
    """Look at a sweep's folder.

    Raises:
        ConfigError: it holds no sweep.
    """
    if not (folder / MANIFEST).is_file():
        raise ConfigError(f"{folder} holds no sweep: it has no {MANIFEST}; status takes the folder of a sweep")
    known, finished = _table(folder), set()
    counts: collections.Counter[str] = collections.Counter()
    status = Status(str(folder))
    for name, when in _results(folder):
        outcome, cause = known.get(name) or _outcome(folder / name)
        finished.add(name)
        counts[outcome] += 1
        if outcome == "failed" and len(status.failures) < FAILURES_SHOWN:
            status.failures.append((name, cause))
        status.began = min(when, when if status.began is None else status.began)
        status.last = max(when, when if status.last is None else status.last)
    running: set[str] = set()
    for held in held_in(folder / INSIDE / LOCKS):
        runs = [run_id for run_id in held.names if run_id not in finished]
        if runs:
            running.update(runs)
            status.workers.append(Worker(_where(held), len(runs), held.since, _epoch(folder / runs[0])))
    waiting = set(asked_for(folder)) - finished - running
    begun = (run_id for members in Store(folder).interrupted() for run_id in members)
    status.checkpointed = sum(run_id in waiting for run_id in begun)
    status.runs, status.outcomes, status.running = len(finished | running | waiting), dict(counts), len(running)
    return status


def lines_of(status: Status, now: float | None = None) -> list[str]:
    """The status in words, one line a fact."""
    now = time.time() if now is None else now
    kinds = [f"{count} {outcome}" for outcome, count in sorted(status.outcomes.items()) if outcome != "failed"]
    found = [f"Sweep {status.folder}: {status.done + status.failed} of {status.runs} runs are finished"]
    span = f"the first at {clock(status.began)}, the last at {clock(status.last)}" if status.last is not None else ""
    found.append(_line("done", status.done, ", ".join([*kinds, span] if span else kinds)))
    found.append(_line("running", status.running, f"by {len(status.workers)} processes" if status.workers else ""))
    for worker in sorted(status.workers, key=lambda worker: worker.where):
        trained = f"{worker.runs} runs for {duration(max(0.0, now - worker.since))}, {worker.epoch} epochs done"
        found.append(f"    {worker.where}: {trained}")
    begun = f"{status.checkpointed} of them go on from a checkpoint" if status.checkpointed else ""
    found.append(_line("waiting", status.waiting, begun))
    found.append(_line("failed", status.failed, ""))
    found += [f"    {run_id}: {cause}" for run_id, cause in status.failures]
    return [spelt_out(line) for line in found]


def clock(when: float | None) -> str:
    """A time of day with its date, by this machine's clock."""
    return "never" if when is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def _line(what: str, count: int, more: str) -> str:
    return f"  {what:<8} {count:>8}  {more}".rstrip()


def _results(folder: Path) -> Iterator[tuple[str, float]]:
    """Each finished run, and when that was."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = os.stat(os.path.join(entry.path, RESULT))  # noqa: PTH116, PTH118 - a million times
            except OSError:
                continue
            if found.st_size:
                yield entry.name, found.st_mtime


def _table(folder: Path) -> dict[str, tuple[str, str]]:
    """Outcome, and no cause, of the runs in ``runs.csv`` that have not failed: faster read than all their records."""
    try:
        rows = csv.DictReader(io.StringIO(read_bytes(folder / CSV).decode(), newline=""))
        ended = {row["run_id"]: row["outcome"] for row in rows if None not in row.values()}  # no row cut short
        return {name: (outcome, "") for name, outcome in ended.items() if outcome not in ("failed", "")}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def _outcome(place: Path) -> tuple[str, str]:
    try:
        result = read_json(place / RESULT)
    except DataError as error:
        return "unreadable", str(error)
    return str(result.get("outcome")), str(result.get("cause") or "")


def _where(held: Held) -> str:
    owner = held.owner
    return f"{owner.host} process {owner.pid}" + (f" (SLURM job {owner.job})" if owner.job else "")


def _epoch(place: Path) -> int:
    """The last epoch in a run's curves."""
    if not (place / CURVES).exists():
        return 0
    try:
        return int(max((row["epoch"] for row in read_rows(place)), default=0))
    except (DataError, KeyError):
        return 0
