"""Intervals against scipy's own tests, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from mlp_study.reproduction.intervals import Estimate, difference, estimate, welch

UNHURRIED = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
VALUES = st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=2, max_size=12).filter(
    lambda v: np.std(v) > 1e-3
)


def test_an_interval_by_hand() -> None:
    found = estimate([1.0, 2.0, 3.0])  # t(0.975, 2) = 4.302653, standard error 1 / sqrt(3)
    assert (found.mean, found.deviation, found.n) == (2.0, 1.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-5)


@UNHURRIED
@given(VALUES)
def test_a_means_interval_is_scipys(values: list[float]) -> None:
    found = estimate(values)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-9)


@UNHURRIED
@given(VALUES, st.data())
def test_equal_seeds_are_paired(values: list[float], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=len(values), max_size=len(values)))
    if np.std(np.subtract(values, other)) < 1e-3:
        return
    found = difference(dict(enumerate(values)), dict(enumerate(other)))
    interval = stats.ttest_rel(values, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


@UNHURRIED
@given(VALUES, VALUES)
def test_other_seeds_are_welchs(first: list[float], second: list[float]) -> None:
    found = welch(first, second)
    interval = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)
    by_seed = difference(dict(enumerate(first)), {seed + 100: value for seed, value in enumerate(second)})
    assert by_seed == found


def test_one_seed_has_no_interval_and_none_has_no_mean() -> None:
    assert estimate([0.5]) == Estimate(0.5, pytest.approx(math.nan, nan_ok=True), 0.5, 0.5, 1)
    assert estimate([]).n == 0
    assert math.isnan(estimate([math.nan]).mean)


def test_what_is_not_finite_is_left_out_and_not_counted() -> None:
    assert estimate([1.0, math.inf, 3.0, math.nan]) == estimate([1.0, 3.0])


def test_ranges() -> None:
    found = Estimate(mean=0.5, deviation=0.1, low=0.4, high=0.6, n=5)
    assert found.meets(0.55, 1)
    assert not found.meets(0.61, 1)
    assert not replace(found, n=4).meets(0.55, 1), "few seeds: the mean decides"
    assert replace(found, n=4).meets(0.5, 1)
    assert found.inside(0.4, 1)
    assert not found.inside(0.41, 1)


def test_no_difference_at_all_is_no_difference() -> None:
    assert not difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).inside(0, math.inf)
