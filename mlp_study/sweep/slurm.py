"""A sweep as tasks of a SLURM array, each of which trains one shard; this process waits for them.

The tasks are the same commands that ``scripts/slurm/sweep.sbatch`` submits. What they have trained is in the sweep's
folder, so nothing depends on an answer: a shard whose task is gone from the queue before all its runs are finished is
submitted again, and after ``max_retries`` its unfinished runs are recorded as failed. A task that SLURM preempts, or
that reaches its time limit, writes a checkpoint, requeues itself and goes on; that is no death.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.config.plugin_settings import SlurmConfig
from mlp_study.errors import ConfigError, Interrupted, StudyError, no_such_option
from mlp_study.runtime import signals
from mlp_study.sweep.executor import After, Executor, SavePolicy
from mlp_study.sweep.memory import GB, SHARE
from mlp_study.sweep.plan import Cell, Population
from mlp_study.sweep.store import INSIDE, Store

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

LOGS = "slurm"  # within the sweep's own folder: each task's log
RESULT_WAIT = 10.0  # seconds that a file server may take to show the results of a task that is gone
ASK_TIMEOUT = 60.0
MOST_TASKS = 1000  # of an array, by SLURM's default

SCRIPT = """#!/usr/bin/env bash
{options}
export OMP_NUM_THREADS={threads}
{setup}
{command} "shard=$SLURM_ARRAY_TASK_ID/{shards}" &
child=$!
trap 'kill -USR1 "$child"' USR1 USR2
trap 'kill -TERM "$child"' TERM
while true; do
    wait "$child"
    status=$?
    kill -0 "$child" 2>/dev/null || break # a signal ends `wait` as well: then wait again
done
if [ "$status" -eq 75 ]; then # preempted: its checkpoint is written
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$status"
"""


def read_settings(node: dict[str, Any] | None) -> SlurmConfig:
    """The launcher's ``slurm`` node, checked.

    Raises:
        ConfigError: an unknown or impossible setting, or no SLURM here.
    """
    known = {f.name: f for f in dataclasses.fields(SlurmConfig)}
    for key in node or {}:
        if key not in known:
            raise no_such_option(f"hydra.launcher.slurm.{key}", [f"hydra.launcher.slurm.{name}" for name in known])
    settings = SlurmConfig(**(node or {}))
    lowest = {"timeout_min": 1, "cpus_per_task": 1, "array_parallelism": 1, "max_retries": 0, "signal_delay_s": 1}
    for name, least in lowest.items():
        got = getattr(settings, name)
        if not isinstance(got, int) or got < least:
            raise ConfigError(
                f"hydra.launcher.slurm.{name}={got} is not valid; it takes a whole number in [{least}, inf)"
            )
    if not settings.poll_s > 0:
        raise ConfigError(f"hydra.launcher.slurm.poll_s={settings.poll_s} is not valid; it takes a number in (0, inf)")
    if settings.signal_delay_s >= 60 * settings.timeout_min:
        raise ConfigError(
            f"hydra.launcher.slurm.signal_delay_s={settings.signal_delay_s} must be less than the time limit, "
            f"{60 * settings.timeout_min} s (hydra.launcher.slurm.timeout_min={settings.timeout_min})"
        )
    if shutil.which("sbatch") is None:
        raise ConfigError("hydra.launcher.executor=slurm: there is no sbatch here; start the sweep on a SLURM cluster")
    return settings


def population_bytes(settings: SlurmConfig) -> int | None:
    """What a population may take of a task's memory; None: as if it trained on this machine."""
    return None if settings.mem_gb is None else int(settings.mem_gb * GB * SHARE)


def task_command(master: DictConfig, folder: Path) -> list[str]:
    """Return this command line as a task runs it: all in its own process, and into the same folder."""
    hydra = master.hydra
    sources = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    own = [o for o in hydra.overrides.hydra if not o.lstrip("+~").startswith(("hydra.launcher", "hydra/launcher"))]
    words = [*own, *hydra.overrides.task, "hydra/launcher=population", "hydra.launcher.executor=process"]
    if master.get("sweep_dir") is None:
        words.append(f"sweep_dir={folder}")
    flags = [word for path in sources for word in ("--config-dir", path)]
    return [sys.executable, "-m", "mlp_study.train", "-m", *flags, *words]


def batch_script(command: Sequence[str], shards: Sequence[int], count: int, logs: Path, settings: SlurmConfig) -> str:
    """The array's batch script: a task for each of these shards, of ``count`` in all."""
    options: dict[str, Any] = {
        "job-name": "mlp_study",
        "array": f"{','.join(map(str, shards))}%{min(settings.array_parallelism, len(shards))}",
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": settings.timeout_min,
        "cpus-per-task": settings.cpus_per_task,
        "mem": None if settings.mem_gb is None else f"{round(1024 * settings.mem_gb)}M",
        "gpus-per-node": settings.gpus_per_node or None,
        "signal": f"B:USR1@{settings.signal_delay_s}",
        "output": logs / "%A_%a.out",
        "open-mode": "append",
        "requeue": True,
        **{name.replace("_", "-"): value for name, value in settings.additional_parameters.items()},
    }
    lines = [
        f"#SBATCH --{name}" + ("" if value is True else f"={shlex.quote(str(value))}")
        for name, value in options.items()
        if value is not None and value is not False
    ]
    return SCRIPT.format(
        options="\n".join(lines),
        threads=settings.cpus_per_task,
        setup="\n".join(settings.setup),
        command=shlex.join(command),
        shards=count,
    )


