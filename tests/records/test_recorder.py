"""What the recorder leaves behind when all goes well, when it is interrupted, and when it is killed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from mlp_study.records import recorder as module
from mlp_study.records import run_folder
from mlp_study.records.recorder import Recorder
from mlp_study.records.run_folder import load_run, read_rows
from mlp_study.runtime.files import WriteError
from tests.records.runs import config_of, read_wandb, result_of, row_of_epoch


@pytest.fixture
def every_epoch(monkeypatch):
    """Curves are written after every epoch instead of every second."""
    monkeypatch.setattr(module, "CURVES_EVERY", 0.0)
    monkeypatch.setattr(module, "CURVES_SHARE", 0)


def test_each_member_has_its_whole_record(tmp_path, tracker):
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


def test_a_large_population_is_recorded_as_a_small_one(tmp_path, tracker, monkeypatch):
    monkeypatch.setattr(module, "LIVE_WANDB", 1)
    configs = [config_of("wandb.mode=offline", f"seed={seed}") for seed in (0, 1)]
    with Recorder([tmp_path / "0", tmp_path / "1"]) as recorder:
        recorder.started(configs)
        for k, config in enumerate(configs):
            recorder.epoch_ended(k, row_of_epoch(1))
            recorder.finished(k, result_of(config, epochs=1))
    assert [len(read_wandb(tmp_path / str(k))[0].rows) for k in (0, 1)] == [1, 1]


def test_rows_that_were_not_heard_reach_wandb_at_the_end(tmp_path, tracker):
    config = config_of("wandb.mode=offline")
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        recorder.epoch_ended(0, row_of_epoch(1))
        recorder.finished(0, result_of(config, epochs=3))
    assert [row["epoch"] for row in read_wandb(tmp_path)[0].rows] == [1, 2, 3]


def test_ctrl_c_leaves_the_curves_so_far_and_no_result(tmp_path, tracker):
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


class Drawing:
    """Stands in for the drawing processes: done later, at once with an error, or never asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.futures = error, []

    def __call__(self, folder, title, curves, weight_OI, predictions_N):
        assert weight_OI.shape == (100, 784)
        assert len(predictions_N) == 360
        future = Future()
        if self.error:
            future.set_exception(self.error)
        self.futures.append(future)
        return future


def test_figures_reach_wandb_before_its_run_ends(tmp_path, tracker):
    from matplotlib.figure import Figure

    config, drawing, picture = config_of("wandb.mode=offline"), Drawing(), tmp_path / "figures" / "curves.png"
    with Recorder([tmp_path], draw=drawing) as recorder:
        recorder.started([config])
        recorder.finished(0, result_of(config))
        assert (tmp_path / "result.json").exists()  # a result does not wait for its figures
        picture.parent.mkdir()
        Figure().savefig(picture)
        drawing.futures[0].set_result({"curves": picture})
    [found] = read_wandb(tmp_path)
    assert found.rows[-1]["figures/curves/_type"] == "image-file"
    assert found.exit_code == 0


def test_a_figure_that_fails_is_reported_once_and_costs_nothing(tmp_path, tracker, caplog):
    configs = [config_of("wandb.mode=offline", f"seed={seed}") for seed in (0, 1)]
    with Recorder([tmp_path / "0", tmp_path / "1"], draw=Drawing(RuntimeError("no fonts"))) as recorder:
        recorder.started(configs)
        for k, config in enumerate(configs):
            recorder.finished(k, result_of(config))
    assert [record.getMessage() for record in caplog.records] == ["figures: no fonts"]
    assert [read_wandb(tmp_path / str(k))[0].exit_code for k in (0, 1)] == [0, 0]


def test_wandb_failing_leaves_the_local_record_whole(tmp_path, own_tracker, caplog):
    config = config_of("wandb.mode=offline")
    with Recorder([tmp_path]) as recorder:
        recorder.started([config])
        recorder.epoch_ended(0, row_of_epoch(1))
        os.kill(own_tracker.pid(), signal.SIGKILL)
        end = time.monotonic() + 120
        while not recorder.wandb[0].failed and time.monotonic() < end:
            time.sleep(0.01)
        recorder.epoch_ended(0, row_of_epoch(2))
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
folder = Path(sys.argv[1])
with Recorder([folder]) as recorder:
    recorder.started([config_of("wandb.mode=offline")])
    print(tracking._tracker.pid(), flush=True)
    sent = 0
    for epoch in range(1, int(sys.argv[2]) + 1):
        recorder.epoch_ended(0, row_of_epoch(epoch))
        sent = epoch - 1 if tracking._tracker._companion._messages.empty() else sent  # all, but for the one on its way
        print(sent, epoch, flush=True)
        time.sleep(0.02)
    time.sleep(600)
"""


def killed_training(folder: Path, seconds: float) -> tuple[int, int, int]:
    """Of a training that is killed after some seconds: epochs sent to its companion, epochs printed, the companion."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", TRAINING, str(folder), "10000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ}) as process:
        companion = int(process.stdout.readline())
        while not list(folder.glob("wandb/*/*.wandb")):
            time.sleep(0.02)
        time.sleep(seconds)
        process.kill()
        sent, epochs = map(int, process.stdout.read().split()[-2:])
        return sent, epochs, companion


@pytest.mark.slow
def test_a_killed_run_keeps_its_rows(tmp_path, own_tracker):
    sent, epochs, companion = killed_training(tmp_path, 2.5)
    kept = len(read_rows(tmp_path))
    # The last second may be missing, and this machine may be slow; a row is written before its epoch is printed.
    assert -1 <= epochs - kept < 1.5 / 0.02
    end = time.monotonic() + 120
    while Path(f"/proc/{companion}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    [found] = read_wandb(tmp_path)  # the companion outlives its parent by what it takes to write everything down
    assert [row["epoch"] for row in found.rows] == list(range(1, len(found.rows) + 1))
    assert 0 < sent <= len(found.rows) <= epochs + 1  # the last may have been killed before it was printed
    assert found.exit_code == 255


@pytest.mark.slow
def test_rows_survive_even_if_everything_is_killed(tmp_path, own_tracker):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", TRAINING, str(tmp_path), "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        companion = int(process.stdout.readline())
        end = time.monotonic() + 240
        while not (found := read_wandb(tmp_path, finished=False)) or len(found[0].rows) < 50:
            if time.monotonic() > end:
                break  # it has not written down what it has
            time.sleep(0.1)
        service = subprocess.run(["pgrep", "-P", str(companion)], capture_output=True, text=True, check=True).stdout
        for pid in (int(service), companion, process.pid):
            os.kill(pid, signal.SIGKILL)
    [found] = read_wandb(tmp_path, finished=False)
    assert found.exit_code is None
    assert [row["epoch"] for row in found.rows] == list(range(1, 51))
    assert json.dumps(found.config)
