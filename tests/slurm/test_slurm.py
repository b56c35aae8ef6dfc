"""On a real SLURM cluster: arrays of shares, preemption, tasks that die, and Hydra's own launcher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlp_study.records.runs_table import load_results
from mlp_study.sweep.locks import Held, held_in
from mlp_study.sweep.slurm import read_settings
from mlp_study.sweep.status import read_status
from mlp_study.sweep.store import Store, members_of
from tests.sweep.sweeps import ROOT, SMALL, results, sweep

pytestmark = pytest.mark.slow

LONG = "trainer.max_epochs=1500"  # some seconds: time to be preempted


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the project's scripts in it, to submit from."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    return tmp_path


def numbers(result: dict) -> dict:
    """What equal runs share: all but the clock, the place and the company."""
    kept = {key: value for key, value in result.items() if "seconds" not in key}
    return {key: kept[key] for key in kept if key not in ("overrides", "config", "wandb_id", "git_commit")}


def claimed(folder: Path) -> dict[str, Held]:
    """What each SLURM job trains now."""
    return {held.owner.job: held for held in held_in(folder / ".sweep" / "locks") if held.names}


def checkpointed(folder: Path) -> set[str]:
    """The runs that have a checkpoint, whether they train or wait."""
    return {run for members in Store(folder).interrupted() for run in members}


def test_an_array_of_shares_is_preempted_requeued_and_gives_the_same_bits(cluster, project, monkeypatch):
    grid = ("activation=relu,tanh", "seed=range(0,3)", "model.widths=[8]", LONG, "data.split_seed=0")
    folder = project / "s"
    script = "scripts/slurm/sweep.sbatch"
    needs = ("--array=0-1", "--cpus-per-task=1", "--mem=1G")
    job = cluster.submit(project, *needs, script, *SMALL, *grid, f"sweep_dir={folder}")
    first = f"{job}_0"
    cluster.wait(lambda: first in claimed(folder) and list((folder / ".sweep").rglob("*.safetensors")))
    seen = read_status(folder)
    assert seen.runs == 6
    assert seen.running >= 3
    assert any(f"SLURM job {first}" in worker.where for worker in seen.workers)
    cluster.run("scancel", "--batch", "--signal=USR1", first)
    cluster.wait(lambda: cluster.at_once(first))
    log = (project / f"slurm-{job}_0.out").read_text()
    assert "stopped by SIGUSR1 in epoch" in log
    assert "is put back into the queue (its command ended with 75)" in log
    cluster.wait(lambda: not cluster.jobs(), seconds=400, logs=project)
    for shard in ("0/2", "1/2"):
        sweep(monkeypatch, project / "undisturbed", *grid, f"shard={shard}", "report=false")
    expected, found = results(project / "undisturbed"), results(folder)
    assert {run: numbers(r) for run, r in found.items()} == {run: numbers(r) for run, r in expected.items()}
    assert set(load_results(folder).run_id) == set(expected)
    assert len((folder / "runs.csv").read_text().splitlines()) == 7
    assert not list((folder / ".sweep").rglob("*.safetensors"))


def test_the_waiting_style_survives_tasks_that_die_and_tasks_that_are_preempted(cluster, tmp_path):
    """One population is killed on every attempt, one once, one is preempted: only the first one's runs fail."""
    folder = tmp_path / "s"
    settings = {"partition": "main", "cpus_per_task": 1, "mem_gb": 0.9, "poll_s": 0.5, "max_retries": 1}
    launcher = ["hydra/launcher=population", "hydra.launcher.executor=slurm"]
    launcher += [f"hydra.launcher.slurm.{key}={value}" for key, value in settings.items()]
    grid = ("activation=relu,tanh,sigmoid", "seed=0,1", "max_members=2", LONG, f"sweep_dir={folder}", "report=false")
    command = [sys.executable, "-m", "mlp_study.train", "-m", *SMALL, *launcher, *grid]
    process = subprocess.Popen(
        command, env=cluster.environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    done: dict[tuple[str, ...], int] = {}
    plan: list[tuple[str, ...]] = []
    disturbed: set[str] = set()  # the jobs: each is killed once, also if its process outlives the signal for a moment
    requeued: list[str] = []

    def disturb() -> bool:
        for job, held in claimed(folder).items():
            if job in disturbed:
                continue
            runs = held.names
            if runs not in plan:
                plan.append(runs)
            place, attempt = plan.index(runs), done.get(runs, 0)
            checkpoints = (folder / ".sweep" / "checkpoints").glob("*.safetensors")
            checkpointed = any(sorted(members_of(path)) == sorted(runs) for path in checkpoints)
            if place == 2 and attempt == 0 and checkpointed:
                cluster.run("scancel", "--batch", "--signal=USR2", job)
                requeued.append(job)
            elif place in (0, 1) and attempt == 0:
                cluster.run("scancel", "--full", "--signal=KILL", job)
            elif place == 0 and attempt == 1:  # as by the kernel for want of memory
                os.kill(held.owner.pid, signal.SIGKILL)
            else:
                continue
            done[runs] = attempt + 1
            disturbed.add(job)
        requeued[:] = [job for job in requeued if not cluster.at_once(job)]
        return process.poll() is not None

    try:
        cluster.wait(disturb, 500)
    finally:
        process.terminate()
        out, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert [done.get(runs) for runs in plan] == [2, 1, 1], (out, err)
    [line] = [line for line in err.splitlines() if line.startswith("error:")]
    assert "2 of 6 runs failed" in line
    assert "its SLURM task ended 2 times without a result: it died without a result" in line
    found = results(folder)
    assert len(found) == 6
    assert {run for run, r in found.items() if r["outcome"] == "failed"} == set(plan[0])
    assert {r["outcome"] for run, r in found.items() if run not in plan[0]} == {"completed"}
    assert not cluster.jobs()


def test_optuna_workers_of_an_array_share_one_study(cluster, project):
    folder = project / "s"
    script = ("scripts/slurm/optuna.sbatch", *SMALL, f"sweep_dir={folder}", "report=false")
    search = ("optimizer.lr=tag(log,interval(1e-3,1))", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=1")
    cluster.submit(project, "--array=0-1", "--cpus-per-task=1", "--mem=1G", *script, *search)
    cluster.wait(lambda: not cluster.jobs())
    logs = [path.read_text() for path in project.glob("slurm-*.out")]
    assert len(logs) == 2
    assert not [log for log in logs if "error:" in log], logs
    assert len(results(folder)) == 6
    assert len((folder / "trials.csv").read_text().splitlines()) == 7


def test_ctrl_c_cancels_the_tasks_and_the_sweep_resumes_from_their_checkpoints(cluster, tmp_path):
    folder = tmp_path / "s"
    launcher = ["hydra.launcher.executor=slurm", "hydra.launcher.slurm.cpus_per_task=1"]
    launcher += ["hydra.launcher.slurm.poll_s=0.5", "hydra.launcher.slurm.mem_gb=0.9"]
    command = [sys.executable, "-m", "mlp_study.train", "-m", *SMALL, *launcher, f"sweep_dir={folder}", "seed=0,1"]
    process = subprocess.Popen(
        [*command, "trainer.max_epochs=1000000"],
        env=cluster.environment,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # Both: a task that SLURM kills, KillWait seconds after its signal, may have had no time to write another one.
        cluster.wait(lambda: len(checkpointed(folder)) == 2 or process.poll() is not None)
    finally:
        process.terminate()
        _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "SLURM tasks are cancelled" in err
    assert f"sweep_dir={folder} resumes" in err
    cluster.wait(lambda: not cluster.jobs() and read_status(folder).running == 0)
    assert read_status(folder).checkpointed == 2


def test_hydras_submitit_launcher_trains_one_run_a_job(cluster, tmp_path):
    settings = {"partition": "main", "cpus_per_task": 1, "mem_gb": 1, "timeout_min": 5, "signal_delay_s": 10}
    launcher = ["hydra/launcher=submitit_slurm"]
    launcher += [f"hydra.launcher.{key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "mlp_study.train", "-m", *SMALL, *launcher, f"sweep_dir={tmp_path}/s", "seed=0,1"]
    done = subprocess.run(
        command, env=cluster.environment, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "s").values()
    assert sorted(r["config"]["seed"] for r in found) == [0, 1]
    assert {r["population"]["size"] for r in found} == {1}


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"partitoin": "x"}, "did you mean 'hydra.launcher.slurm.partition'"),
        (
            {"max_retries": -1},
            r"hydra.launcher.slurm.max_retries=-1 is not valid; it takes a whole number in \[0, inf\)",
        ),
        ({"timeout_min": 1}, "signal_delay_s=60 must be less than the time limit, 60 s"),
        ({}, "there is no sbatch here"),
    ],
)
def test_settings_that_cannot_be_are_refused(monkeypatch, node, says):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Exception, match=says):
        read_settings(node)


def test_the_batch_scripts_are_shell_and_ask_for_a_signal_and_a_requeue():
    scripts = sorted((ROOT / "scripts" / "slurm").glob("*.sbatch"))
    assert [p.stem for p in scripts] == ["optuna", "sweep", "sweep_gpu"]
    for path in scripts:
        subprocess.run(["bash", "-n", str(path)], check=True)
        text = path.read_text()
        assert "#SBATCH --signal=B:USR1@60" in text
        assert "#SBATCH --requeue" in text
        assert json.dumps(text).count("requeued.sh") >= 1
