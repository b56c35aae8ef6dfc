"""What the launcher does: plan the jobs, train them as populations, and return each job's result to the sweeper."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError, Interrupted
from mlp_study.records import wandb_run
from mlp_study.runtime.devices import check_device
from mlp_study.runtime.files import make_folder
from mlp_study.sweep import printing, slurm
from mlp_study.sweep.executor import After, Executor, SavePolicy
from mlp_study.sweep.hydra_files import HydraFiles
from mlp_study.sweep.plan import Cell, Crew, Plan, Population, grouped, shares_of
from mlp_study.sweep.processes import ProcessesExecutor, default_workers, workers_for
from mlp_study.sweep.returns import MemberReturn, RunFailed
from mlp_study.sweep.store import Store, fixed_settings, sweep_folder, write_multirun
from mlp_study.sweep.table import SweepTable
from mlp_study.sweep.tasks import is_grid, page_at_end
from mlp_study.training.progress import progress_callbacks

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

    from mlp_study.config.plugin_settings import SlurmConfig
    from mlp_study.sweep.fast_compose import Composer

log = logging.getLogger(__name__)

TABLE_COLUMNS = ("run_id", "outcome", "cause", "test/accuracy", "test/loss", "val/accuracy", "epochs", "seconds")
MODELS_UP_TO = 1000  # save=auto keeps all models of sweeps up to this many runs


@dataclass
class Launch:
    """One batch of jobs of a sweep.

    Args:
        master: the sweep's own composed config, with its ``hydra`` node.
        composer: has composed the jobs.
        executor, workers: as ``mlp_study.config.plugin_settings.LauncherConfig`` has them.
        slurm: a task's needs where shards train as tasks of a SLURM array.
        task: Hydra's task function, whose command makes the page at the end.
    """

    master: DictConfig
    composer: Composer
    executor: str
    workers: int | None
    slurm: SlurmConfig | None = None
    task: Any = None

    def run(self, jobs: Sequence[Sequence[str]], ids: tuple[str, ...], cells: Sequence[Cell]) -> list[JobReturn]:
        """Plan and train the composed jobs; see ``Executor.run`` for what it raises."""
        settings, grid = cells[0].config, is_grid(self.master)
        store = Store(sweep_folder(self.master))
        # Another sweeper's batch says little of what its later ones will vary.
        fixed = fixed_settings(cells) if grid else None
        store.check(fixed)
        done = {cell.run_id for cell in cells if store.finished(cell.run_id, settings.retry_failed)}
        plan = grouped(ids, cells, partial(self.crew, settings), share_of(settings), store.interrupted(), done)
        finished = {cell.run_id for cell in plan.cells if cell.run_id in done}
        printing.print_plan(plan, store.folder, finished)
        if settings.dry_run:
            return [MemberReturn(list(job), math.nan, self.composer) for job in jobs]
        if self.slurm is None:  # there the tasks' machines count
            check_device(settings.trainer.accelerator)
        store.open(fixed, [cell.run_id for cell in cells])
        write_multirun(self.master, store.folder)
        table = SweepTable(store.folder)
        trains = len(finished) < len(plan)
        with self.logged(store.folder), wandb_complete():
            with contextlib.closing(store):
                if trains:
                    trains = self.train(plan, store, table, settings)
                if settings.retry_failed:
                    table.rows.clear()  # some have changed
                with store.exclusive():  # of several processes the last one to end writes the whole table
                    table.refresh()
                    table.write(parquet=True)
                store.tidy()
            whole = all(cell.run_id in table.rows for cell in cells)
            made = page_at_end(self.task, store.folder, trains) if grid and settings.report and whole else None
            if trains and whole:
                self.track(table, plan, settings, made.figures if made else {})
        printing.print_summary(table, plan)
        if made:
            print(f"report: {made.page}", flush=True)
        mine = {cell.run_id for cell in plan.cells}
        return [
            self.returned(job, table.rows.get(run_id), run_id in mine)
            for job, run_id in zip(jobs, plan.jobs, strict=True)
        ]

    def crew(self, settings: RunConfig, work: float) -> Crew:
        """Who trains so much work, as ``estimates.work`` counts it."""
        if self.slurm is not None:
            return Crew(self.workers or 1, slurm.population_bytes(self.slurm), shared=False)
        if self.executor == "process":
            return Crew()
        return Crew(
            self.workers or (default_workers() if self.executor == "processes" else workers_for(settings, work))
        )

    def train(self, plan: Plan, store: Store, table: SweepTable, settings: RunConfig) -> bool:
        """Train all that is left; the table is written also when a signal ends the sweep.

        Returns:
            Whether this process has written results; tasks of a cluster say themselves that they have.
        """
        few = len(plan) + plan.elsewhere <= MODELS_UP_TO
        files = HydraFiles(self.composer.full(next(plan.cells).overrides))
        policy = SavePolicy(files, self.name(store.folder), "models" if few else "best")
        table.refresh()
        policy.best = max((row.get("val/accuracy", -math.inf) for row in table.rows.values()), default=-math.inf)
        retry = settings.retry_failed
        todo = [p for p in plan.populations if any(not store.finished(c.run_id, retry) for c in p.cells)]
        after = told_of_each(todo, settings)
        try:
            if self.slurm is not None:
                return self.train_on_cluster(plan, store, policy, settings, after)
            if (workers := min(plan.crew.workers, len(todo))) > 1:
                ProcessesExecutor(store.folder, policy, workers, retry).run(todo, after)
            else:
                Executor(store, policy, progress_callbacks(settings), retry).run(todo, after)
        except Interrupted as signal:
            table.refresh()
            table.write()
            done = sum(cell.run_id in table.rows for cell in plan.cells)
            finished = f"{done} of {len(plan)} runs are finished"
            raise type(signal)(
                f"{signal}; {finished}, the same command with sweep_dir={store.folder} resumes"
            ) from signal
        return True

    def train_on_cluster(self, plan: Plan, store: Store, policy: SavePolicy, settings: RunConfig, after: After) -> bool:
        """Train the plan as tasks of a SLURM array, as many as it has populations."""
        assert self.slurm is not None
        needs = self.slurm
        if needs.gpus_per_node is None and settings.trainer.accelerator in ("gpu", "cuda"):
            needs = replace(needs, gpus_per_node=1)
        shards = shares_of(list(plan.cells), min(len(plan.populations), slurm.MOST_TASKS))
        left = [any(not store.finished(c.run_id, settings.retry_failed) for c in shard) for shard in shards]
        command = slurm.task_command(self.master, store.folder)
        executor = slurm.SlurmExecutor(store.folder, policy, needs, command)
        return executor.run(shards, [number for number, waits in enumerate(left) if waits], after) > 0

    def track(self, table: SweepTable, plan: Plan, settings: RunConfig, figures: Mapping[str, Path]) -> None:
        """One more W&B run, the sweep's own: the table of all runs, how they ended, and the report's figures."""
        name = self.name(table.folder)
        swept = printing.swept_keys(plan)
        about = {"swept": swept, "jobs": len(plan.jobs), "sweep_dir": str(table.folder)}
        run = wandb_run.open_sweep(table.folder, settings, name, about)
        rows = list(table.rows.values())
        columns = [*dict.fromkeys([*swept, *TABLE_COLUMNS])]
        run.table("runs", columns, [[plain(row.get(column)) for column in columns] for row in rows])
        ended = [row["outcome"] for row in rows]
        best = max(rows, key=lambda row: float(row.get("val/accuracy", -math.inf)), default={})
        counts = {f"runs/{outcome}": ended.count(outcome) for outcome in sorted(set(ended))}
        run.summary({**counts, **{f"best/{key}": plain(best.get(key)) for key in columns}})
        if figures:
            run.images(dict(figures))
        run.finish()

    def name(self, folder: Path) -> str:
        """The sweep's name in W&B: its file's in ``sweeps/``, with its folder's."""
        choice = self.master.hydra.runtime.choices.get("sweeps")
        place = "/".join(folder.absolute().parts[-2:])
        return f"{choice} {place}" if choice else place

    @contextlib.contextmanager
    def logged(self, folder: Path) -> Iterator[None]:
        """What is logged goes to the sweep's own log too."""
        make_folder(folder)
        handler = logging.FileHandler(folder / f"{self.master.hydra.job.name}.log", delay=True)
        handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            handler.close()

    def returned(self, job: Sequence[str], row: Mapping[str, Any] | None, mine: bool) -> JobReturn:
        """A job's result for the sweeper: its validation accuracy, or the error that it failed with.

        A run of another share (not ``mine``) that is not there yet, or has failed, is reported by that share.
        """
        if not mine:
            return MemberReturn(
                list(job), math.nan if row is None else row.get("val/accuracy", math.nan), self.composer
            )
        if row is None or row["outcome"] == "failed":
            why = "its result cannot be read" if row is None else row.get("cause")
            return MemberReturn(list(job), RunFailed(f"{' '.join(job)}: {why}"), self.composer)
        return MemberReturn(list(job), row.get("val/accuracy", math.nan), self.composer)


