"""Read a file that somebody else may have written: a regular file of bounded size and depth, whose text can be written.

A pipe would be waited for, a device never ends, deep nesting ends the recursion of whoever walks through it, and half
a surrogate pair ends whoever prints it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from mlp_study.errors import DataError

LARGEST = 256 * 2**20  # bytes of a record
DEEPEST = 64  # levels of lists and mappings in a record
# A pipe without a writer must not be waited for, a child inherits nothing; not every system has each of them.
FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_LONG_NUMBER = re.compile(rb"\d{300}")  # beyond what a float holds


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; a link to one will do.
        largest: bytes that it may have.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is no regular file, or too large.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > largest:
            raise ValueError(f"it has more than {largest} bytes")
        return file.read(largest)


def opened(path: Path) -> BufferedReader:
    """Open a regular file.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is no regular file.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | FLAGS), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError("it is no regular file")
    return file


def read_record(path: Path, largest: int = LARGEST) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is missing, damaged, or not what a record may be; the message names the file.
    """
    try:
        return parsed(read_bytes(path, largest))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def parsed(text: bytes, finite: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: as the file has it.
        finite: whether NaN and the infinities, which strict JSON lacks, are damage.

    Raises:
        ValueError: it is damaged, nested too deeply, holds text that cannot be encoded or a number that is too long.
    """
    if _LONG_NUMBER.search(text):
        raise ValueError("a number has too many digits")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count(b"[") + text.count(b"{") > DEEPEST and not _shallow(found):
        raise ValueError("it is nested too deeply")
    if finite:
        json.dumps(found, allow_nan=False)
    if b"\\ud" in text.lower():
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _shallow(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST):
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node)]
        level = [node for node in level if isinstance(node, dict | list)]
        if not level:
            return True
    return False
