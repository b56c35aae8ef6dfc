"""A sweep by several processes of this machine: how it is cut, and that it is the same sweep."""

from __future__ import annotations

import textwrap
import time

import pytest

from mlp_study.sweep import launch, processes
from mlp_study.sweep.locks import held_in
from mlp_study.sweep.plan import Crew, grouped
from tests.small_runs import config
from tests.sweep.sweeps import cells, results, start, sweep


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


def test_processes_are_as_many_as_pay(monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 4)
    one = config()
    assert processes.workers_for(one, 0.0) == 1
    assert processes.workers_for(one, 2.5 * processes.WORTH_A_PROCESS) == 2
    assert processes.workers_for(one, 100 * processes.WORTH_A_PROCESS) == 4
    assert processes.workers_for(config("trainer.threads=2"), 1e6) == 1, "the threads are asked for"
    assert processes.workers_for(config("trainer.accelerator=gpu"), 1e6) == 1
    monkeypatch.setattr(processes, "visible_gpus", lambda: ["0"])
    assert processes.workers_for(one, 1e6) == 1


DEADLY = """
import os, signal
from mlp_study.sweep import executor
real = executor.Executor._attempt
def deadly(self, cells):
    if any(cell.config.seed == 3 for cell in cells):
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, cells)
executor.Executor._attempt = deadly
"""


@pytest.mark.slow
def test_a_run_that_kills_its_process_fails_alone(tmp_path):
    """Each worker loads the deadly code at its start, as Python's ``sitecustomize`` does."""
    (tmp_path / "code").mkdir()
    hook = "import sys\nif 'spawn_main' in ' '.join(sys.orig_argv):\n"
    (tmp_path / "code" / "sitecustomize.py").write_text(hook + textwrap.indent(DEADLY, "    "))
    folder = tmp_path / "s"
    typed = ("seed=range(0,5)", "hydra.launcher.executor=processes", "hydra.launcher.workers=2", "report=false")
    process = start(folder, *typed, path=tmp_path / "code")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "1 of 5 runs failed" in err.splitlines()[-1]
    assert "RuntimeError: its process died 2 times" in err.splitlines()[-1]
    ended = {result["config"]["seed"]: result["outcome"] for result in results(folder).values()}
    assert ended == {seed: "failed" if seed == 3 else "completed" for seed in range(5)}
    assert list((folder / ".sweep" / "locks").iterdir()) == []


@pytest.mark.slow
def test_workers_whose_parent_is_killed_finish_what_they_train_and_end(tmp_path):
    folder = tmp_path / "s"
    typed = ("seed=range(0,2)", "hydra.launcher.executor=processes", "hydra.launcher.workers=2", "report=false")
    parent = start(folder, *typed, "trainer.max_epochs=60")
    owners = folder / ".sweep" / "locks"
    while len(held_in(owners)) < 2:
        assert parent.poll() is None
        time.sleep(0.02)
    workers = [held.owner for held in held_in(owners)]
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 120
    while any(worker.alive(time.time()) for worker in workers):
        assert time.monotonic() < end, "the workers live on"
        time.sleep(0.1)
    assert len(results(folder)) == 2
    assert held_in(owners) == []
