"""What Optuna's users expect of a study: trials to try first, a time limit, constraints, studies of other origin."""

from __future__ import annotations

import pickle

import optuna
import pandas as pd
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mlp_study import load_results
from mlp_study.records.run_folder import read_json
from mlp_study.search.objective import read_constraint
from mlp_study.search.storage import StudyStorage
from tests.search.searches import LR, refused, rows, search, study

FOUR = ("hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=4", "trainer.max_epochs=1")


def test_trials_of_ones_own_and_the_defaults_are_tried_first(monkeypatch, tmp_path):
    first = "hydra.sweeper.enqueue=[{optimizer.lr:0.25,activation:tanh},defaults]"
    search(monkeypatch, tmp_path / "s", LR, "activation=relu,tanh", *FOUR, first)
    trials = study(tmp_path / "s").trials
    assert trials[0].params == {"activation": "tanh", "optimizer.lr": 0.25}
    assert trials[1].params == {"activation": "relu", "optimizer.lr": 0.01}  # as the config has them
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    search(monkeypatch, tmp_path / "s", LR, "activation=relu,tanh", *FOUR, first)
    assert len(study(tmp_path / "s").trials) == 4  # they are not tried twice


def test_each_runs_record_has_its_trials_number_and_values(monkeypatch, tmp_path):
    search(monkeypatch, tmp_path / "s", LR, *FOUR, "hydra.sweeper.repeats=2", "seed=7")
    for trial in study(tmp_path / "s").trials:
        for run_id in trial.user_attrs["run_ids"]:
            result = read_json(tmp_path / "s" / run_id / "result.json")
            assert (result["trial"], result["trial/study"]) == (trial.number, "mlp_study")
            assert result["trial/val/accuracy"] == trial.value
    table = load_results(tmp_path / "s")
    assert sorted(table["trial"]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(pd.read_csv(tmp_path / "s" / "runs.csv")["trial"]) == sorted(table["trial"])


def test_when_its_time_is_over_a_search_ends_with_what_it_has_and_goes_on_later(monkeypatch, tmp_path, capsys):
    one = (LR, "trainer.max_epochs=1", "hydra.sweeper.n_jobs=1")
    search(monkeypatch, tmp_path / "s", *one, "hydra.sweeper.n_trials=50", "hydra.sweeper.timeout=0.001")
    assert "hydra.sweeper.timeout=0.001 has passed" in capsys.readouterr().out
    assert len(study(tmp_path / "s").trials) < 50
    search(monkeypatch, tmp_path / "s", *one, "hydra.sweeper.n_trials=2")
    assert [t.state.name for t in study(tmp_path / "s").trials] == ["COMPLETE"] * 2


WIDTHS = ("model.widths=[4],[64]", "hydra/sweeper/sampler=grid", *FOUR, "optimizer.lr=0.5,0.6")


def test_the_best_trial_fulfils_the_constraints(monkeypatch, tmp_path, capsys):
    search(monkeypatch, tmp_path / "s", *WIDTHS, "hydra.sweeper.constraints=['parameters<=5000']")
    table = rows(tmp_path / "s" / "trials.csv")
    assert {row["model.widths"]: row["state"] for row in table} == {"[4]": "complete", "[64]": "infeasible"}
    beyond = (784 + 1) * 64 + (64 + 1) * 10 - 5000
    assert {float(row["beyond parameters<=5000"]) for row in table} == {0.0, beyond}
    best = yaml.safe_load((tmp_path / "s" / "best.yaml").read_text())
    assert best["model"]["widths"] == [4]
    assert "4 trials: 2 complete, 2 infeasible, the best:" in capsys.readouterr().out


def test_constraints_that_no_trial_fulfils_end_in_a_line(monkeypatch, tmp_path, capsys):
    line = refused(monkeypatch, capsys, tmp_path / "s", *WIDTHS, "hydra.sweeper.constraints=['parameters<=10']")
    assert "no trial fulfils the constraints (4 infeasible)" in line


def test_a_violation_is_that_of_the_worst_run():
    constraint = read_constraint(" val/accuracy >= 0.5 ")
    assert constraint.text == "val/accuracy>=0.5"
    assert constraint.violation([{"val/accuracy": 0.75}, {"val/accuracy": 0.25}]) == 0.25
    assert constraint.violation([{"val/accuracy": 0.75}]) == -0.25
    assert constraint.violation([{"val/accuracy": 0.75}, {}]) == float("inf")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "hydra.sweeper.enqueue=[{activation:tanh}]",
            "activation=tanh is not valid; it takes only parameters",
        ),
        (
            "hydra.sweeper.enqueue=[{optimizer.lr:7}]",
            "optimizer.lr=7 is not valid; it takes FloatDistribution",
        ),
        ("hydra.sweeper.enqueue=[best]", "enqueue=best is not valid"),
        ("hydra.sweeper.timeout=0", "timeout=0"),
        (
            "hydra.sweeper.constraints=['parameters<5']",
            "parameters<5 is not valid; it takes metric<=number",
        ),
        ("hydra.sweeper.constraints=['test/accuracy>=0.5']", "constraints=test/accuracy is refused"),
        ("hydra.sweeper.constraints=['size<=5']", "constraints='size' is no recorded metric"),
    ],
)
def test_options_that_say_nothing_are_one_line(monkeypatch, tmp_path, capsys, override, words):
    assert words in refused(monkeypatch, capsys, tmp_path / "s", LR, override)