class SlurmExecutor:
    """Like ``Executor``, with each shard a task of a SLURM array.

    Args:
        folder: the sweep's folder, which all nodes see.
        policy: which models and metadata are saved, of runs that fail.
        settings: the launcher's.
        command: what a task runs, but for its shard.
    """

    def __init__(self, folder: Path, policy: SavePolicy, settings: SlurmConfig, command: Sequence[str]) -> None:
        self.folder, self.policy, self.settings, self.command = folder.absolute(), policy, settings, command
        self.logs = self.folder / INSIDE / LOGS
        self.store = Store(self.folder)
        self._deaths: collections.Counter[int] = collections.Counter()

    def run(self, shards: Sequence[Sequence[Cell]], todo: Sequence[int], after: After) -> int:
        """Train what is left of the shards; returns how many runs had to be recorded as failed here.

        Args:
            shards: the runs of each.
            todo: the numbers of those that have something to train.
            after: told of each that is done.

        Raises:
            Interrupted: SIGINT or SIGTERM; the tasks are cancelled, and write checkpoints.
            StudyError: SLURM refuses the tasks.
        """
        failed = 0
        with signals.deferred(), contextlib.closing(self.store):
            tasks: dict[str, int] = {}
            try:
                tasks |= self._submit(todo, len(shards))
                while tasks:
                    time.sleep(self.settings.poll_s)
                    signals.raise_if_asked()
                    queued, again, end = in_queue(tasks), [], time.monotonic() + RESULT_WAIT
                    for job in [job for job in tasks if job not in queued]:
                        shard = tasks.pop(job)
                        if (cause := self._unfinished(shards[shard], job, end)) is None:
                            after(Population(tuple(shards[shard])), len(shards[shard]))
                        elif self._dies_again(shard, job, cause):
                            again.append(shard)
                        else:
                            failed += self._give_up(shards[shard], shard, cause)
                    tasks |= self._submit(again, len(shards))
            except BaseException as error:
                if tasks:
                    subprocess.run(["scancel", *tasks], check=False, timeout=ASK_TIMEOUT)
                if isinstance(error, Interrupted):
                    raise type(error)(f"{error}; {len(tasks)} SLURM tasks are cancelled") from error
                raise
        return failed

    def _submit(self, shards: Sequence[int], count: int) -> dict[str, int]:
        """Submit these shards as one array; returns the shard of each task."""
        if not shards:
            return {}
        self.logs.mkdir(parents=True, exist_ok=True)
        script = batch_script(self.command, shards, count, self.logs, self.settings)
        done = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StudyError(f"SLURM refuses the tasks: {done.stderr.strip() or done.stdout.strip()}")
        array = done.stdout.strip().split(";")[0]
        log.info("%d SLURM tasks submitted: %s", len(shards), array)
        return {f"{array}_{shard}": shard for shard in shards}

    def _unfinished(self, cells: Sequence[Cell], job: str, end: float) -> str | None:
        """Why the task has left runs behind; None if all are finished. Their files may show late, until ``end``."""
        while not all(self.store.finished(cell.run_id) for cell in cells):
            if time.monotonic() > end:
                path = self.logs / f"{job}.out"
                with contextlib.suppress(OSError):
                    said = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
                    if said and said[-1].startswith("error: "):
                        return said[-1].removeprefix("error: ")
                return f"it died without a result (log: {path})"
            time.sleep(0.2)
        return None

    def _dies_again(self, shard: int, job: str, cause: str) -> bool:
        """Note a death, and say whether the shard is to be submitted again."""
        self.store.locks.forget_job(job)
        self._deaths[shard] += 1
        log.warning("SLURM task %s: %s", job, cause)
        return self._deaths[shard] <= self.settings.max_retries

    def _give_up(self, cells: Sequence[Cell], shard: int, cause: str) -> int:
        died = RuntimeError(f"its SLURM task ended {self._deaths[shard]} times without a result: {cause}")
        with self.store.claimed(cells) as mine:
            for cell in mine:
                Executor(self.store, self.policy).record_failure(cell, died)
        return len(mine)


def in_queue(jobs: Iterable[str]) -> set[str]:
    """Those of the jobs that wait or run; all of them while SLURM does not answer.

    ``squeue`` and not ``sacct``: many clusters keep no accounts, and a job that died would then seem to run for ever.
    """
    wanted = set(jobs)
    found: set[str] = set()
    for array in sorted({job.split("_")[0] for job in wanted}):
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={array}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_TIMEOUT)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("SLURM's queue cannot be read, the tasks count as running: %s", error)
            return wanted
        if done.returncode == 0:
            found.update(done.stdout.split())
        elif "Invalid job id" not in done.stderr:  # SLURM has forgotten jobs that ended long ago
            log.warning("SLURM's queue cannot be read, the tasks count as running: %s", done.stderr.strip())
            return wanted
    return wanted & found
