"""The work of the two plugins: a grid to jobs, jobs to populations; other tasks go to Hydra's own ``run_job``."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.config.composing import with_variant
from mlp_study.errors import ConfigError, StudyError, unknown
from mlp_study.sweep.callbacks import JobCallbacks
from mlp_study.sweep.composer import Composer
from mlp_study.sweep.grid import expand, read_axes
from mlp_study.sweep.plan import composed
from mlp_study.sweep.store import sweep_folder, write_multirun
from mlp_study.sweep.tasks import is_training

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from mlp_study.config.plugin_settings import SlurmConfig

log = logging.getLogger(__name__)

EXECUTORS = ("auto", "process", "processes", "slurm")


def sweep(overrides: Sequence[str], master: DictConfig, context: HydraContext, launcher: Launcher) -> list[Any]:
    """Launch every combination of the overrides' values as one batch.

    Raises:
        ConfigError: the grid is empty or not valid.
        StudyError: at the end, if any run failed.
    """
    if _simulated(overrides, master, context, launcher):
        return []
    jobs = [with_variant(job) for job in expand(overrides, context.config_loader)]
    if _asks(overrides, "resume"):
        raise ConfigError(
            "resume continues a single run; a sweep goes on by the same command with its sweep_dir=FOLDER"
        )
    if any(override.startswith("shard=") and "," in override for override in overrides):
        raise ConfigError("shard takes one share, such as shard=0/2; each share is a command of its own")
    ours = str(master.hydra.launcher._target_).endswith(".PopulationLauncher")
    if not ours:
        if _asks(overrides, "shard"):
            raise ConfigError(
                "shard takes hydra/launcher=population: other launchers get every run as a job of its own"
            )
        write_multirun(master, sweep_folder(master))
    returns = launcher.launch(jobs, initial_job_idx=0)
    failed = [job for job in returns if job.status.name == "FAILED"]
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


def _simulated(overrides: Sequence[str], master: DictConfig, context: HydraContext, launcher: Launcher) -> bool:
    """Whether this was a ``dry_run`` of a very large grid, whose plan is now printed."""
    from mlp_study.sweep.simulation import SIMULATED, print_simulation, simulate

    axes = read_axes(overrides, context.config_loader)
    dry = [value.partition("=")[2].lower() for value in axes.get("dry_run", ())] == ["true"]
    if not dry or math.prod(map(len, axes.values())) <= SIMULATED or any("experiment" in key for key in axes):
        return False
    if not is_training(getattr(launcher, "task_function", None), master):
        return False
    print_simulation(simulate(axes, Composer(context.config_loader, master)), sweep_folder(master))
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
        basic.setup(hydra_context=context, task_function=task, config=master)
        return basic.launch(jobs, initial_job_idx=first)
    cluster = _cluster(slurm) if executor == "slurm" else None
    composer = Composer(context.config_loader, master)
    ids, cells = composed(jobs, composer, first)  # before the slow imports: a misspelt option need not wait for them
    if not cells[0].config.dry_run and cluster is None:
        from mlp_study.runtime.startup import import_lightning

        import_lightning()
    from mlp_study.sweep.launch import Launch

    callbacks = JobCallbacks(context.callbacks, task, composer)
    return Launch(master, composer, executor, workers, cluster, callbacks, task).run(jobs, ids, cells)


def _cluster(slurm: Any) -> SlurmConfig:
    from omegaconf import OmegaConf

    from mlp_study.sweep.slurm import read_settings

    plain: Any = OmegaConf.to_container(slurm, resolve=True) if OmegaConf.is_config(slurm) else slurm
    return read_settings(plain)
