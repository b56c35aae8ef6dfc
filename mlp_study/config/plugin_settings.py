"""Hydra's configuration files, and the config entries of the project's Hydra plugins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlp_study.config.optuna_settings import store_search_configs


@dataclass
class SweeperConfig:
    """``hydra/sweeper=population``: ``params`` are overrides that come before those of the command line."""

    _target_: str = "hydra_plugins.mlp_study.PopulationSweeper"
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class SlurmConfig:
    """``hydra.launcher.slurm``, for ``hydra.launcher.executor=slurm``.

    Attributes:
        partition: where the tasks run; null: SLURM's default.
        account: who pays.
        qos: quality of service.
        timeout_min: a task's time limit; a population that takes longer goes on after a requeue.
        cpus_per_task: cores of a task.
        gpus_per_node: GPUs of a task; null: one with trainer.accelerator=gpu, else none.
        mem_gb: memory of a task, of which a population takes half; null: SLURM's default.
        array_parallelism: tasks that run at a time.
        max_retries: how often a task that died without a result is submitted again.
        signal_delay_s: seconds before the time limit at which a task writes its checkpoint.
        poll_s: seconds between two looks at the queue.
        setup: lines of shell before the training, such as ``[module load cuda]``.
        additional_parameters: further options of sbatch: ``{constraint: a100}``.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    timeout_min: int = 240
    cpus_per_task: int = 4
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    array_parallelism: int = 256
    max_retries: int = 2
    signal_delay_s: int = 60
    poll_s: float = 5.0
    setup: list[str] = field(default_factory=list)
    additional_parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class LauncherConfig:
    """``hydra/launcher=population``.

    Attributes:
        executor: ``process`` (this one), ``processes`` (several on this machine), ``slurm`` (tasks of an array) or
            ``auto``: processes of one thread each where a CPU has the cores and the sweep the work, else this one.
        workers: at least so many populations at a time, if there are so many runs; null: as the GPUs or cores.
        slurm: a task's needs.
    """

    _target_: str = "hydra_plugins.mlp_study.PopulationLauncher"
    executor: str = "auto"
    workers: int | None = None
    slurm: SlurmConfig = field(default_factory=SlurmConfig)


def store_plugin_configs() -> None:
    """Make the plugins' entries known to Hydra, also where its discovery does not find the plugins."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="hydra/sweeper", name="population", node=SweeperConfig, provider="mlp_study")
    store.store(group="hydra/launcher", name="population", node=LauncherConfig, provider="mlp_study")
    store_search_configs()
