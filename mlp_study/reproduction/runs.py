"""The runs behind the claims: every variant over all seeds, in populations; finished ones are read back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.config.schema import RunConfig
from mlp_study.errors import DataError
from mlp_study.records.run_folder import RESULT, read_json, read_rows
from mlp_study.reproduction.experiments import Experiment
from mlp_study.reproduction.measures import GRADIENT, measures_of
from mlp_study.sweep.claims import Claims
from mlp_study.sweep.plan import Cell as Planned
from mlp_study.sweep.plan import Crew, Population, chunked, groups_of
from mlp_study.sweep.processes import workers_for

if TYPE_CHECKING:
    from mlp_study.training.results import Metrics


@dataclass(frozen=True)
class Cell:
    """One run: a variant with a seed.

    Attributes:
        folder: where its records lie. Its name ends in the run's id, so other overrides never meet another's records.
        alone: what else must be equal to share a population; empty for untimed experiments.
        check_gradient: whether a claim is about the gradient check, which costs more than a small run.
    """

    experiment: str
    variant: str
    config: RunConfig
    folder: Path
    alone: tuple[str, ...] = ()
    check_gradient: bool = False

    @property
    def top(self) -> Path:
        """The folder of all runs, with the checkpoints of those that train and the claims of who trains them."""
        return self.folder.parents[2]

    @property
    def name(self) -> str:
        """Its folder in there, by which it is claimed: sources may ask for the same run, each in a place of its own."""
        return self.folder.relative_to(self.top).as_posix()

    @property
    def finished(self) -> bool:
        """Whether its records are there and whole."""
        try:
            return bool(read_json(self.folder / RESULT)["run_id"] == self.config.run_id)
        except (DataError, KeyError):
            return False


@dataclass(frozen=True)
class Done:
    """A finished run: its numbers and its curves."""

    cell: Cell
    outcome: str
    measures: dict[str, float]
    rows: list[Metrics]


def cells_of(found: Experiment, configs: dict[str, list[RunConfig]], top: Path) -> list[Cell]:
    """Every run of an experiment; records go to ``top/runs/EXPERIMENT/VARIANT/seed_N-ID``."""
    return [
        Cell(
            experiment=found.name,
            variant=variant,
            config=config,
            folder=top / "runs" / found.name / variant / f"seed_{config.seed}-{config.run_id}",
            alone=(found.name, variant) if found.timed else (),
            check_gradient=any(claim.metric == GRADIENT for claim in found.claims),
        )
        for variant, members in configs.items()
        for config in members
    ]


@dataclass(frozen=True)
class Batch:
    """Cells that train in lockstep.

    Attributes:
        cells: its members.
        population: the same as a sweep's plan has them, with what they cost.
    """

    cells: tuple[Cell, ...]
    population: Population

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint lies while it trains: named after its members, beside their folders."""
        return self.cells[0].top / f".checkpoint-{self.population.name}.safetensors"

    @property
    def finished(self) -> bool:
        """Whether all its cells are."""
        return all(cell.finished for cell in self.cells)

    def part(self, names: Collection[str]) -> Batch:
        """The cells of these names alone."""
        both = zip(self.cells, self.population.cells, strict=True)
        cells, planned = zip(*((cell, other) for cell, other in both if cell.name in names), strict=True)
        return Batch(cells, replace(self.population, cells=planned))

    @property
    def words(self) -> str:
        """How many runs of what."""
        names = ", ".join(dict.fromkeys(f"{cell.experiment} {cell.variant}" for cell in self.cells))
        return f"{len(self.cells)} runs ({names})"


def batches(cells: Sequence[Cell]) -> tuple[list[Batch], int]:
    """Cells that can train in lockstep, as a sweep would plan them, and by how many processes; the longest first."""
    by_seed = sorted(cells, key=lambda cell: cell.config.seed)  # neighbours of one seed share their images
    apart: dict[tuple[str, ...], list[Planned]] = {}
    for number, cell in enumerate(by_seed):
        apart.setdefault(cell.alone, []).append(Planned(cell.config.run_id, cell.config, (), number))
    groups = [group for planned in apart.values() for group in groups_of(planned)]
    if not groups:
        return [], 1
    crew = Crew(workers_for(cells[0].config, sum(group.work(cell) for group in groups for cell in group.cells)))
    found = [Batch(tuple(by_seed[c.number] for c in p.cells), p) for p in chunked(groups, crew)]
    return sorted(found, key=lambda batch: -batch.population.work), crew.workers


def claims_in(top: Path) -> Claims:
    """Who trains which runs below ``top``."""
    return Claims(top / ".claims")


def train_missing(cells: Sequence[Cell], train: Callable[[Sequence[Batch], int], int]) -> int:
    """Train the cells that have no finished record; returns how many were trained by this command.

    Args:
        cells: of one experiment or several.
        train: trains batches, by so many processes, records each member in its folder, and says how many it trained.
    """
    trained = train(*batches([cell for cell in cells if not cell.finished]))
    for top in {cell.top for cell in cells}:
        if stale := list(top.glob(".checkpoint-*")):  # of populations that were finished in other company
            with (claims := claims_in(top)).locked():
                for path in stale if claims.alone() else ():
                    path.unlink(missing_ok=True)
    return trained


def read_done(cells: Sequence[Cell]) -> Iterator[Done]:
    """The finished cells' numbers."""
    for cell in cells:
        result, rows = read_json(cell.folder / RESULT), read_rows(cell.folder)
        yield Done(cell, str(result["outcome"]), measures_of(result, rows), rows)
