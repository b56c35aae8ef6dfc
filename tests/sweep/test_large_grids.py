"""The plan of a very large grid, from some of its runs, is about the real plan of all of them."""

from __future__ import annotations

import time

import pytest

from mlp_study.errors import ConfigError
from mlp_study.sweep import plan_parts
from mlp_study.sweep.fast_compose import Composer
from mlp_study.sweep.grid import expand, read_axes
from mlp_study.sweep.plan import make_plan
from mlp_study.sweep.plan_parts import sampled_parts
from tests.sweep.sweeps import hydra_of, sweep

GRID = [
    *("activation=relu,tanh", "optimizer=sgd,adam", "optimizer.lr=0.1,0.01", "data.scale=none,unit", "max_members=7"),
    *("seed=range(0,5)", "model.widths=[8],[4,4]", "data.batch_size=16,32", "trainer.max_epochs=2", "max_memory=1"),
]


def test_it_counts_the_runs_and_shapes_of_the_real_plan(monkeypatch):
    monkeypatch.setattr(plan_parts, "SAMPLED", 200)
    with hydra_of() as (loader, master):
        plan = make_plan(expand(GRID, loader), Composer(loader, master))
        found = sampled_parts(read_axes(GRID, loader), Composer(loader, master))
    assert len(plan) == 2 * 2 * 2 * 2 * 5 * 2 * 2
    assert sum(part.runs for part in found) == pytest.approx(len(plan), rel=0.02)
    assert {part.steps for part in found} == {p.steps for p in plan.populations}
    assert sum(part.work for part in found) == pytest.approx(sum(p.work for p in plan.populations), rel=0.1)
    assert sum(part.populations for part in found) == pytest.approx(len(plan.populations), rel=0.15)
    assert max(part.bytes for part in found) == pytest.approx(max(p.bytes for p in plan.populations), rel=0.01)


@pytest.mark.parametrize("bad", ["optimizer.lr=0.1,-1", "activation=relu,rellu", "optimizer.beta1=0.5", "sede=1,2"])
def test_it_refuses_what_the_real_plan_refuses(bad):
    with hydra_of() as (loader, master), pytest.raises(ConfigError):
        sampled_parts(read_axes([*GRID, bad], loader), Composer(loader, master))


@pytest.mark.slow
def test_a_dry_run_of_a_million_runs_is_quick_and_writes_nothing(monkeypatch, tmp_path, capsys):
    axes = ("activation=relu,tanh,sigmoid,elu", "optimizer=sgd,adam,lion,muon,rmsprop", "seed=range(0,50000)")
    began = time.monotonic()
    sweep(monkeypatch, tmp_path / "s", *axes, "dry_run=true", "max_members=100")
    assert time.monotonic() - began < 60
    out = capsys.readouterr().out
    assert "Sweep of 1000000 runs in about 10000 populations" in out
    assert "6,000,000 files" in out
    assert not (tmp_path / "s").exists()
