"""What is optimized: recorded metrics, their direction, what a diverged run counts, several seeds, and constraints."""

from __future__ import annotations

import contextlib
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlp_study.errors import ConfigError, nearest_first, unknown
from mlp_study.runtime.statistics import CONFIDENCE, mean_deviation, t_quantile

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig

CURVES = ("val/accuracy", "val/loss", "train/accuracy", "train/loss")  # known at each epoch, so a pruner can use them
NUMBERS = ("seconds", "epochs", "parameters")
SHARES = {"seconds": "seconds_share"}  # what a run's own part is recorded as, where the metric is its population's
DIRECTIONS = ("maximize", "minimize")
AGGREGATES = ("mean", "median", "worst", "lower")


@dataclass(frozen=True)
class Objective:
    """One metric and how its values count.

    Attributes:
        metric: its recorded name.
        maximize: whether more is better.
        diverged: a diverged run's value; None: the trial fails.
        aggregate: how the values of several seeds become one.
    """

    metric: str
    maximize: bool
    diverged: float | None
    aggregate: str = "mean"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna calls it."""
        return "maximize" if self.maximize else "minimize"

    def value(self, row: Mapping[str, Any]) -> float | None:
        """One run's value; None if it failed, or diverged where that is a failure."""
        number = row.get(SHARES.get(self.metric, self.metric), row.get(self.metric))
        finite = isinstance(number, int | float) and math.isfinite(number)
        if row.get("outcome") == "failed":
            return None
        return float(number) if finite and row.get("outcome") != "diverged" else self.diverged

    def combine(self, values: Sequence[float]) -> float:
        """One value of several seeds'; ``lower`` is the end of a one-sided t interval on the bad side."""
        if len(values) == 1:
            return values[0]
        bad = min(values) if self.maximize else max(values)
        if self.aggregate == "worst" or not all(map(math.isfinite, values)):
            return bad if self.aggregate != "median" else statistics.median(values)
        if self.aggregate == "median":
            return statistics.median(values)
        mean, spread, n = mean_deviation(values)
        if self.aggregate == "mean":
            return mean
        margin = t_quantile(n - 1, CONFIDENCE) * spread / math.sqrt(n)
        return mean - margin if self.maximize else mean + margin


def deviation(values: Sequence[float]) -> float | None:
    """The sample deviation; None for one value, or where a diverged run counts as infinite."""
    return mean_deviation(values)[1] if len(values) > 1 and all(map(math.isfinite, values)) else None


def read_objectives(metric: Any, direction: Any, diverged: Any, aggregate: str) -> list[Objective]:
    """The objectives of the sweeper's settings.

    Raises:
        ConfigError: a wrong direction, rule or number of them, or a test metric.
    """
    metrics = ["val/accuracy"] if metric is None else _listed(metric)
    directions = [None] * len(metrics) if direction is None else _listed(direction)
    if not metrics or len(directions) != len(metrics):
        raise ConfigError(
            f"hydra.sweeper.direction={direction} does not fit the {len(metrics)} objectives {', '.join(metrics)}"
        )
    if len(set(metrics)) < len(metrics):
        raise ConfigError(f"hydra.sweeper.objective={metrics} names a metric twice")
    if aggregate not in AGGREGATES:
        raise unknown("hydra.sweeper.aggregate", aggregate, AGGREGATES)
    found = []
    for name, given in zip(metrics, directions, strict=True):
        way = getattr(given, "name", given)
        if way is not None and way not in DIRECTIONS:
            raise unknown("hydra.sweeper.direction", way, DIRECTIONS)
        maximize = name.endswith("accuracy") if way is None else way == DIRECTIONS[0]
        found.append(Objective(name, maximize, _worst(name, maximize, diverged), aggregate))
    return found


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) or not isinstance(value, Sequence) else list(value)


def _worst(metric: str, maximize: bool, diverged: Any) -> float | None:
    """What a diverged run counts: no accuracy is below 0, no loss above infinity."""
    if diverged == "fail":
        return None
    if diverged == "worst":
        if metric.endswith("accuracy"):
            return 0.0 if maximize else 1.0
        return -math.inf if maximize else math.inf
    with contextlib.suppress(TypeError, ValueError):
        if not math.isnan(found := float(diverged)):
            return found
    raise ConfigError(f"hydra.sweeper.diverged={diverged} is not valid; it takes worst, fail or a number")


@dataclass(frozen=True)
class Constraint:
    """What a recorded metric must be; ``at_most`` the bound, or at least.

    >>> read_constraint("parameters<=5e4").violation([{"parameters": 60_000}])
    10000.0
    """

    text: str
    metric: str
    at_most: bool
    bound: float

    def violation(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """Return how far the worst of a trial's runs is beyond the bound; not above 0 if all fulfil it."""
        found = [row.get(SHARES.get(self.metric, self.metric), row.get(self.metric)) for row in rows]
        beyond = [
            value - self.bound if self.at_most else self.bound - value
            for value in found
            if isinstance(value, int | float) and not math.isnan(value)
        ]
        return float(max(beyond)) if len(beyond) == len(rows) else math.inf


def read_constraint(text: Any) -> Constraint:
    """Read a constraint such as ``seconds<=2``.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"\s*([^<>=\s]+)\s*([<>])=\s*(\S+)\s*", str(text))
    with contextlib.suppress(ValueError):
        if found and math.isfinite(bound := float(found[3])):
            return Constraint("".join(str(text).split()), found[1], found[2] == "<", bound)
    raise ConfigError(
        f"hydra.sweeper.constraints={text} is not valid; it takes metric<=number or metric>=number, such as seconds<=2"
    )


def check_metric(option: str, metric: str, config: RunConfig) -> None:
    """Refuse a metric that no run records, or that is measured on the test set; ``config`` is any trial's.

    Raises:
        ConfigError: such a metric; the message begins with ``option``.
    """
    ends = {f"{when}/{name}" for when in ("initial", "final") for name in config.probes.ends}
    known = [*CURVES, *NUMBERS, *sorted(ends)]
    if metric.startswith("test/"):
        raise ConfigError(
            f"{option}={metric} is refused: what is chosen by the test set is no longer tested by "
            f"it; it takes {metric.replace('test/', 'val/')}"
        )
    if metric not in known and not any(metric.startswith(f"{name}_") for name in ends):
        raise ConfigError(
            f"{option}={metric!r} is no recorded metric; it takes one of: {', '.join(nearest_first(metric, known))}"
        )
    if metric.startswith("val/") and config.data.validation == "test":
        raise ConfigError(
            f"{option}={metric} is refused with data.validation=test: it would be measured on the "
            "test set; data.validation takes a fraction of the training images, such as 0.1"
        )


def check_objectives(objectives: Sequence[Objective], config: RunConfig, prunes: bool) -> None:
    """Refuse what cannot be optimized, before anything is trained; ``config`` is any trial's.

    Raises:
        ConfigError: a test metric, one that no run records, or one that a pruner cannot see.
    """
    for objective in objectives:
        check_metric("hydra.sweeper.objective", objective.metric, config)
    if prunes and len(objectives) > 1:
        raise ConfigError("hydra.sweeper.pruner takes one objective; with several it must be none")
    if prunes and objectives[0].metric not in CURVES:
        raise ConfigError(
            f"hydra.sweeper.pruner needs an objective that each epoch records, and {objectives[0].metric} is none; "
            f"it takes one of: {', '.join(CURVES)}"
        )
