"""The plugins in somebody else's Hydra application, and somebody's own YAML in this project's command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlp_study import train
from mlp_study.config.hydra_app import run_hydra
from tests.search.searches import ROOT, rows
from tests.small_runs import logging_as_before

APP = """
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    if cfg.divisor == 0:
        return secret(cfg)
    return (cfg.x - 2) ** 2 + cfg.y + cfg.z

def secret(cfg):
    return 1 / cfg.divisor

def extend(cfg, trial):
    assert cfg.bound == 7 and cfg.hydra.sweeper.n_trials == 6
    trial.suggest_int("z", 0, cfg.bound)

if __name__ == "__main__":
    main()
"""
CONFIG = "{x: 1, y: 0, z: 0, bound: 7, divisor: 1}"
# As its owner has written it for Hydra's own Optuna plugin.
STOCK = """
defaults:
  - config
  - override hydra/sweeper: optuna
  - override hydra/sweeper/sampler: tpe
  - _self_
hydra:
  sweeper:
    sampler: {_target_: optuna.samplers.TPESampler, seed: 123, n_startup_trials: 3}
    direction: minimize
    study_name: theirs
    storage: null
    n_trials: 6
    n_jobs: 3
    custom_search_space: app.extend
    params:
      x: range(0,4)
      y: choice(-5,0,5)
      divisor: choice(1,2)
"""


def started(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The application's command in its own folder."""
    (folder / "conf").mkdir()
    (folder / "app.py").write_text(APP)
    (folder / "conf" / "config.yaml").write_text(CONFIG)
    (folder / "conf" / "stock.yaml").write_text(STOCK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), **variables}
    command = [sys.executable, "app.py", "-m", *arguments, "hydra.sweep.dir=out", "hydra/launcher=population"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_traceback_of_a_failing_task_is_on_the_console_and_in_its_log(tmp_path):
    done = started(tmp_path, "hydra/sweeper=population", "divisor=1,0")
    assert done.returncode == 1
    log = (tmp_path / "out" / "1" / "app.log").read_text()
    for told in (log, done.stderr):
        assert "in secret" in told
        assert "ZeroDivisionError: division by zero" in told
    assert "['divisor=0']" in done.stderr  # as Hydra says it
    assert "retry_failed" not in done.stdout + done.stderr  # which only this project's runs have
    assert yaml.safe_load((tmp_path / "out" / "multirun.yaml").read_text())["bound"] == 7


def test_a_search_as_the_stock_plugin_has_it(tmp_path):
    code = {"MLP_STUDY_CUSTOM_SEARCH_SPACE": "app.extend"}
    done = started(tmp_path, "--config-name", "stock", **code)
    assert done.returncode == 0, done.stderr
    trials = rows(tmp_path / "out" / "trials.csv")
    assert [row["state"] for row in trials] == ["complete"] * 6
    for row in trials:
        x, y, z = (int(row[name]) for name in "xyz")
        assert float(row["value"]) == (x - 2) ** 2 + y + z
    found = yaml.safe_load((tmp_path / "out" / "optimization_results.yaml").read_text())
    least = min(trials, key=lambda row: float(row["value"]))
    assert found["best_params"] == {name: int(least[name]) for name in ("x", "y", "z", "divisor")}
    assert {type(value) for value in found["best_params"].values()} == {int}
    assert found["best_value"] == float(least["value"])
    assert f"best trial {least['trial']}: " in done.stdout
    assert "mlp_study.train" not in done.stdout
    assert not (tmp_path / "out" / "best.yaml").exists()
    whole = yaml.safe_load((tmp_path / "out" / "multirun.yaml").read_text())
    assert whole["hydra"]["sweeper"]["study_name"] == "theirs"


def test_a_failing_trial_ends_no_search_and_its_traceback_is_kept(tmp_path):
    space = ("hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "divisor=choice(0,1)")
    done = started(tmp_path, *space)
    assert done.returncode == 0, done.stderr
    assert [row["state"] for row in rows(tmp_path / "out" / "trials.csv")].count("fail") == 1
    assert sum("in secret" in path.read_text() for path in (tmp_path / "out").glob("*/app.log")) == 1


OWN = """
# @package _global_
defaults:
  - override /hydra/sweeper: optuna
  - override /hydra/sweeper/sampler: SAMPLER
hydra:
  sweeper:
    sampler: OPTIONS
    n_trials: 2
    params: {optimizer.lr: "interval(0.01,1)"}
"""
SAMPLERS = {
    "random": "{seed: 3}",
    "cmaes": "{_target_: optuna.samplers.CmaEsSampler, seed: 3, n_startup_trials: 1}",  # as the stock plugin has it
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("where", ["--config-dir", "hydra.searchpath"])
def test_a_search_in_a_persons_own_yaml(monkeypatch, tmp_path, capsys, sampler, where):
    (tmp_path / "experiment").mkdir()
    own = OWN.replace("SAMPLER", sampler).replace("OPTIONS", SAMPLERS[sampler])
    (tmp_path / "experiment" / "mine.yaml").write_text(own)
    folder = ["--config-dir", str(tmp_path)] if where == "--config-dir" else [f"hydra.searchpath=[file://{tmp_path}]"]
    said = composed(monkeypatch, capsys, *folder, "+experiment=mine", "dry_run=true")
    assert f"Search of 2 trials: maximize val/accuracy; sampler {sampler}" in said.out
    assert "optimizer.lr: FloatDistribution(high=1.0, log=False, low=0.01, step=None)" in said.out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("{seed: 3}", "{_target_: os.system, seed: 3}"), "hydra.sweeper.sampler='os.system' is unknown"),
        (("n_trials: 2", "n_trails: 2"), "Key 'n_trails' not in 'OptunaConfig' (hydra.sweeper.n_trails)"),
    ],
)
def test_a_mistake_in_a_persons_own_yaml_is_named(monkeypatch, tmp_path, capsys, change, words):
    (tmp_path / "experiment").mkdir()
    own = OWN.replace("SAMPLER", "random").replace("OPTIONS", SAMPLERS["random"]).replace(*change)
    (tmp_path / "experiment" / "mine.yaml").write_text(own)
    with pytest.raises(SystemExit) as stopped:
        composed(monkeypatch, capsys, "--config-dir", str(tmp_path), "+experiment=mine", "dry_run=true")
    assert stopped.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert words in errors[0]


def composed(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: str) -> Any:
    """What this project's own command says."""
    monkeypatch.setattr(sys, "argv", ["train", "-m", *arguments])
    with logging_as_before():
        run_hydra(train.run, "train", "")
    return capsys.readouterr()
