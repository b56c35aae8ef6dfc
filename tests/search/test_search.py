"""The command: what a search does, leaves behind, and refuses."""

from __future__ import annotations

import json
import math
import shlex
import statistics

import optuna
import pytest
import yaml

from mlp_study import train
from mlp_study.config.composing import compose
from mlp_study.config.hydra_app import run_hydra
from mlp_study.config.schema import RunConfig
from mlp_study.records.run_folder import read_json, read_rows
from mlp_study.search.batches import base_seed, jobs_of
from mlp_study.search.objective import read_objectives
from mlp_study.search.pruning import OwnTrial
from mlp_study.search.sweeper import Search, judged
from tests.records.runs import read_wandb
from tests.search.searches import LR, outcomes, refused, rows, search, study
from tests.small_runs import logging_as_before


def test_a_search_leaves_its_study_its_runs_and_its_best(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "s"
    left = folder / ".sweep" / "checkpoints" / "f00.safetensors"  # by a killed command, of runs that are all finished
    left.parent.mkdir(parents=True)
    left.write_bytes(b"")
    search(monkeypatch, folder, LR, "activation=relu,tanh", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=3")
    assert not left.exists()
    found = study(folder)
    assert [t.number for t in found.trials] == list(range(6))
    assert {t.state.name for t in found.trials} == {"COMPLETE"}
    for trial in found.trials:
        [run_id] = trial.user_attrs["run_ids"]
        result = read_json(folder / run_id / "result.json")
        assert result["val/accuracy"] == trial.value
        assert result["config"]["optimizer"]["lr"] == trial.params["optimizer.lr"]
        assert result["config"]["activation"]["name"] == trial.params["activation"]
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best["optimizer"]["lr"] == found.best_params["optimizer.lr"]
    assert {"override /activation": found.best_params["activation"]} in best["defaults"]
    assert (folder / "best.yaml").read_text().startswith("# @package _global_\n")
    table = rows(folder / "trials.csv")
    assert [float(row["val/accuracy"]) for row in table] == [t.value for t in found.trials]
    for name in ("history", "importance", "slice", "contour", "parallel_coordinate"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 5000
    [importance] = rows(folder / "importance.csv")
    assert float(importance["optimizer.lr"]) + float(importance["activation"]) == pytest.approx(1, abs=1e-3)
    out = capsys.readouterr().out
    assert f"best trial {found.best_trial.number}: python -m mlp_study.train " in out

    # The best trial as an experiment is the same run.
    monkeypatch.setattr(
        "sys.argv", ["train", f"hydra.searchpath=[file://{folder}]", "+experiment=best", f"hydra.run.dir={tmp_path}/r"]
    )
    with logging_as_before():
        run_hydra(train.run, "train", "")
    again = read_json(tmp_path / "r" / "result.json")
    assert [again["run_id"]] == found.best_trial.user_attrs["run_ids"]


@pytest.mark.slow
def test_the_same_command_again_trains_only_what_is_missing_and_is_deterministic(monkeypatch, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    settings = (LR, "activation=relu,tanh", "hydra.sweeper.n_jobs=2", "hydra.sweeper.sampler.n_startup_trials=2")
    search(monkeypatch, one, *settings, "hydra.sweeper.n_trials=4")
    before = {path: path.stat().st_mtime_ns for path in one.glob("*/result.json")}
    search(monkeypatch, one, *settings, "hydra.sweeper.n_trials=4")
    assert len(study(one).trials) == 4
    drawn = (one / "figures" / "history.png").stat().st_mtime_ns
    search(monkeypatch, one, *settings, "hydra.sweeper.n_trials=4")
    assert (one / "figures" / "history.png").stat().st_mtime_ns == drawn  # nothing is new
    for lost in ("importance.csv", "best.yaml"):
        (one / lost).unlink()
    search(monkeypatch, one, *settings, "hydra.sweeper.n_trials=4")
    assert (one / "importance.csv").is_file()
    assert (one / "best.yaml").is_file()
    drawn = (one / "figures" / "history.png").stat().st_mtime_ns
    search(monkeypatch, one, *settings, "hydra.sweeper.n_trials=6")
    assert (one / "figures" / "history.png").stat().st_mtime_ns > drawn
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    search(monkeypatch, two, *settings, "hydra.sweeper.n_trials=6")
    assert outcomes(study(one)) == outcomes(study(two))


@pytest.mark.slow
def test_another_seed_proposes_others(monkeypatch, tmp_path):
    for seed in (1, 2):
        more = (f"hydra.sweeper.sampler.seed={seed}", "hydra.sweeper.n_trials=2", "hydra/sweeper/sampler=random")
        search(monkeypatch, tmp_path / str(seed), LR, *more)
    assert outcomes(study(tmp_path / "1")) != outcomes(study(tmp_path / "2"))


@pytest.mark.slow
def test_an_existing_config_of_the_stock_plugin_moves_over(monkeypatch, tmp_path):
    stock = {
        "sampler": "{_target_:optuna.samplers.TPESampler,seed:123,n_startup_trials:10,multivariate:false}",
        "direction": "maximize",
        "study_name": "mine",
        "storage": f"sqlite:///{tmp_path}/study.db",
        "n_trials": 3,
        "n_jobs": 1,
        "max_failure_rate": 0.0,
        "params": "{optimizer.lr:'interval(0.01,1)',activation:'choice(relu,tanh)',data.gain:1.0}",
        "custom_search_space": "tests.search.test_search.configure",
    }
    monkeypatch.setenv("MLP_STUDY_CUSTOM_SEARCH_SPACE", str(stock["custom_search_space"]))
    stock_settings = [f"++hydra.sweeper.{key}={value}" for key, value in stock.items()]
    search(monkeypatch, tmp_path / "s", "optimizer=momentum", *stock_settings)
    found = study(tmp_path / "s", stock["storage"], "mine")
    assert len(found.trials) == 3
    for trial in found.trials:
        result = read_json(tmp_path / "s" / trial.user_attrs["run_ids"][0] / "result.json")
        assert result["config"]["optimizer"]["momentum"] == trial.params["optimizer.momentum"]
    results = yaml.safe_load((tmp_path / "s" / "optimization_results.yaml").read_text())
    assert results == {"name": "optuna", "best_params": found.best_params, "best_value": found.best_value}


def configure(config, trial):
    """A stock plugin's ``custom_search_space``."""
    assert "optimizer.lr" in trial.params
    trial.suggest_float("optimizer.momentum", 0.0, 0.9)


@pytest.mark.slow
def test_a_grid_is_tried_cell_by_cell_and_ends(monkeypatch, tmp_path):
    grid = ("activation=relu,tanh", "optimizer.lr=range(0.1,0.4,0.1)", "hydra.sweeper.n_trials=50")
    for sampler in ("grid", "brute_force"):
        search(monkeypatch, tmp_path / sampler, *grid, f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_jobs=4")
        cells = {tuple(sorted(t.params.items())) for t in study(tmp_path / sampler).trials}
        assert len(cells) == len(study(tmp_path / sampler).trials) == 6


@pytest.mark.slow
def test_a_glob_is_a_choice_among_a_groups_files(monkeypatch, tmp_path):
    more = ("activation=glob(*elu,exclude=[prelu,leaky_relu,squared_relu])", "hydra/sweeper/sampler=grid")
    search(monkeypatch, tmp_path / "s", *more, "hydra.sweeper.n_trials=50")
    chosen = sorted(t.params["activation"] for t in study(tmp_path / "s").trials)
    assert chosen == ["celu", "elu", "gelu", "relu", "selu"]


@pytest.mark.slow
def test_the_searchs_own_wandb_run_has_its_trials_its_best_and_its_figures(monkeypatch, tmp_path):
    folder = tmp_path / "s"
    search(monkeypatch, folder, LR, "activation=relu,tanh", "hydra.sweeper.n_trials=4", "wandb.mode=offline")
    [run] = read_wandb(folder)
    best = study(folder).best_trial
    assert run.exit_code == 0
    assert run.summary["best/val/accuracy"] == pytest.approx(best.value)
    assert run.summary["best/trial"] == best.number
    assert run.summary["best/activation"] == best.params["activation"]
    logged = json.dumps([run.summary, run.rows])
    figures = [path.stem for path in (folder / "figures").glob("*.png")]
    assert len(figures) > 4
    assert all(f"{name}" in logged for name in [*figures, "trials"])
    images = [path.name for path in (folder / "wandb").rglob("*.png")]
    assert all(any(image.startswith(f"{name}_") for image in images) for name in figures)
    tables = [json.loads(path.read_text()) for path in (folder / "wandb").rglob("trials*.table.json")]
    assert [len(table["data"]) for table in tables] == [4]
    assert "run_ids" in tables[0]["columns"]


def test_repeats_train_seeds_and_optimize_their_mean(monkeypatch, tmp_path):
    folder = tmp_path / "s"
    search(monkeypatch, folder, LR, "seed=5", "hydra.sweeper.n_trials=2", "hydra.sweeper.repeats=3")
    for trial in study(folder).trials:
        values = [read_json(folder / run_id / "result.json") for run_id in trial.user_attrs["run_ids"]]
        assert [v["config"]["seed"] for v in values] == trial.user_attrs["seeds"] == [5, 6, 7]
        accuracies = [v["val/accuracy"] for v in values]
        assert trial.value == pytest.approx(statistics.fmean(accuracies))
        assert trial.user_attrs["val/accuracy deviation"] == pytest.approx(statistics.stdev(accuracies))


def test_repeats_begin_at_the_seed_that_is_given_however_it_is_written(monkeypatch, tmp_path):
    assert base_seed(["++seed=3"]) == 3
    assert jobs_of(OwnTrial(None, ["++seed=3", "a=1"], seeds=[3, 4])) == [["a=1", "seed=3"], ["a=1", "seed=4"]]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 5\n")
    own = (f"hydra.searchpath=['file://{tmp_path}']", "+experiment=mine", "hydra.sweeper.repeats=2")
    seen = []
    monkeypatch.setattr(Search, "run", lambda self: seen.append(self.seed))
    search(monkeypatch, tmp_path / "s", *own, LR)
    assert seen == [5]


@pytest.mark.slow
def test_a_diverged_run_has_the_worst_value_or_fails_and_ends_nothing(monkeypatch, tmp_path):
    wild = ("optimizer.lr=0.01,1e38", "data.scale=none", "hydra/sweeper/sampler=grid", "model.widths=[8,8]")
    search(monkeypatch, tmp_path / "w", *wild)
    by_lr = {t.params["optimizer.lr"]: t for t in study(tmp_path / "w").trials}
    assert by_lr[1e38].user_attrs["outcomes"] == ["diverged"]
    assert by_lr[1e38].value == 0.0
    assert by_lr[0.01].value > 0.0
    search(monkeypatch, tmp_path / "f", *wild, "hydra.sweeper.diverged=fail")
    assert sorted(t.state.name for t in study(tmp_path / "f").trials) == ["COMPLETE", "FAIL"]


def test_all_trials_failed_is_a_clear_summary_and_exit_code_1(monkeypatch, tmp_path, capsys):
    wild = ("optimizer.lr=1e37,1e38", "data.scale=none", "hydra.sweeper.diverged=fail", "hydra/sweeper/sampler=grid")
    line = refused(monkeypatch, capsys, tmp_path / "s", *wild)
    assert "no trial has a value (2 fail)" in line
    assert "became" in line
    assert len(rows(tmp_path / "s" / "trials.csv")) == 2


def test_nan_and_exceptions_at_chosen_trials_end_nothing(monkeypatch, tmp_path, capsys):
    def task(config):
        lr = config.optimizer.lr
        if lr == 2:
            raise RuntimeError("this one breaks")
        return math.nan if lr == 3 else -lr

    more = ("optimizer.lr=1,2,3,4", "hydra/sweeper/sampler=grid", "hydra/launcher=basic", "hydra.sweeper.n_jobs=4")
    search(monkeypatch, tmp_path / "s", *more, task=task)
    found = {t.params["optimizer.lr"]: (t.state.name, t.value) for t in study(tmp_path / "s").trials}
    assert found == {1: ("COMPLETE", -1), 2: ("FAIL", None), 3: ("COMPLETE", math.inf), 4: ("COMPLETE", -4)}
    assert study(tmp_path / "s").best_value == -4  # as in the stock plugin the least is the best
    with pytest.raises(SystemExit):
        search(monkeypatch, tmp_path / "t", *more, "hydra.sweeper.max_failure_rate=0", task=task)
    assert "1 of 4 trials failed, more than hydra.sweeper.max_failure_rate=0.0" in capsys.readouterr().err


@pytest.mark.slow
def test_this_projects_training_through_another_launcher(monkeypatch, tmp_path):
    more = ("hydra/launcher=basic", "hydra.sweeper.n_trials=2", "hydra.sweeper.objective=val/loss")
    search(monkeypatch, tmp_path / "s", LR, *more)
    results = [json.loads(path.read_text()) for path in (tmp_path / "s").rglob("result.json")]
    assert sorted(r["val/loss"] for r in results) == sorted(t.value for t in study(tmp_path / "s").trials)


@pytest.mark.slow
def test_several_objectives_give_a_front(monkeypatch, tmp_path, capsys):
    more = ("model.widths=[4],[32]", "hydra.sweeper.objective=[val/accuracy,parameters]", "hydra.sweeper.n_trials=6")
    search(monkeypatch, tmp_path / "s", LR, *more, "hydra/sweeper/sampler=nsgaii")
    found = study(tmp_path / "s")
    assert [d.name for d in found.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {t.values[1] for t in found.trials} <= {784 * 4 + 4 + 50.0, 784 * 32 + 32 + 330.0}
    assert "the Pareto front" in capsys.readouterr().out
    assert (tmp_path / "s" / "figures" / "pareto_front.png").is_file()


@pytest.mark.slow
def test_a_conditional_space(monkeypatch, tmp_path):
    more = ("+sweeps=optuna_full", "hydra.sweeper.n_trials=8", "hydra.sweeper.repeats=1")
    search(monkeypatch, tmp_path / "s", *more)
    always = {"activation", "data.scale", "optimizer"}
    only = {
        "momentum": {"optimizer.lr", "optimizer.momentum"},
        "adam": {"optimizer.lr [optimizer=adam]", "optimizer.eps"},
    }
    trials = study(tmp_path / "s").trials
    for trial in trials:
        assert set(trial.params) == always | only[trial.params["optimizer"]]
    assert {t.params["optimizer"] for t in trials} == {"momentum", "adam"}
    # What the file has set is spelt out, so that the best trial's command and YAML need the file no more.
    head = (tmp_path / "s" / "best.yaml").read_text().splitlines()
    command = shlex.split(head[2].removeprefix("# "))
    assert not [word for word in command if "sweeps" in word]
    [best] = study(tmp_path / "s").best_trial.user_attrs["run_ids"]
    assert RunConfig.from_dict(compose(command[3:])).run_id == best


PRUNED = ("trainer.max_epochs=6", "hydra.sweeper.n_trials=8", "hydra.sweeper.n_jobs=4", LR, "data.limit=200")


@pytest.mark.slow
def test_a_pruned_run_is_an_unpruned_one_up_to_its_last_epoch(monkeypatch, tmp_path):
    search(monkeypatch, tmp_path / "whole", *PRUNED, "hydra/sweeper/sampler=random")
    median = ("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2")
    search(monkeypatch, tmp_path / "cut", *PRUNED, "hydra/sweeper/sampler=random", *median)
    whole, cut = study(tmp_path / "whole"), study(tmp_path / "cut")
    assert [t.params for t in cut.trials] == [t.params for t in whole.trials]
    states = [t.state.name for t in cut.trials]
    assert "PRUNED" in states
    assert "COMPLETE" in states
    for pruned in cut.trials:
        [run_id] = pruned.user_attrs["run_ids"]
        short, long = read_rows(tmp_path / "cut" / run_id), read_rows(tmp_path / "whole" / run_id)
        for ours, theirs in zip(short, long, strict=False):
            assert ours["val/loss"] == pytest.approx(theirs["val/loss"], rel=1e-4)
        assert pruned.intermediate_values == {int(row["epoch"]): row["val/accuracy"] for row in short}
        if pruned.state.name == "PRUNED":
            assert len(short) < 6
            assert read_json(tmp_path / "cut" / run_id / "result.json")["outcome"] == "pruned"


@pytest.mark.slow
def test_the_wilcoxon_pruner_compares_seed_by_seed(monkeypatch, tmp_path):
    lrs = "optimizer.lr=0.3,1e-5,1e-6"
    more = ("hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=wilcoxon", "hydra.sweeper.repeats=6")
    search(monkeypatch, tmp_path / "s", lrs, *more, "hydra.sweeper.n_jobs=1", "trainer.max_epochs=3")
    found = study(tmp_path / "s").trials
    assert all(list(t.intermediate_values) == list(range(len(t.intermediate_values))) for t in found)
    trained = {t.params["optimizer.lr"]: len(t.intermediate_values) for t in found}
    assert trained[0.3] == 6


def test_a_trial_is_pruned_if_one_of_its_seeds_was():
    """After a kill, and for an equal trial, the runs' records are all that is known."""
    ended = [{"outcome": "early_stopped", "val/accuracy": 0.9}, {"outcome": "pruned", "val/accuracy": 0.3}]
    objectives = read_objectives(None, None, "worst", "mean")
    assert judged(objectives, OwnTrial(None, [], seeds=[0, 1]), ended) == ("PRUNED", None, [])


def test_a_password_is_nowhere(monkeypatch, tmp_path, capsys):
    secret = "hunter2hunter2"
    url = f"postgresql://me:{secret}@127.0.0.1:1/none"
    with pytest.raises(SystemExit) as stopped:
        search(monkeypatch, tmp_path / "s", LR, f"hydra.sweeper.storage='{url}'")
    assert stopped.value.code == 1
    out, err = capsys.readouterr()
    assert "the storage's password stands in the command line" in out + err
    assert "cannot be opened" in err
    assert secret not in out + err
    assert "me:***@127.0.0.1" in err
    for path in (tmp_path / "s").rglob("*"):
        assert not path.is_file() or secret not in path.read_text(errors="replace")


BAD = [
    (["hydra.sweeper.sampler=tpee"], "hydra.sweeper.sampler='tpee' is unknown"),
    (["optimizer.momentum=tag(log,interval(0,1))"], "logarithm of 0"),
    (["activation=relu,rellu"], "did you mean 'relu'"),
    (["hydra.sweeper.n_trials=0"], "n_trials=0"),
    (["hydra.sweep.subdir=x"], "hydra.sweep.subdir=x is not valid"),
]
MORE_BAD = [  # a second each, on one core
    (["hydra.sweeper.pruner=medium"], "did you mean 'median'"),
    (["optimizer.momentum=interval(1,0)"], "reversed"),
    (["hydra.sweeper.objective=val/f1"], "no recorded metric; it takes one of: val/"),
    (["hydra.sweeper.objective=test/accuracy"], "refused"),
    (["data.validation=test"], "measured on the test set"),
    (["hydra.sweeper.storage=nosuch://host/db"], "cannot be opened"),
    (["optimizer.momentum=interval(0,3)"], "optimizer.momentum"),
    (["optimzer.lr=interval(0,3)"], "did you mean 'optimizer.lr'"),
    (["hydra.sweeper.repeats=2", "seed=1,2"], "seed cannot be searched"),
    (["hydra/launcher=basic", "hydra/sweeper/pruner=median"], "needs hydra/launcher=population"),
    (["hydra/sweeper/sampler=grid"], "an interval has no list of values"),
    (["hydra.sweeper.storage='${oc.env:NO_SUCH_VARIABLE}'"], "NO_SUCH_VARIABLE"),
    (["hydra.sweeper.storage=/proc/no/study.journal"], "/proc/no"),
    (["hydra.sweeper.objective=[val/loss,val/accuracy]", "hydra/sweeper/pruner=median"], "one objective"),
]


@pytest.mark.parametrize(
    ("overrides", "words"), [*BAD, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_BAD)]
)
def test_bad_input_is_one_line_before_anything_is_trained(monkeypatch, tmp_path, capsys, overrides, words):
    assert words in refused(monkeypatch, capsys, tmp_path / "s", LR, *overrides)
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["hydra.sweeper.direction=minimize"], "has the direction maximize"),
        (["activation=relu,tanh"], "activation is not set there"),
        (["optimizer.lr=interval(0.1,1)"], "optimizer.lr is"),
        (["data.gain=2"], "data.gain is not set there, 2 here"),
        (["hydra.sweeper.repeats=2"], "repeats is 1 there, 2 here"),
    ],
)
def test_another_searchs_study_is_refused(monkeypatch, one_trial, capsys, change, words):
    line = refused(monkeypatch, capsys, one_trial, LR, "hydra.sweeper.n_trials=2", *change)
    assert words in line
    assert len(study(one_trial).trials) == 1


@pytest.fixture(scope="module")
def one_trial(tmp_path_factory):
    """The folder of a search of one trial, which those who use it must leave as it is."""
    folder = tmp_path_factory.mktemp("search") / "s"
    with pytest.MonkeyPatch.context() as patch:
        search(patch, folder, LR, "hydra.sweeper.n_trials=1")
    return folder


def test_a_dry_run_says_what_it_would_search(monkeypatch, tmp_path, capsys):
    search(monkeypatch, tmp_path / "s", LR, "dry_run=true")
    assert "optimizer.lr: FloatDistribution" in capsys.readouterr().out
    assert not (tmp_path / "s" / "optuna.journal").exists()


def test_optunas_verbosity_is_as_before(monkeypatch, tmp_path):
    before = optuna.logging.get_verbosity()
    search(monkeypatch, tmp_path / "s", LR, "hydra.sweeper.n_trials=1")
    assert optuna.logging.get_verbosity() == before
