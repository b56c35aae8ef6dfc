"""A study with everything that page, figures and tables are made from, computed once."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlp_study.reporting.axes import EXPERIMENT, Axis, Combination, axis_of, factors_of, groups_of, label, measured
from mlp_study.reporting.failures import METRIC, mechanisms_of
from mlp_study.reporting.study import CURVE_METRICS, Study, carried_on, read_curves
from mlp_study.reporting.variance import Share, decomposition
from mlp_study.runtime.statistics import grouped, half_widths, mean_deviation

if TYPE_CHECKING:
    import numpy as np

EXPLAINED = (METRIC, "val/accuracy", "test/loss", "epochs")
METRICS = (
    "test/accuracy", "val/accuracy", "train/accuracy", "test/loss", "val/loss", "train/loss", "gap", "epochs",
    "seconds", "final/dead", "final/saturated", "final/plateau", "final/dormant", "final/missed", "initial/dead",
    "initial/saturated", "initial/missed", "initial/stability_index", "initial/sharpness", "final/stability_index",
)  # fmt: skip
MOST_LEVELS, MOST_IN_SEARCH = 60, 8  # of an axis; a search tries each number once, a grid several times
NAMED = 2  # failing combinations that the answer and the curves name


@dataclass(frozen=True)
class Summary:
    """Means over the runs of each combination.

    Attributes:
        mean: [combination, ...]; NaN without a finite value.
        deviation: of the sample; NaN of one run.
        half: half of the mean's 95 % interval; NaN of one run.
        n: runs with a finite value.
    """

    mean: np.ndarray
    deviation: np.ndarray
    half: np.ndarray
    n: np.ndarray


@dataclass(frozen=True)
class Time:
    """How long the runs of a combination take to reach an accuracy.

    Attributes:
        reached: runs that do.
        median: epochs; infinite if fewer than half reach it.
        low: where the median's 95 % interval begins; NaN of one run.
        high: where it ends; infinite beyond the epochs that were trained.
        seconds: the median at the pace of these runs.
    """

    reached: int
    median: float
    low: float
    high: float
    seconds: float


@dataclass(frozen=True)
class Analysis:
    """What is known about a study.

    Attributes:
        study: the runs as read.
        axes: all settings that vary.
        factors: those of them that do not follow from others.
        groups: the runs of each combination of factors, by their place in the table.
        mechanisms: why each run failed, None if it did not.
        shares: the decomposition of each metric's variance, on the data set with the most runs.
        curves: [run, epoch, metric]; runs that stopped early keep their last values.
        main_data: the data set with the most runs, if there are several; accuracies of data sets are never pooled in
            the answer and the decomposition.
    """

    study: Study
    axes: list[Axis]
    factors: list[str]
    groups: dict[Combination, list[int]]
    mechanisms: list[str | None]
    shares: dict[str, list[Share]]
    curves: np.ndarray
    main_data: str | None

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The lines of the finished runs."""
        return self.study.runs

    @cached_property
    def labels(self) -> list[str]:
        """The combinations as legends have them."""
        return ["this run"] if len(self.runs) == 1 else [label(self.factors, group) for group in self.groups]

    @cached_property
    def group_of(self) -> np.ndarray:
        """[run], the place of each run's combination."""
        import numpy as np

        found = np.zeros(len(self.runs), dtype=int)
        for place, members in enumerate(self.groups.values()):
            found[members] = place
        return found

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """[run] of each metric that some run has, NaN where it has none; ``gap`` is training less test accuracy."""
        import numpy as np

        found = {name: np.array([measured(run, name) for run in self.runs]) for name in METRICS if name != "gap"}
        found["gap"] = found["train/accuracy"] - found["test/accuracy"]
        return {name: found[name] for name in METRICS if np.isfinite(found[name]).any()}

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """Each metric's means over the runs of each combination."""
        return {name: self.summary(values) for name, values in self.values.items()}

    @cached_property
    def curve_summary(self) -> Summary:
        """The curves' means over the runs of each combination: [combination, epoch, metric]."""
        return self.summary(self.curves)

    def summary(self, values: np.ndarray) -> Summary:
        """Means over the runs [run, ...] of each combination."""
        mean, deviation, n = grouped(values, self.group_of, len(self.groups))
        return Summary(mean, deviation, half_widths(deviation, n), n)

    @cached_property
    def accuracy(self) -> dict[Combination, float]:
        """Each combination's mean test accuracy."""
        found = self.summaries.get(METRIC)
        means = [math.nan] * len(self.groups) if found is None else found.mean.tolist()
        return dict(zip(self.groups, means, strict=True))

    @cached_property
    def main(self) -> dict[Combination, list[int]]:
        """The combinations on the data set that the answer is about; a comparison's is about all."""
        if self.main_data is None or self.study.kind == "comparison":
            return self.groups
        return {g: own for g, own in self.groups.items() if str(self.runs[own[0]].get("data")) == self.main_data}

    def failing(self) -> list[Combination]:
        """The combinations that the answer is about and of which most runs fail, the worst first."""
        failed = {
            group: sum(self.mechanisms[i] is not None for i in own) / len(own) for group, own in self.main.items()
        }
        found = [group for group, share in failed.items() if share > 0.5]
        return sorted(found, key=lambda g: (-failed[g], -1.0 if math.isnan(self.accuracy[g]) else self.accuracy[g], g))

    def cures(self, group: Combination) -> dict[str, Combination]:
        """By factor the best change of it alone with which no run of ``group`` fails, the best factor first."""
        found: dict[str, Combination] = {}
        known = [g for g in self.main if math.isfinite(self.accuracy[g])]
        for other in sorted(known, key=lambda g: (-self.accuracy[g], g)):
            changed = [key for key, old, new in zip(self.factors, group, other, strict=True) if old != new]
            learns = not any(self.mechanisms[i] for i in self.main[other])
            if len(changed) == 1 and changed[0] not in EXPERIMENT and learns:
                found.setdefault(changed[0], other)
        return found

    def mechanism_of(self, group: Combination) -> tuple[str, int]:
        """Why most of the failed runs of a combination failed, and how many of them."""
        return Counter(name for i in self.groups[group] if (name := self.mechanisms[i])).most_common(1)[0]

    @cached_property
    def telling(self) -> list[int]:
        """The places of all combinations in the order in which their curves are of interest.

        The worst failing ones, each with what would make it learn, and the best; then the worst, the middle one, and
        so on between those, so that the first few of any filter's choice are spread evenly. Of several data sets the
        one that the answer is about comes first.
        """
        places = {group: place for place, group in enumerate(self.groups)}
        order: list[Combination] = []
        for group in self.failing()[:NAMED]:
            order += [group, *list(self.cures(group).values())[:NAMED]]
        others = [group for group in self.groups if group not in self.main]
        for own in (list(self.main), others):
            order += _spread(sorted(own, key=lambda g: math.inf if math.isnan(self.accuracy[g]) else -self.accuracy[g]))
        return [places[group] for group in dict.fromkeys(order)]

    def reached(self, target: float) -> np.ndarray:
        """[run], the first epoch at whose end the validation accuracy was at least ``target``; NaN if it never was."""
        import numpy as np

        if not self.curves.size:
            return np.full(len(self.runs), np.nan)
        there = self.curves[:, :, CURVE_METRICS.index("val/accuracy")] >= target
        return np.where(there.any(axis=1), np.argmax(there, axis=1) + 1.0, np.nan)

    def times(self, target: float) -> list[Time]:
        """How long each combination takes to reach a validation accuracy."""
        import numpy as np

        epochs = self.reached(target)
        found = []
        for members in self.groups.values():
            ends = [self._watched(i) if math.isnan(epochs[i]) else float(epochs[i]) for i in members]
            spent, trained = (sum(measured(self.runs[i], name) for i in members) for name in ("seconds", "epochs"))
            median, low, high = kaplan_meier(np.array(ends), np.isfinite(epochs[members]))
            seconds = median * spent / trained if trained else math.nan
            found.append(Time(int(np.isfinite(epochs[members]).sum()), median, low, high, seconds))
        return found

    def _watched(self, i: int) -> float:
        """Until which epoch it is known that a run has not reached an accuracy: one that failed never will."""
        run = self.runs[i]
        ended, planned = measured(run, "epochs"), measured(run, "trainer.max_epochs")
        known = planned if str(run["outcome"]) in ("diverged", "failed") and not math.isnan(planned) else ended
        return max(1.0, known) if not math.isnan(known) else 1.0


