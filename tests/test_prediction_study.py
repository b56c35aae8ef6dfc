"""The prediction study: halves that share nothing, a score of known value, and a run from its draw to its report."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("prediction_study")
    sys.path.remove(str(SCRIPTS))


def test_the_halves_share_no_learning_rate_and_no_seed(study):
    chosen, held = (study.drawn(half, "digits", 200) for half in ("select", "held"))
    for key in ("optimizer.lr", "seed"):
        assert not {cell[key] for cell in chosen} & {cell[key] for cell in held}
    assert len({json.dumps(cell) for cell in held}) == 200


def test_balanced_accuracy_is_the_mean_of_both_shares(study):
    seen = [True, True, False, False, False, False]
    assert study.balanced_accuracy([True, False, False, False, False, True], seen) == (1 / 2 + 3 / 4) / 2


@pytest.mark.slow
def test_a_small_study_from_its_runs_to_its_report(study, tmp_path, capsys):
    """Eight runs a half, cut short, and two of them told as a source's variants."""
    for half in ("select", "held"):
        cells = [{**cell, "data.limit": 200, "trainer.max_epochs": 1} for cell in study.drawn(half, "digits", 8)]
        study.measure(half, [(cell, study.config_of(cell)) for cell in cells], tmp_path / "runs.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    told = [{**line, "half": "sources"} for line in lines[:2]]
    for line, variant in zip(told, ("a", "b"), strict=True):
        line["cell"] |= {"source": "made_up", "variant": variant}
    (tmp_path / "sources.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    halves = study.read(tmp_path)
    assert {half: len(cases) for half, cases in halves.items()} == {"select": 8, "held": 8, "sources": 2}
    rows = study.by_variant(halves["sources"])
    assert [(row["source"], row["variant"], row["n"]) for row in rows] == [("made_up", "a", 1), ("made_up", "b", 1)]
    assert all(row["right"] == (row["foretold"] == row["succeeded"]) for row in rows)
    study.report(tmp_path)
    assert "made_up a" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text())["held"]["runs"] == 8
