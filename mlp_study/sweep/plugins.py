"""The work of the two Hydra plugins: a grid to jobs, jobs to populations; other tasks go to Hydra's own ``run_job``."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.config.composing import with_variant
from mlp_study.errors import ConfigError, StudyError, unknown
from mlp_study.sweep.fast_compose import Composer
from mlp_study.sweep.grid import expand, read_axes
from mlp_study.sweep.plan import composed
from mlp_study.sweep.store import sweep_folder, write_multirun
from mlp_study.sweep.tasks import is_grid, is_training

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from mlp_study.config.plugin_settings import SlurmConfig

log = logging.getLogger(__name__)

EXECUTORS = ("auto", "process", "processes", "slurm")
LARGE = 20_000  # runs: the plan of a larger grid is estimated by dry_run from some of them


def sweep(
    overrides: Sequence[str], master: DictConfig, context: HydraContext, launcher: Launcher, task: TaskFunction
) -> list[Any]:
    """Launch every combination of the overrides' values as one batch.

    Raises:
        ConfigError: the grid is empty or not valid.
        StudyError: at the end, if any run failed; of another task than this project's training its own error.
    """
    training = is_training(task, master)
    if training and _plans_a_large_grid(overrides, master, context):
        return []
    jobs = [with_variant(job) for job in expand(overrides, context.config_loader)]
    if _asks(overrides, "resume"):
        raise ConfigError(
            "resume continues a single run; a sweep goes on by the same command with its sweep_dir=FOLDER"
        )
    if any(override.startswith("shard=") and "," in override for override in overrides):
        raise ConfigError("shard takes one share, such as shard=0/2; each share is a command of its own")
    ours = str(master.hydra.launcher._target_).endswith(".PopulationLauncher")
    if not ours and _asks(overrides, "shard"):
        raise ConfigError("shard takes hydra/launcher=population: other launchers get every run as a job of its own")
    if not (ours and training):
        write_multirun(master, sweep_folder(master))
    returns = launcher.launch(jobs, initial_job_idx=0)
    failed = [job for job in returns if job.status.name == "FAILED"]
    if failed and not training:
        return [failed[0].return_value]  # reading it raises the task's own error, with its traceback, as Hydra does
    if failed:
        again = (
            "" if not ours or _asks(overrides, "retry_failed") else "; once mended, retry_failed=true trains them again"
        )
        first = failed[0]._return_value
        raise StudyError(f"{len(failed)} of {len(returns)} runs failed{again}; the first: {first}")
    return [returns]


def _asks(overrides: Sequence[str], key: str) -> bool:
    """Whether the command line gives this option a value."""
    given = [o.lstrip("+").partition("=")[2] for o in overrides if o.lstrip("+").startswith(f"{key}=")]
    return bool(given) and given[-1] not in ("", "null", "false")


def _plans_a_large_grid(overrides: Sequence[str], master: DictConfig, context: HydraContext) -> bool:
    """Whether this was a ``dry_run`` of a very large grid, whose plan is now printed."""
    axes = read_axes(overrides, context.config_loader)
    runs = math.prod(len(set(axis)) for axis in axes.values())
    dry = [value.partition("=")[2].lower() for value in axes.get("dry_run", ())] == ["true"]
    if not dry or runs <= LARGE or any("experiment" in key for key in axes):
        return False
    from mlp_study.sweep.plan_parts import sampled_parts
    from mlp_study.sweep.printing import print_sampled_plan

    print_sampled_plan(sampled_parts(axes, Composer(context.config_loader, master)), runs, sweep_folder(master))
    return True


def launch(
    jobs: Sequence[Sequence[str]],
    first: int,
    master: DictConfig,
    context: HydraContext,
    task: TaskFunction,
    *,
    executor: str,
    workers: int | None,
    slurm: Any,
) -> Sequence[JobReturn]:
    """Run a batch of jobs: as populations if the task is this project's training, else one after the other.

    ``executor``, ``workers`` and ``slurm`` are the launcher's settings, as ``LauncherConfig`` has them.

    Raises:
        ConfigError: a job, the sweep's folder or the launcher's setting is not valid.
        WriteError: the disk is full or read-only.
        KeyboardInterrupt: SIGINT or SIGTERM; what is finished is on disk.
    """
    if executor not in EXECUTORS:
        raise unknown("hydra.launcher.executor", executor, EXECUTORS)
    if workers is not None and workers < 1:
        raise ConfigError(f"hydra.launcher.workers={workers} is not valid; it takes a whole number in [1, inf)")
    if not is_training(task, master):
        from hydra._internal.core_plugins.basic_launcher import BasicLauncher

        basic = BasicLauncher()
        basic.setup(hydra_context=context, task_function=logging_failures(task), config=master)
        return basic.launch(jobs, initial_job_idx=first)
    refuse_single_jobs(context, master)
    cluster = _cluster(slurm, master) if executor == "slurm" else None
    composer = Composer(context.config_loader, master)
    ids, cells = composed(jobs, composer, first)  # before the slow imports: a misspelt option need not wait for them
    if not cells[0].config.dry_run and cluster is None:
        from mlp_study.runtime.startup import import_lightning

        import_lightning()
    from mlp_study.sweep.launch import Launch

    return Launch(master, composer, executor, workers, cluster, task).run(jobs, ids, cells)


def logging_failures(task: TaskFunction) -> TaskFunction:
    """Return a task that logs the traceback of its failure to its own log before Hydra takes the error."""

    @functools.wraps(task)
    def logged(config: DictConfig) -> Any:
        try:
            return task(config)
        except Exception:
            log.exception("the job failed")
            raise

    return logged


def refuse_single_jobs(context: HydraContext, master: DictConfig) -> None:
    """Raise ConfigError for what Hydra's settings say about each job alone: here jobs train together."""
    from hydra.experimental.callback import Callback
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(master.hydra.sweep, resolve=False)
    if plain["subdir"] != "${hydra.job.num}":
        raise ConfigError(
            f"hydra.sweep.subdir={plain['subdir']} is not valid: a run's folder is named by the run's id, so that the "
            "sweep can go on; hydra/launcher=basic takes other names"
        )
    for callback in context.callbacks.callbacks:
        for name in ("on_job_start", "on_job_end"):
            if getattr(type(callback), name) is not getattr(Callback, name):
                raise ConfigError(
                    f"hydra.callbacks: {type(callback).__name__} is called for each job ({name}), and runs train "
                    "together; it takes hydra/launcher=basic, which trains one after the other"
                )


def _cluster(slurm: Any, master: DictConfig) -> SlurmConfig:
    """The settings of ``executor=slurm``, checked; the tasks repeat the command line, which only a grid allows."""
    from omegaconf import OmegaConf

    from mlp_study.sweep.slurm import read_settings

    plain: Any = OmegaConf.to_container(slurm, resolve=True) if OmegaConf.is_config(slurm) else slurm
    settings = read_settings(plain)
    if not is_grid(master):
        raise ConfigError(
            "hydra.launcher.executor=slurm takes hydra/sweeper=population; jobs of other sweepers train on SLURM by "
            "hydra/launcher=submitit_slurm"
        )
    return settings
