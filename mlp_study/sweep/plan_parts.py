"""A plan in a few rows: populations that are alike count together; a very large grid is counted from a sample."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlp_study.sweep.plan import Crew, Population, composed, groups_of

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig
    from mlp_study.sweep.fast_compose import Composer

SAMPLED = 2_000  # runs of a very large grid that are composed for its plan


@dataclass(frozen=True)
class Part:
    """Populations of a plan that are alike.

    Attributes:
        config: of any of their runs.
        runs: how many they have together.
        populations: how many they are.
        members: of the largest of them.
        bytes: memory of the largest of them.
        steps: updates of each run.
        work: of all runs, in the unit of ``estimates.work``.
    """

    config: RunConfig
    runs: int
    populations: int
    members: int
    bytes: int
    steps: int
    work: float


def parts_of(populations: Iterable[Population]) -> list[Part]:
    """Populations that look alike in a plan, together."""
    alike: dict[tuple[str, ...], list[Population]] = {}
    for population in populations:
        alike.setdefault(tuple(described(population.cells[0].config, population.steps)), []).append(population)
    return [
        Part(
            config=some[0].cells[0].config,
            runs=sum(len(p.cells) for p in some),
            populations=len(some),
            members=max(len(p.cells) for p in some),
            bytes=max(p.bytes for p in some),
            steps=some[0].steps,
            work=sum(p.work for p in some),
        )
        for some in alike.values()
    ]


def described(config: RunConfig, steps: int) -> list[str]:
    """Data set, layers, minibatch, epochs and steps of a population that this run is in."""
    layers = "-".join(map(str, config.model.widths)) + ("" if config.model.norm == "none" else f" {config.model.norm}")
    return [*map(str, (config.data.name, layers, config.data.batch_size, config.trainer.max_epochs, steps))]


def sampled_parts(axes: Mapping[str, Sequence[str]], composer: Composer) -> list[Part]:
    """The plan of a grid that is too large to be composed run by run, from some of its runs drawn at random.

    Args:
        axes: each key's overrides, ``key=value``.
        composer: turns them into configs.

    Raises:
        ConfigError: a run that was drawn is not valid.
        DataError: a data set cannot be read.
    """
    values = [list(dict.fromkeys(axis)) for axis in axes.values()]
    runs, drawn = math.prod(map(len, values)), random.Random(0)
    jobs = [[drawn.choice(axis) for axis in values] for _ in range(SAMPLED)]
    for axis, some in enumerate(values):  # each value of a short axis at least once
        for job, value in zip(jobs, some, strict=False):
            job[axis] = value
    _, cells = composed(jobs, composer)
    parts, crew = [], Crew()
    for group in groups_of(cells):
        most, scale = group.most(crew), runs / len(cells)
        count = max(1, round(len(group.cells) * scale))
        size = max(map(group.bytes, group.cells)) * min(count, most)
        work = sum(map(group.work, group.cells)) * scale
        parts.append(Part(group.cells[0].config, count, -(-count // most), min(count, most), size, group.steps, work))
    return parts
