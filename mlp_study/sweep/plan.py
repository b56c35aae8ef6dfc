"""The plan of a sweep: jobs to runs, equal runs once, runs to shares, runs into populations that fit the memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import load
from mlp_study.errors import ConfigError
from mlp_study.sweep import memory
from mlp_study.sweep.estimates import work

if TYPE_CHECKING:
    from mlp_study.data.images import ImageSet, Sizes
    from mlp_study.sweep.fast_compose import Composer


@dataclass(frozen=True)
class Cell:
    """One run of a plan.

    Attributes:
        run_id: names its folder: its id, in a reproduction with the folders above.
        overrides: what was typed for it.
        number: of its first job.
        apart: runs with different words here never train together.
    """

    run_id: str
    config: RunConfig
    overrides: tuple[str, ...]
    number: int = 0
    apart: str = ""


@dataclass(frozen=True)
class Population:
    """Runs that train in lockstep, and what they cost.

    Attributes:
        bytes: estimated memory.
        steps: updates of each run.
        work: of all runs, in the unit of ``estimates.work``.
    """

    cells: tuple[Cell, ...]
    bytes: int = 0
    steps: int = 0
    work: float = 0.0

    @property
    def name(self) -> str:
        """The same for the same runs: names its checkpoint."""
        return hashlib.sha256("".join(cell.run_id for cell in self.cells).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Crew:
    """Who trains.

    Attributes:
        workers: populations that train at a time.
        bytes: memory for each; None: half of what is free here.
        shared: whether they share this machine's memory.
    """

    workers: int = 1
    bytes: int | None = None
    shared: bool = True

    def limit(self, config: RunConfig) -> int:
        """Memory that one population may take."""
        if self.bytes is not None and config.max_memory is None:
            return self.bytes
        return memory.limit_bytes(config, self.workers if self.shared else 1)


@dataclass(frozen=True)
class Plan:
    """What a sweep will do.

    Attributes:
        jobs: the run id of each job; equal jobs have equal ids.
        populations: every distinct run of this process's share in exactly one.
        elsewhere: distinct runs of other shares.
        crew: who trains.
    """

    jobs: tuple[str, ...]
    populations: tuple[Population, ...]
    elsewhere: int = 0
    crew: Crew = field(default_factory=Crew)

    @property
    def cells(self) -> Iterator[Cell]:
        """All distinct runs."""
        return (cell for population in self.populations for cell in population.cells)

    def __len__(self) -> int:
        return sum(len(population.cells) for population in self.populations)


def make_plan(jobs: Sequence[Sequence[str]], composer: Composer) -> Plan:
    """Compose, check and group all jobs for this process; raises what ``composed`` and ``grouped`` raise."""
    return grouped(*composed(jobs, composer))


def composed(
    jobs: Sequence[Sequence[str]], composer: Composer, first: int = 0
) -> tuple[tuple[str, ...], tuple[Cell, ...]]:
    """Return the run id of each job, and each distinct run once.

    Args:
        jobs: one list of overrides a job.
        composer: turns them into configs.
        first: the number of the first job.

    Raises:
        ConfigError: no jobs, or one that is not valid; the message names the override.
    """
    if not jobs:
        raise ConfigError("the sweep is empty: there is nothing to train")
    ids: list[str] = []
    cells: dict[str, Cell] = {}
    for number, job in enumerate(jobs, first):
        config = RunConfig.from_dict(composer.compose(job))
        ids.append(config.run_id)
        cells.setdefault(config.run_id, Cell(config.run_id, config, tuple(job), number))
    return tuple(ids), tuple(cells.values())


def grouped(
    ids: tuple[str, ...],
    cells: Sequence[Cell],
    crew: Crew | Callable[[float], Crew] | None = None,
    share: str | None = None,
    begun: Iterable[tuple[str, ...]] = (),
    finished: Collection[str] = (),
) -> Plan:
    """Plan these runs.

    Args:
        ids: the run id of each job.
        cells: the distinct runs.
        crew: who trains, or what says so from the work that there is to do (``estimates.work``); None: this process.
        share: ``i/n``: plan only the i-th of n shares.
        begun: members of populations that have a checkpoint: they stay together, whatever memory is free now.
        finished: runs that there is nothing to do for.

    Raises:
        DataError: a data set cannot be read.
    """
    mine = list(cells)
    if share is not None:
        number, count = map(int, share.split("/"))
        mine = shares_of(cells, count)[number]
    populations = [*_begun(mine, begun)]
    taken = {cell.run_id for population in populations for cell in population.cells}
    groups = groups_of(cell for cell in mine if cell.run_id not in taken)
    if callable(crew):
        left = sum(population.work for population in populations)
        left += sum(group.work(cell) for group in groups for cell in group.cells if cell.run_id not in finished)
        crew = crew(left)
    crew = crew or Crew()
    return Plan(ids, (*populations, *chunked(groups, crew)), len(cells) - len(mine), crew)


def shares_of(cells: Sequence[Cell], count: int) -> list[list[Cell]]:
    """Divide runs into ``count`` shares of about equal work; they follow from the runs alone, on any machine.

    All runs are laid on a line, those of equal shapes next to each other, and the line is cut in equal lengths.
    """
    line = [(cell, group.work(cell)) for group in groups_of(cells) for cell in group.cells]
    total, before = sum(length for _, length in line), 0.0
    found: list[list[Cell]] = [[] for _ in range(count)]
    for cell, length in line:
        found[min(count - 1, int((before + length / 2) * count / total))].append(cell)
        before += length
    return found


def _begun(cells: Sequence[Cell], begun: Iterable[tuple[str, ...]]) -> Iterator[Population]:
    by_id = {cell.run_id: cell for cell in cells}
    for members in begun:
        if all(run_id in by_id for run_id in members):
            [group] = groups_of([by_id.pop(run_id) for run_id in members])
            yield group.population(group.cells)


@dataclass(frozen=True)
class Group:
    """Runs that could train together.

    Attributes:
        cells: in the order in which neighbours share most.
        images: their data set.
        sizes: of their training.
    """

    cells: tuple[Cell, ...]
    images: ImageSet
    sizes: Sizes

    @property
    def steps(self) -> int:
        """Updates of each."""
        return self.sizes.steps * self.cells[0].config.trainer.max_epochs

    def population(self, cells: Sequence[Cell]) -> Population:
        """Some of them together."""
        return Population(tuple(cells), sum(map(self.bytes, cells)), self.steps, sum(map(self.work, cells)))

    def bytes(self, cell: Cell) -> int:
        """Estimated memory of one."""
        return memory.member_bytes(cell.config, self.images, self.sizes.batch)

    def work(self, cell: Cell) -> float:
        """Of one, in the unit of ``estimates.work``."""
        return work(cell.config, self.images, self.steps, self.sizes.train, self.sizes.validation)

    def most(self, crew: Crew) -> int:
        """Members that one population of it may have."""
        first = self.cells[0].config
        updated = max(memory.updated_bytes(cell.config, self.images) for cell in self.cells)
        return memory.largest(first, max(map(self.bytes, self.cells)), updated, crew.limit(first))


def groups_of(cells: Iterable[Cell]) -> list[Group]:
    """Runs by shape, in the order in which neighbours share most; raises DataError if their data cannot be read."""
    from mlp_study.training.lockstep import lockstep_order, shape_key

    groups: dict[object, list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.apart, shape_key(cell.config)), []).append(cell)
    found = []
    for group in groups.values():
        first = group[0].config
        images = load(first.data.name, first.data_root, **first.data.options)
        ordered = tuple(group[k] for k in lockstep_order([cell.config for cell in group]))
        found.append(Group(ordered, images, first.data.sizes(images)))
    return found


def chunked(groups: Sequence[Group], crew: Crew) -> Iterator[Population]:
    """Neighbours in chunks of equal size, none larger than the memory allows, or than one worker's share of the work.

    Of processes that share this machine, a group's chunks are as many as divide among them: none of them is idle while
    others train the last ones.
    """
    work = [sum(map(group.work, group.cells)) for group in groups]
    share = sum(work) / crew.workers
    for group, own in zip(groups, work, strict=True):
        count = len(group.cells)
        chunks = max(-(-count // group.most(crew)), math.ceil(own / share * (1 - 1e-9)))
        if chunks > 1 and crew.shared:
            chunks = -(-chunks // crew.workers) * crew.workers
        chunks = min(chunks, count)
        for chunk in range(chunks):
            yield group.population(group.cells[chunk * count // chunks : (chunk + 1) * count // chunks])
