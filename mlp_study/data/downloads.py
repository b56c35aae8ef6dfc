"""Downloads by torchvision's downloader: whole or not at all, quiet without a terminal, and never a hang."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import socket
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

File = tuple[str, str, Sequence[str]]  # its name, MD5 sum and addresses

PATIENCE = 8.0  # seconds for a mirror to answer, and for the next bytes of a download


def download(folder: Path, files: Sequence[File]) -> None:
    """Fetch files into ``folder``, each checked under another name, then renamed: other processes see whole files.

    Raises:
        OSError: the folder is read-only or full, no mirror answers, or what the mirrors send is damaged.
    """
    _require_writable(folder)
    urls = [url for *_, addresses in files for url in addresses]
    answering = _answering({urlsplit(url).netloc: url for url in urls})
    if not answering:
        raise OSError(f"no answer from {' or '.join(dict.fromkeys(urlsplit(url).netloc for url in urls))}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch, _quiet(), _impatient():
        for name, md5, addresses in files:
            _fetch(name, md5, [url for url in addresses if urlsplit(url).netloc in answering], Path(scratch))
            Path(scratch, name).replace(folder / name)


def _fetch(name: str, md5: str, urls: Sequence[str], folder: Path) -> None:
    """Download one file from the first mirror that sends it whole; torchvision's downloader checks its MD5 sum."""
    download_url = importlib.import_module("torchvision.datasets.utils").download_url
    failures = []
    for url in urls:
        try:
            download_url(url, folder, name, md5)
        except (OSError, RuntimeError, HTTPException) as error:
            failures.append(f"{url}: {error}")
        else:
            return
    raise OSError("; ".join(failures) or f"no mirror that has {name} answers")


def _require_writable(folder: Path) -> None:
    """Raise PermissionError if the folder, or the closest one above that exists, is not meant to be written to.

    The mode is asked as well as the system, since a privileged user may write anywhere and still should not.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.stat().st_mode & 0o222 or not os.access(existing, os.W_OK):
        raise PermissionError(f"the folder {existing} is read-only")


def _answering(url_of_server: dict[str, str]) -> set[str]:
    """Find the servers that answer within ``PATIENCE``, all asked at once, through a proxy where one is set.

    Threads ask, since looking up a name knows no time limit; one that never returns ends with the process.
    """
    answered: set[str] = set()

    def ask(server: str, url: str) -> None:
        with contextlib.suppress(Exception), urllib.request.urlopen(url, timeout=PATIENCE):
            answered.add(server)

    asking = [threading.Thread(target=ask, args=pair, daemon=True) for pair in url_of_server.items()]
    for thread in asking:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in asking:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(answered)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """End a silent connection after ``PATIENCE`` seconds: torchvision's downloader sets no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Show torchvision's progress bar only where someone can watch it."""
    return contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
