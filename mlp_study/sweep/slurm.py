"""Populations as tasks of SLURM arrays, through submitit; this process waits, and survives tasks that die.

What a task has trained is in the sweep's folder, so nothing depends on its answer: a task that is gone from the queue
without one is submitted again, and after ``max_retries`` its unfinished runs are recorded as failed. A task that SLURM
preempts or that reaches its time limit writes a checkpoint, requeues itself and goes on; that is no death.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp_study.config.plugin_settings import SlurmConfig
from mlp_study.errors import ConfigError, Interrupted, Preempted, StudyError, no_such_option
from mlp_study.sweep.claims import slurm_job
from mlp_study.sweep.executor import Executor, Keeping
from mlp_study.sweep.interruption import Interruption
from mlp_study.sweep.memory import GB, SHARE
from mlp_study.sweep.plan import Population
from mlp_study.sweep.store import INSIDE, Store

log = logging.getLogger(__name__)

LOGS = "slurm"  # within the sweep's own folder: submitit's files and each task's log
ANSWER_WAIT = 10.0  # seconds that a file server may take to show the answer of a task that is gone
ASK_TIMEOUT = 60.0


def read_settings(node: dict[str, Any] | None) -> SlurmConfig:
    """The launcher's ``slurm`` node, checked.

    Raises:
        ConfigError: an unknown or impossible setting, or no SLURM or submitit here.
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
    try:
        import submitit  # noqa: F401 - only whether it is there
    except ImportError:
        raise ConfigError("hydra.launcher.executor=slurm needs submitit: pip install 'mlp_study[slurm]'") from None
    return settings


def population_bytes(settings: SlurmConfig) -> int | None:
    """What a population may take of a task's memory; None: as if it trained on this machine."""
    return None if settings.mem_gb is None else int(settings.mem_gb * GB * SHARE)


