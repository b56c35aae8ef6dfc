"""The time of a sweep before it is trained: what makes it longer, and that it is of the right size."""

from __future__ import annotations

import time

import pytest

from mlp_study.data.images import load
from mlp_study.sweep import estimates
from tests.small_runs import config
from tests.sweep.sweeps import sweep


def work(*overrides: str, steps: int = 100) -> float:
    c = config(*overrides)
    return estimates.work(c, load("digits", c.data_root), steps, 1000, 100)


def test_work_grows_with_epochs_width_and_optimizer_state():
    assert work("trainer.max_epochs=6", steps=200) == pytest.approx(2 * work(), rel=0.01)
    assert work("model.widths=[70,50]") > work()
    assert work("optimizer=adam") > work("optimizer=momentum") > work()


def test_seconds_follow_the_machine_the_workers_and_the_runs(monkeypatch):
    one = config("wandb.mode=disabled")
    monkeypatch.setattr(estimates, "slowness", lambda gpu: 1.0)
    alone = estimates.seconds(one, 100.0, 10)
    monkeypatch.setattr(estimates, "slowness", lambda gpu: 2.0)
    assert estimates.seconds(one, 100.0, 10) - alone == pytest.approx(100.0)
    assert estimates.seconds(one, 100.0, 10, workers=4, apart=True) < 0.6 * alone
    assert estimates.seconds(one, 100.0, 10, workers=4) > alone, "they divide one machine"
    assert estimates.seconds(one, 0.0, 10_000) > 50, "files take time, too"
    assert estimates.seconds(config("wandb.mode=offline"), 0.0, 10_000) > 100


def test_this_machine_is_some_machine():
    assert 0.02 < estimates.slowness(gpu=False) < 50


@pytest.mark.slow
def test_an_estimate_is_of_the_right_size(monkeypatch, tmp_path, capsys):
    """Wide of the factor of two that it is made for: other processes may be at work here."""
    grid = ("seed=range(0,64)", "model.widths=[64,64]", "data.limit=1200", "trainer.max_epochs=20")
    sweep(monkeypatch, tmp_path / "s", *grid, "dry_run=true")
    [line] = [line for line in capsys.readouterr().out.splitlines() if "at most" in line]
    words = line.split("about ")[1].split()
    estimated = int(words[0]) * (60 if words[1] == "min" else 1) - estimates.REPORT_SECONDS
    began = time.monotonic()
    sweep(monkeypatch, tmp_path / "s", *grid, "hydra.launcher.executor=process")
    trained = time.monotonic() - began
    assert trained / 5 < estimated < 5 * trained
