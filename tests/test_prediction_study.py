"""The prediction study: halves that share nothing, a score of known value, and a run from its draw to its report."""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
from pathlib import Path

import pytest

from mlp_study.doctor.forecast import FORECAST

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("prediction_study")
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def told(study):
    """The study's report."""
    return importlib.import_module("prediction_report")


def test_the_halves_share_no_learning_rate_and_no_seed(study):
    chosen, held = (study.drawn(half, "digits", 200) for half in ("select", "held"))
    for key in ("optimizer.lr", "seed"):
        assert not {cell[key] for cell in chosen} & {cell[key] for cell in held}
    assert len({json.dumps(cell) for cell in held}) == 200


@pytest.mark.slow
def test_a_study_measures_every_part_and_no_two_share_a_learning_rate(study, monkeypatch, tmp_path):
    found = {}
    monkeypatch.setattr(study, "measure", lambda part, runs, *_: found.setdefault(part, []).extend(runs))
    study.run(tmp_path, runs=40, mnist=20, workers=1)
    assert {part: len(runs) for part, runs in found.items()} == {
        "select": 80,
        "held": 80,
        "fresh": 40,
        "short": 20,
        "mnist": 20,
    }
    assert set(found) == set(study.PARTS)
    parts = ("select", "held", "fresh", "short")
    rates = [round(math.log10(lr), 6) for part in parts for lr in {cell["optimizer.lr"] for cell, _ in found[part]}]
    assert len(set(rates)) == len(rates)
    assert {config.trainer.max_epochs for _, config in found["short"]} == {2, 3, 5}


def test_balanced_accuracy_is_the_mean_of_both_shares(told):
    seen = [True, True, False, False, False, False]
    assert told.balanced_accuracy([True, False, False, False, False, True], seen) == (1 / 2 + 3 / 4) / 2


def test_an_interval_narrows_with_more_runs_and_holds_its_score(told):
    seen = [True, False, False, True, False]
    told_right, told_wrong = [True, False, False, True, False], [True, False, True, True, False]
    assert told.interval(told_right, seen, 200) == (1, 1)
    few, many = (told.interval(told_wrong * n, seen * n, 200) for n in (4, 100))
    low, high = told.interval([True, False, True], [True, False, False], 200)  # some samples have one kind only
    assert 0.5 <= low <= high <= 1
    assert all(math.isnan(end) for end in told.interval([True, False], [True, True], 200))
    assert few[0] < many[0] < told.balanced_accuracy(told_wrong, seen) < many[1] < few[1]


@pytest.mark.slow
def test_a_small_study_from_its_runs_to_its_report(study, told, tmp_path, capsys):
    """Eight runs a half, cut short; one is lost and measured again; two of them are told as a source's variants."""
    path = tmp_path / "runs.jsonl"

    def measure(half):
        cells = [{**cell, "data.limit": 200, "trainer.max_epochs": 1} for cell in study.drawn(half, "digits", 8)]
        study.measure(half, [(cell, study.config_of(cell)) for cell in cells], path, workers=2)

    for half in ("select", "held"):
        measure(half)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]) + json.dumps(lines[-1])[:500])  # a kill
    measure("held")
    again = [json.loads(line) for line in path.read_text().splitlines()]
    assert again[:-1] == lines[:-1]
    assert [again[-1][key] for key in ("cell", "glimpse", "outcome")] == [
        lines[-1][key] for key in ("cell", "glimpse", "outcome")
    ]

    sources = [{**line, "half": "sources"} for line in lines[:2]]
    for line, variant in zip(sources, ("a", "b"), strict=True):
        line["cell"] |= {"source": "made_up", "variant": variant}
    (tmp_path / "sources.jsonl").write_text("".join(json.dumps(line) + "\n" for line in sources))
    told.fit(tmp_path)
    assert set(FORECAST) == set(re.findall(r'"([a-z ]+)": -?\d', capsys.readouterr().out))
    halves = told.read(tmp_path)
    assert {half: len(cases) for half, cases in halves.items()} == {"select": 8, "held": 8, "sources": 2}
    rows = told.by_variant(halves["sources"])
    assert [(row["source"], row["variant"], row["n"]) for row in rows] == [("made_up", "a", 1), ("made_up", "b", 1)]
    assert all(row["right"] == (row["foretold"] == row["succeeded"]) for row in rows)
    told.report(tmp_path)
    assert "made_up a" in capsys.readouterr().out
    found = json.loads((tmp_path / "report.json").read_text())["held"]
    assert found["runs"] == 8 == sum(part["runs"] for part in found["by probability"])
    assert found["interval"][0] <= found["balanced accuracy"] <= found["interval"][1]

    path.write_text("".join(json.dumps({**line, "steps": 96}) + "\n" for line in lines))
    with pytest.raises(SystemExit, match="another version"):
        measure("held")