@dataclass
class Task:
    """What one task does: submitit calls it, again after each requeue."""

    folder: Path
    keeping: Keeping
    population: Population
    retry_failed: bool

    def __call__(self) -> int:
        """Train the population, from its checkpoint if there is one; requeue this job if it is preempted."""
        from mlp_study.records import wandb_run

        store = Store(self.folder)
        trained: list[int] = []
        try:
            executor = Executor(store, self.keeping, retry_failed=self.retry_failed)
            executor.run([self.population], lambda _, count: trained.append(count))
        except Preempted:
            store.close()
            wandb_run.wait()
            job, _ = slurm_job()
            subprocess.run(["scontrol", "requeue", job], check=True)
            time.sleep(ASK_TIMEOUT)  # SLURM ends this process
            raise
        finally:
            store.close()
            wandb_run.wait()
        return sum(trained)

    def checkpoint(self) -> Any:
        """For submitit, if the signal comes while nothing trains: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmExecutor:
    """Like ``Executor``, with each population a task of a SLURM array.

    Args:
        folder: the sweep's folder, which all nodes see.
        keeping: what the members leave beside their numbers.
        settings: the launcher's.
        gpu: whether a task needs a GPU, where the settings leave it open.
        retry_failed: whether runs that are recorded as failed are trained again.
    """

    def __init__(
        self, folder: Path, keeping: Keeping, settings: SlurmConfig, gpu: bool, retry_failed: bool = False
    ) -> None:
        self.folder, self.keeping, self.settings = folder.absolute(), keeping, settings
        self.gpu, self.retry_failed = gpu, retry_failed
        self.logs = self.folder / INSIDE / LOGS
        self.store = Store(self.folder)
        self.stop = Interruption()
        self._deaths: collections.Counter[str] = collections.Counter()

    def run(self, populations: Sequence[Population], after: Callable[[Population, int], None]) -> None:
        """Train all; ``after`` is called as each population ends.

        Raises:
            Interrupted: SIGINT or SIGTERM; the tasks are cancelled, and write checkpoints.
            StudyError: SLURM refuses the tasks.
        """
        with self.stop, contextlib.closing(self.store):
            flying: dict[str, tuple[Any, Population]] = {}
            try:
                self._submit(populations, flying)
                while flying:
                    time.sleep(self.settings.poll_s)
                    self.stop.raise_if_asked()
                    queued = in_queue(flying)
                    lost = [self._ended(*flying.pop(job), after) for job in list(flying) if job not in queued]
                    self._submit([population for population in lost if population], flying)
            except BaseException as error:
                if flying:
                    subprocess.run(["scancel", *flying], check=False, timeout=ASK_TIMEOUT)
                if isinstance(error, Interrupted):
                    raise type(error)(f"{error}; {len(flying)} SLURM tasks are cancelled") from error
                raise

    def _submit(self, populations: Sequence[Population], flying: dict[str, tuple[Any, Population]]) -> None:
        if not populations:
            return
        import submitit

        executor = submitit.SlurmExecutor(folder=self.logs)
        executor.update_parameters(**self._parameters(len(populations)))
        tasks = [Task(self.folder, self.keeping, population, self.retry_failed) for population in populations]
        try:
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks]
        except submitit.core.utils.FailedJobError as error:
            raise StudyError(f"SLURM refuses the tasks: {error}") from error
        flying.update({str(job.job_id): (job, p) for job, p in zip(jobs, populations, strict=True)})
        log.info("%d SLURM tasks submitted: %s", len(jobs), jobs[0].job_id.split("_")[0])

    def _parameters(self, tasks: int) -> dict[str, Any]:
        """The settings by submitit's names."""
        own = self.settings
        gpus = own.gpus_per_node if own.gpus_per_node is not None else int(self.gpu)
        found = {
            "job_name": "mlp_study",
            "partition": own.partition,
            "account": own.account,
            "qos": own.qos,
            "time": own.timeout_min,
            "cpus_per_task": own.cpus_per_task,
            "mem": None if own.mem_gb is None else f"{round(1024 * own.mem_gb)}MB",
            "gpus_per_node": gpus or None,
            "array_parallelism": min(own.array_parallelism, tasks),
            "signal_delay_s": own.signal_delay_s,
            "setup": [f"export OMP_NUM_THREADS={own.cpus_per_task}", *own.setup],
            "additional_parameters": {"requeue": True, "open_mode": "append", **own.additional_parameters},
        }
        return {name: value for name, value in found.items() if value is not None}

    def _ended(self, job: Any, population: Population, after: Callable[[Population, int], None]) -> Population | None:
        """A task that has left the queue; returns its population if it is to be submitted again."""
        trained, cause = self._answer(job)
        if cause is None:
            for path in (job.paths.submitted_pickle, job.paths.result_pickle):
                path.unlink(missing_ok=True)
            after(population, trained)
            return None
        with self.store.claims.locked():
            self.store.claims.drop(str(job.job_id))
        self._deaths[population.name] += 1
        log.warning("SLURM task %s, %d runs: %s", job.job_id, len(population.cells), cause)
        if self._deaths[population.name] <= self.settings.max_retries:
            return population
        died = RuntimeError(f"its SLURM task ended {self._deaths[population.name]} times without a result: {cause}")
        with self.store.claimed(population.cells) as mine:
            for cell in mine:
                Executor(self.store, self.keeping).record_failure(cell, died)
        after(population, len(mine))
        return None

    def _answer(self, job: Any) -> tuple[int, str | None]:
        """How many runs the task has trained, or why it has not; a file server may show its answer late."""
        from submitit.core import utils

        path, end = job.paths.result_pickle, time.monotonic() + ANSWER_WAIT
        while not path.exists():
            if time.monotonic() > end:
                return 0, f"it died without a result (log: {job.paths.stderr})"
            time.sleep(0.2)
        try:
            kind, value = utils.pickle_load(path)
        except Exception as error:
            return 0, f"its result cannot be read: {error}"
        if kind == "success":
            return int(value), None
        lines = [line for line in str(value).splitlines() if line.strip()]
        return 0, lines[-1].strip() if lines else "it failed"


def in_queue(jobs: Iterable[str]) -> set[str]:
    """Those of the jobs that wait or run; all of them while SLURM does not answer.

    ``squeue`` and not ``sacct``: many clusters keep no accounts, and a job that died would then seem to run for ever.
    """
    wanted = set(jobs)
    arrays = sorted({job.split("_")[0] for job in wanted})
    found: set[str] = set()
    for array in arrays:
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
