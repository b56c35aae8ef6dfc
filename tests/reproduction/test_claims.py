"""Claims against measurements made up by hand: what holds, what does not, what holds only with a condition."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from small_runs import config

from mlp_study.records.run_folder import json_text
from mlp_study.reproduction.claims import Findings, failure_signs, findings, verdict
from mlp_study.reproduction.experiments import Claim, Experiment, load_experiments
from mlp_study.reproduction.intervals import estimate
from mlp_study.reproduction.measures import measures_of, widest
from mlp_study.reproduction.runs import Done
from mlp_study.reproduction.tables import as_csv, as_dict, as_markdown, number

ACCURACY = {  # variant -> accuracy of seeds 0, 1, 2
    "good": [0.90, 0.92, 0.91],
    "bad": [0.10, 0.12, 0.11],
    "alike": [0.91, 0.91, 0.92],
}


def claim(low: float, high: float, metric: str = "test/accuracy", **cases: str | list[str]) -> Claim:
    spelt = {name: (case,) if isinstance(case, str) else tuple(case) for name, case in cases.items()}
    return Claim("c", "It learns", "the source", metric, 0.9, low, high, spelt)


def found(*claims: Claim) -> Findings:
    experiment = Experiment("raw_relu", "Title", "A source", "A question?", {v: [] for v in ACCURACY}, claims)
    done = [
        Done(
            variant,
            config(f"seed={seed}"),
            Path("nowhere"),
            "completed",
            {"test/accuracy": value, "final/dead": 0.4 if variant == "bad" else 0.0},
            [],
        )
        for variant, values in ACCURACY.items()
        for seed, value in enumerate(values)
    ]
    return findings(experiment, done)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        (claim(0.9, 1.0, a="good"), "holds"),
        (claim(0.9, 1.0, a="bad"), "does not hold"),
        (claim(0.9, 1.0, a="good", b="bad"), "holds only with a"),
        (claim(0.9, 1.0, a="good", b="bad", c="alike"), "holds only with a and c"),
        (claim(0.0, 0.3, a="good", b="alike"), "does not hold"),
        (claim(0.0, math.inf, a=["good", "bad"]), "holds"),
        (claim(0.0, math.inf, a=["bad", "good"]), "does not hold"),
        (claim(0.0, math.inf, a=["alike", "good"]), "does not hold"),  # 0.003 +- 0.025: no difference shown
        (claim(0.75, math.inf, a=["good", "bad"], b=["alike", "bad"]), "holds"),
        (claim(0.0, 1.0, metric="final/plateau", a="good"), "not measured"),
        (claim(0.95, 1.0, a="good"), "does not hold"),
        (claim(0.92, 1.0, a="good"), "does not hold"),  # mean 0.91: with three seeds the mean decides
    ],
)
def test_a_verdict(about: Claim, words: str) -> None:
    [verdict] = found(about).verdicts
    assert verdict.words == words


@pytest.mark.parametrize(
    ("metric", "low", "high", "values", "words"),
    [
        ("val/accuracy", 0.3, 1.0, [0.85, 0.78], "holds"),  # 0.37 to 1.26: no accuracy is more than 1 above another
        ("val/accuracy", 0.3, 0.99, [0.85, 0.78], "does not hold"),  # a bound that differences can pass counts
        ("val/accuracy", 0.4, 1.0, [0.85, 0.78], "does not hold"),
        ("final/dead_0", -1.0, 0.0, [-0.85, -0.78], "holds"),
        ("errors_96", -96.0, 0.0, [-80.0, -74.0], "holds"),
        ("errors_96", -90.0, 0.0, [-80.0, -74.0], "does not hold"),
        ("test/loss", 0.3, 1.0, [0.85, 0.78], "does not hold"),  # losses have no such end
        ("gap/accuracy", -1.0, 0.0, [-0.85, -0.78], "does not hold"),  # gaps can differ by 2
        ("val/accuracy", 0.3, 1.0, [1.0, 1.0], "holds"),
    ],
)
def test_where_a_measure_ends_a_claim_needs_no_bound(metric, low, high, values, words) -> None:
    by_seed = {"a": {seed: {metric: v} for seed, v in enumerate(values)}, "b": {s: {metric: 0.0} for s in range(2)}}
    assert verdict(claim(low, high, metric, a=["a", "b"]), by_seed, {}).words == words


def test_the_published_verdicts_hang_on_no_such_end() -> None:
    """With ten seeds no interval of docs/reproduction.md passes 1, but those of measures that are not shares."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "reproduction.md").read_text(encoding="utf-8")
    words = {c.text: c for e in load_experiments() for c in e.claims}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.count("|") == 10]
    about, seen = None, 0
    for text, _, name, *_, interval, _, _ in lines:
        about = words.get(text, about)
        if about is None or len(about.cases.get(name, ())) != 2 or " to " not in interval:
            continue
        low, high = map(float, interval.split(" to "))
        assert -widest(about.metric) <= low <= high <= widest(about.metric)
        seen += 1
    assert seen > 20


