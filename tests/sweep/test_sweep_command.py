"""Sweeps as commands of their own: killed, stopped, two at once, on bad disks, with other tasks."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlp_study.records.runs_table import load_results
from tests.sweep.sweeps import ROOT, SMALL, results, stamps, start

GRID = ("activation=relu,tanh", "optimizer.lr=0.1,0.01", "seed=range(0,4)", "max_members=4")


def finish(process: subprocess.Popen[str], seconds: float = 500) -> tuple[str, str]:
    out, err = process.communicate(timeout=seconds)
    return out, err


def wait_for(condition, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_sigkill_at_random_moments_no_run_is_lost_or_trained_twice(tmp_path, seed):
    chance, folder, before = random.Random(seed), tmp_path / "s", {}
    for _ in range(3):
        process = start(folder, *GRID, "trainer.max_epochs=10")
        wait_for(lambda p=process: folder.exists() or p.poll() is not None)
        time.sleep(chance.uniform(0, 4))
        process.kill()
        finish(process)
        after = stamps(folder)
        assert {run: after[run] for run in before} == before
        before = after
    process = start(folder, *GRID, "trainer.max_epochs=10")
    _, err = finish(process)
    assert process.returncode == 0, err
    after = stamps(folder)
    assert {run: after[run] for run in before} == before
    assert len(after) == 16
    assert {r["outcome"] for r in results(folder).values()} == {"completed"}
    assert not list((folder / ".sweep").rglob("*.safetensors"))


@pytest.mark.slow
def test_two_commands_at_once_train_each_run_once(tmp_path):
    folder = tmp_path / "s"
    both = [start(folder, *GRID, "trainer.max_epochs=20") for _ in range(2)]
    seen: set[tuple[str, tuple[int, int]]] = set()
    while any(process.poll() is None for process in both):
        seen |= stamps(folder).items()
        time.sleep(0.02)
    ends = [finish(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len(results(folder)) == 16
    assert len(seen | stamps(folder).items()) == 16, "no result was written a second time"
    assert all("16 runs: 16 completed" in out for out, _ in ends)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_signal_ends_the_sweep_and_it_resumes(tmp_path, number, code):
    folder = tmp_path / "s"
    process = start(folder, *GRID, "trainer.max_epochs=1000000")
    wait_for(lambda: list((folder / ".sweep").rglob("*.safetensors")) or process.poll() is not None)
    os.kill(process.pid, number)
    _, err = finish(process)
    assert process.returncode == code, err
    [line] = [line for line in err.splitlines() if line.startswith("error:")]
    assert f"sweep_dir={folder}" in line
    assert "0 of 16 runs are finished" in line
    assert not list((folder / ".sweep" / "claims").glob("*.json"))
    assert list((folder / ".sweep").rglob("*.safetensors"))  # the population goes on from there


@pytest.mark.slow
def test_several_processes_share_a_sweep_and_survive_one_that_dies(tmp_path):
    folder = tmp_path / "s"
    shared = ("hydra.launcher.executor=processes", "hydra.launcher.workers=2")
    process = start(folder, *GRID, *shared, "trainer.max_epochs=200")

    def owners():
        """The processes that hold a run's lock, as far as their files are written."""
        return [json.loads(text)["pid"] for p in folder.rglob("*.lock") if (text := p.read_text()).endswith("}")]

    wait_for(lambda: owners() or process.poll() is not None)
    victim = next(pid for pid in owners() if pid != process.pid)
    os.kill(victim, signal.SIGKILL)
    out, err = finish(process)
    assert process.returncode == 0, err
    assert "died" in out + err
    assert len(results(folder)) == 16
    assert {r["outcome"] for r in results(folder).values()} == {"completed"}


@pytest.mark.slow
def test_a_full_disk_ends_the_sweep_in_one_line_and_what_is_finished_stays(small_disk):
    folder = small_disk / "s"
    process = start(folder, "seed=range(0,40)", "max_members=4", "model.widths=[20]")
    _, err = finish(process)
    assert process.returncode == 1
    assert [line for line in err.splitlines() if "full" in line and line.startswith("error:")], err
    assert "Traceback" not in err
    finished = results(folder)
    assert 0 < len(finished) < 40
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    before = stamps(folder)
    process = start(folder, "seed=range(0,40)", "max_members=4", "model.widths=[20]")
    finish(process)
    assert process.returncode == 0
    after = stamps(folder)
    assert len(after) == 40
    assert {run: after[run] for run in before} == before


@pytest.mark.slow
def test_a_read_only_disk_is_found_before_training(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    process = start(small_disk / "s", "seed=1,2", small=[*SMALL, "trainer.max_epochs=1"])
    _, err = finish(process)
    assert process.returncode == 1
    [line] = err.strip().splitlines()
    assert "read-only" in line


FOREIGN = """
import hydra, hydra_plugins.mlp_study
hydra_plugins.mlp_study.register()
@hydra.main(version_base="1.3", config_path=None, config_name=None)
def task(config):
    print("sum", config.a + config.b)
    if config.a == 2 and config.b == 10:
        raise ValueError("two and ten do not go")
task()
"""


def test_another_task_runs_job_by_job(tmp_path):
    script = tmp_path / "task.py"
    script.write_text(FOREIGN)
    command = [sys.executable, str(script), "-m", "hydra/launcher=population", "hydra/sweeper=population"]
    done = subprocess.run(
        [*command, "+a=1,2", "+b=range(10,12)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stdout.splitlines() if line.startswith("sum")] == [
        "sum 11",
        "sum 12",
        "sum 12",
        "sum 13",
    ]
    assert "two and ten do not go" in done.stderr, "the task's own error ends it, as under Hydra's launcher"
    assert done.returncode == 1
    assert len(list(tmp_path.glob("multirun/*/*/*/.hydra/config.yaml"))) == 4


@pytest.mark.slow
def test_a_sweep_of_a_thousand_runs(tmp_path):
    folder = tmp_path / "s"
    axes = ("activation=relu,tanh", "optimizer.lr=0.1,0.03,0.01,0.003,0.001", "seed=range(0,100)")
    process = start(folder, *axes, "data.split_seed=0", "save=none")
    out, err = finish(process, 500)
    assert process.returncode == 0, err
    assert "1000 runs: 1000 completed" in out
    assert len(load_results(folder)) == 1000
    assert (Path(folder) / "runs.parquet").stat().st_size > 10_000
