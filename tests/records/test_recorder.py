"""What the recorder leaves behind when all goes well, when it is interrupted, and when it is killed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlp_study.records import recorder as module
from mlp_study.records import run_folder, wandb_run
from mlp_study.records.recorder import Recorder
from mlp_study.records.run_folder import load_run, read_rows
from mlp_study.runtime.files import WriteError
from tests.records.runs import config_of, read_wandb, result_of, row_of_epoch


@pytest.fixture
def every_epoch(monkeypatch):
    """Curves are written after every epoch instead of every second."""
    monkeypatch.setattr(module, "CURVES_EVERY", 0.0)
    monkeypatch.setattr(module, "CURVES_SHARE", 0)


def test_each_member_has_its_whole_record(tmp_path, wandb_thread):
    configs = [config_of("wandb.mode=offline", f"seed={seed}") for seed in (0, 1)]
    folders = [tmp_path / "0", tmp_path / "1"]
    results = [result_of(config, population={"size": 2, "index": k}) for k, config in enumerate(configs)]
    with Recorder(folders, overrides=[["seed=0"], ["seed=1"]]) as recorder:
        recorder.started(configs)
        for epoch in range(1, 4):
            for k in range(2):
                recorder.steps_logged(k, [{"step": 50 * epoch, "train/step_loss": 1.0}])
                recorder.epoch_ended(k, row_of_epoch(epoch))
        for k in (1, 0):
            recorder.finished(k, results[k])
    for k, folder in enumerate(folders):
        run = load_run(folder)
        assert (run.config, run.result["overrides"]) == (configs[k], [f"seed={k}"])
        assert run.result["population"] == {"size": 2, "index": k}
        [found] = read_wandb(folder)
        assert found.run.run_id == run.result["wandb_id"]
        assert [row["epoch"] for row in found.rows if "epoch" in row] == [1, 2, 3]
        assert (found.summary["outcome"], found.summary["final/dead"], found.exit_code) == ("completed", 0.25, 0)


def test_a_large_population_is_recorded_as_a_small_one(tmp_path, wandb_thread, monkeypatch):
    monkeypatch.setattr(module, "LIVE_WANDB", 1)
    configs = [config_of("wandb.mode=offline", f"seed={seed}") for seed in (0, 1)]
    with Recorder([tmp_path / "0", tmp_path / "1"]) as recorder:
        recorder.started(configs)
        for k, config in enumerate(configs):
            recorder.epoch_ended(k, row_of_epoch(1))
            recorder.finished(k, result_of(config, epochs=1))
    assert [len(read_wandb(tmp_path / str(k))[0].rows) for k in (0, 1)] == [1, 1]


def test_rows_that_were_not_heard_reach_wandb_at_the_end(tmp_path, wandb_thread):
    config = config_of("wandb.mode=offline")
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        recorder.epoch_ended(0, row_of_epoch(1))
        recorder.finished(0, result_of(config, epochs=3))
    assert [row["epoch"] for row in read_wandb(tmp_path)[0].rows] == [1, 2, 3]


def test_ctrl_c_leaves_the_curves_so_far_and_no_result(tmp_path, wandb_thread):
    configs = [config_of("wandb.mode=offline", f"seed={seed}") for seed in (0, 1)]

    def interrupted() -> None:
        with Recorder([tmp_path / "0", tmp_path / "1"]) as recorder:
            recorder.started(configs)
            for epoch in (1, 2):
                recorder.epoch_ended(0, row_of_epoch(epoch))
                recorder.epoch_ended(1, row_of_epoch(epoch))
            recorder.finished(0, result_of(configs[0], epochs=2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "0" / "result.json").exists()
    assert not (tmp_path / "1" / "result.json").exists()
    assert read_rows(tmp_path / "1") == [row_of_epoch(1), row_of_epoch(2)]
    assert [read_wandb(tmp_path / str(k))[0].exit_code for k in (0, 1)] == [0, 255]


def test_a_resumed_run_keeps_its_former_rows_and_replaces_repeated_ones(tmp_path, every_epoch):
    config = config_of()
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        for epoch in (1, 2, 3):
            recorder.epoch_ended(0, row_of_epoch(epoch))
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        recorder.epoch_ended(0, row_of_epoch(3, loss=0.25))
        assert read_rows(tmp_path) == [row_of_epoch(1), row_of_epoch(2), row_of_epoch(3, loss=0.25)]
        recorder.epoch_ended(0, row_of_epoch(4))
    assert [row["epoch"] for row in read_rows(tmp_path)] == [1, 2, 3, 4]


def test_a_full_disk_during_training_is_waited_out(tmp_path, every_epoch, monkeypatch, caplog):
    config, write, full = config_of(), run_folder.write_file, [True]

    def refuse(path, content):
        if full[0]:
            raise WriteError("the disk is full")
        write(path, content)

    monkeypatch.setattr(run_folder, "write_file", refuse)
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        recorder.epoch_ended(0, row_of_epoch(1))
        recorder.epoch_ended(0, row_of_epoch(2))
        assert [record.getMessage() for record in caplog.records] == ["curves so far: the disk is full"]
        with pytest.raises(WriteError):
            recorder.finished(0, result_of(config, epochs=2))
        full[0] = False
        recorder.finished(0, result_of(config, epochs=2))
    assert load_run(tmp_path).result["outcome"] == "completed"


@pytest.mark.parametrize(("save", "kept"), [("all", True), ("auto", True), ("models", True), ("none", False)])
def test_models_are_kept_as_asked(tmp_path, save, kept):
    config = config_of(f"save={save}")
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        recorder.finished(0, result_of(config))
    assert (tmp_path / "model.safetensors").exists() == kept


def test_figures_reach_wandb_before_its_run_ends(tmp_path, wandb_thread):
    from matplotlib.figure import Figure

    config, picture = config_of("wandb.mode=offline"), tmp_path / "figures" / "curves.png"

    def draw(folder, title, curves, weight_OI, predictions_N):
        assert (folder / "result.json").exists(), "a result does not wait for its figures"
        assert weight_OI.shape == (100, 784)
        assert len(predictions_N) == 360
        picture.parent.mkdir()
        Figure().savefig(picture)
        return {"curves": picture}

    with Recorder([tmp_path], draw=draw) as recorder:
        recorder.started([config])
        recorder.finished(0, result_of(config))
    [found] = read_wandb(tmp_path)
    assert found.rows[-1]["figures/curves/_type"] == "image-file"
    assert found.exit_code == 0


def test_a_figure_that_fails_is_reported_once_and_costs_nothing(tmp_path, wandb_thread, caplog):
    configs = [config_of("wandb.mode=offline", f"seed={seed}") for seed in (0, 1)]

    def refuse(*_):
        raise RuntimeError("no fonts")

    with Recorder([tmp_path / "0", tmp_path / "1"], draw=refuse) as recorder:
        recorder.started(configs)
        for k, config in enumerate(configs):
            recorder.finished(k, result_of(config))
    assert [record.getMessage() for record in caplog.records] == ["figures: no fonts"]
    assert [read_wandb(tmp_path / str(k))[0].exit_code for k in (0, 1)] == [0, 0]


def test_wandb_failing_leaves_the_local_record_whole(tmp_path, wandb_thread, caplog):
    config = config_of("wandb.mode=offline")
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        recorder.epoch_ended(0, row_of_epoch(1))
        wandb_run.wait()
        os.kill(wandb_thread._service._proc._process.pid, signal.SIGKILL)
        end = time.monotonic() + 120
        while not recorder.wandb[0].failed and time.monotonic() < end:
            recorder.epoch_ended(0, row_of_epoch(2))
            time.sleep(0.01)
        recorder.finished(0, result_of(config, epochs=2))
    run = load_run(tmp_path)
    assert (len(run.curves), run.result["wandb_id"], run.result["outcome"]) == (2, None, "completed")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1


TRAINING = """
import sys, time
from pathlib import Path
from mlp_study.records import wandb_run
from mlp_study.records.recorder import Recorder
from tests.records.runs import config_of, row_of_epoch
with Recorder([Path(sys.argv[1])]) as recorder:
    recorder.started([config_of("wandb.mode=offline")])
    wandb_run.wait()
    print(wandb_run._thread._service._proc._process.pid, flush=True)
    for epoch in range(1, int(sys.argv[2]) + 1):
        recorder.epoch_ended(0, row_of_epoch(epoch))
        print(epoch, flush=True)
        time.sleep(0.02)
    time.sleep(600)
