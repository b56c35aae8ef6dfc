"""The runs behind the claims: every variant over all seeds, trained as a sweep's; finished ones are read back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import load
from mlp_study.errors import StudyError
from mlp_study.records import wandb_run
from mlp_study.records.recorder import Draw, Recorder
from mlp_study.records.run_folder import RESULT, read_json, read_rows
from mlp_study.reproduction.experiments import Experiment
from mlp_study.reproduction.measures import GRADIENT, add_own, measures_of
from mlp_study.sweep.executor import Executor, SavePolicy, figures_of
from mlp_study.sweep.plan import Cell, Crew, Plan, Population, grouped
from mlp_study.sweep.processes import ProcessesExecutor, workers_for
from mlp_study.sweep.store import Store
from mlp_study.training.progress import progress_callbacks
from mlp_study.training.results import MemberResult

if TYPE_CHECKING:
    from mlp_study.training.results import Metrics


@dataclass(frozen=True)
class Done:
    """A finished run: its numbers and its curves."""

    variant: str
    config: RunConfig
    folder: Path
    outcome: str
    measures: dict[str, float]
    rows: list[Metrics]


def cells_of(found: Experiment, configs: Mapping[str, Sequence[RunConfig]]) -> list[Cell]:
    """Return every run of an experiment.

    Their records go to ``runs/EXPERIMENT/VARIANT/seed_N-ID``: other overrides never meet another's records, and sources
    may ask for the same run, each in a place of its own. Of a timed experiment each variant trains by itself.
    """
    return [
        Cell(
            run_id=f"runs/{found.name}/{variant}/seed_{config.seed}-{config.run_id}",
            config=config,
            overrides=(f"+experiment={found.name}", f"experiment.variant={variant}"),
            apart=f"{found.name} {variant}" if found.timed else "",
        )
        for variant, members in configs.items()
        for config in members
    ]


def names_of(cell: Cell) -> tuple[str, str]:
    """A run's experiment and its variant."""
    experiment, variant = (override.partition("=")[2] for override in cell.overrides)
    return experiment, variant


def checked(experiments: Sequence[Experiment]) -> frozenset[str]:
    """The experiments that claim something of the gradient check, which costs more than a small run."""
    return frozenset(e.name for e in experiments if any(claim.metric == GRADIENT for claim in e.claims))


@dataclass
class MeasuredPolicy(SavePolicy):
    """Saves what a single run saves, and what this study measures besides.

    Attributes:
        checked: the experiments whose gradients are checked.
    """

    checked: Collection[str] = ()

    def settled(self, config: RunConfig) -> RunConfig:
        """Return the config as it is."""
        return config

    def recorder(self, cells: Sequence[Cell], folders: Sequence[Path]) -> Recorder:
        """Make what records the members."""
        return MeasuringRecorder(cells, folders, self.checked)


class MeasuringRecorder(Recorder):
    """A recorder that adds what this study measures besides, and draws figures of each variant's first seed only.

    Args:
        cells: the members of the population.
        folders: theirs.
        checked: the experiments whose gradients are checked.
    """

    def __init__(self, cells: Sequence[Cell], folders: Sequence[Path], checked: Collection[str]) -> None:
        first = cells[0].config
        overrides = [cell.overrides for cell in cells]
        super().__init__(folders, overrides=overrides, draw=figures_of(first), patient=False)
        self.images = load(first.data.name, first.data_root, **first.data.options)
        self.seeds = [cell.config.seed for cell in cells]
        self.checks = [names_of(cell)[0] in checked for cell in cells]

    def finished(self, k: int, result: MemberResult) -> None:
        """Measure, then record."""
        add_own(result, self.images, check_gradient=self.checks[k])
        super().finished(k, result)

    def draw_of(self, k: int) -> Draw | None:
        """Draw figures of the first seed only."""
        return self.draw if self.seeds[k] == 0 else None


def plan_of(cells: Sequence[Cell]) -> Plan:
    """Plan populations as a sweep does; neighbours of one seed share their images."""
    by_seed = sorted(cells, key=lambda cell: cell.config.seed)
    return grouped((), by_seed, lambda work: Crew(workers_for(cells[0].config, work)))


def train_missing(
    cells: Sequence[Cell], top: Path, checked: Collection[str] = (), say: Callable[[str], object] = lambda _: None
) -> int:
    """Train the runs without a finished record in the folder ``top``; returns how many were trained for this command.

    Args:
        cells: of one experiment or several.
        top: the reproduction's folder.
        checked: the experiments whose gradients are checked.
        say: told of each population.

    Raises:
        StudyError: the data cannot be read, a folder not be written, or a run has failed.
        Interrupted: SIGINT or SIGTERM asked to stop; what is finished stays.
    """
    store, trained = Store(top), [0]
    missing = [cell for cell in cells if not store.finished(cell.run_id, retry_failed=True)]
    if not missing:
        return 0
    plan, policy = plan_of(missing), MeasuredPolicy(checked=checked)

    def after(population: Population, here: int) -> None:
        names = ", ".join(dict.fromkeys(" ".join(names_of(cell)) for cell in population.cells))
        trained.append(here)
        say(f"population {len(trained) - 1}/{len(plan.populations)} is trained: {len(population.cells)} runs ({names})")

    with contextlib.closing(store):
        if (workers := min(plan.crew.workers, len(plan.populations))) > 1:
            ProcessesExecutor(top, policy, workers, True, say).run(plan.populations, after)
        else:
            Executor(store, policy, progress_callbacks(cells[0].config), True, say).run(plan.populations, after)
        wandb_run.wait()
        store.tidy(all_done=True)
    _raise_if_failed([store.place(cell.run_id) for cell in missing])
    return sum(trained)


def _raise_if_failed(folders: Sequence[Path]) -> None:
    found = [read_json(folder / RESULT) for folder in folders]
    causes = [str(result.get("cause")) for result in found if result["outcome"] == "failed"]
    if causes:
        raise StudyError(
            f"{len(causes)} of {len(found)} runs failed, the first by: {causes[0]}; the same command trains them again"
        )


def read_done(cells: Sequence[Cell], top: Path) -> list[Done]:
    """Read the finished runs' numbers."""
    done = []
    for cell in cells:
        folder = top / cell.run_id
        result, rows = read_json(folder / RESULT), read_rows(folder)
        measures = measures_of(result, rows)
        done.append(Done(names_of(cell)[1], cell.config, folder, str(result["outcome"]), measures, rows))
    return done
