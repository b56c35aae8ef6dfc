"""What a trial counts: directions, diverged runs, several seeds; what cannot be an objective."""

from __future__ import annotations

import math
import statistics

import pytest
from scipy import stats

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.search.objective import check_objectives, deviation, read_objectives
from mlp_study.training.results import shares_of


def objective(metric="val/accuracy", direction=None, diverged="worst", aggregate="mean"):
    return read_objectives(metric, direction, diverged, aggregate)[0]


@pytest.mark.parametrize(
    ("metric", "direction"),
    [("val/accuracy", "maximize"), ("val/loss", "minimize"), ("seconds", "minimize"), ("final/dead", "minimize")],
)
def test_the_direction_follows_from_the_metric(metric, direction):
    assert objective(metric).direction == direction
    other = {"maximize": "minimize", "minimize": "maximize"}[direction]
    assert objective(metric, other).direction == other


def test_a_diverged_run_counts_as_it_was_said():
    gone = {"outcome": "diverged", "val/accuracy": 0.3, "val/loss": math.nan}
    assert objective().value(gone) == 0.0
    assert objective("val/loss").value(gone) == math.inf
    assert objective("val/loss", diverged=7).value(gone) == 7.0
    assert objective(diverged="fail").value(gone) is None
    assert objective().value({"outcome": "failed", "val/accuracy": 0.3}) is None
    assert objective().value({"outcome": "early_stopped", "val/accuracy": 0.3}) == 0.3
    assert objective("val/loss").value({"outcome": "completed"}) == math.inf


def test_seconds_are_the_runs_own_part_of_its_populations():
    assert objective("seconds").value({"outcome": "completed", "seconds": 8.0, "seconds_share": 0.5}) == 0.5
    assert objective("seconds").value({"outcome": "completed", "seconds": 8.0}) == 8.0  # a task of the user's own
    long, short = ([{"epoch": e, "seconds": 2.0 * e} for e in range(1, last + 1)] for last in (3, 1))
    assert shares_of([long, short, long], 9.0) == pytest.approx([2 / 3 + 1 + 1 + 1, 2 / 3 + 1, 2 / 3 + 1 + 1 + 1])
    assert sum(shares_of([long, short], 9.0)) == pytest.approx(9.0)
    assert shares_of([[], []], 3.0) == [1.5, 1.5]


def test_several_seeds_become_one_value():
    values = [0.9, 0.8, 0.95, 0.7]
    assert objective().combine(values) == pytest.approx(statistics.fmean(values))
    assert objective(aggregate="median").combine(values) == pytest.approx(0.85)
    assert objective(aggregate="worst").combine(values) == 0.7
    assert objective("val/loss", aggregate="worst").combine(values) == 0.95
    low, high = stats.t.interval(0.9, 3, loc=statistics.fmean(values), scale=stats.sem(values))
    assert objective(aggregate="lower").combine(values) == pytest.approx(low)
    assert objective("val/loss", aggregate="lower").combine(values) == pytest.approx(high)
    for aggregate in ("mean", "worst", "lower"):
        assert objective("val/loss", aggregate=aggregate).combine([1.0, math.inf]) == math.inf
    assert objective("val/loss", aggregate="median").combine([1.0, 2.0, math.inf]) == 2.0
    assert objective(aggregate="lower").combine([0.5]) == 0.5
    assert deviation(values) == pytest.approx(statistics.stdev(values))
    assert deviation([0.5]) is None
    assert deviation([1.0, 2.0, math.inf]) is None


@pytest.mark.parametrize(
    ("metric", "more", "words"),
    [
        ("test/accuracy", [], "refused: what is chosen by the test set"),
        ("val/acuracy", [], "is no recorded metric; it takes one of: val/accuracy"),
        ("val/loss", ["data.validation=test"], "measured on the test set"),
        ("final/sharpness", [], "is no recorded metric"),
    ],
)
def test_what_cannot_be_an_objective(metric, more, words):
    config = RunConfig.from_dict(compose(["probes.ends=[dead]", *more]))
    with pytest.raises(ConfigError, match=words):
        check_objectives(read_objectives(metric, None, "worst", "mean"), config, False)


def test_diagnostics_of_the_ends_are_metrics_and_no_pruners():
    config = RunConfig.from_dict(compose(["probes.ends=[dead]"]))
    for metric in ("final/dead", "final/dead_0", "initial/dead", "parameters"):
        found = read_objectives(metric, None, "worst", "mean")
        check_objectives(found, config, False)
        with pytest.raises(ConfigError, match="each epoch records"):
            check_objectives(found, config, True)
    two = read_objectives(["val/accuracy", "parameters"], None, "worst", "mean")
    with pytest.raises(ConfigError, match="one objective"):
        check_objectives(two, config, True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("val/loss", "up", "worst", "mean"), "direction='up' is unknown"),
        ((["val/loss", "seconds"], "minimize", "worst", "mean"), "does not fit the 2 objectives"),
        ((["val/loss", "val/loss"], None, "worst", "mean"), "twice"),
        (("val/loss", None, "bad", "mean"), "takes worst, fail or a number"),
        (("val/loss", None, "nan", "mean"), "takes worst, fail or a number"),
        (("val/loss", None, "worst", "avg"), "aggregate='avg' is unknown"),
    ],
)
def test_settings_that_say_nothing(settings, words):
    with pytest.raises(ConfigError, match=words):
        read_objectives(*settings)
