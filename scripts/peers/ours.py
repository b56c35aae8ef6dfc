"""The project's own training, as `python -m mlp_study.train` calls it: the one place where the benchmark touches it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from itertools import product
from statistics import mean
from typing import Any

from mlp_study.compose import compose
from mlp_study.config import RunConfig
from mlp_study.data.images import load
from mlp_study.sweep.plan import Cell, grouped
from mlp_study.training.population import train_population
from peers.mnist import BATCH, LEARNING_RATE, WIDTH, root

RECIPE = (
    "activation=relu data.scale=unit data.validation=test optimizer=sgd "
    f"data.batch_size={BATCH} model.widths=[{WIDTH}] trainer.accelerator=cpu"
)
RUN_EPOCHS = 5
PROBES_OFF = ("probes.ends=[]", "probes.epochs=[]")


def composed(*more: str, data: str = "mnist", epochs: int = 1) -> dict[str, Any]:
    """The recipe's values, with further overrides."""
    values = compose([f"data={data}", f"trainer.max_epochs={epochs}", *RECIPE.split(), *more])
    values["data"]["root"] = str(root())
    return values


def configs(members: int, *, shared: bool, more: Sequence[str] = ()) -> list[RunConfig]:
    """Members that differ in their learning rate and share each minibatch, or in their seed and share none."""
    values = composed(*more)
    built = []
    for k in range(members):
        one = copy.deepcopy(values)
        one["optimizer"]["lr"] = LEARNING_RATE * (1 + k / 1000)
        one["seed"] = 0 if shared else k
        built.append(RunConfig.from_dict(one))
    return built


def grid(*, mixed: bool) -> list[RunConfig]:
    """180 members of five seeds: 3 activations x 4 scales x 3 optimizers, or all alike but for 36 learning rates."""
    activations, optimizers = ("relu", "sigmoid", "tanh"), ("sgd", "momentum", "adam")
    cells = product(activations, ("none", "unit", "symmetric", "standard"), optimizers)
    built = []
    for k, (activation, scale, optimizer) in enumerate(cells):
        chosen = [f"activation={activation}", f"data.scale={scale}", f"optimizer={optimizer}"] if mixed else []
        values = composed(*chosen, f"optimizer.lr={0.001 * (1 + k / 1000)}", "data.limit=6000")
        built += [RunConfig.from_dict({**values, "seed": seed}) for seed in range(5)]
    return built


def prepare(
    members: int = 1,
    *,
    shared: bool = True,
    more: Sequence[str] = (),
    mixed: bool | None = None,
    probes: bool | None = None,
    data: str = "mnist",
) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one epoch and return its training part's seconds for each member, mean accuracy on the test images).

    ``more`` are further overrides; ``mixed`` asks for the members of ``grid`` instead, ``probes`` for ``whole_runs``
    with or without them on ``data``.
    """
    if probes is not None:
        return whole_runs(probes=probes, data=data)
    wanted = configs(members, shared=shared, more=more) if mixed is None else grid(mixed=mixed)
    cells = [Cell(config.run_id, config, ()) for config in wanted]
    plan = grouped(tuple(cell.run_id for cell in cells), cells)  # a sweep's populations: as many members as caches hold
    images, accuracies = load("mnist", root()), [0.0]

    def epoch() -> float:
        seconds, accuracies[:] = 0.0, []
        for population in plan.populations:
            results = train_population([cell.config for cell in population.cells], images=images)
            accuracies.extend(result.metrics["test/accuracy"] for result in results)
            seconds += results[0].curves[-1]["seconds"]
        return seconds / len(cells)

    return epoch, lambda: mean(accuracies)


def whole_runs(*, probes: bool, data: str) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one network for ``RUN_EPOCHS`` and return the whole run's seconds, its accuracy on the test images).

    The whole run, since probes look between its epochs and before and after them. They are the default ones, or none.
    """
    config = RunConfig.from_dict(composed(*([] if probes else PROBES_OFF), data=data, epochs=RUN_EPOCHS))
    images, accuracies = load(data, root()), [0.0]

    def run() -> float:
        began = time.perf_counter()
        [result] = train_population([config], images=images)
        seconds = time.perf_counter() - began
        accuracies[:] = [result.metrics["test/accuracy"]]
        return seconds

    return run, lambda: accuracies[0]
