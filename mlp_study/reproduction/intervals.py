"""Means over seeds and their intervals: Student's t, paired differences, Welch's two samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlp_study.runtime.statistics import half_width, mean_deviation, t_quantile

ENOUGH = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the finite values (or of the differences); NaN if there are none.
        deviation: the sample's standard deviation; NaN for one value.
        low, high: the 95 % interval of the mean; the mean itself for one value.
        n: how many values it rests on.
    """

    mean: float
    deviation: float
    low: float
    high: float
    n: int

    def inside(self, low: float, high: float) -> bool:
        """Whether the whole interval lies in [low, high], and not on a bound alone: a difference of just 0 is none."""
        return low <= self.low and self.high <= high and not self.low == self.high in (low, high)

    def meets(self, low: float, high: float) -> bool:
        """Whether the mean lies in [low, high]; from ``ENOUGH`` values on, whether its interval reaches there."""
        if self.n < ENOUGH:  # an interval of two values is so wide that it reaches everywhere
            return low <= self.mean <= high
        return self.low <= high and self.high >= low


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t interval of independent values, those that are finite."""
    mean, deviation, n = mean_deviation(values)
    half = half_width(deviation, n) if n > 1 else 0.0
    return Estimate(mean, deviation, mean - half, mean + half, n)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    """The mean of first less second, values by seed: paired over the seeds where both are the same, else Welch's.

    Members of one seed share initial weights and the order of the images, so pairing takes their common luck out.
    """
    one = {seed: value for seed, value in first.items() if math.isfinite(value)}
    two = {seed: value for seed, value in second.items() if math.isfinite(value)}
    if one.keys() == two.keys():
        return estimate([one[seed] - two[seed] for seed in one])
    return welch(list(one.values()), list(two.values()))


def welch(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The difference of two independent means; degrees of freedom by Welch and Satterthwaite (1946-47)."""
    a, b = estimate(first), estimate(second)
    if min(a.n, b.n) < 2:
        mean = a.mean - b.mean
        return Estimate(mean, math.nan, mean, mean, min(a.n, b.n))
    u, v = a.deviation**2 / a.n, b.deviation**2 / b.n
    mean, error = a.mean - b.mean, math.sqrt(u + v)
    if error == 0:
        return Estimate(mean, 0.0, mean, mean, min(a.n, b.n))
    half = t_quantile((u + v) ** 2 / (u**2 / (a.n - 1) + v**2 / (b.n - 1))) * error
    return Estimate(mean, error * math.sqrt(min(a.n, b.n)), mean - half, mean + half, min(a.n, b.n))
