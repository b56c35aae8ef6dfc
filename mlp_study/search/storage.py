"""Where a study is kept: a journal in the sweep's folder, or a database by its URL; the lock of all who share it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from mlp_study.errors import ConfigError, StudyError, masked
from mlp_study.runtime.files import cannot_write, make_folder
from mlp_study.sweep.locks import Locks, held_in

log = logging.getLogger(__name__)
Result = TypeVar("Result")

JOURNAL = "optuna.journal"
CONNECT = 5  # seconds until a server counts as out of reach
PATIENCE = 60.0  # seconds that a server in use may be away, such as for its restart
HEARTBEAT = 20  # seconds between two signs of life in a server's database


class StudyStorage:
    """The place of a study, and Optuna's storage once ``open`` was called.

    Attributes:
        url: a database; None for a journal.
        path: the journal's file, or SQLite's; None for a server.
        shown: its name, without password.
        locks: the lock files of all processes that use a file; None for a server.
        optuna: Optuna's storage, once it is open.

    Args:
        setting: ``hydra.sweeper.storage``; null is a journal in the sweep's folder.
        folder: the sweep's.

    Raises:
        ConfigError: ``setting`` is no path and no URL.
    """

    def __init__(self, setting: Any, folder: Path) -> None:
        if not isinstance(setting, str | None):
            raise ConfigError(
                "hydra.sweeper.storage takes null, the path of a journal, or a URL such as sqlite:///study.db"
            )
        kind, separator, rest = (setting or str(folder / JOURNAL)).partition("://")
        self.url = setting if separator and kind != "journal" else None
        self.path: Path | None = None
        if self.url is None:
            self.path = Path(rest or kind)
        elif kind.split("+")[0] == "sqlite":
            name = rest.removeprefix("/").partition("?")[0]
            if not name or name == ":memory:":
                raise ConfigError("hydra.sweeper.storage=sqlite: takes a file, such as sqlite:///study.db")
            self.path = Path(name)
        self.shown = masked(self.url or str(self.path))
        self.locks = None if self.path is None else Locks(self.path.with_name(f".{self.path.name}.workers"))
        self.optuna: BaseStorage

    def open(self) -> None:
        """Open Optuna's storage, or make it.

        Raises:
            ConfigError: it cannot be reached, or its driver is not installed; within seconds, without its password.
            WriteError: the journal's folder cannot be written.
        """
        if self.path is not None:
            make_folder(self.path.parent)
        try:
            self.optuna = self._opened()
        except ImportError as error:
            raise ConfigError(
                f"hydra.sweeper.storage={self.shown}: its driver is not installed ({masked(str(error))}); "
                "pip install 'mlp_study[postgresql]' brings PostgreSQL's"
            ) from None
        except StudyError:
            raise
        except Exception as error:  # whatever a driver says, and what Optuna makes of a journal's damaged line
            raise self.unreachable(error) from None

    def _opened(self) -> BaseStorage:
        if self.url is None:
            return JournalStorage(Journal(str(self.path)))
        if self.locks is not None:
            hosts = {held.owner.host for held in held_in(self.locks.folder)} - {platform.node()}
            if hosts:
                raise ConfigError(
                    f"hydra.sweeper.storage={self.shown} is in use on {', '.join(sorted(hosts))}: SQLite's own locks "
                    "do not hold in a shared folder; it takes null (a journal), or PostgreSQL"
                )
            with self.locks.exclusive("study"):
                return self._database()
        try:
            return self._database()
        except (IntegrityError, ProgrammingError):  # processes that begin together make Optuna's tables twice
            time.sleep(1)
            return self._database()

    def _database(self) -> RDBStorage:
        assert self.url is not None
        options: dict[str, Any] = {"connect_args": {"timeout": 60}}  # of SQLite's own lock
        if self.path is None:
            named = self.url.startswith(("postgresql", "mysql", "mariadb"))
            options = {"connect_args": {"connect_timeout": CONNECT} if named else {}, "pool_pre_ping": True}
        return RDBStorage(self.url, engine_kwargs=options, heartbeat_interval=HEARTBEAT if self.path is None else None)

    @property
    def database(self) -> RDBStorage:
        """The database's storage, below the cache that a study puts on it."""
        optuna: Any = self.optuna
        database: RDBStorage = getattr(optuna, "_backend", optuna)
        return database

    def close(self) -> None:
        """Close a database's connections; give back the lock files."""
        if self.locks is not None:
            self.locks.tidy()
            self.locks.close()
        if self.url is not None:
            self.optuna.remove_session()
            self.database.engine.dispose()

    def patiently(self, act: Callable[[], Result]) -> Result:
        """Return ``act()``; try again while the server is away. ``act`` may be broken off anywhere and begun again.

        Raises:
            ConfigError: it has been away for ``PATIENCE`` seconds; a file is not waited for.
        """
        end: float | None = None
        while True:
            try:
                return act()
            except (SQLAlchemyError, StorageInternalError) as error:
                if end is None:
                    end = time.monotonic() + (PATIENCE if self.path is None else 0)
                    log.warning("%s; trying again for %.0f s", self.unreachable(error), end - time.monotonic())
                if time.monotonic() >= end:
                    raise self.unreachable(error) from None
                time.sleep(0.5)

    def unreachable(self, error: Exception) -> ConfigError:
        """Return the error of a storage that does not answer, without passwords."""
        why = masked(" ".join(str(getattr(error, "orig", None) or error).split()))[:300]
        return ConfigError(f"hydra.sweeper.storage={self.shown} cannot be opened: {why}")

    @contextlib.contextmanager
    def locked(self, study: str) -> Iterator[None]:
        """Let nobody else propose trials of this study: none is proposed twice or beyond ``n_trials``.

        A server's lock ends with its connection, a file's with its process.
        """
        if self.locks is not None:
            with self.locks.exclusive("study"):
                yield
            return
        digest = hashlib.sha256(f"mlp_study study {study}".encode()).digest()[:8]
        number = int.from_bytes(digest, "big", signed=True)
        with self.database.engine.connect() as connection:
            kind = connection.dialect.name
            if kind == "postgresql":  # held until the end of the transaction, which is the connection's
                connection.execute(text(f"SELECT pg_advisory_xact_lock({number})"))
            elif kind in ("mysql", "mariadb"):
                connection.execute(text(f"SELECT GET_LOCK('mlp_study{number}', 600)"))
            try:
                yield
            finally:
                if kind in ("mysql", "mariadb"):
                    connection.execute(text(f"SELECT RELEASE_LOCK('mlp_study{number}')"))


class Journal(JournalFileBackend):
    """Optuna's journal, which also goes on behind a line that a full disk or a power cut has left unfinished."""

    def __init__(self, path: str) -> None:
        super().__init__(path, JournalFileOpenLock(path))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Read lines; Optuna notices that the last one is damaged only when another one follows, at any moment."""
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise ConfigError(f"hydra.sweeper.storage={self._file_path} cannot be opened: {error}") from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add lines, in place of a half line at the end: what followed it could not be read.

        Without Optuna's fsync, 6 ms a line: like all records here it survives the process, not a power cut.

        Raises:
            WriteError: the disk is full or read-only.
        """
        lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
        try:
            self._lock.acquire()
            try:
                with Path(self._file_path).open("ab+") as journal:
                    end = journal.seek(0, os.SEEK_END)
                    journal.seek(max(0, end - 1))
                    if journal.read() not in (b"", b"\n"):
                        journal.seek(0)
                        journal.truncate(journal.read().rfind(b"\n") + 1)
                    journal.write(lines.encode())
            finally:
                self._lock.release()
        except OSError as error:
            raise cannot_write(Path(self._file_path), error) from error
