"""Hydra's view of the study: the sweeper and launcher plugins (thin; the work is in ``mlp_study.sweep``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from mlp_study.config.plugin_settings import store_plugin_configs
from mlp_study.config.trust import composing_first, environment_url

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


class PopulationSweeper(Sweeper):
    """The full grid of the overrides, in the order of Hydra's own sweeper, handed to the launcher as one batch.

    Args:
        params: overrides that come before those of the command line, as in Hydra's BasicSweeper.
    """

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives (Hydra's interface)."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config, self.task_function = hydra_context, config, task_function
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        ours = isinstance(launcher, PopulationLauncher)
        self.launcher = launcher if ours else composing_first(launcher, hydra_context.config_loader, config)

    def sweep(self, arguments: list[str]) -> Any:
        """Launch every combination; raises StudyError at the end if runs failed (Hydra's interface)."""
        from mlp_study.sweep.plugins import sweep

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        params = [f"{key}={value}" for key, value in self.params.items()]
        return sweep([*params, *arguments], self.config, self.hydra_context, self.launcher, self.task_function)


class OptunaSweeper(Sweeper):
    """Searches by Optuna instead of enumerating: ``hydra/sweeper=optuna``.

    Args:
        settings: as ``mlp_study.config.optuna_settings.OptunaConfig`` lists them.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives (Hydra's interface)."""
        from hydra.core.plugins import Plugins

        self.hydra_context, self.config, self.task_function = hydra_context, config, task_function
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        ours = isinstance(launcher, PopulationLauncher)
        self.launcher = launcher if ours else composing_first(launcher, hydra_context.config_loader, config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials that the study still lacks (Hydra's interface); see ``Search`` for what it raises."""
        from omegaconf import OmegaConf

        from mlp_study.search.sweeper import Search

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        node: Any = OmegaConf.to_container(self.config.hydra.sweeper, resolve=True)
        node["storage"] = environment_url(node["storage"])
        work = (self.config, self.hydra_context, self.launcher, self.task_function)
        return Search(node, arguments, *work).run()


class PopulationLauncher(Launcher):
    """Trains all jobs of a batch as populations; what is no training of this project runs job by job.

    Args:
        executor, workers, slurm: as ``mlp_study.config.plugin_settings.LauncherConfig`` has them.
    """

    def __init__(self, executor: str, workers: int | None, slurm: Any) -> None:
        self.executor, self.workers, self.slurm = executor, workers, slurm

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives (Hydra's interface)."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the batch; one JobReturn a job, in order (Hydra's interface)."""
        from mlp_study.sweep.plugins import launch

        return launch(
            job_overrides,
            initial_job_idx,
            self.config,
            self.hydra_context,
            self.task_function,
            executor=self.executor,
            workers=self.workers,
            slurm=self.slurm,
        )


store_plugin_configs()


def register() -> None:
    """Make them known to Hydra where its own discovery misses them, as in a flat editable install."""
    from hydra.core.plugins import Plugins

    for plugin in (PopulationSweeper, OptunaSweeper, PopulationLauncher):
        Plugins.instance().register(plugin)
