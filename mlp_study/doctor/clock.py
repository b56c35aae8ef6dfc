"""The clock that a budget is measured by."""

from __future__ import annotations

import threading
import time

PATIENCE = 3.0  # times the budget that it may take on a machine that is busy with other things

_start = threading.local()


def now() -> float:
    """Seconds of this thread's own computing, or a third of the time that has passed, where that is more.

    So a busy machine gives the same answer as an idle one, later.
    """
    if not hasattr(_start, "at"):
        _start.at = (time.thread_time(), time.perf_counter())
    computing, passed = _start.at
    return float(max(time.thread_time() - computing, (time.perf_counter() - passed) / PATIENCE))
