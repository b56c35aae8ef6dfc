"""The work of Hydra's Optuna sweeper: ask for a batch of trials, train it, tell the results, until none is missing."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
from hydra.utils import get_method
from omegaconf import OmegaConf

from mlp_study.config.composing import with_variant
from mlp_study.config.schema import indifferent_settings
from mlp_study.errors import ConfigError, Interrupted, StudyError
from mlp_study.runtime.files import make_folder
from mlp_study.runtime.signals import answer_of
from mlp_study.search.batches import Jobs, Populations, Row, base_seed, record_trial
from mlp_study.search.objective import Objective, check_metric, check_objectives, deviation
from mlp_study.search.search_results import SearchResults, state_of
from mlp_study.search.shared_study import SharedStudy
from mlp_study.search.space import read_space
from mlp_study.search.storage import StudyStorage
from mlp_study.search.sweeper_settings import hide_passwords, of_any_task, read_settings
from mlp_study.sweep.plugins import refuse_single_jobs
from mlp_study.sweep.store import sweep_folder
from mlp_study.sweep.tasks import is_training, page_at_end

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

    from mlp_study.search.pruning import OwnTrial

log = logging.getLogger(__name__)

POLL = 1.0  # seconds between two looks at trials that other processes run


class Search:
    """One process's part in a search.

    Args:
        node: the sweeper's settings.
        overrides: the command line's.
        master: the sweep's own composed config; passwords in it are hidden.
        context: Hydra's loader and callbacks.
        launcher: runs the jobs, unless the project's own trains them here.
        task: Hydra's task function.

    Raises:
        ConfigError: a setting, the search space or any of its values is not valid.
    """

    def __init__(
        self,
        node: dict[str, Any],
        overrides: Sequence[str],
        master: DictConfig,
        context: HydraContext,
        launcher: Launcher,
        task: TaskFunction,
    ) -> None:
        ours = is_training(task, master)
        self.settings = read_settings(node if ours else of_any_task(node))
        defaults = {str(k): str(v) for k, v in master.hydra.runtime.choices.items() if v is not None}
        typed = with_variant(overrides)
        self.space = read_space(self.settings.params, typed, self.settings.conditions, context.config_loader, defaults)
        self.folder = sweep_folder(master)
        self.page: Callable[[], Any] | None = None
        if ours and master.get("report", False):
            self.page = partial(page_at_end, task, self.folder)
        self.storage = StudyStorage(self.settings.storage, self.folder)
        if hide_passwords(master):
            log.warning(
                "the storage's password stands in the command line, where others on this machine can read it; "
                "storage='${oc.env:NAME}' takes the URL from an environment variable, and ~/.pgpass keeps passwords"
            )
        here = ours and str(master.hydra.launcher._target_).endswith(".PopulationLauncher")
        if here and master.hydra.launcher.executor not in ("auto", "process"):
            raise ConfigError(
                "hydra.launcher.executor: a search trains its batches in this process; for several processes start "
                "the same command several times with one sweep_dir or storage"
            )
        if here:
            refuse_single_jobs(context, master)
        self.populations = Populations(master, context, self.settings) if ours else None
        jobs = Jobs(launcher, self.settings.objectives, master)
        self.batches: Populations | Jobs = self.populations if here and self.populations else jobs
        self.extend = own_function(self.settings.custom_search_space, master)
        self.first = [self.space.fixed_values(values) for values in self._enqueued(master, context)]
        self.dry_run = False
        self._check(here)

    def _enqueued(self, master: DictConfig, context: HydraContext) -> Iterator[Mapping[str, Any]]:
        """Yield the trials to try first by the keys of their parameters; defaults as far as the space has them."""
        if self.settings.enqueue and self.settings.sampler["name"] in ("grid", "brute_force"):
            raise ConfigError("hydra.sweeper.enqueue has no use with a sampler that tries every cell")
        for trial in self.settings.enqueue:
            if not isinstance(trial, str):
                yield trial
                continue
            config = context.config_loader.load_sweep_config(master, list(self.space.fixed))
            values = {}
            for parameter in self.space.parameters:
                key = parameter.plain_key
                value = self.space.defaults.get(key, OmegaConf.select(config, key))
                if parameter.fitting(value) is not None:
                    values[key] = value
            yield values

    def _check(self, here: bool) -> None:
        """Check every parameter and choice by a config that has it, before anything is opened or trained."""
        if self.settings.prunes and not here:
            raise ConfigError("hydra.sweeper.pruner needs hydra/launcher=population and this project's training")
        if self.settings.constraints and self.populations is None:
            raise ConfigError("hydra.sweeper.constraints are about recorded metrics: they take this project's training")
        repeated = self.settings.repeats > 1
        if repeated and any(p.key == "seed" for p in self.space.parameters):
            raise ConfigError("hydra.sweeper.repeats chooses the seeds; seed cannot be searched with it")
        self.seed = base_seed(self.space.fixed) if repeated else 0
        if self.populations is None:
            return
        for sample in self.space.samples():
            config = self.populations.config(sample)
            check_objectives(self.settings.objectives, config, self.settings.prunes)
            for constraint in self.settings.constraints:
                check_metric("hydra.sweeper.constraints", constraint.metric, config)
            self.dry_run = config.dry_run
            self.seed = config.seed  # also where a file has set it
            if config.shard is not None:
                raise ConfigError(
                    "shard divides a grid; processes with one sweep_dir or storage share a search's trials"
                )

    def run(self) -> Any:
        """Run the trials that are missing and write what was found; return the best trial.

        Raises:
            StudyError: all trials failed, or more of a batch than allowed.
            Interrupted: a signal; the trials in flight are given back.
        """
        self._announce()
        if self.dry_run:
            return None
        with quiet_optuna(), self.batches.opened(next(self.space.samples())):
            make_folder(self.folder)
            study = SharedStudy(
                self.storage, self.settings, self.space, sorted(indifferent_settings()), self.first, self.extend
            )
            with contextlib.closing(study):
                self._loop(study)
                results = partial(SearchResults, study, self.folder, self.populations, self.page)
                return self.storage.patiently(lambda: results().write())

    def _announce(self) -> None:
        settings, cells = self.settings, self.space.size()
        size = "" if cells == float("inf") else f" ({cells:.0f} cells)"
        objectives = ", ".join(f"{o.direction} {o.metric}" for o in settings.objectives)
        repeats = f" x {settings.repeats} seeds" if settings.repeats > 1 else ""
        print(f"Search of {settings.n_trials} trials{repeats}: {objectives}; sampler {settings.sampler['name']}")
        print(f"  study {settings.study_name!r} in {self.storage.shown}; sweep_dir={self.folder}")
        for name, distribution in self.space.described().items():
            print(f"  {name}: {distribution}")
        print(f"  {len(self.space.parameters)} parameters{size}, {settings.n_jobs} trials at a time", flush=True)

    def _loop(self, study: SharedStudy) -> None:
        told, began, timeout = False, time.monotonic(), study.settings.timeout
        while True:
            if timeout is not None and time.monotonic() - began >= timeout:
                print(f"  hydra.sweeper.timeout={timeout} has passed; the same command with sweep_dir goes on")
                return
            batch = study.ask()
            if batch:
                self._batch(study, batch)
                continue
            if not study.running:  # as the look that found nothing to do saw them; now they may be others
                return
            if not told:
                print(f"  waiting for {study.running} trials of other processes", flush=True)
            told = True
            time.sleep(POLL)

    def _batch(self, study: SharedStudy, batch: list[OwnTrial]) -> None:
        repeats = self.settings.repeats
        for trial in batch:
            trial.seeds = [self.seed + repeat for repeat in range(repeats)] if repeats > 1 else []
        waiting, failed = list(batch), 0
        try:
            for trial, rows in zip(batch, self.batches.train(batch), strict=True):
                failed += self._tell(study, trial, rows) == "FAIL"
                waiting.remove(trial)
        except BaseException as error:
            study.give_back(waiting)
            if isinstance(error, Interrupted | KeyboardInterrupt):
                answer = answer_of(error)
                raise type(answer)(f"{answer}; the same command with sweep_dir={self.folder} resumes") from error
            raise
        self._progress(study, batch)
        limit = self.settings.max_failure_rate
        if limit is not None and failed > limit * len(batch):
            raise StudyError(
                f"{failed} of {len(batch)} trials failed, more than hydra.sweeper.max_failure_rate={limit}"
            )

    def _tell(self, study: SharedStudy, trial: OwnTrial, rows: Sequence[Row]) -> str:
        """Tell the study how the trial ended; return its state."""
        objectives = self.settings.objectives
        state, values, per_seed = judged(objectives, trial, rows)
        attributes: dict[str, Any] = {
            "overrides": trial.overrides,
            "outcomes": [str(row.get("outcome")) for row in rows],
            "run_ids": trial.run_ids,
        }
        if trial.seeds and per_seed:
            attributes["seeds"] = trial.seeds[: len(rows)]
            for objective, numbers in zip(objectives, per_seed, strict=True):
                attributes[f"{objective.metric} values"] = numbers
                attributes[f"{objective.metric} deviation"] = deviation(numbers)
        causes = [str(row["cause"]) for row in rows if row.get("cause") and state == "FAIL"]
        if causes:
            attributes["cause"] = causes[0]
            log.warning("trial %d failed: %s", trial.number, causes[0])
        violations = {constraint.text: constraint.violation(rows) for constraint in self.settings.constraints}
        by_metric = dict(zip((o.metric for o in objectives), values or (), strict=False))
        record_trial(rows, self.settings.study_name, trial.number, by_metric)
        study.tell(trial, attributes, state, values, violations)
        return state

    def _progress(self, study: SharedStudy, batch: Sequence[OwnTrial]) -> None:
        trials, first = study.trials(), self.settings.objectives[0]
        values = [trial.values[0] for trial in trials if state_of(trial) == "complete"]
        best = f"{(max if first.maximize else min)(values):.4f}" if values else "none yet"
        numbers = f"{batch[0].number}" if len(batch) == 1 else f"{batch[0].number}-{batch[-1].number}"
        done = sum(trial.state.is_finished() for trial in trials)
        print(f"  trials {numbers}: {done} of {study.wanted} done, best {first.metric} {best}", flush=True)


def judged(
    objectives: Sequence[Objective], trial: OwnTrial, rows: Sequence[Row]
) -> tuple[str, list[float] | None, list[list[float]]]:
    """Return a trial's state, its values, and each objective's values seed by seed, from the rows of its runs."""
    # A seed may have ended before the pruner gave the others up, in this trial before a kill or in an equal one.
    if trial.pruned is not None or any(row.get("outcome") == "pruned" for row in rows):
        return "PRUNED", None, []
    found = [[objective.value(row) for row in rows] for objective in objectives]
    numbers = [[value for value in values if value is not None] for values in found]
    if numbers != found:
        return "FAIL", None, []
    return "COMPLETE", [o.combine(values) for o, values in zip(objectives, numbers, strict=True)], numbers


def own_function(name: str | None, master: DictConfig) -> Callable[[optuna.Trial], object] | None:
    """Return the user's function that adds parameters to a trial; it gets the sweep's config, as in the stock plugin.

    Raises:
        ConfigError: there is no such function.
    """
    if name is None:
        return None
    try:
        return partial(get_method(name), master)
    except Exception as error:
        raise ConfigError(f"hydra.sweeper.custom_search_space={name} cannot be found: {error}") from error


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Run Optuna without a line for each trial, and without its notes on features that are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", category=FutureWarning, module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(before)