"""


@contextlib.contextmanager
def training(folder: Path, epochs: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that records epochs, and the process id of its W&B service."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", TRAINING, str(folder), str(epochs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ}) as process:
        yield process, int(process.stdout.readline())


@pytest.mark.slow
def test_a_killed_run_keeps_its_rows(tmp_path, wandb_thread):
    with training(tmp_path, 10_000) as (process, service):
        time.sleep(2.5)
        process.kill()
        epochs = int(process.stdout.read().split()[-1])
    kept = len(read_rows(tmp_path))
    # The last second may be missing, and this machine may be slow; a row is written before its epoch is printed.
    assert -1 <= epochs - kept < 1.5 / 0.02
    end = time.monotonic() + 120
    while Path(f"/proc/{service}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    [found] = read_wandb(tmp_path, finished=False)  # W&B's service outlives the process and writes what it has
    assert [row["epoch"] for row in found.rows] == list(range(1, len(found.rows) + 1))
    assert -1 <= epochs - len(found.rows) < 1.5 / 0.02


@pytest.mark.slow
def test_rows_survive_even_if_everything_is_killed(tmp_path, wandb_thread):
    with training(tmp_path, 50) as (process, service):
        end = time.monotonic() + 240
        while not (found := read_wandb(tmp_path, finished=False)) or len(found[0].rows) < 50:
            if time.monotonic() > end:
                break  # it has not written down what it has
            time.sleep(0.1)
        for pid in (service, process.pid):
            os.kill(pid, signal.SIGKILL)
    [found] = read_wandb(tmp_path, finished=False)
    assert found.exit_code is None
    assert [row["epoch"] for row in found.rows] == list(range(1, 51))
    assert json.dumps(found.config)
