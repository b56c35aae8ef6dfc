"""Means, deviations and intervals against the standard library and scipy; one value has no deviation anywhere."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlp_study.runtime.statistics import grouped, half_width, half_widths, mean_deviation, t_quantile

VALUES = st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=2, max_size=12)


@given(VALUES)
def test_means_and_deviations_are_the_standard_library_s(values):
    mean, deviation, n = mean_deviation([*values, math.nan, math.inf])
    assert (mean, n) == (pytest.approx(statistics.mean(values), rel=1e-9, abs=1e-9), len(values))
    assert deviation == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("none", [[], [math.nan], [math.inf, -math.inf]])
def test_nothing_finite_has_no_mean_and_one_value_no_deviation(none):
    assert mean_deviation(none) == pytest.approx((math.nan, math.nan, 0), nan_ok=True)
    assert mean_deviation([*none, 0.25]) == pytest.approx((0.25, math.nan, 1), nan_ok=True)
    assert math.isnan(half_width(math.nan, 1))


def test_a_deviation_whose_square_is_no_number_is_one():
    assert mean_deviation([1e200, 3e200]) == pytest.approx((2e200, math.sqrt(2) * 1e200, 2))


@pytest.mark.parametrize("n", [2, 3, 5, 200])
def test_intervals_are_scipy_s(n):
    assert t_quantile(n - 1) == pytest.approx(stats.t.ppf(0.975, n - 1))
    assert t_quantile(n - 1, 0.95) == pytest.approx(stats.t.ppf(0.95, n - 1))
    values = np.random.default_rng(n).normal(size=n).tolist()
    low, high = stats.t.interval(0.95, n - 1, loc=statistics.mean(values), scale=stats.sem(values))
    assert half_width(statistics.stdev(values), n) == pytest.approx((high - low) / 2)


def test_groups_are_what_each_is_alone():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3, 2)).astype(np.float32)
    values[rng.random(values.shape) < 0.4] = math.nan
    values[0, 0, 0] = math.inf
    group_of = rng.permutation([0] * 20 + [1] * 12 + [2] * 5 + [3] * 2 + [5])  # nothing is in group 4
    mean, deviation, n = grouped(values, group_of, 6)
    half = half_widths(deviation, n)
    assert mean.shape == deviation.shape == n.shape == half.shape == (6, 3, 2)
    assert {0, 1, 2} < set(n.ravel().tolist())
    for group, *place in np.ndindex(*n.shape):
        found = [float(v) for v in values[(group_of == group, *place)] if math.isfinite(v)]
        at = (group, *place)
        assert n[at] == len(found)
        assert mean[at] == pytest.approx(statistics.fmean(found) if found else math.nan, rel=1e-9, nan_ok=True)
        assert deviation[at] == pytest.approx(statistics.stdev(found) if n[at] > 1 else math.nan, nan_ok=True)
        error = stats.sem(found) * stats.t.ppf(0.975, n[at] - 1) if n[at] > 1 else math.nan
        assert half[at] == pytest.approx(error, nan_ok=True)
