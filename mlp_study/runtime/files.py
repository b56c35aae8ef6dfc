"""Write files whole or not at all, by a temporary name and a rename."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Any

from mlp_study.errors import ConfigError, StudyError

_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EEXIST: "a file stands where the folder belongs",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}


TEMPORARY = ".tmp"  # how the name of a file that is being written ends


class WriteError(StudyError):
    """A record that could not be written: the disk is full, read-only or gone."""


def write_file(path: Path, content: bytes | str) -> None:
    """Write this content (text as UTF-8) to ``path``: it is then whole, or as it was before.

    Missing folders are made; permissions are what the umask gives any new file. No fsync (it costs 3 ms a file): the
    file survives the end of the process in any way, a power cut may take it.

    Raises:
        WriteError: the disk is full or read-only, or the folder may not be written; nothing is left behind.
    """
    # Hidden, so that no listing takes it for a record, and no other process's or thread's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")
    encoded = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        try:
            _write_new(temporary, encoded)
        except FileNotFoundError:  # rarely: to ask for the folder each time would cost as much as the writing
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(temporary, encoded)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # in a read-only folder there is nothing to remove
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that was not there: never into what a link of this name points to."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)


def refuse_links(folder: Path) -> None:
    """Refuse a folder, which may be a stranger's, where links would take what is written there to another place.

    Raises:
        ConfigError: something directly in the folder is a symbolic link; the message names it.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                refuse_link(Path(entry.path))


def refuse_link(path: Path) -> None:
    """Refuse it if it is a symbolic link; for the error see ``refuse_links``."""
    if path.is_symlink():
        raise ConfigError(f"{path} is a symbolic link, through which nothing is written or deleted; remove it")


def table_cell(value: Any) -> Any:
    """``value`` for a CSV file, where a spreadsheet would take some texts for formulas.

    >>> [table_cell(value) for value in ("=1+1", "-0.5", "@x", "relu", -1)]
    ["'=1+1", '-0.5', "'@x", 'relu', -1]
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def make_folder(folder: Path) -> None:
    """Make the folder, with those above it.

    Raises:
        WriteError: the disk is full or read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> WriteError:
    """Make the one-line error for an operating system's refusal to write ``path``."""
    return WriteError(f"cannot write {path}: {cause_of(error)}; make room or choose another folder")


def cause_of(error: OSError) -> str:
    """Say why the operating system refused, in a few words."""
    return _CAUSES.get(error.errno or 0, error.strerror or str(error))
