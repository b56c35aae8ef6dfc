"""The W&B run of a member: complete when all is well, and never in the way when it is not."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlp_study.records import wandb_run
from tests.records.runs import config_of, read_wandb, row_of_epoch
from tests.records.server import Server

KEY = "0123456789abcdef0123456789abcdef01234567"


def track(folder: Path, *overrides: str, epochs: int = 3, **options: bool) -> wandb_run.WandbRun:
    """Open a run and log some epochs."""
    run = wandb_run.open_run(folder, config_of("wandb.mode=offline", *overrides), **options)
    for epoch in range(1, epochs + 1):
        run.log([{"step": 10 * epoch, "train/step_loss": 1 / epoch}, row_of_epoch(epoch)])
    return run


def service_of(thread: wandb_run.WandbThread) -> int:
    """The process id of W&B's service, once it is there."""
    wait_until(lambda: thread._service is not None)
    return thread._service._proc._process.pid


def wait_until(true, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_offline_run_can_be_read_back(tmp_path, wandb_thread, caplog):
    picture = tmp_path / "curves.png"
    picture.write_bytes(PNG)
    overrides = ("activation=tanh", "wandb.group=g", "wandb.tags=[a,b]", "wandb.project=p", "optimizer.lr=0.25")
    run = track(tmp_path, *overrides)
    run.summary({"outcome": "diverged", "test/loss": float("nan"), "test/accuracy": 0.5})
    run.images({"curves": picture})
    run.finish()
    wandb_run.wait()
    [found] = read_wandb(tmp_path)
    assert (found.run.run_id, found.run.project, found.run.run_group) == (run.id, "p", "g")
    assert list(found.run.tags) == ["a", "b"]
    assert found.config["optimizer"]["lr"] == 0.25
    assert found.config["run_id"] == config_of(*overrides).run_id
    assert [row for row in found.rows if "val/loss" in row] == [row_of_epoch(epoch) for epoch in (1, 2, 3)]
    assert [row for row in found.rows if "train/step_loss" in row][1] == {"step": 20, "train/step_loss": 0.5}
    assert found.rows[-1]["figures/curves/_type"] == "image-file"
    assert (found.summary["outcome"], found.summary["test/accuracy"]) == ("diverged", 0.5)
    assert found.summary["test/loss"] is None  # W&B's own way with NaN
    assert found.exit_code == 0
    assert len(list((tmp_path / "wandb").rglob("*.png"))) == 1
    assert run.where == str(tmp_path / "wandb")
    assert warnings_in(caplog) == []


def test_open_runs_do_not_write_down_each_others_steps(tmp_path, wandb_thread):
    """W&B asks the handler of every open run about each line that it logs: their number would count twice."""
    runs = [track(tmp_path / str(number)) for number in range(3)]
    for run in runs:
        run.finish()
    wandb_run.wait()
    logs = list(tmp_path.glob("*/wandb/*/logs/debug.log"))
    assert len(logs) == 3
    assert [path.read_text() for path in logs] == [""] * 3


@pytest.mark.slow
def test_wandbs_own_reader_reads_it_too(tmp_path, wandb_thread):
    run = track(tmp_path)
    run.finish()
    wandb_run.wait()
    [folder] = (tmp_path / "wandb").glob("offline-run-*")
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.id in done.stdout, done.stderr


def test_auto_without_a_login_is_offline_and_silent(tmp_path, wandb_thread, caplog, capfd):
    run = track(tmp_path, "wandb.mode=auto")
    run.finish()
    wandb_run.wait()
    [found] = read_wandb(tmp_path)
    assert len(found.rows) == 6
    assert run.url is None
    assert warnings_in(caplog) == []
    assert capfd.readouterr() == ("", "")


def test_online_without_a_login_says_so_and_records_offline(tmp_path, wandb_thread, caplog):
    runs = [track(tmp_path / name, "wandb.mode=online") for name in ("a", "b")]
    for run in runs:
        run.finish()
    wandb_run.wait()
    assert [len(read_wandb(tmp_path / name)) for name in ("a", "b")] == [1, 1]
    [warning] = warnings_in(caplog)
    assert "nobody is logged in" in warning


@pytest.mark.slow
def test_a_server_out_of_reach_costs_the_run_nothing(tmp_path, wandb_thread, caplog, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run = track(tmp_path, "wandb.mode=auto")
    run.finish()
    wandb_run.wait()
    [found] = read_wandb(tmp_path)
    assert (len(found.rows), found.exit_code) == (6, 0)
    assert "recording offline" in "".join(warnings_in(caplog))
    assert KEY not in caplog.text
    assert files_with(KEY, tmp_path) == []


@pytest.fixture
def server(wandb_thread, monkeypatch):
    found = Server()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", found.url)
    yield found
    found.close()


def test_a_logged_in_run_is_online(tmp_path, server, caplog):
    run = track(tmp_path, "wandb.mode=auto", "activation=tanh")
    run.summary({"outcome": "completed"})
    run.finish()
    wandb_run.wait()
    assert run.where == run.url == f"{server.url}/u/mlp_study/runs/{run.id}"
    assert [json.loads(row)["epoch"] for row in server.lines["wandb-history.jsonl"] if "val/loss" in row] == [1, 2, 3]
    assert json.loads(server.lines["wandb-summary.json"][-1])["outcome"] == "completed"
    assert server.config["activation"]["value"]["name"] == "tanh"
    assert [len(found.rows) for found in read_wandb(tmp_path)] == [6]
    assert warnings_in(caplog) == []


@pytest.mark.slow
def test_a_server_that_dies_is_waited_for_once_and_costs_no_row(tmp_path, server, caplog):
    runs = [track(tmp_path / str(number), "wandb.mode=auto") for number in range(3)]
    wait_until(lambda: all(run.url for run in runs))
    server.close()
    began = time.monotonic()
    for run in runs:
        run.log([row_of_epoch(4)])
        run.finish()
    wandb_run.wait()
    assert time.monotonic() - began < 2.7 * wandb_run.FINISH_TIMEOUT, "each of the three has waited"
    assert len(warnings_in(caplog)) == 1

    def rows() -> list[int]:
        return [len(read_wandb(tmp_path / str(number), finished=False)[0].rows) for number in range(3)]

    wait_until(lambda: rows() == [7, 7, 7])


def files_with(secret: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_no_file_and_no_log_has_the_key(tmp_path, wandb_thread, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    run = track(tmp_path)
    run.finish()
    wandb_run.wait()
    assert len(read_wandb(tmp_path)) == 1
    assert files_with(KEY, tmp_path) == []
    assert KEY not in caplog.text


def test_disabled_starts_nothing(tmp_path, wandb_thread, monkeypatch):
    run = track(tmp_path, "wandb.mode=disabled")
    run.finish()
    wandb_run.wait()
    assert (run.id, run.where, wandb_thread._thread) == (None, None, None)
    assert not (tmp_path / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert track(tmp_path, "wandb.mode=auto").id is None


def test_a_held_run_is_written_when_it_ends(tmp_path, wandb_thread):
    run = track(tmp_path, held=True)
    assert wandb_thread._thread is None
    run.finish()
    wandb_run.wait()
    assert len(read_wandb(tmp_path)[0].rows) == 6


def test_the_same_folder_goes_on_in_the_same_run(tmp_path, wandb_thread):
    runs = []
    for folder in ("a", "a", "b"):
        runs.append(track(tmp_path / folder))
        runs[-1].finish()
        wandb_run.wait()
    assert runs[0].id == runs[1].id != runs[2].id
    assert [found.run.run_id for found in read_wandb(tmp_path / "a")] == [runs[0].id] * 2


@pytest.mark.slow
def test_a_killed_service_is_reported_once_and_the_next_run_has_a_new_one(tmp_path, wandb_thread, caplog):
    run = track(tmp_path / "a")
    wait_until(lambda: list(tmp_path.glob("a/wandb/*/*.wandb")))
    os.kill(service_of(wandb_thread), signal.SIGKILL)
    for epoch in range(4, 9):
        run.log([row_of_epoch(epoch)])
    run.finish()
    wandb_run.wait()
    assert run.failed
    assert len(warnings_in(caplog)) == 1
    after = track(tmp_path / "after")
    after.finish()
    wandb_run.wait()
    assert len(read_wandb(tmp_path / "after")[0].rows) == 6


def test_what_wandb_refuses_is_reported_and_the_others_are_recorded(tmp_path, wandb_thread, caplog):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "wandb").write_text("a file where W&B wants a folder")
    bad, good = track(tmp_path / "bad"), track(tmp_path / "good")
    for run in (bad, good):
        run.finish()
    wandb_run.wait()
    assert (bad.failed, good.failed) == (True, False)
    assert len(warnings_in(caplog)) == 1
    assert len(read_wandb(tmp_path / "good")[0].rows) == 6


def test_a_wandb_that_cannot_be_imported_is_reported_once(tmp_path, wandb_thread, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # to Python: not installed
    runs = [track(tmp_path / str(number)) for number in range(5)]
    for run in runs:
        run.finish()
    wandb_run.wait()
    assert all(run.failed for run in runs)
    assert len([line for line in warnings_in(caplog) if "wandb" in line]) == 1


def test_a_service_that_does_not_answer_is_given_up(tmp_path, wandb_thread, caplog):
    run = track(tmp_path)
    wait_until(lambda: list(tmp_path.glob("wandb/*/*.wandb")))
    service = service_of(wandb_thread)
    os.kill(service, signal.SIGSTOP)
    run.finish()
    began = time.monotonic()
    wandb_thread.wait(stall=0.5)
    assert time.monotonic() - began < wandb_run.STALL - 5
    assert run.failed
    assert "no answer" in warnings_in(caplog)[0]
    wait_until(lambda: wandb_thread._given_up and not Path(f"/proc/{service}").exists())


def test_all_is_on_disk_when_the_process_ends(tmp_path, wandb_thread):
    run = track(tmp_path)
    run.finish()
    wandb_thread.close()
    [found] = read_wandb(tmp_path, finished=False)
    assert (len(found.rows), found.exit_code) == (6, 0)


def test_what_is_open_when_the_process_ends_was_interrupted(tmp_path, wandb_thread):
    track(tmp_path)
    wandb_thread.close()
    [found] = read_wandb(tmp_path, finished=False)
    assert (len(found.rows), found.exit_code) == (6, 255)


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001"
    "f61738550000000049454e44ae426082"
)
