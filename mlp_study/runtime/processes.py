"""What a process can know of itself and of others: its cores and GPUs, its name among all machines' processes."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(workers: int) -> int:
    """Threads of each of ``workers`` processes that divide the cores."""
    return max(1, cores() // workers)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names CUDA_VISIBLE_DEVICES takes."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def identity() -> dict[str, Any]:
    """Tell one process from all others of all machines and containers; numbers of processes are used again."""
    return {"machine": machine(), "pid": os.getpid(), "started": started(os.getpid())}


def machine() -> str:
    """Name this machine since its last start and, on Linux, the container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def started(pid: int) -> str | None:
    """When a process of this machine was started, in the kernel's own count; None if it is gone or dead.

    Without ``/proc`` only whether it lives is known.
    """
    if not Path("/proc/self/stat").exists():
        return "alive" if _lives(pid) else None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _lives(pid: int) -> bool:
    if os.name == "nt":  # there a signal 0 would end the process
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # type: ignore[attr-defined,unused-ignore]
        ctypes.windll.kernel32.CloseHandle(handle)  # type: ignore[attr-defined,unused-ignore]
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def slurm_job() -> tuple[str, int]:
    """The SLURM job that this process belongs to, and how often it was requeued; empty and 0 outside of SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return job, int(restarts) if restarts.isdigit() else 0
