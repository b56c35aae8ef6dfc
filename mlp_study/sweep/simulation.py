"""The plan of a grid too large to be composed run by run: populations, memory, time and files, counted axis by axis.

A run takes a millisecond to compose and check, and a few kilobytes to remember; a million of them a quarter of an hour.
What a population can hold follows from few of the axes. So every choice is composed together with every other one and
with everything that changes a shape or a size; of the other axes each value is tried once, and then only counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.config.schema import GROUPS, RunConfig
from mlp_study.data.images import load
from mlp_study.sweep import cost, memory
from mlp_study.sweep.plan import Cell, Crew, group_of
from mlp_study.sweep.summary import aligned, described, duration

if TYPE_CHECKING:
    from mlp_study.sweep.composer import Composer

SIMULATED = 20_000  # larger grids are simulated by dry_run
TRIED = 500  # values of an axis, evenly spread from its first to its last
COMPOSED = 5_000  # combinations
FILES = 6  # of a run that keeps no model: result, curves, log, and Hydra's three
FILES_BYTES = 6 * 4096  # what these take on a file system of blocks of 4 KB


@dataclass(frozen=True)
class Class:
    """Runs of equal shapes and sizes.

    Attributes:
        config: any of them.
        runs: how many.
        populations: how many they make.
        bytes: memory of the largest population.
        steps: updates of each run.
        work: of all, in the unit of ``cost.work``.
    """

    config: RunConfig
    runs: int
    populations: int
    bytes: int
    steps: int
    work: float

    def part(self) -> cost.Part:
        """What its time is estimated from: full populations of equal members."""
        images = load(self.config.data.name, self.config.data_root, **self.config.data.options)
        members = -(-self.runs // self.populations)
        return cost.Part([self.config] * members, images, self.work / self.populations, self.populations)


def simulate(axes: Mapping[str, Sequence[str]], composer: Composer, crew: Crew | None = None) -> list[Class]:
    """Count the runs of a grid by class.

    Args:
        axes: each key's overrides, ``key=value``.
        composer: turns overrides into configs.
        crew: who trains; None: this process.

    Raises:
        ConfigError: a value or a combination that was tried is not valid.
        DataError: a data set cannot be read.
    """
    first = [values[0] for values in axes.values()]
    base = _kind(_config(composer, first))
    joint = []
    for place, (key, values) in enumerate(axes.items()):
        distinct = list(dict.fromkeys(values))
        tried = [_config(composer, [*first[:place], value, *first[place + 1 :]]) for value in _spread(distinct, TRIED)]
        if len(distinct) > 1 and (key in GROUPS or any(_kind(config) != base for config in tried)):
            joint.append(key)
    counts = {key: len(set(values)) for key, values in axes.items()}
    each = math.prod(count for key, count in counts.items() if key not in joint)
    combinations = math.prod(counts[key] for key in joint)
    options = [list(dict.fromkeys(values)) if key in joint else values[:1] for key, values in axes.items()]
    found: dict[object, tuple[RunConfig, int]] = {}
    stride = -(-combinations // COMPOSED)
    for job in itertools.islice(itertools.product(*options), 0, None, stride):
        config = _config(composer, job)
        kind = _kind(config)
        found[kind] = (config, found.get(kind, (config, 0))[1] + each * stride)
    return [_class(config, runs, crew or Crew()) for config, runs in found.values()]


def _config(composer: Composer, job: Sequence[str]) -> RunConfig:
    return RunConfig.from_dict(composer.compose(job))


def _kind(config: RunConfig) -> object:
    """What decides how many of them make a population."""
    from mlp_study.factors.optimizers import OPTIMIZERS
    from mlp_study.training.lockstep import shape_key

    return shape_key(config), len(OPTIMIZERS[config.optimizer.name].state)


def _spread(values: Sequence[str], most: int) -> Iterator[str]:
    """All of them, or ``most`` from the first to the last."""
    count = min(len(values), most)
    return (values[i * (len(values) - 1) // max(1, count - 1)] for i in range(count))


def _class(config: RunConfig, runs: int, crew: Crew) -> Class:
    group = group_of([Cell("", config, ())])
    each = group.bytes(group.cells[0])
    most = group.most(crew)
    return Class(config, runs, -(-runs // most), each * min(runs, most), group.steps, group.work(group.cells[0]) * runs)


def print_simulation(found: Sequence[Class], folder: Path) -> None:
    """The plan in words: populations, members, steps, memory, time, files."""
    runs, populations = sum(c.runs for c in found), sum(c.populations for c in found)
    print(f"Sweep of {runs} runs in about {populations} populations: sweep_dir={folder}")
    print("  a simulated plan: choices are tried together, other values one by one, and not run by run")
    lines = [["populations", "members", "data", "layers", "batch", "epochs", "steps", "memory"]]
    for c in sorted(found, key=lambda c: -c.work):
        lines.append([str(c.populations), str(-(-c.runs // c.populations)), *described(c.config, c.steps, c.bytes)])
    print(aligned(lines[:30]))
    if len(lines) > 30:
        print(f"  ... {len(lines) - 30} more")
    seconds = cost.seconds([c.part() for c in found], rehearsal=cost.REHEARSAL_SECONDS)
    largest = max(c.bytes for c in found)
    print(f"  at most {largest / memory.GB:.2f} GB at a time, about {duration(seconds)} for one process like this one")
    size = f"{FILES * runs:,} files, {FILES_BYTES * runs / memory.GB:.0f} GB"
    print(f"  about {size} without models and figures", flush=True)
