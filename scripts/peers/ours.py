"""The project's own training, as `python -m mlp_study.train` calls it."""

from __future__ import annotations

import copy
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from statistics import mean
from typing import Any

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.data.images import ImageSet, load
from mlp_study.runtime.processes import threads_of
from mlp_study.sweep.plan import Cell, Crew, Population, grouped
from mlp_study.training.population import train_population
from peers.mnist import BATCH, IMAGES, LEARNING_RATE, WIDTH, root

RECIPE = (
    "activation=relu data.scale=unit data.validation=test optimizer=sgd trainer.accelerator=cpu "
    f"data.batch_size={BATCH} model.widths=[{WIDTH}]"
)
PROBES_OFF = ("probes.ends=[]", "probes.epochs=[]")
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "elu")
SCALES = ("none", "unit", "symmetric", "standard")
OPTIMIZERS = ("sgd", "momentum", "adam")
FULL = 60  # networks of one rule: two processes then train populations as large as of 180


def composed(*more: str, data: str = "mnist", epochs: int = 1) -> dict[str, Any]:
    """The recipe's values, with further overrides."""
    values = compose([f"data={data}", f"trainer.max_epochs={epochs}", *RECIPE.split(), *more])
    values["data"]["root"] = str(root())
    return values


def configs(members: int, *more: str, shared: bool) -> list[RunConfig]:
    """Members that differ in their learning rate and share each minibatch, or in their seed and share none."""
    values = composed(*more)
    built = []
    for k in range(members):
        one = copy.deepcopy(values)
        one["optimizer"]["lr"] = LEARNING_RATE * (1 + k / 1000)
        one["seed"] = 0 if shared else k
        built.append(RunConfig.from_dict(one))
    return built


def grid(activations: int, seeds: int, *more: str, kind: str) -> list[list[RunConfig]]:
    """So many activations x 4 scales x 3 optimizers x so many seeds, or what that is compared with; groups train apart.

    Args:
        activations: so many of ``ACTIVATIONS``.
        seeds: of each cell.
        more: further overrides.
        kind: ``mixed``: the grid, together; ``alike``: as many of ReLU and SGD, the cheapest of its rules, that differ
            in their seeds and learning rates only, the latter by less than is of use; ``apart``: a group of ``FULL``
            for each of the grid's pairs of activation and optimizer, in which learning rates alone differ.
    """
    rates = [f"optimizer.lr={0.001 * (1 + k / 1000)}" for k in range(max(FULL, activations * 4 * 3))]
    if kind == "apart":
        pairs = product(ACTIVATIONS[:activations], OPTIMIZERS)
        chosen = [[f"activation={activation}", f"optimizer={optimizer}"] for activation, optimizer in pairs]
        return [[RunConfig.from_dict(composed(*more, *pair, rate)) for rate in rates[:FULL]] for pair in chosen]
    together = []
    for k, (activation, scale, optimizer) in enumerate(product(ACTIVATIONS[:activations], SCALES, OPTIMIZERS)):
        mixed = [f"activation={activation}", f"data.scale={scale}", f"optimizer={optimizer}"] if kind == "mixed" else []
        values = composed(*more, *mixed, rates[k])
        together += [RunConfig.from_dict({**values, "seed": seed}) for seed in range(seeds)]
    return [together]


def prepare(
    members: int = 1,
    *,
    shared: bool = True,
    more: Sequence[str] = (),
    images: int = IMAGES,
    kind: str = "",
    activations: int = 3,
    seeds: int = 5,
    processes: int = 1,
) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its training part's seconds for each member, mean accuracy on the test images).

    Args:
        members: of the population; it is cut into as many populations as a sweep's planner makes.
        shared: whether members see the same minibatches.
        more: further overrides.
        images: of an epoch.
        kind: if given, the members of that ``grid`` are trained instead.
        activations: of that grid.
        seeds: of that grid.
        processes: beyond one, populations are trained by so many that divide the cores, as in a sweep, and the seconds
            are those of the process that trains longest.
    """
    more = (*PROBES_OFF, f"data.limit={images}", *more)  # probes are not in what is timed
    groups = grid(activations, seeds, *more, kind=kind) if kind else [configs(members, *more, shared=shared)]
    populations: list[Population] = []
    for group in groups:
        cells = [Cell(config.run_id, config, ()) for config in group]
        populations += grouped(tuple(cell.run_id for cell in cells), cells, Crew(processes)).populations
    count = sum(map(len, groups))
    accuracies: list[float] = []
    loaded = load("mnist", root())

    def epoch() -> float:
        spent: dict[int, float] = defaultdict(float)
        accuracies.clear()

        def ended(_: Population, answer: tuple[int, float, list[float]]) -> None:
            process, seconds, found = answer
            spent[process] += seconds
            accuracies.extend(found)

        if processes > 1:
            begin = (_begin, (time.perf_counter is time.process_time, threads_of(processes)))
            longest_first = sorted(populations, key=lambda population: -population.work)
            with ProcessPoolExecutor(processes, get_context("spawn"), *begin) as pool:
                for population, answer in zip(longest_first, pool.map(_trained, longest_first), strict=True):
                    ended(population, answer)
        else:
            for population in populations:
                ended(population, _trained(population, loaded))
        return max(spent.values()) / count

    return epoch, lambda: mean(accuracies)


def _trained(population: Population, images: ImageSet | None = None) -> tuple[int, float, list[float]]:
    """(Process, seconds of the epoch's training part, test accuracies)."""
    images = images or load("mnist", root())
    results = train_population([cell.config for cell in population.cells], images=images)
    return os.getpid(), results[0].curves[-1]["seconds"], [result.metrics["test/accuracy"] for result in results]


def _begin(cpu: bool, threads: int) -> None:
    """Prepare a worker; it counts processor time if ``cpu``."""
    import torch

    torch.set_num_threads(threads)
    if cpu:
        time.perf_counter = time.process_time
