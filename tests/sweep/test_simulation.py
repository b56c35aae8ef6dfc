"""The simulated plan of a very large grid counts what the real plan of a small one has."""

from __future__ import annotations

import pytest

from mlp_study.errors import ConfigError
from mlp_study.sweep import composer as composer_module
from mlp_study.sweep.composer import Composer
from mlp_study.sweep.grid import expand, read_axes
from mlp_study.sweep.plan import make_plan
from mlp_study.sweep.simulation import simulate
from tests.sweep.sweeps import hydra_of, sweep

GRID = [
    *("activation=relu,tanh", "optimizer=sgd,adam", "optimizer.lr=0.1,0.01", "data.scale=none,unit", "max_members=7"),
    *("seed=range(0,5)", "model.widths=[8],[4,4]", "data.batch_size=16,32", "trainer.max_epochs=2", "max_memory=1"),
]


def test_it_counts_the_runs_and_shapes_of_the_real_plan():
    with hydra_of() as (loader, master):
        plan = make_plan(expand(GRID, loader), Composer(loader, master))
        found = simulate(read_axes(GRID, loader), Composer(loader, master))
    assert sum(c.runs for c in found) == len(plan) == 2 * 2 * 2 * 2 * 5 * 2 * 2
    real = {p.steps for p in plan.populations}
    assert {c.steps for c in found} == real
    assert sum(c.work for c in found) == pytest.approx(sum(p.work for p in plan.populations))
    # The real plan mixes optimizers of different memory in one population; each class rounds up once.
    assert len(plan.populations) <= sum(c.populations for c in found) <= len(plan.populations) + len(found)


@pytest.mark.parametrize("bad", ["optimizer.lr=0.1,-1", "activation=relu,rellu", "optimizer.beta1=0.5", "sede=1,2"])
def test_it_refuses_what_the_real_plan_refuses(bad):
    with hydra_of() as (loader, master), pytest.raises(ConfigError):
        simulate(read_axes([*GRID, bad], loader), Composer(loader, master))


@pytest.mark.slow
def test_a_dry_run_of_a_million_runs_composes_few_of_them(monkeypatch, tmp_path, capsys):
    composed = []
    real = Composer.compose
    monkeypatch.setattr(composer_module.Composer, "compose", lambda self, job: composed.append(1) or real(self, job))
    axes = ("activation=relu,tanh,sigmoid,elu", "optimizer=sgd,adam,lion,muon,rmsprop", "seed=range(0,50000)")
    sweep(monkeypatch, tmp_path / "s", *axes, "dry_run=true", "max_members=100")
    out = capsys.readouterr().out
    assert "Sweep of 1000000 runs in about 10000 populations" in out
    assert "6,000,000 files" in out
    assert len(composed) < 2000
    assert not (tmp_path / "s").exists()
