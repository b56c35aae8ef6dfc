"""Each sampler and each pruner through the command: 20 trials on the digits."""

from __future__ import annotations

import pytest

from mlp_study.config.optuna_settings import PRUNERS, SAMPLERS
from tests.search.searches import search, study

SPACE = ("activation=relu,tanh,sigmoid,gelu", "optimizer.lr=range(0.1,0.6,0.1)")  # 20 cells, as a grid has to have
TWENTY = ("hydra.sweeper.n_trials=20", "hydra.sweeper.n_jobs=10", "trainer.max_epochs=1", "model.widths=[4]")
OPTIONS = {  # so that 20 trials are more than the random ones that it begins with
    "tpe": ["n_startup_trials=5"],
    "gp": ["n_startup_trials=5"],
    "cmaes": ["n_startup_trials=2"],
    "nsgaii": ["population_size=5"],
    "nsgaiii": ["population_size=5"],
}


@pytest.fixture(scope="module")
def proposals():
    """What each sampler has proposed."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_runs_20_trials(monkeypatch, tmp_path, name, proposals):
    options = [f"hydra.sweeper.sampler.{option}" for option in OPTIONS.get(name, [])]
    search(monkeypatch, tmp_path / "s", *SPACE, *TWENTY, f"hydra/sweeper/sampler={name}", *options)
    trials = study(tmp_path / "s").trials
    assert [t.state.name for t in trials] == ["COMPLETE"] * 20
    proposed = [tuple(t.params.values()) for t in trials]
    assert all(set(t.params) == {"activation", "optimizer.lr"} for t in trials)
    assert len(set(proposed)) == 20 if name in ("grid", "brute_force") else len(set(proposed)) > 5
    assert proposed not in proposals.values()  # none is another one under its name
    proposals[name] = proposed


PRUNING = {
    "none": [],
    "median": [],
    "percentile": ["percentile=40"],
    "successive_halving": ["min_resource=1", "reduction_factor=2"],
    "hyperband": ["min_resource=1", "max_resource=4", "reduction_factor=2"],
    "patient": ["patience=0", "wrapped_pruner=median"],
    "wilcoxon": ["p_threshold=0.2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRUNERS)
def test_each_pruner_runs_20_trials(monkeypatch, tmp_path, name):
    options = [f"hydra.sweeper.pruner.{option}" for option in PRUNING[name]]
    lengths = ["hydra.sweeper.repeats=4", "trainer.max_epochs=2"] if name == "wilcoxon" else ["trainer.max_epochs=4"]
    steep = (
        "optimizer.lr=tag(log,interval(1e-5,100))",
        "hydra.sweeper.objective=val/loss",
        "hydra/sweeper/sampler=qmc",
    )
    search(monkeypatch, tmp_path / "s", *TWENTY, *lengths, *steep, f"hydra/sweeper/pruner={name}", *options)
    trials = study(tmp_path / "s").trials
    cut = [t for t in trials if t.state.name == "PRUNED"]
    assert {t.state.name for t in trials} == ({"COMPLETE"} if name == "none" else {"COMPLETE", "PRUNED"})
    assert len(trials) == 20
    assert all(len(t.intermediate_values) == (0 if name == "none" else 4) for t in trials if t not in cut)
    assert sum(len(t.intermediate_values) for t in cut) < 4 * len(cut) or not cut
