"""The search itself: ask for a batch of trials, train it, tell what came out, until no trial is missing."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.config.composing import with_variant
from mlp_study.config.schema import indifferent_settings
from mlp_study.errors import ConfigError, Interrupted, StudyError
from mlp_study.runtime.files import make_folder
from mlp_study.runtime.signals import answer_of
from mlp_study.search.batches import Batches, Jobs, Populations, Row, base_seed
from mlp_study.search.objective import Objective, check_objectives, deviation
from mlp_study.search.outcome import Outcome
from mlp_study.search.pruning import InFlight
from mlp_study.search.settings import SearchSettings, hide_passwords, read_settings, returned
from mlp_study.search.space import Space, read_space
from mlp_study.search.storage import Place, patiently, read_place
from mlp_study.search.study import SharedStudy
from mlp_study.sweep.store import sweep_folder
from mlp_study.sweep.tasks import is_training

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig

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
        self.ours = is_training(task, master)
        self.settings: SearchSettings = read_settings(node if self.ours else returned(node))
        loader = context.config_loader
        defaults = {str(k): str(v) for k, v in master.hydra.runtime.choices.items() if v is not None}
        self.space: Space = read_space(
            self.settings.params, with_variant(overrides), self.settings.conditions, loader, defaults
        )
        self.folder = sweep_folder(master)
        self.report = bool(master.get("report", False))
        self.place: Place = read_place(self.settings.storage, self.folder)
        if hide_passwords(master):
            log.warning(
                "the storage's password stands in the command line, where others on this machine can read it; "
                "storage='${oc.env:NAME}' takes the URL from an environment variable, and ~/.pgpass keeps passwords"
            )
        here = self.ours and str(master.hydra.launcher._target_).endswith(".PopulationLauncher")
        if here and master.hydra.launcher.executor not in ("auto", "process"):
            raise ConfigError(
                "hydra.launcher.executor: a search trains its batches in this process; for several processes start "
                "the same command several times with one sweep_dir or storage"
            )
        runs = self.settings.n_trials * self.settings.repeats
        seen = self.settings.objectives[0] if self.settings.prunes else None
        checker = Populations(master, context, seen, self.settings.by_repeat, runs)
        self.here = checker if here else None
        self.config = checker.config if self.ours else None
        self.batches: Batches = checker if here else Jobs(launcher, self.settings.objectives)
        self.dry_run = False
        self._check(checker, master)

    def _check(self, checker: Populations, master: DictConfig) -> None:
        """Every parameter and choice by a config that has it, before anything is opened or trained."""
        if self.settings.prunes and self.here is None:
            raise ConfigError("hydra.sweeper.pruner needs hydra/launcher=population and this project's training")
        if self.settings.repeats > 1 and any(p.key == "seed" for p in self.space.parameters):
            raise ConfigError("hydra.sweeper.repeats chooses the seeds; seed cannot be searched with it")
        self.seed = base_seed(self.space.fixed) if self.settings.repeats > 1 else 0
        if not self.ours:
            return
        for sample in self.space.samples():
            config = checker.config(sample)
            check_objectives(self.settings.objectives, config, self.settings.prunes)
            self.dry_run = config.dry_run
            self.seed = config.seed  # also where a file has set it
            if config.shard is not None:
                raise ConfigError(
                    "shard divides a grid; processes with one sweep_dir or storage share a search's trials"
                )

    def run(self) -> Any:
        """Run the trials that are missing and write what was found; the best trial.

        Raises:
            StudyError: all trials failed, or more of a batch than allowed.
            Interrupted: a signal; the trials in flight are given back.
        """
        self._announce()
        if self.dry_run:
            return None
        sample = next(self.space.samples())
        with quiet_optuna(), self.here.opened(sample) if self.here else contextlib.nullcontext():
            make_folder(self.folder)
            study = SharedStudy(self.place, self.settings, self.space, sorted(indifferent_settings()))
            with contextlib.closing(study):
                self._loop(study)
                return patiently(self.place, lambda: Outcome(self, study).write())

    def _announce(self) -> None:
        cells = self.space.size()
        size = "" if cells == float("inf") else f" ({cells:.0f} cells)"
        objectives = ", ".join(f"{o.direction} {o.metric}" for o in self.settings.objectives)
        repeats = f" x {self.settings.repeats} seeds" if self.settings.repeats > 1 else ""
        print(
            f"Search of {self.settings.n_trials} trials{repeats}: {objectives}; sampler {self.settings.sampler['name']}"
        )
        print(f"  study {self.settings.study_name!r} in {self.place.shown}; sweep_dir={self.folder}")
        for name, distribution in self.space.described().items():
            print(f"  {name}: {distribution}")
        print(f"  {len(self.space.parameters)} parameters{size}, {self.settings.n_jobs} trials at a time", flush=True)

    def _loop(self, study: SharedStudy) -> None:
        told = False
        while True:
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

    def _batch(self, study: SharedStudy, batch: list[InFlight]) -> None:
        for trial in batch:
            count = self.settings.repeats if self.settings.repeats > 1 else 0
            trial.seeds = [self.seed + repeat for repeat in range(count)]
        waiting = {trial.number: trial for trial in batch}
        try:
            rows = self.batches.train(batch)
            failed = 0
            for trial, found in zip(batch, rows, strict=True):
                failed += self._tell(study, trial, found) == "FAIL"
                del waiting[trial.number]
        except BaseException as error:
            study.give_back(waiting.values())
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

    def _tell(self, study: SharedStudy, trial: InFlight, rows: Sequence[Row]) -> str:
        """Tell how the trial ended; returns the state."""
        state, values, per_seed = judged(self.settings.objectives, trial, rows)
        causes = [str(row["cause"]) for row in rows if row.get("cause") and state == "FAIL"]
        attributes: dict[str, Any] = {
            "overrides": trial.overrides,
            "outcomes": [str(row.get("outcome")) for row in rows],
            "run_ids": trial.run_ids,
        }
        if trial.seeds and per_seed:
            attributes["seeds"] = trial.seeds[: len(rows)]
            for objective, numbers in zip(self.settings.objectives, per_seed, strict=True):
                attributes[f"{objective.metric} values"] = numbers
                attributes[f"{objective.metric} deviation"] = deviation(numbers)
        if causes:
            attributes["cause"] = causes[0]
            log.warning("trial %d failed: %s", trial.number, causes[0])
        study.tell(trial, attributes, state, values)
        return state

    def _progress(self, study: SharedStudy, batch: Sequence[InFlight]) -> None:
        from optuna.trial import TrialState

        ended = [t for t in study.trials() if t.state.is_finished()]
        done = [t.values for t in ended if t.state == TrialState.COMPLETE]
        first = self.settings.objectives[0]
        best = (max if first.maximize else min)((values[0] for values in done), default=None)
        shown = "none yet" if best is None else f"{best:.4f}"
        numbers = f"{batch[0].number}" if len(batch) == 1 else f"{batch[0].number}-{batch[-1].number}"
        print(f"  trials {numbers}: {len(ended)} of {study.wanted} done, best {first.metric} {shown}", flush=True)


def judged(
    objectives: Sequence[Objective], trial: InFlight, rows: Sequence[Row]
) -> tuple[str, list[float] | None, list[list[float]]]:
    """A trial's state, its values, and each objective's values seed by seed, from the rows of its runs."""
    # A seed may have ended before the pruner gave the others up, in this trial before a kill or in an equal one.
    if trial.pruned is not None or any(row.get("outcome") == "pruned" for row in rows):
        return "PRUNED", None, []
    found = [[objective.value(row) for row in rows] for objective in objectives]
    if any(value is None for values in found for value in values):
        return "FAIL", None, []
    numbers = [[value for value in values if value is not None] for values in found]
    return "COMPLETE", [o.combine(values) for o, values in zip(objectives, numbers, strict=True)], numbers


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna without a line for each trial, and without its notes on features that are experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", category=FutureWarning, module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(before)
