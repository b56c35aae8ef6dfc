"""One run from its data to its result, with the probes that are on by default or with none."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import load
from mlp_study.training.population import train_population
from peers.mnist import root
from peers.ours import PROBES_OFF, composed


def prepare(*, probes: bool, data: str, epochs: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """(train one network for so many epochs and return the whole run's seconds, its accuracy on the test images).

    The whole run, since probes look between its epochs and before and after them.
    """
    config = RunConfig.from_dict(composed(*([] if probes else PROBES_OFF), data=data, epochs=epochs))
    images, accuracies = load(data, root()), [0.0]

    def run() -> float:
        began = perf_counter()
        [result] = train_population([config], images=images)
        seconds = perf_counter() - began
        accuracies[:] = [result.metrics["test/accuracy"]]
        return seconds

    return run, lambda: accuracies[0]
