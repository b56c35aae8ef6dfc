"""``python -m mlp_study.status``: done, running, waiting and failed runs, from the folder's files alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from mlp_study import status
from mlp_study.runtime.guard import guarded
from mlp_study.sweep.locks import STALE, Locks
from mlp_study.sweep.status import lines_of, read_status
from tests.sweep.sweeps import ROOT, results, start, sweep


def listing(folder) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}


def test_status_counts_what_is_done_running_waiting_and_failed_and_writes_nothing(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "s"
    for share in ("0/3", "1/3"):
        sweep(monkeypatch, folder, "activation=relu,tanh", "seed=range(0,6)", f"shard={share}")
    finished = results(folder)
    left = sorted(set((folder / ".sweep" / "runs.txt").read_text().split()) - set(finished))
    assert (len(finished), len(left)) == (8, 4)
    broken = {**finished[min(finished)], "outcome": "failed", "cause": "RuntimeError: no luck"}
    (folder / left[0]).mkdir()
    (folder / left[0] / "result.json").write_text(json.dumps(broken))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    locks = Locks(folder / ".sweep" / "locks")
    locks.take(left[1:3])
    before = listing(folder)
    capsys.readouterr()
    status.main([str(folder)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][2:] == ["9", "of", "12", "runs", "are", "finished"]
    assert [line[:2] for line in lines if line[0] in ("done", "running", "waiting", "failed")] == [
        ["done", "8"],
        ["running", "2"],
        ["waiting", "1"],
        ["failed", "1"],
    ]
    assert [f"{left[0]}:", "RuntimeError:", "no", "luck"] in lines
    assert any(str(os.getpid()) in line and "17):" in line for line in lines)
    status.main([str(folder), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["done"], found["running"], found["waiting"], found["failed"]) == (12, 8, 2, 1, 1)
    assert found["outcomes"] == {"completed": 8, "failed": 1}
    assert found["began"] <= found["last"]
    assert listing(folder) == before
    locks.close()


@pytest.mark.slow
def test_dead_processes_hold_nothing(monkeypatch, tmp_path):
    folder = tmp_path / "s"
    sweep(monkeypatch, folder, "seed=range(0,2)", "shard=0/2")
    [left] = set((folder / ".sweep" / "runs.txt").read_text().split()) - set(results(folder))
    locks = Locks(folder / ".sweep" / "locks")
    locks.take([left])
    path = folder / ".sweep" / "locks" / f"{left}.lock"
    about = json.loads(path.read_text())
    assert read_status(folder).running == 1
    for change, running in (({"started": "1"}, 0), ({"machine": "elsewhere"}, 1)):
        path.write_text(json.dumps({**about, **change}))
        assert read_status(folder).running == running
    old = path.stat().st_mtime - 2 * STALE
    os.utime(path, (old, old))
    found = read_status(folder)
    assert (found.running, found.waiting) == (0, 1)
    assert path.exists()
    locks.close()


@pytest.mark.parametrize("cut", ["b,1", "b,1,div"])
def test_a_row_of_the_table_that_was_cut_short_is_read_from_its_record(tmp_path, cut):
    for name in "abc":
        (tmp_path / name).mkdir()
        record = {"format": 1, "config": {}, "outcome": "diverged" if name == "b" else "completed"}
        (tmp_path / name / "result.json").write_text(json.dumps(record))
    (tmp_path / "sweep.json").write_text("{}")
    (tmp_path / "runs.csv").write_text(f"run_id,seed,outcome,epochs\na,0,completed,2\n{cut}")
    found = read_status(tmp_path)
    assert found.outcomes == {"completed": 2, "diverged": 1}
    assert "2 completed, 1 diverged" in lines_of(found)[1]


@pytest.mark.slow
def test_an_interrupted_sweep_waits_with_its_checkpoint(tmp_path):
    folder = tmp_path / "s"
    process = start(folder, "seed=range(0,4)", "trainer.max_epochs=100000")
    command = [sys.executable, "-m", "mlp_study.status", str(folder), "--json"]
    while process.poll() is None:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seen = json.loads(done.stdout) if done.returncode == 0 else {"workers": []}
        if seen["workers"] and seen["running"] == 4 and all(worker["epoch"] for worker in seen["workers"]):
            break
    assert sum(worker["runs"] for worker in seen["workers"]) == 4  # so long a training has several processes
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 75, err
    found = read_status(folder)
    assert (found.running, found.waiting, found.checkpointed) == (0, 4, 4)
    assert "4 of them go on from a checkpoint" in "\n".join(lines_of(found))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "status takes a sweep's folder"),
        (["/nowhere"], "holds no sweep"),
        (["--jsn", "x"], "did you mean '--json'"),
    ],
)
def test_what_is_no_sweep_is_one_line(capsys, arguments, says):
    with pytest.raises(SystemExit) as end:
        guarded(lambda: status.main(arguments))
    assert end.value.code == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert says in line
