"""Train a batch of trials: as populations in this process, or job by job through another launcher."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError, DataError, StudyError
from mlp_study.records import wandb_run
from mlp_study.records.run_folder import RESULT, json_text, read_json
from mlp_study.records.runs_table import read_run
from mlp_study.runtime.files import write_file
from mlp_study.search.pruning import OwnTrial, Pruning
from mlp_study.sweep.executor import Executor, SavePolicy, in_words
from mlp_study.sweep.fast_compose import Composer
from mlp_study.sweep.hydra_files import HydraFiles
from mlp_study.sweep.launch import MODELS_UP_TO, Launch
from mlp_study.sweep.plan import Population, make_plan
from mlp_study.sweep.store import Store, sweep_folder, write_multirun
from mlp_study.sweep.table import SweepTable

if TYPE_CHECKING:
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext
    from omegaconf import DictConfig

    from mlp_study.search.objective import Objective
    from mlp_study.search.sweeper_settings import SearchSettings

log = logging.getLogger(__name__)

Row = dict[str, Any]


class Populations:
    """Trains each batch as populations in this process and records every run as a sweep does.

    Args:
        master: the sweep's own composed config.
        context: Hydra's loader and callbacks.
        settings: the sweeper's: what the pruner sees, and how many runs there may be, by which is decided whose models
            are kept.
    """

    def __init__(self, master: DictConfig, context: HydraContext, settings: SearchSettings) -> None:
        self.master = master
        self.pruned_by = settings.objectives[0] if settings.prunes else None
        self.by_repeat = settings.by_repeat
        self.composer = Composer(context.config_loader, master)
        self.launch = Launch(master, self.composer, executor="process", workers=None)
        self.store = Store(sweep_folder(master))
        self.table = SweepTable(self.store.folder)
        self.name = self.launch.name(self.store.folder)
        few = settings.n_trials * settings.repeats <= MODELS_UP_TO
        self.policy = SavePolicy(None, self.name, "models" if few else "best")

    def config(self, overrides: Sequence[str]) -> RunConfig:
        """Compose a trial's config.

        Raises:
            ConfigError: it is not valid; the message names the option.
        """
        return RunConfig.from_dict(self.composer.compose(overrides))

    @contextlib.contextmanager
    def opened(self, sample: Sequence[str]) -> Iterator[None]:
        """Open the sweep's folder, its log and its table, which is written at the end whatever happens.

        Raises:
            ConfigError: the folder belongs to something else.
        """
        self.store.open(None)
        write_multirun(self.master, self.store.folder)
        self.policy.hydra_files = HydraFiles(self.composer.full(sample))
        self.table.refresh()
        with self.launch.logged(self.store.folder), contextlib.closing(self.store):
            try:
                yield
            finally:
                self.table.refresh()
                if self.table.rows:
                    self.table.write(parquet=True)
                wandb_run.wait()
        self.store.tidy()

    def train(self, trials: Sequence[OwnTrial]) -> list[list[Row]]:
        """Train all repeats of all trials together, or one repeat after the other."""
        for trial in trials:
            self._identify(trial)
        todo = [trial for trial in trials if trial.failed is None]
        rounds = range(max((len(t.run_ids) for t in todo), default=0)) if self.by_repeat else [None]
        for repeat in rounds:
            self._round([t for t in todo if t.pruned is None], repeat)
        return [self._rows(trial) for trial in trials]

    def _identify(self, trial: OwnTrial) -> None:
        """Find its runs' ids; a trial that is not valid fails and disturbs no other."""
        try:
            trial.run_ids = [self.config(job).run_id for job in jobs_of(trial)]
        except StudyError as error:
            trial.failed = str(error)

    def _round(self, trials: Sequence[OwnTrial], repeat: int | None) -> None:
        """Train one repeat of all trials, or all their repeats."""
        jobs = {
            run_id: (job, trial.number * max(1, len(trial.seeds)) + r)
            for trial in trials
            for r, (run_id, job) in enumerate(zip(trial.run_ids, jobs_of(trial), strict=True))
            if repeat in (None, r)
        }
        if not jobs:
            return
        plan = make_plan([job for job, _ in jobs.values()], self.composer)
        numbers = {run_id: number for run_id, (_, number) in jobs.items()}
        callbacks = [Pruning(trials, self.pruned_by)] if self.pruned_by is not None and repeat is None else []
        executor = Executor(self.store, self.policy, callbacks)
        executor.run(list(_numbered(plan.populations, numbers)), lambda *_: None)
        self.table.refresh()
        if self.pruned_by is not None and repeat is not None:
            for trial in trials:
                value = self.pruned_by.value(self._row(trial.run_ids[repeat]))
                if value is not None:
                    trial.report(value, repeat)

    def _rows(self, trial: OwnTrial) -> list[Row]:
        if trial.failed is not None:
            return [{"outcome": "failed", "cause": trial.failed}]
        ids = trial.run_ids if not self.by_repeat or trial.pruned is None else trial.run_ids[: trial.pruned + 1]
        return [self._row(run_id) for run_id in ids]

    def _row(self, run_id: str) -> Row:
        return self.table.rows.get(run_id, {"outcome": "failed", "cause": "its result cannot be read"})


