"""What a process knows of itself and of others: cores, GPUs, and what tells it from all other processes."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
from pathlib import Path
from typing import Any

from mlp_study.runtime.signals import PREEMPTING


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(workers: int) -> int:
    """Return the threads of each of ``workers`` processes that divide the cores."""
    return max(1, cores() // workers)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def identity() -> dict[str, Any]:
    """Return what tells this process from all others of all machines; process ids are used again."""
    return {"machine": machine(), "pid": os.getpid(), "started": started(os.getpid())}


def machine() -> str:
    """Name this machine since its last start and, on Linux, the container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def started(pid: int) -> str | None:
    """Return when a process of this machine was started, in the kernel's count; None if it is gone or dead.

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
    """Return the SLURM job of this process and how often it was requeued; empty and 0 outside of SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    return job, int(restarts) if restarts.isdigit() else 0


def start_resource_tracker() -> None:
    """Start the process that ``multiprocessing`` starts beside its first child, deaf to what schedulers send.

    A scheduler's signal goes to every process of a job, and would end this one, which then warns at length.
    """
    if not PREEMPTING or not hasattr(signal, "pthread_sigmask"):
        return
    from multiprocessing import resource_tracker

    mask = signal.pthread_sigmask(signal.SIG_BLOCK, PREEMPTING)  # what is blocked here is blocked in a child, too
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
