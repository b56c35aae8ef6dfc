"""Where a study lies: a journal in the sweep's folder, or a database by its URL; and the lock of all who share it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from mlp_study.errors import ConfigError, masked
from mlp_study.runtime.files import cannot_write, file_lock

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import Engine

log = logging.getLogger(__name__)
Found = TypeVar("Found")

JOURNAL = "optuna.journal"
CONNECT = 5  # seconds until a server counts as out of reach
PATIENCE = 60.0  # seconds that a server in use may be away, such as for its restart
BEAT = 20  # seconds between two signs of life in a server's database


@dataclass(frozen=True)
class Place:
    """A study's storage before it is opened.

    Attributes:
        url: a database; None for a journal.
        path: the journal's file, or the database's where that is one.
    """

    url: str | None
    path: Path | None

    @property
    def shown(self) -> str:
        """Its name, without password."""
        return masked(self.url) if self.url is not None else str(self.path)

    @property
    def claims(self) -> Path | None:
        """The folder of the processes' signs of life; None: the database has them."""
        return None if self.path is None else self.path.with_name(f".{self.path.name}.workers")


def read_place(storage: Any, folder: Path) -> Place:
    """Where ``storage`` is; null is the journal in the sweep's folder.

    Raises:
        ConfigError: it is no path and no URL.
    """
    if storage is None or storage == "":
        return Place(None, folder / JOURNAL)
    if not isinstance(storage, str):
        raise ConfigError(
            "hydra.sweeper.storage takes null, the path of a journal, or a URL such as sqlite:///study.db"
        )
    if "://" not in storage:
        return Place(None, Path(storage))
    kind, _, rest = storage.partition("://")
    if kind == "journal":
        return Place(None, Path(rest))
    if kind.split("+")[0] == "sqlite":
        name = rest.removeprefix("/").partition("?")[0]
        if not name or name == ":memory:":
            raise ConfigError("hydra.sweeper.storage=sqlite: takes a file, such as sqlite:///study.db")
        return Place(storage, Path(name))
    return Place(storage, None)


def open_storage(place: Place) -> BaseStorage:
    """Optuna's storage.

    Raises:
        ConfigError: it cannot be reached, or its driver is not installed; within seconds, without its password.
        WriteError: the journal's folder cannot be written.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    if place.path is not None:
        try:
            place.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(place.path, error) from error
    try:
        with _one_at_a_time(place):
            if place.url is None:
                assert place.path is not None
                return optuna.storages.JournalStorage(_backend(place, place.path))
            server = place.path is None
            return optuna.storages.RDBStorage(
                place.url, engine_kwargs=_engine_options(place), heartbeat_interval=BEAT if server else None
            )
    except ImportError as error:
        raise ConfigError(
            f"hydra.sweeper.storage={place.shown}: its driver is not installed ({masked(str(error))}); "
            "pip install 'mlp_study[postgresql]' brings PostgreSQL's"
        ) from None
    except (SQLAlchemyError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise unreachable(place, error) from None
    except (TypeError, AttributeError, AssertionError) as error:  # what Optuna makes of a journal's damaged line
        raise unreachable(place, error) from None


def close_storage(storage: BaseStorage) -> None:
    """Close a database's connections."""
    engine = getattr(getattr(storage, "_backend", storage), "engine", None)
    if engine is not None:
        storage.remove_session()
        engine.dispose()


