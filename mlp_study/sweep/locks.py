"""Lock files: processes that share a folder never work on the same thing, and dead ones hold nothing.

A lock is a file that only one process can make (``O_EXCL``, which network file systems know, too). It says whose it is,
and is touched as a sign of life. The lock of a dead process counts no more: a process of this machine is looked up, one
of another machine must have given a sign within ``STALE`` seconds, by the file server's clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from mlp_study.runtime.files import cannot_write, make_folder
from mlp_study.runtime.processes import identity, machine, slurm_job, started
from mlp_study.runtime.reading import parsed, read_bytes

HEARTBEAT = 20.0  # seconds between two signs of life
STALE = 300.0  # without one, a process of another machine counts as dead
WAIT = 0.02  # seconds between two attempts to enter an exclusive section
LOCK = ".lock"
OWNER_BYTES = 10_000  # of a lock


@dataclass(frozen=True)
class Owner:
    """A process that holds locks.

    Attributes:
        machine: names the machine and, on it, the container.
        pid: the process's number there.
        started: when that process was started, in the kernel's count: numbers are used again.
        host: the machine's name for people.
        job: its SLURM job, such as ``17_3``; empty for none.
        restart: how often SLURM has requeued that job.
        since: when it took the lock, in seconds since 1970.
        token: no other owner has the same.
    """

    machine: str
    pid: int
    started: str | None
    host: str = ""
    job: str = ""
    restart: int = 0
    since: float = 0.0
    token: str = ""

    def alive(self, age: float) -> bool:
        """Whether its process lives, as far as this machine can tell; its last sign of life is ``age`` seconds old."""
        if self.machine == machine():
            return self.started is not None and started(self.pid) == self.started
        job, restart = slurm_job()
        if self.job and self.job == job and self.restart < restart:
            return False  # this very job, before it was requeued
        return age < STALE


@dataclass(frozen=True)
class Held:
    """What a living process holds: the names, and since when it has the oldest of them, in seconds since 1970."""

    owner: Owner
    names: tuple[str, ...]
    since: float


class Locks:
    """The locks of this process in ``folder``; ``close`` gives them back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_hex(8)
        self._mine: set[str] = set()
        self._closed = threading.Event()
        self._beat: threading.Thread | None = None

    def take(self, names: Iterable[str]) -> list[str]:
        """Lock those that no living process holds; returns them.

        Raises:
            WriteError: the folder cannot be written.
        """
        make_folder(self.folder)
        if self._beat is None:
            self._closed.clear()
            self._beat = threading.Thread(target=self._keep_fresh, name="locks", daemon=True)
            self._beat.start()
        job, restart = slurm_job()
        about = Owner(**identity(), host=platform.node(), job=job, restart=restart, since=time.time(), token=self.token)
        content = json.dumps(asdict(about)).encode()
        return [name for name in names if self._locked(name, content)]

    def give_back(self, names: Iterable[str]) -> None:
        """Unlock those that this process holds."""
        for name in names:
            self._mine.discard(name)
            path = self._path(name)
            if _token(path) == self.token:  # else this process slept so long that another one took it for dead
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """A section in which only one process is at a time; the others wait."""
        hidden = f".{name}"
        while not self.take([hidden]):
            time.sleep(WAIT)
        try:
            yield
        finally:
            self.give_back([hidden])

    def others(self) -> set[str]:
        """The names that other living processes hold."""
        return {name for held in held_in(self.folder, self._now()) for name in held.names} - self._mine

    def forget_job(self, job: str) -> None:
        """Free whatever this SLURM job holds: it is over."""
        for path in self.folder.glob(f"*{LOCK}"):
            owner = read_owner(path)
            if owner is not None and owner.job == job:
                self._free(path, owner.token)

    def tidy(self) -> bool:
        """Remove the locks of dead processes; returns whether no other process holds any."""
        foreign = [path for path in self.folder.glob(f"*{LOCK}") if _token(path) != self.token]
        freed = [not _lives(path, self._now()) and self._free(path, _token(path)) for path in foreign]
        return all(freed)

    def close(self) -> None:
        """Give everything back."""
        self._closed.set()
        if self._beat is not None:
            self._beat.join()
            self._beat = None
        self.give_back(list(self._mine))

    def _path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}{LOCK}"

    def _keep_fresh(self) -> None:
        while not self._closed.wait(HEARTBEAT):
            for name in list(self._mine):
                with contextlib.suppress(OSError):
                    os.utime(self._path(name))  # not `touch`: it would come back where others have removed it

    def _locked(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        for _ in range(2):  # again after a dead process's lock is gone
            try:
                file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                if (token := _token(path)) == self.token:
                    return True
                if _lives(path, self._now()) or not self._free(path, token):
                    return False
                continue
            except OSError as error:
                raise cannot_write(path, error) from error
            try:
                os.write(file, content)
            except OSError as error:
                path.unlink(missing_ok=True)
                raise cannot_write(path, error) from error
            finally:
                os.close(file)
            self._mine.add(name)
            return True
        return False

    def _now(self) -> float:
        """The time by the file server's clock, as a file that is touched now tells it."""
        clock = self.folder / f".{self.token}.clock"
        try:
            clock.touch()
            return clock.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            clock.unlink(missing_ok=True)

    def _free(self, path: Path, token: str) -> bool:
        """Remove a dead process's lock; of several that try at once one may, or it would remove the next lock."""
        guard = path.with_name(f"{path.name}.{token}")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError:
            if _age(guard, self._now()) > STALE:  # whoever was about to do so has died
                guard.unlink(missing_ok=True)
            return False
        if _token(path) == token:
            path.unlink(missing_ok=True)
        guard.unlink(missing_ok=True)
        return True


def held_in(folder: Path, now: float | None = None) -> list[Held]:
    """What living processes hold in a folder; ``now`` is the file server's time, None: this machine's."""
    now, found = time.time() if now is None else now, dict[str, list[tuple[str, Owner]]]()
    for path in sorted(folder.glob(f"*{LOCK}")):
        owner = read_owner(path)
        if owner is not None and owner.alive(_age(path, now)) and not path.name.startswith("."):
            found.setdefault(owner.token, []).append((unquote(path.name.removesuffix(LOCK)), owner))
    return [
        Held(locks[0][1], tuple(name for name, _ in locks), min(owner.since for _, owner in locks))
        for locks in found.values()
    ]


def read_owner(path: Path) -> Owner | None:
    """Whose lock this is; None if it is gone, damaged, or has no owner yet."""
    try:
        owner = Owner(**parsed(read_bytes(path, OWNER_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    texts = (owner.machine, owner.started or "", owner.host, owner.job, owner.token)
    numbers = (owner.pid, owner.restart, owner.since)
    sound = all(isinstance(text, str) for text in texts) and all(type(number) in (int, float) for number in numbers)
    return owner if sound and owner.token.isalnum() else None  # the token becomes a part of paths


def _token(path: Path) -> str:
    owner = read_owner(path)
    return "" if owner is None else owner.token


def _age(path: Path, now: float) -> float:
    """Seconds since a file's last sign of life; none if it is gone."""
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0


def _lives(path: Path, now: float) -> bool:
    """Whether a lock's process lives; a lock without an owner is one that is being made, or was when it died."""
    owner, age = read_owner(path), _age(path, now)
    return age < STALE if owner is None else owner.alive(age)
