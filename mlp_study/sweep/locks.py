"""Lock files: processes that share a folder never work on the same thing, and dead ones hold nothing.

A lock is a file that only one process can make (``O_EXCL``, which network file systems know, too). It names its
process, which has a file of its own beside it and touches that as a sign of life. The lock of a dead process counts no
more: a process of this machine is looked up, one of another machine must have given a sign within ``STALE`` seconds, by
the file server's clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from mlp_study.runtime.files import cannot_write, make_folder, write_file
from mlp_study.runtime.processes import identity, machine, slurm_job, started

HEARTBEAT = 20.0  # seconds between two signs of life
STALE = 300.0  # without one, a process of another machine counts as dead
WAIT = 0.02  # seconds between two attempts to enter an exclusive section
LOCK = ".lock"


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
        beat: its last sign of life, in seconds since 1970 by the file server's clock.
    """

    machine: str
    pid: int
    started: str | None
    host: str = ""
    job: str = ""
    restart: int = 0
    beat: float = 0.0

    def alive(self, now: float) -> bool:
        """Whether its process lives, as far as this machine can tell; ``now`` by the file server's clock."""
        if self.machine == machine():
            return self.started is not None and started(self.pid) == self.started
        job, restart = slurm_job()
        if self.job and self.job == job and self.restart < restart:
            return False  # this very job, before it was requeued
        return now - self.beat < STALE


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
        self.token = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._sign = folder / f"{self.token}.json"
        self._mine: set[str] = set()
        self._closed = threading.Event()
        self._beat: threading.Thread | None = None

    def take(self, names: Iterable[str]) -> list[str]:
        """Lock those that no living process holds; returns them.

        Raises:
            WriteError: the folder cannot be written.
        """
        self._show_up()
        return [name for name in names if self._locked(name)]

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
        self._show_up()
        return {name for held in held_in(self.folder, self._now()) for name in held.names} - self._mine

    def forget_job(self, job: str) -> None:
        """Free whatever this SLURM job holds: it is over."""
        for path in self.folder.glob("*.json"):
            owner = read_owner(path)
            if owner is not None and owner.job == job:
                path.unlink(missing_ok=True)

    def tidy(self) -> bool:
        """Remove what dead processes left; returns whether this process is the only one here."""
        now, alone = self._now(), True
        for path in [path for path in self.folder.glob("*.json") if path != self._sign]:
            owner = read_owner(path)
            if owner is not None and owner.alive(now):
                alone = False
            else:
                path.unlink(missing_ok=True)
        for path in self.folder.glob(f"*{LOCK}") if alone else ():
            if (token := _token(path)) != self.token:
                self._free(path, token)
        return alone

    def close(self) -> None:
        """Give everything back."""
        self._closed.set()
        if self._beat is not None:
            self._beat.join()
            self._beat = None
        self.give_back(list(self._mine))
        with contextlib.suppress(OSError):
            self._sign.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}{LOCK}"

    def _show_up(self) -> None:
        """Write this process's own file, and keep it fresh."""
        if self._beat is not None and self._sign.exists():
            return
        job, restart = slurm_job()
        make_folder(self.folder)
        owner = Owner(**identity(), host=platform.node(), job=job, restart=restart)
        write_file(self._sign, json.dumps(asdict(owner)))
        if self._beat is None:
            self._closed.clear()
            self._beat = threading.Thread(target=self._keep_fresh, name="locks", daemon=True)
            self._beat.start()

    def _keep_fresh(self) -> None:
        while not self._closed.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                os.utime(self._sign)  # not `touch`: it would come back where others have removed it

    def _now(self) -> float:
        """The time by the clock that signs of life are measured with, the file server's."""
        try:
            os.utime(self._sign)
            return self._sign.stat().st_mtime
        except OSError:
            return time.time()

    def _locked(self, name: str) -> bool:
        path = self._path(name)
        for _ in range(2):  # again after a dead process's lock is gone
            try:
                file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                token = _token(path)
                if token == self.token:
                    return True
                if self._lives(path, token) or not self._free(path, token):
                    return False
                continue
            except OSError as error:
                raise cannot_write(path, error) from error
            self._mine.add(name)
            self._write_token(path, file)
            return True
        return False

    def _write_token(self, path: Path, file: int) -> None:
        try:
            os.write(file, self.token.encode())
        except OSError as error:
            path.unlink(missing_ok=True)
            raise cannot_write(path, error) from error
        finally:
            os.close(file)

    def _lives(self, path: Path, token: str) -> bool:
        """Whether the lock's process lives; a lock without a name is one that is being made, or was when it died."""
        now = self._now()
        if token:
            owner = read_owner(self.folder / f"{token}.json")
            return owner is not None and owner.alive(now)
        try:
            return now - path.stat().st_mtime < STALE
        except OSError:
            return False

    def _free(self, path: Path, token: str) -> bool:
        """Remove a dead process's lock; of several that try at once one may, or it would remove the next lock."""
        guard = path.with_name(f"{path.name}.{token}")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError:
            with contextlib.suppress(OSError):
                if self._now() - guard.stat().st_mtime > STALE:  # whoever was about to do so has died
                    guard.unlink()
            return False
        if _token(path) == token:
            path.unlink(missing_ok=True)
        guard.unlink(missing_ok=True)
        return True


def held_in(folder: Path, now: float | None = None) -> list[Held]:
    """What living processes hold in a folder; nothing is written."""
    now = time.time() if now is None else now
    names: dict[str, list[tuple[str, float]]] = {}
    for path in sorted(folder.glob(f"*{LOCK}")):
        with contextlib.suppress(OSError):
            if not path.name.startswith("."):
                names.setdefault(_token(path), []).append((unquote(path.name.removesuffix(LOCK)), path.stat().st_mtime))
    owners = {token: read_owner(folder / f"{token}.json") for token in names}
    return [
        Held(owner, tuple(name for name, _ in locks), min(since for _, since in locks))
        for token, locks in names.items()
        if (owner := owners[token]) is not None and owner.alive(now)
    ]


def read_owner(path: Path) -> Owner | None:
    """The process in a file; None if it is gone or damaged. Nothing is written."""
    try:
        beat = path.stat().st_mtime
        return Owner(**{**json.loads(path.read_bytes()), "beat": beat})
    except (OSError, ValueError, TypeError):
        return None


def _token(path: Path) -> str:
    """The name of the process that a lock belongs to; empty if it is gone, or has none yet."""
    try:
        found = path.read_text()
    except (OSError, ValueError):
        return ""
    return found if re.fullmatch(r"[\w.-]+", found) else ""  # it becomes a part of paths
