"""Interrupted and resumed training equals an undisturbed one, bit by bit; a bad checkpoint is one clear line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from mlp_study.config.schema import RunConfig
from mlp_study.errors import DataError, Interrupted, Preempted
from mlp_study.training import callbacks
from mlp_study.training.results import Listener, MemberResult, Metrics
from tests.small_runs import config, numbers, trained


class StopsAfter(Listener):
    """Sends this process a signal when the first member has ended an epoch, as Ctrl-C does."""

    def __init__(self, epoch: int, number: signal.Signals = signal.SIGINT) -> None:
        self.epoch, self.number = epoch, number

    def epoch_ended(self, k: int, row: Metrics) -> None:
        if row["epoch"] == self.epoch:
            self.epoch = -1
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def _checkpoints_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "CHECKPOINT_SHARE", 0)


def interrupted_after(epoch: int, path: Path, *configs: RunConfig, **more: Any) -> str:
    with pytest.raises(Interrupted) as stop:
        trained(*configs, listener=StopsAfter(epoch, more.pop("number", signal.SIGINT)), checkpoint=path, **more)
    return str(stop.value)


def assert_same(found: list[MemberResult], expected: list[MemberResult]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert numbers(a) == numbers(b)


RICH = ("optimizer=adam", "schedule=cosine", "model.dropout=0.3", "trainer.max_epochs=6")


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_a_resumed_run_equals_an_undisturbed_one(epoch: int, norm: str, tmp_path: Path) -> None:
    c = config(*RICH, f"model.norm={norm}", "activation=prelu", "seed=4", "probes.steps=[2,40]")
    path = tmp_path / "checkpoint.safetensors"
    message = interrupted_after(epoch, path, c)
    assert message == f"stopped by SIGINT in epoch {epoch + 1}; what was finished is recorded"
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing half-written is left"
    assert_same(trained(c, checkpoint=path, resume_from=path), trained(c))


def test_validations_fall_on_the_same_epochs_after_a_resume(tmp_path: Path) -> None:
    c = config(*RICH, "trainer.validate_every=2", "early_stopping.patience=1", "early_stopping.min_delta=0.5")
    path = tmp_path / "c"
    interrupted_after(3, path, c)
    [found] = trained(c, resume_from=path)
    assert [row["epoch"] for row in found.curves if "val/loss" in row] == [2, 4]
    assert found.outcome == "early_stopped", "the epochs without improvement before the interruption count"
    assert_same([found], trained(c))


def test_an_interruption_of_a_mixed_population_with_ended_members(tmp_path: Path) -> None:
    """Before and after compaction; a member that has diverged, one that stopped early, several streams."""
    short = ["early_stopping.patience=1", "early_stopping.min_delta=100"]
    configs = [
        config(*RICH, "seed=1"),
        config(*RICH, "optimizer.lr=0.01", *short),
        config(*RICH, "optimizer=sgd", "optimizer.lr=1e30", "data.scale=none"),
        config(*RICH, "optimizer=momentum", "activation=tanh", "data.scale=standard", "seed=2"),
        config(*RICH, *short, "seed=3"),
        config(*RICH, "loss=mse", *short),
    ]
    expected = trained(*configs)
    assert [r.outcome for r in expected].count("early_stopped") == 3
    assert expected[2].outcome == "diverged"
    for epoch in (1, 2, 4):  # one diverged; three more have just ended; compacted since long
        path = tmp_path / f"after {epoch}"
        interrupted_after(epoch, path, *configs)
        assert_same(trained(*configs, resume_from=path), expected)


class StopsAtStep(Listener):
    """Sends this process a signal at a logged step, within an epoch."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        self.step, self.number = step, number

    def steps_logged(self, k: int, rows: list[Metrics]) -> None:
        if k == 0 and any(row["step"] == self.step for row in rows):
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("step", "number"),
    [(1, "SIGTERM"), (3, "SIGUSR1"), (7, "SIGUSR2"), (8, "SIGTERM"), (24, "SIGUSR1"), (35, "SIGUSR2")],
)
def test_a_signal_within_an_epoch_loses_no_step(
    step: int, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven steps an epoch, a block each; one member diverges on the way, one stops after the third epoch."""
    monkeypatch.setattr("mlp_study.training.feed.BLOCK_STEPS", 1)
    watched = (*RICH, "trainer.log_every_n_steps=1", "probes.every=2")
    configs = [
        config(*watched, "seed=1"),
        config(*watched, "optimizer=sgd", "optimizer.lr=1e30", "data.scale=none"),
        config(*watched, "model.dropout=0.1", "early_stopping.patience=2", "early_stopping.min_delta=100"),
    ]
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Interrupted, match=number) as stop:
        trained(*configs, listener=StopsAtStep(step, signal.Signals[number]), checkpoint=path)
    assert isinstance(stop.value, Preempted) == number.startswith("SIGUSR")
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["story"])["step_count"] == step
    assert_same(trained(*configs, resume_from=path), trained(*configs))


def test_sigterm_stops_as_well(tmp_path: Path) -> None:
    message = interrupted_after(2, tmp_path / "c", config(*RICH), number=signal.SIGTERM)
    assert message.startswith("stopped by SIGTERM in epoch 3")


def test_the_handlers_of_signals_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    interrupted_after(1, tmp_path / "c", config(*RICH))
    trained(config())
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_after_the_last_block_reaches_who_listened_before() -> None:
    """A sweep has more to train: the run that has just ended keeps its result, and the sweep hears of the signal."""
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        [result] = trained(config(), listener=StopsAfter(3))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.outcome == "completed"
    assert heard == [signal.SIGINT]


def test_a_checkpoint_of_other_runs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    interrupted_after(2, path, config(*RICH))
    for other in ([config(*RICH, "seed=1")], [config(*RICH, "trainer.max_epochs=2")], [config(*RICH)] * 2):
        with pytest.raises(DataError, match="belongs to other runs than the ones asked for; delete it to start again"):
            trained(*other, resume_from=path)
    elsewhere = config(*RICH, "wandb.mode=offline", "trainer.log_every_n_steps=3", "trainer.threads=1")
    assert trained(elsewhere, resume_from=path)[0].outcome == "completed", "the same run, watched differently"


def damages(path: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    return {
        "empty": b"",
        "cut short": whole[: len(whole) // 2],
        "cut in its header": whole[:20],
        "no such format": b"PK\x03\x04" + bytes(200),
        "header flipped": whole[:9] + b"\xff" + whole[10:],
        "half overwritten": bytes(500) + whole[500:],
    }


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    interrupted_after(2, path, config(*RICH))
    for what, content in damages(path).items():
        path.write_bytes(content)
        with pytest.raises(DataError) as error:
            trained(config(*RICH), resume_from=path)
        assert str(error.value).startswith(f"the checkpoint {path} cannot be read"), what
        assert str(error.value).endswith("delete it to start again")
        assert "\n" not in str(error.value)
    path.unlink()
    interrupted_after(2, path, config(*RICH))
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 0x40  # a number's, which leaves a file that can be read
    path.write_bytes(flipped)
    with pytest.raises(DataError, match="is damaged: its numbers have changed; delete it to start again"):
        trained(config(*RICH), resume_from=path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        trained(config(*RICH), resume_from=path)


def test_a_checkpoint_that_lacks_a_tensor_or_its_story_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    interrupted_after(2, path, config(*RICH))
    with safe_open(path, framework="pt") as file:
        story, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    lacking = {name: tensor for name, tensor in tensors.items() if name != "model.weights.0"}
    short = {**tensors, "model.weights.0": tensors["model.weights.0"][:, :2].contiguous()}
    told_less = {"story": json.dumps({k: v for k, v in json.loads(story["story"]).items() if k != "live"})}
    for content, about in ((lacking, story), (short, story), (tensors, told_less), (tensors, {"story": "[]"})):
        save_file(content, path, metadata=about)
        with pytest.raises(DataError, match="delete it to start again"):
            trained(config(*RICH), resume_from=path)


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [result] = trained(config(*RICH), checkpoint=tmp_path / "no such folder" / "checkpoint")
    assert result.outcome == "completed"
    [warning] = [r.getMessage() for r in caplog.records]
    assert "no such folder/checkpoint cannot be written" in warning


def test_checkpoints_cost_little(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By a clock that ticks when it is looked at, twice for each writing."""
    written = []
    monkeypatch.setattr(callbacks, "CHECKPOINT_SHARE", 50)
    clock = iter(range(100_000))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock) / 2)
    monkeypatch.setattr(callbacks, "write_checkpoint", lambda path, module: written.append(module.epochs_done))
    c = config("trainer.max_epochs=120", "probes.epochs=[]", "data.batch_size=full")
    trained(c, checkpoint=tmp_path / "c")
    assert 1 < len(written) <= 10
    assert 120 not in written, "the end needs none"