@contextlib.contextmanager
def wandb_complete() -> Iterator[None]:
    """Leaving the block waits for W&B, which goes on meanwhile: while the table and the report are made, for one."""
    try:
        yield
    finally:
        wandb_run.wait()


def told_of_each(todo: Sequence[Population], settings: RunConfig) -> After:
    """Print a line with the time left as each population ends, where there is a progress bar."""
    began, shown, work = time.monotonic(), bool(progress_callbacks(settings)), sum(p.work for p in todo)
    done: list[float] = []

    def after(population: Population, _: int) -> None:
        done.append(population.work)
        if shown and 0 < sum(done) < work:
            left = (time.monotonic() - began) * (work / sum(done) - 1)
            print(f"  population {len(done)}/{len(todo)} is done, about {printing.duration(left)} left", flush=True)

    return after


def plain(value: Any) -> Any:
    """What a W&B table takes: numbers, texts, None."""
    return value if value is None or isinstance(value, int | float | str | bool) else str(value)


def share_of(settings: RunConfig) -> str | None:
    """The share of the plan that this process trains.

    Raises:
        ConfigError: the shares would go to different folders.
    """
    if settings.shard is not None and settings.sweep_dir is None:
        raise ConfigError(f"shard={settings.shard} needs sweep_dir=FOLDER, the same for all shards")
    return settings.shard