def stock_study(path, distributions, params):
    """A study of one trial, as Hydra's stock plugin leaves it in a journal."""
    stored = JournalStorage(JournalFileBackend(str(path)))
    found = optuna.create_study(storage=stored, study_name="mlp_study", direction="maximize")
    found.add_trial(optuna.create_trial(params=params, distributions=distributions, value=0.99))


def test_a_study_of_the_stock_plugin_goes_on(monkeypatch, tmp_path):
    path = tmp_path / "stock.journal"
    kinds = {"data.batch_size": CategoricalDistribution([16, 32]), "model.dropout": CategoricalDistribution([0.0, 0.1])}
    stock_study(path, kinds, {"data.batch_size": 16, "model.dropout": 0.1})
    space = ("data.batch_size=choice(16,32)", "model.dropout=choice(0.0,0.1)")
    search(monkeypatch, tmp_path / "s", *space, *FOUR, f"hydra.sweeper.storage={path}")
    trials = study(tmp_path / "s", str(path)).trials
    assert len(trials) == 4
    assert {type(trial.params["data.batch_size"]) for trial in trials} == {int}
    best = yaml.safe_load((tmp_path / "s" / "best.yaml").read_text())  # the stock plugin's trial, with 0.99
    assert (best["data"]["batch_size"], best["model"]["dropout"]) == (16, 0.1)


def test_a_study_whose_choices_are_texts_as_an_older_version_left_them_goes_on(monkeypatch, tmp_path):
    path = tmp_path / "old.journal"
    stock_study(path, {"data.batch_size": CategoricalDistribution(["16", "32"])}, {"data.batch_size": "16"})
    search(monkeypatch, tmp_path / "s", "data.batch_size=16,32", *FOUR, f"hydra.sweeper.storage={path}")
    assert {type(t.params["data.batch_size"]) for t in study(tmp_path / "s", str(path)).trials} == {str}


def test_a_study_with_another_kind_of_parameter_is_refused_in_a_line(monkeypatch, tmp_path, capsys):
    path = tmp_path / "stock.journal"
    stock_study(path, {"data.batch_size": IntDistribution(16, 64, step=16)}, {"data.batch_size": 16})
    line = refused(monkeypatch, capsys, tmp_path / "s", "data.batch_size=16,32", *FOUR, f"hydra.sweeper.storage={path}")
    assert "data.batch_size is CategoricalDistribution(choices=('16', '32')) here, but IntDistribution(" in line
    assert "choose another hydra.sweeper.study_name" in line


def test_a_journal_can_be_pickled(tmp_path):
    storage = StudyStorage(None, tmp_path)
    storage.open()
    study_id = storage.optuna.create_new_study([optuna.study.StudyDirection.MINIMIZE], "s")
    again = pickle.loads(pickle.dumps(storage.optuna))
    again.set_study_user_attr(study_id, "key", [1, 2])
    assert storage.optuna.get_study_user_attrs(study_id) == {"key": [1, 2]}
