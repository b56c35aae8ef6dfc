"""A sweep by several processes of this machine: how it is cut, and that it is the same sweep."""

from __future__ import annotations

import pytest

from mlp_study.sweep import launch
from mlp_study.sweep.plan import Crew, grouped
from mlp_study.sweep.progress import Progress, SweepProgress
from tests.sweep.sweeps import cells, results, sweep


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_no_process_waits_for_another_ones_share(workers):
    found = cells("seed=range(0,30)", "max_members=7", "model.widths=[8],[64,64]", "activation=relu,tanh")
    plan = grouped((), found, Crew(workers))
    assert sorted(c.run_id for c in plan.cells) == sorted(c.run_id for c in found)
    total = sum(p.work for p in plan.populations)
    assert all(p.work <= 1.05 * total / workers for p in plan.populations)
    for widths in ((8,), (64, 64)):
        mine = [p for p in plan.populations if p.cells[0].config.model.widths == widths]
        assert len(mine) == 1 or len(mine) % workers == 0
        assert all(len(p.cells) <= 7 for p in mine)
    single = grouped((), found[:1], Crew(workers))
    assert len(single.populations) == 1


def test_who_trains_is_chosen_by_the_work_that_is_left():
    found = cells("seed=range(0,4)")
    asked: list[float] = []

    def crew(work: float) -> Crew:
        asked.append(work)
        return Crew(2)

    plan = grouped((), found, crew)
    assert plan.crew.workers == 2
    grouped((), found, crew, finished={found[0].run_id})
    assert asked[1] == pytest.approx(0.75 * asked[0])


@pytest.mark.slow
def test_a_sweep_that_is_worth_it_is_trained_by_processes_and_is_the_same_sweep(monkeypatch, tmp_path, capfd):
    grid = ("activation=relu,tanh", "seed=range(0,3)")
    sweep(monkeypatch, tmp_path / "one", *grid)
    assert "processes" not in capfd.readouterr().out
    monkeypatch.setattr(launch, "workers_for", lambda config, work: 2)
    sweep(monkeypatch, tmp_path / "two", *grid)
    assert " by 2 processes of 1 thread" in capfd.readouterr().out
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert one.keys() == two.keys()
    assert {result["population"]["size"] for result in two.values()} == {3}
    for run_id, result in one.items():
        assert two[run_id]["test/loss"] == pytest.approx(result["test/loss"], rel=1e-3)
    sweep(monkeypatch, tmp_path / "here", *grid, "hydra.launcher.executor=process")
    assert "processes" not in capfd.readouterr().out


@pytest.mark.slow
def test_of_all_processes_bests_one_model_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "workers_for", lambda config, work: 2)
    sweep(monkeypatch, tmp_path / "s", "optimizer.lr=0.1,0.01,0.001,0.0001", "save=best")
    [model] = (tmp_path / "s").rglob("*.safetensors")
    found = results(tmp_path / "s")
    assert found[model.parent.name]["val/accuracy"] == max(result["val/accuracy"] for result in found.values())


@pytest.mark.slow
def test_a_sweep_that_grows_keeps_the_models_of_runs_finished_before(monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "workers_for", lambda config, work: 2)
    sweep(monkeypatch, tmp_path / "s", "optimizer.lr=0.1,0.01,0.001", "save=models")
    before = set((tmp_path / "s").rglob("*.safetensors"))
    assert len(before) == 3
    sweep(monkeypatch, tmp_path / "s", "optimizer.lr=0.1,0.01,0.001,0.0001,0.2", "save=best")
    assert before <= set((tmp_path / "s").rglob("*.safetensors"))


def test_the_bar_adds_up_what_all_processes_have_done():
    plan = grouped((), cells("seed=range(0,4)"), Crew(2))
    first, second = plan.populations
    with SweepProgress(plan.populations, shown=True) as bar:
        bar.heard(first, Progress(0.5, "epoch 1/2, 2 of 2 members"))
        bar.heard(second, Progress(0.25, "epoch 1/2, 2 of 2 members"))
        assert bar._bar is not None
        [task] = bar._bar.tasks
        assert task.completed == pytest.approx(0.5 * first.work + 0.25 * second.work)
        assert task.description == "population 2/2"
        bar.end(first)
        assert task.completed == pytest.approx(first.work + 0.25 * second.work)
        bar.end(second)
        assert task.completed == pytest.approx(task.total)
