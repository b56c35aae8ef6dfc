"""The project's own training, as `python -m mlp_study.train` calls it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import product
from statistics import mean
from typing import Any

from mlp_study.compose import compose
from mlp_study.config import RunConfig
from mlp_study.data.images import load
from mlp_study.sweep.plan import Cell, grouped
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


def grid(activations: int, seeds: int, *more: str, mixed: bool) -> list[RunConfig]:
    """So many activations x 4 scales x 3 optimizers x so many seeds, or all alike but for the cells' learning rates."""
    cells = product(ACTIVATIONS[:activations], SCALES, OPTIMIZERS)
    built = []
    for k, (activation, scale, optimizer) in enumerate(cells):
        chosen = [f"activation={activation}", f"data.scale={scale}", f"optimizer={optimizer}"] if mixed else []
        values = composed(*more, *chosen, f"optimizer.lr={0.001 * (1 + k / 1000)}")
        built += [RunConfig.from_dict({**values, "seed": seed}) for seed in range(seeds)]
    return built


def prepare(
    members: int = 1,
    *,
    shared: bool = True,
    more: Sequence[str] = (),
    images: int = IMAGES,
    mixed: bool | None = None,
    activations: int = 3,
    seeds: int = 5,
) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its training part's seconds for each member, mean accuracy on the test images).

    Args:
        members: of the population; it is cut into as many populations as a sweep's planner makes.
        shared: whether members see the same minibatches.
        more: further overrides.
        images: of an epoch.
        mixed: if given, the members of ``grid`` are trained instead.
        activations: of that grid.
        seeds: of that grid.
    """
    more = (*PROBES_OFF, f"data.limit={images}", *more)  # probes are not in what is timed
    wanted = configs(members, *more, shared=shared) if mixed is None else grid(activations, seeds, *more, mixed=mixed)
    cells = [Cell(config.run_id, config, ()) for config in wanted]
    plan = grouped(tuple(cell.run_id for cell in cells), cells)
    loaded, accuracies = load("mnist", root()), [0.0]

    def epoch() -> float:
        seconds, accuracies[:] = 0.0, []
        for population in plan.populations:
            results = train_population([cell.config for cell in population.cells], images=loaded)
            accuracies.extend(result.metrics["test/accuracy"] for result in results)
            seconds += results[0].curves[-1]["seconds"]
        return seconds / len(cells)

    return epoch, lambda: mean(accuracies)