def kaplan_meier(ends: np.ndarray, reached: np.ndarray) -> tuple[float, float, float]:
    """The median time until something is reached, from those that never reach it too, and its 95 % interval.

    Kaplan and Meier (1958), with the interval of Brookmeyer and Crowley (1982) on the log-log scale.

    Args:
        ends: [run], when each reached it, or until when it was watched.
        reached: [run], whether it did.

    Returns:
        the median and both ends of the interval; infinite where fewer reach it, NaN where it is not known.
    """
    from scipy.stats import CensoredData, ecdf

    if not reached.any():
        return math.inf, math.nan, math.nan
    found = ecdf(CensoredData(uncensored=ends[reached], right=ends[~reached])).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at the last time the formula of the interval has no value
        interval = found.confidence_interval(method="log-log")
    times: list[float] = [*found.quantiles.tolist(), math.inf]

    def first_below(survival: np.ndarray) -> float:
        return float(times[next((i for i, value in enumerate(survival.tolist()) if not value > 0.5), len(times) - 1)])

    median = first_below(found.probabilities)
    if len(ends) < 2:
        return median, math.nan, math.nan
    return median, first_below(interval.low.probabilities), first_below(interval.high.probabilities)


def _spread(order: Sequence[Combination]) -> list[Combination]:
    """The first, the last, the one in the middle of them, those in the middle of the halves, and so on."""
    found = [*order[:1], *order[-1:]]
    spans = [(0, len(order) - 1)]
    for low, high in spans:  # grows while it is gone through
        if high - low > 1:
            middle = (low + high) // 2
            found.append(order[middle])
            spans += [(low, middle), (middle, high)]
    return found