def test_a_case_carries_its_numbers_and_the_signs_of_failure() -> None:
    [verdict] = found(claim(0.0, 1.0, level="bad", gain=["good", "bad"])).verdicts
    level, gain = verdict.cases
    assert level.measured == estimate(ACCURACY["bad"])
    assert level.mechanism == "40% of the hidden units dead"
    assert gain.measured.mean == pytest.approx(0.8)
    assert gain.measured.deviation == pytest.approx(0, abs=1e-12)  # paired: the seeds' common luck is gone
    assert gain.mechanism == "good: no sign of failure; bad: 40% of the hidden units dead"


def test_signs_of_failure() -> None:
    means = {
        "diverged": estimate([1.0, 0.0]),
        "initial/stability_index": estimate([84.0, 86.0]),
        "final/dead": estimate([0.0, 0.01]),
        "final/plateau": estimate([0.9]),
    }
    expected = "1 of 2 diverged, stability index 85 at the start, 90% of the images on the plateau"
    assert failure_signs(means, 2) == expected
    assert failure_signs({}, 2) == "no sign of failure"


def test_the_tables_agree() -> None:
    table = found(claim(0.9, 1.0, a="good", b="bad"))
    rows = list(csv.DictReader(io.StringIO(as_csv([table]))))
    assert [(r["case"], r["case_holds"], r["verdict"], r["n"]) for r in rows] == [
        ("a", "True", "holds only with a", "3"),
        ("b", "False", "holds only with a", "3"),
    ]
    assert float(rows[0]["from_published"]) == pytest.approx(0.01)
    plain = json.loads(json_text(as_dict([table], {"seeds": 3})))
    assert plain["claims"][1]["measured"] == pytest.approx(0.11)
    assert plain["experiments"]["raw_relu"]["variants"]["good"]["outcomes"] == {"completed": 3}
    markdown = as_markdown([table], "About.", {"raw_relu": ["figures/a.png"]})
    assert "| It learns | 0.9 | a | 0.910 | 0.010 | 3 | 0.885 to 0.935 | holds only with a |" in markdown
    assert "![raw_relu](figures/a.png)" in markdown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8765, "0.876"), (16986.2, "16986"), (5.4321, "5.43"), (0.0, "0.000"), (6e-5, "6.0e-05"), (math.nan, "-")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_measures_of_a_run() -> None:
    rows = [
        {"epoch": 1, "train/loss": 2.0, "train/accuracy": 0.5, "val/loss": 1.0, "val/accuracy": 0.6},
        {"epoch": 2, "train/loss": 1.0, "train/accuracy": 0.9},
        {"epoch": 3, "train/loss": 0.5, "train/accuracy": 0.9, "val/loss": 0.75, "val/accuracy": 0.8},
    ]
    result = {
        "outcome": "diverged",
        "test/accuracy": 0.7,
        "train_seconds": 8.0,
        "validation_is_test": True,
        "population": {"size": 4, "index": 0},
        "diagnostics": {"initial": {"dead": 0.0}, "final": {"dead": 0.5}},
    }
    measured = measures_of(result, rows)
    expected = {
        "test/accuracy": 0.7,
        "initial/dead": 0.0,
        "final/dead": 0.5,
        "first/val/accuracy": 0.6,
        "best/val/accuracy": 0.8,
        "mean/val/accuracy": 0.7,
        "best/val/loss": 0.75,
        "gap/accuracy": 0.1,
        "gap/loss": 0.25,
        "seconds_each": 2.0,
        "diverged": 1.0,
    }
    assert {name: measured[name] for name in expected} == pytest.approx(expected)
    assert "validation_is_test" not in measured
