"""What a sweep prints at its end: means over seeds, and no deviation where there is none."""

from __future__ import annotations

import math
import statistics

from mlp_study.sweep.printing import SHOWN, summary_lines


def row(lr, accuracy, outcome="completed"):
    return {"optimizer.lr": lr, "outcome": outcome, "test/accuracy": accuracy, "val/accuracy": accuracy}


def test_one_finite_value_has_no_deviation():
    seeds = [0.5, 0.75, 0.7]
    rows = [row(1, value) for value in seeds]
    rows += [row(2, 0.9), row(2, math.nan, "failed"), row(3, 0.8), row(4, math.nan, "failed")]
    rows += [row(5, 0.5), row(5, 0.5), row(5, math.nan, "failed")]
    head, *lines = summary_lines(rows, ["optimizer.lr"])
    assert head == ["optimizer.lr", "runs", "test accuracy", "val accuracy", "diverged", "failed"]
    told = {line[0]: line[1:] for line in lines}
    mean = f"{statistics.mean(seeds):.4f} ± {statistics.stdev(seeds):.4f}"
    assert told["1"] == ["3", mean, mean, "0", "0"]
    assert told["2"] == ["2", "0.9000 (n = 1)", "0.9000 (n = 1)", "0", "1"]
    assert told["3"] == ["1", "0.8000", "0.8000", "0", "0"]
    assert told["4"] == ["1", "nan", "nan", "0", "1"]
    assert told["5"] == ["3", "0.5000 ± 0.0000 (n = 2)", "0.5000 ± 0.0000 (n = 2)", "0", "1"]


def test_of_many_the_best_come_first_and_those_without_a_number_last():
    accuracies = [i / 100 for i in range(SHOWN + 5)]
    rows = [row(lr, math.nan if lr % 9 == 4 else value) for lr, value in enumerate(accuracies)]
    _, *lines = summary_lines(rows, ["optimizer.lr"])
    shown = [float(line[2]) for line in lines if len(line) > 1]
    assert ["... 5 more"] in lines
    assert shown[0] == max(accuracies)
    known = [value for value in shown if not math.isnan(value)]
    assert known == sorted(known, reverse=True)
    assert all(math.isnan(value) for value in shown[len(known) :])
