"""The memory of this machine: how much is free, and the C library's allocator while a population trains."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 2**30  # larger blocks, such as whole data sets, still go back at once
BEFORE = 2**25  # where glibc's own adaptation of the thresholds ends
UNKNOWN = 4 * 2**30  # free bytes where the system does not say


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed blocks of up to 1 GiB in the process within; give all that is free back at the end. Only with glibc.

    Left to itself, glibc maps a block of more than 32 MB, such as the gradient of 128 first layers 784-100, afresh each
    time, and gives the top of its heap back whenever that is free: the kernel clears every page again in every step.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set_thresholds(libc, KEPT)
    try:
        yield
    finally:
        _set_thresholds(libc, BEFORE)
        libc.malloc_trim(0)


def _set_thresholds(libc: ctypes.CDLL, size: int) -> None:
    for threshold in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        libc.mallopt(threshold, size)


def free_bytes() -> int:
    """Return the free memory of this machine, or of the Linux control group that limits this process."""
    found = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on macOS and Windows
        found.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            found = [int(line.split()[1]) * 1024]
    group = Path("/sys/fs/cgroup")
    limit, used = _lines(group / "memory.max"), _lines(group / "memory.current")
    if limit and used and limit[0].strip().isdigit():
        found.append(max(0, int(limit[0]) - int(used[0])))
    return min(found, default=UNKNOWN)


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return ()
