"""The C library's allocator while a population trains: each step asks for the buffers that the last one freed.

Left to itself, glibc maps a block of more than 32 MB, such as the gradient of 128 first layers 784-100, afresh each
time, and gives the top of its heap back whenever that is free: the kernel then clears every page again in every step.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 2**30  # larger blocks, such as whole data sets, still go back at once
BEFORE = 2**25  # where glibc's own adaptation of the thresholds ends


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Freed blocks of up to 1 GiB stay with the process within; at the end all that is free goes back.

    Only with glibc: elsewhere it does nothing.
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