def _numbered(populations: Iterable[Population], numbers: dict[str, int]) -> Iterator[Population]:
    """Number the jobs by their trials."""
    for population in populations:
        cells = tuple(dataclasses.replace(cell, number=numbers[cell.run_id]) for cell in population.cells)
        yield dataclasses.replace(population, cells=cells)


class Jobs:
    """Runs any task, or this project's, through any launcher; a job's value is what the task returns."""

    def __init__(self, launcher: Launcher, objectives: Sequence[Objective], master: DictConfig) -> None:
        self.launcher, self.objectives, self.master = launcher, objectives, master

    @contextlib.contextmanager
    def opened(self, sample: Sequence[str]) -> Iterator[None]:
        """Write the sweep's own config, as Hydra's sweepers do; the launcher has its own folders."""
        write_multirun(self.master, sweep_folder(self.master))
        yield

    def train(self, trials: Sequence[OwnTrial]) -> list[list[Row]]:
        """Launch the jobs of consecutive trials together."""
        found: list[list[Row]] = []
        for _, consecutive in groupby(enumerate(trials), key=lambda place: place[1].number - place[0]):
            group = [trial for _, trial in consecutive]
            repeats = max(1, len(group[0].seeds))
            jobs = [job for trial in group for job in jobs_of(trial)]
            returns = self.launcher.launch(jobs, initial_job_idx=group[0].number * repeats)
            rows = [self._row(job) for job in returns]
            found += [rows[i * repeats : (i + 1) * repeats] for i in range(len(group))]
        return found

    def _row(self, job: Any) -> Row:
        """The run's record where there is one, else what the task returned."""
        try:
            value = job.return_value
        except Exception as error:
            if not str(self.master.hydra.launcher._target_).endswith(".PopulationLauncher"):  # which has logged it
                log.error("a job failed: %s", " ".join(job.overrides or ()), exc_info=error)
            return {"outcome": "failed", "cause": in_words(error.__cause__ or error)}
        with contextlib.suppress(DataError, AttributeError, KeyError, TypeError, ValueError):
            return read_run(Path(job.hydra_cfg.hydra.runtime.output_dir))[0]
        values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        try:
            row: Row = {o.metric: float(v) for o, v in zip(self.objectives, values, strict=True)}
        except (TypeError, ValueError):
            takes = "a number" if len(self.objectives) == 1 else f"{len(self.objectives)} numbers"
            return {"outcome": "failed", "cause": f"the task returned {value!r}; it takes {takes}"}
        finite = all(math.isfinite(v) for v in row.values())
        return {**row, "outcome": "completed" if finite else "diverged"}


def record_trial(rows: Sequence[Row], study: str, number: int, values: Mapping[str, float]) -> None:
    """Write the trial's study, number and values into the record of each of its runs.

    A run that an earlier trial has trained stays that trial's.

    Raises:
        WriteError: the disk is full or read-only.
    """
    about = {"trial": number, "trial/study": study, **{f"trial/{metric}": value for metric, value in values.items()}}
    for row in rows:
        if "folder" in row and "trial" not in row:
            path = Path(row["folder"]) / RESULT
            write_file(path, json_text({**read_json(path), **about}))
            row.update(about)


def jobs_of(trial: OwnTrial) -> list[list[str]]:
    """Return the overrides of each repeat."""
    others = [o for o in trial.overrides if not trial.seeds or not sets_seed(o)]
    return [[*others, f"seed={seed}"] for seed in trial.seeds] or [others]


def sets_seed(override: str) -> bool:
    """Whether it is ``seed=N`` or ``++seed=N``."""
    return override.lstrip("+").startswith("seed=")


def base_seed(overrides: Sequence[str]) -> int:
    """Return the first repeat's seed.

    Raises:
        ConfigError: it is no whole number.
    """
    given = [o.partition("=")[2] for o in overrides if sets_seed(o)]
    try:
        return int(given[-1]) if given else 0
    except ValueError:
        raise ConfigError(
            f"seed={given[-1]} is not valid with hydra.sweeper.repeats; it takes a whole number"
        ) from None
