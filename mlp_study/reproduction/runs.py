"""The runs behind the claims: every variant over all seeds, in populations; finished ones are read back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.config import RunConfig
from mlp_study.errors import DataError
from mlp_study.records.run_folder import RESULT, read_json, read_rows
from mlp_study.reproduction.experiments import Experiment
from mlp_study.reproduction.measures import GRADIENT, measures_of

if TYPE_CHECKING:
    from mlp_study.training.results import Row

MEMBERS = 64  # of a population: beyond it a CPU gains no speed and an interruption loses more
POPULATION_BYTES = 2**30  # weights, gradients and optimizer state of a population


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
    rows: list[Row]


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


def populations(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that can train in lockstep, in chunks that fit in memory; equal seeds stay together."""
    from mlp_study.training.population import shape_key

    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((shape_key(cell.config), cell.alone), []).append(cell)
    chunks = []
    for group in groups.values():
        group.sort(key=lambda cell: cell.config.seed)
        size = max(1, min(MEMBERS, POPULATION_BYTES // member_bytes(group[0].config)))
        count = -(-len(group) // size)
        chunks += [group[i * len(group) // count : (i + 1) * len(group) // count] for i in range(count)]
    return chunks


def member_bytes(config: RunConfig) -> int:
    """What a member holds between steps: weights, gradients, two optimizer buffers, a copy for its record; bytes."""
    sizes = [28 * 28, *config.model.widths, 10]
    return 4 * 5 * sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))


def train_missing(
    cells: Sequence[Cell],
    train: Callable[[list[Cell], Path], object],
    say: Callable[[str], None] = lambda _: None,
) -> int:
    """Train the cells that have no finished record; returns how many.

    Args:
        cells: of one experiment or several.
        train: trains a population and records each member in its folder; the path is the population's checkpoint.
        say: told of each population before it trains.
    """
    missing = [cell for cell in cells if not cell.finished]
    chunks = populations(missing)
    for number, members in enumerate(chunks, 1):
        names = ", ".join(dict.fromkeys(f"{cell.experiment} {cell.variant}" for cell in members))
        say(f"population {number}/{len(chunks)}: {len(members)} runs ({names})")
        key = hashlib.sha256("".join(cell.config.run_id for cell in members).encode()).hexdigest()[:16]
        train(members, members[0].folder.parents[2] / f".checkpoint-{key}.safetensors")
    for left in {cell.folder.parents[2] for cell in cells}:
        for stale in left.glob(".checkpoint-*"):  # of a population that another command has finished in other company
            stale.unlink()
    return len(missing)


def read_done(cells: Sequence[Cell]) -> Iterator[Done]:
    """The finished cells' numbers."""
    for cell in cells:
        result, rows = read_json(cell.folder / RESULT), read_rows(cell.folder)
        yield Done(cell, str(result["outcome"]), measures_of(result, rows), rows)