def patiently(place: Place, act: Callable[[], Found]) -> Found:
    """``act()``, and again while the server is away; ``act`` may be broken off anywhere and begun again.

    Raises:
        ConfigError: it has been away for ``PATIENCE`` seconds; a file is not waited for.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    end: float | None = None
    while True:
        try:
            return act()
        except (SQLAlchemyError, StorageInternalError) as error:
            if end is None:
                end = time.monotonic() + (PATIENCE if place.path is None else 0)
                log.warning("%s; trying again for %.0f s", unreachable(place, error), end - time.monotonic())
            if time.monotonic() >= end:
                raise unreachable(place, error) from None
            time.sleep(0.5)


def unreachable(place: Place, error: Exception) -> ConfigError:
    """The error of a storage that does not answer, without passwords."""
    why = masked(" ".join(str(getattr(error, "orig", None) or error).split()))[:300]
    return ConfigError(f"hydra.sweeper.storage={place.shown} cannot be opened: {why}")


def _engine_options(place: Place) -> dict[str, Any]:
    """How long a server may take to answer; SQLite's timeout is for its lock."""
    kind = str(place.url).partition(":")[0]
    if place.path is not None:
        return {"connect_args": {"timeout": 60}}
    named = kind.startswith(("postgresql", "mysql", "mariadb"))
    return {"connect_args": {"connect_timeout": CONNECT} if named else {}, "pool_pre_ping": True}


def _backend(place: Place, path: Path) -> Any:
    """Optuna's journal under a lock that the kernel takes from the dead; Optuna's own stays for 30 seconds."""
    from optuna.storages.journal import JournalFileBackend
    from optuna.storages.journal._file import BaseJournalFileLock

    lock = path.with_name(f".{path.name}.lock")

    class Lock(BaseJournalFileLock):
        def __init__(self) -> None:
            self._held = contextlib.ExitStack()

        def acquire(self) -> bool:
            self._held.enter_context(file_lock(lock))
            return True

        def release(self) -> None:
            self._held.close()

    class Backend(JournalFileBackend):
        def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
            """Optuna notices a last line that is damaged only when another one follows, at any later moment."""
            try:
                yield from super().read_logs(log_number_from)
            except ValueError as error:
                raise unreachable(place, error) from None

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            """Without Optuna's fsync, 6 ms a line: like all records here it survives the process, not a power cut."""
            lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
            with file_lock(lock), path.open("ab+") as file:
                _mend(file)
                file.write(lines.encode())

    return Backend(str(path), Lock())


def _mend(journal: BinaryIO) -> None:
    """Cut off a line that a full disk or a power cut has left unfinished: what follows it could not be read.

    Only where a line is about to be added, under the lock: elsewhere it may be one that another process is writing.
    """
    size = journal.seek(0, os.SEEK_END)
    journal.seek(max(0, size - 1))
    if journal.read() not in (b"", b"\n"):
        journal.seek(0)
        journal.truncate(journal.read().rfind(b"\n") + 1)


@contextlib.contextmanager
def _one_at_a_time(place: Place) -> Iterator[None]:
    """Optuna makes its tables where it finds none: processes that begin together would make them twice."""
    if place.path is not None:
        with file_lock(_study_file(place.path)):
            yield
        return
    from sqlalchemy import create_engine

    assert place.url is not None
    engine = create_engine(place.url, **_engine_options(place))
    try:
        with _server_lock(engine, "tables"):
            yield
    finally:
        engine.dispose()


@contextlib.contextmanager
def study_lock(place: Place, storage: Any, study: str) -> Iterator[None]:
    """While it is held nobody else proposes trials of this study: none is proposed twice or beyond ``n_trials``."""
    if place.path is not None:
        with file_lock(_study_file(place.path)):
            yield
        return
    with _server_lock(getattr(storage, "_backend", storage).engine, f"study {study}"):
        yield


def _study_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.study")


@contextlib.contextmanager
def _server_lock(engine: Engine, name: str) -> Iterator[None]:
    """The critical section of all processes on a server's database; it ends with their connection if they die."""
    from sqlalchemy import text

    number = int.from_bytes(hashlib.sha256(f"mlp_study {name}".encode()).digest()[:8], "big", signed=True)
    kind = engine.dialect.name
    with engine.connect() as connection:
        if kind == "postgresql":  # held until the end of the transaction, which is the connection's
            connection.execute(text(f"SELECT pg_advisory_xact_lock({number})"))
            yield
        elif kind in ("mysql", "mariadb"):
            connection.execute(text(f"SELECT GET_LOCK('mlp_study{number}', 600)"))
            try:
                yield
            finally:
                connection.execute(text(f"SELECT RELEASE_LOCK('mlp_study{number}')"))
        else:  # databases without locks by name go without
            yield
