"""A sweep in shares: each process trains its own, together they give what one process gives."""

from __future__ import annotations

import pytest

from mlp_study.records.runs_table import load_results
from mlp_study.sweep.plan import grouped
from tests.sweep.sweeps import cells, results, stamps, sweep

GRID = ("activation=relu,tanh", "seed=range(0,4)", "model.widths=[8],[4,4]")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 40])
def test_the_shares_are_the_whole_plan_in_about_equal_parts(count):
    found = cells("seed=range(0,4)", "model.widths=[8],[64,64]", "data.batch_size=16,32")
    plans = [grouped((), found, share=f"{i}/{count}") for i in range(count)]
    members = [cell.run_id for plan in plans for cell in plan.cells]
    assert sorted(members) == sorted(cell.run_id for cell in found)
    assert all(len(plan) + plan.elsewhere == len(found) for plan in plans)
    work = [sum(population.work for population in plan.populations) for plan in plans]
    largest = max(p.work / len(p.cells) for plan in plans for p in plan.populations)
    assert max(work) - min(work) <= 2 * largest


def test_a_share_does_not_depend_on_the_memory_that_is_free():
    found = cells("seed=range(0,8)", "activation=relu,tanh", "max_members=16")
    tight = cells("seed=range(0,8)", "activation=relu,tanh", "max_members=3")
    for i in range(3):
        wide, narrow = (grouped((), some, share=f"{i}/3") for some in (found, tight))
        assert [c.run_id for c in wide.cells] == [c.run_id for c in narrow.cells]
        assert len(wide.populations) < len(narrow.populations)


@pytest.mark.slow
def test_shares_fill_one_folder_and_the_last_one_writes_the_whole_table(monkeypatch, tmp_path, capsys):
    whole, folder = tmp_path / "whole", tmp_path / "shared"
    sweep(monkeypatch, whole, *GRID)
    expected, count = results(whole), 3
    for i in reversed(range(count)):
        before = stamps(folder)
        assert not (folder / "report.html").exists()
        sweep(monkeypatch, folder, *GRID, f"shard={i}/{count}", "report=true")
        assert {run: stamps(folder)[run] for run in before} == before
    found = results(folder)
    assert found.keys() == expected.keys()
    for run_id, result in found.items():
        assert result["test/accuracy"] == pytest.approx(expected[run_id]["test/accuracy"], abs=0.01)
    assert list(load_results(folder).run_id) == sorted(expected)
    assert len((folder / "runs.csv").read_text().splitlines()) == 1 + len(expected)
    assert (folder / "report.html").exists()
    again = stamps(folder)
    sweep(monkeypatch, folder, *GRID, "shard=1/3")
    assert stamps(folder) == again
    assert "0 to do" in capsys.readouterr().out


@pytest.mark.slow
def test_more_shares_than_runs(monkeypatch, tmp_path, capsys):
    for i in range(3):
        sweep(monkeypatch, tmp_path / "s", "seed=1,2", f"shard={i}/3")
    assert len(results(tmp_path / "s")) == 2
    assert "this share is empty" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["shard=3/3"], "shard=3/3 is not valid; it takes i/n with 0 <= i < n"),
        (["shard=half"], "shard=half is not valid"),
        (["shard=0/2", "sweep_dir=null"], "shard=0/2 needs sweep_dir=FOLDER"),
        (["shard=0/2", "hydra/launcher=basic"], "hydra/launcher=population"),
        (["shard=0/2", "hydra/sweeper=optuna"], "shard divides a grid"),
    ],
)
def test_a_share_that_cannot_be_is_refused(monkeypatch, tmp_path, capsys, overrides, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        sweep(monkeypatch, tmp_path / "s", "seed=1,2", *overrides)
    assert end.value.code == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert not list(tmp_path.rglob("result.json"))
