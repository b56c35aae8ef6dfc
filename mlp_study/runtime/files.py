"""Files written whole or not at all, by a temporary name and a rename; and the lock of those who share a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from mlp_study.errors import StudyError

_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EEXIST: "a file stands where the folder belongs",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}


class WriteError(StudyError):
    """A record that could not be written: the disk is full, read-only or gone."""


def write_file(path: Path, content: bytes | str) -> None:
    """``path`` with this content (text as UTF-8): whole, or as it was before.

    Missing folders are made; permissions are what the umask gives any new file. No fsync (it costs 3 ms a file): the
    file survives the end of the process in any way, a power cut may take it.

    Raises:
        WriteError: the disk is full or read-only, or the folder may not be written; nothing is left behind.
    """
    # Hidden, so that no listing takes it for a record, and no other process's or thread's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    encoded = content.encode() if isinstance(content, str) else content
    try:
        try:
            temporary.write_bytes(encoded)
        except FileNotFoundError:  # rarely: to ask for the folder each time would cost as much as the writing
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(encoded)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # in a read-only folder there is nothing to remove
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """The critical section of all processes that name this file; the kernel ends it with its process.

    Raises:
        WriteError: it cannot be written.
    """
    try:
        file = path.open("a")
    except OSError as error:
        raise cannot_write(path, error) from error
    with file:
        with contextlib.suppress(ImportError, OSError):  # file systems without locks go without
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_folder(folder: Path) -> None:
    """Make it, with the folders above it.

    Raises:
        WriteError: the disk is full or read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> WriteError:
    """The one line for an operating system's refusal to write ``path``."""
    return WriteError(f"cannot write {path}: {cause_of(error)}; make room or choose another folder")


def cause_of(error: OSError) -> str:
    """Why the operating system refused, in a few words."""
    return _CAUSES.get(error.errno or 0, error.strerror or str(error))