def analysed(study: Study) -> Analysis:
    """The analysis of a study's finished runs."""
    runs = study.runs
    names, factors = factors_of(runs, study.settings, study.kind)
    groups = groups_of(runs, factors)
    most = MOST_IN_SEARCH if study.search else MOST_LEVELS
    axes = [axis_of(runs, groups, name, most) for name in names]
    curves = read_curves(study)
    mechanisms = mechanisms_of(runs, groups, still_falling(curves))
    data = Counter(str(run.get("data")) for run in runs)
    main = data.most_common(1)[0][0] if len(data) > 1 else None
    own = [run for run in runs if main is None or str(run.get("data")) == main]
    _, own_factors = factors_of(own, study.settings, study.kind)
    nested = study.claims is not None  # variants lie inside experiments: no main effects
    shares = {} if nested else {name: decomposition(own, own_factors, name) for name in EXPLAINED}
    return Analysis(study, axes, factors, groups, mechanisms, shares, carried_on(study, curves), main)


def still_falling(curves: np.ndarray) -> list[bool]:
    """Of each run, whether its training loss fell by at least 1 % from the last epoch but one to the last."""
    import numpy as np

    found = []
    for loss in curves[:, :, CURVE_METRICS.index("train/loss")]:
        known = loss[np.isfinite(loss)]
        found.append(len(known) > 1 and bool(known[-1] < 0.99 * known[-2]))
    return found


def in_words(accuracies: Sequence[float]) -> str:
    """Mean, deviation and n."""
    mean, deviation, n = mean_deviation(accuracies)
    if not n:
        return "no accuracy, n = 0"
    return f"accuracy {mean:.3f}" + ("" if math.isnan(deviation) else f" ± {deviation:.3f}") + f", n = {n}"
