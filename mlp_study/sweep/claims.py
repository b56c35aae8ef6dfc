"""Who trains what: processes that share a sweep folder never train the same run twice, and dead ones hold nothing.

Each process writes one file with the ids of the runs that it trains now. Claims are made under a file lock, which the
kernel drops when its holder dies. A claim of a dead process counts no more: on the same machine its process is looked
up, on another one its file must have been touched within ``STALE`` seconds, by the file server's clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlp_study.runtime.files import cannot_write, file_lock, write_file

HEARTBEAT = 20.0  # seconds between two signs of life
STALE = 300.0  # without one, a process of another machine counts as dead


@dataclass(frozen=True)
class Claim:
    """What one process trains now.

    Attributes:
        machine: names the machine and, on it, the container.
        pid: the process's number there.
        started: when that process was started, in the kernel's count: numbers are used again.
        runs: the ids.
        host: the machine's name for people.
        job: its SLURM job, such as ``17_3``; empty for none.
        restart: how often SLURM has requeued that job.
        since: when it took these runs, in seconds since 1970 by its own clock.
        beat: its last sign of life, in seconds since 1970 by the file server's clock.
    """

    machine: str
    pid: int
    started: str | None
    runs: tuple[str, ...]
    host: str = ""
    job: str = ""
    restart: int = 0
    since: float = 0.0
    beat: float = 0.0

    def alive(self, now: float) -> bool:
        """Whether its process lives, as far as this machine can tell; ``now`` by the file server's clock."""
        if self.machine == _machine():
            return self.started is not None and started(self.pid) == self.started
        job, restart = slurm_job()
        if self.job and self.job == job and self.restart < restart:
            return False  # this very job, before it was requeued
        return now - self.beat < STALE


class Claims:
    """What this process has claimed in ``folder``; ``close`` gives it back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}.json"
        self._mine: set[str] = set()
        self._closed = threading.Event()
        self._beat: threading.Thread | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """The critical section of all processes on this folder; where it knows no locks, the claims alone count.

        Raises:
            WriteError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        with file_lock(self.folder / "lock"):
            yield

    @contextlib.contextmanager
    def claimed(self, wanted: Callable[[], Sequence[str]]) -> Iterator[Collection[str]]:
        """Those of the wanted runs that no other process trains; inside the block no other gets them.

        Args:
            wanted: names the runs; called within ``locked``, so that what is not finished then is finished by nobody.
        """
        with self.locked():
            mine = self.take(wanted())
        try:
            yield set(mine)
        finally:
            self.give_back(mine)

    def take(self, run_ids: Sequence[str]) -> list[str]:
        """Claim those that no living process has claimed; call it within ``locked``."""
        taken = self.others()
        free = [run_id for run_id in run_ids if run_id not in taken]
        self._write(self._mine | set(free))
        return free

    def give_back(self, run_ids: Sequence[str]) -> None:
        """These are done, or no longer wanted."""
        self._write(self._mine - set(run_ids))

    def others(self) -> set[str]:
        """The runs that other living processes are training; files of dead ones are removed."""
        found: set[str] = set()
        for path in self.folder.glob("*.json"):
            if path == self._path:
                continue
            claim = read_claim(path)
            if claim is None or not claim.alive(self._now(claim)):
                path.unlink(missing_ok=True)
            else:
                found.update(claim.runs)
        return found

    def alone(self) -> bool:
        """Whether no other living process has a claim, be it on no run; call it within ``locked``."""
        self.others()  # removes the files of dead ones
        return all(path == self._path for path in self.folder.glob("*.json"))

    def drop(self, job: str) -> None:
        """The SLURM job is over, whatever it has claimed; call it within ``locked``."""
        for path in self.folder.glob("*.json"):
            claim = read_claim(path)
            if claim is not None and claim.job == job:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give everything back."""
        self._closed.set()
        self._mine = set()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, run_ids: set[str]) -> None:
        if run_ids == self._mine and self._path.exists():
            return
        self._mine = run_ids
        job, restart = slurm_job()
        about = Claim(
            **identity(), runs=tuple(sorted(run_ids)), host=platform.node(), job=job, restart=restart, since=time.time()
        )
        write_file(self._path, json.dumps(asdict(about)))
        if self._beat is None:
            self._beat = threading.Thread(target=self._show_life, name="claims", daemon=True)
            self._beat.start()

    def _show_life(self) -> None:
        while not self._closed.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(self._path)  # not `touch`: an empty file would stay where the claim is given up meanwhile

    def _now(self, claim: Claim) -> float:
        """By the clock that the claim's last sign of life is measured with, the file server's."""
        if claim.machine == _machine():
            return claim.beat
        try:
            os.utime(self.folder / "lock")
            return (self.folder / "lock").stat().st_mtime
        except OSError:
            return time.time()


def identity() -> dict[str, Any]:
    """Tells one process from all others of all machines and containers; numbers of processes are used again."""
    return {"machine": _machine(), "pid": os.getpid(), "started": started(os.getpid())}


def started(pid: int) -> str | None:
    """When a process of this machine was started, in the kernel's own count; None if it is gone or dead."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _started_elsewhere(pid)
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _started_elsewhere(pid: int) -> str | None:
    """Without /proc only whether the process lives is known."""
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"


def _machine() -> str:
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def slurm_job() -> tuple[str, int]:
    """The SLURM job that this process belongs to, and how often it was requeued; empty and 0 outside of SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return job, int(restarts) if restarts.isdigit() else 0


def read_claim(path: Path) -> Claim | None:
    """The claim in a file; None if it is gone or damaged. Nothing is written."""
    try:
        beat = path.stat().st_mtime
        found = json.loads(path.read_bytes())
        return Claim(**{**found, "runs": tuple(map(str, found["runs"])), "beat": beat})
    except (OSError, ValueError, TypeError, KeyError):
        return None
