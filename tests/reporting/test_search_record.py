"""A search's record: read, judged by brute force, damaged."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from mlp_study.errors import DataError
from mlp_study.records.trials import pareto_front, read_search
from mlp_study.reporting.answer import search_answer
from mlp_study.reporting.make import make_report
from tests.reporting.synthetic_search import write_search


def test_the_front_has_those_that_none_is_better_than():
    source = random.Random(0)
    for more in itertools.product((True, False), repeat=3):
        values = [[source.randint(0, 4) for _ in range(3)] for _ in range(30)]

        def better(a, b, more=more):
            gains = [(x - y) * (1 if up else -1) for x, y, up in zip(a, b, more, strict=True)]
            return min(gains) >= 0 and max(gains) > 0

        expected = [i for i, a in enumerate(values) if not any(better(b, a) for b in values)]
        assert pareto_front(values, more) == expected
    assert pareto_front([], [True]) == []


def test_a_record_is_read_with_its_pruned_failed_and_infinite_trials(tmp_path):
    found = read_search(write_search(tmp_path))
    assert [trial.state for trial in found.trials].count("pruned") == 4
    assert (found.trials[3].state, found.trials[3].values) == ("fail", [None, None])
    assert (found.trials[7].values, found.trials[7].complete) == ([None, None], False)
    assert found.objectives == {"val/accuracy": True, "seconds": False}
    assert list(found.importance["seconds"].items()) == [("activation", 0.75), ("optimizer.lr", 0.25)]
    assert "momentum" not in found.trials[0].params
    assert all(trial.complete for trial in found.best())


def test_the_sentence_names_the_best_trial_and_what_it_depends_on(tmp_path):
    found = read_search(write_search(tmp_path, objectives=["val/accuracy"]))
    best = max((trial for trial in found.trials if trial.complete), key=lambda trial: trial.values[0])
    headline, sentences = search_answer(found)
    text = " ".join(sentences)
    assert headline == f"Best of 24 trials: val/accuracy {best.values[0]:.4g}."
    assert text.startswith("Search of 24 trials (19 complete, 4 pruned, 1 fail) for val/accuracy. The best is trial ")
    assert f"trial {best.number} with val/accuracy {best.values[0]:.4g} (" in text
    assert text.endswith("Shares of the variance of val/accuracy (fANOVA): activation 75%, optimizer.lr 25%.")


def test_a_folder_without_a_finished_search_is_a_sweep(tmp_path):
    write_search(tmp_path)
    (tmp_path / "search.json").unlink()
    assert read_search(tmp_path) is None
    assert "report of a sweep" in make_report([tmp_path], figures=False).read_text()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("search.json", '{"format": 1, "obj', "search.json cannot be read"),
        ("search.json", "[]", "search.json cannot be read"),
        ("search.json", json.dumps({"format": 2}), "written by a newer mlp_study"),
        ("search.json", json.dumps({"format": 1, "objectives": {}, "parameters": {}}), "no objective"),
        ("trials.csv", "trial,state,val/accuracy\n0,complete,0.5", "trials.csv cannot be read"),
        ("trials.csv", "trial,state,val/accuracy,seconds,optimizer.lr\n0,comp", "trials.csv cannot be read"),
        (
            "trials.csv",
            "trial,state,val/accuracy,seconds,optimizer.lr\n0,complete,x,1,0.1",
            "trials.csv cannot be read",
        ),
        ("importance.csv", "objective,activation\nval/accuracy,much", "importance.csv cannot be read"),
        ("importance.csv", "what\n1", "importance.csv cannot be read"),
    ],
)
def test_a_damaged_record_is_listed_and_the_runs_are_shown(tmp_path, name, content, found):
    write_search(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=found):
        read_search(tmp_path)
    text = make_report([tmp_path], figures=False).read_text()
    assert found in text
    assert "Over 24 runs" in text


def test_without_a_finished_trial_the_page_says_so(tmp_path):
    write_search(tmp_path)
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    (tmp_path / "trials.csv").write_text("\n".join([lines[0], *(line for line in lines if ",fail," in line)]))
    assert "No trial of the search has a value." in make_report([tmp_path], figures=False).read_text()
