"""The time of a sweep before it is trained: proportions, rehearsals, what a rehearsal leaves behind."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mlp_study.data.images import load
from mlp_study.sweep import cost, processes
from mlp_study.training import rehearsal
from mlp_study.training.rehearsal import rehearsed_seconds
from tests.small_runs import config, tiny_images, trained


def part(count: int, *overrides: str, members: int = 2, work: float = 10.0) -> cost.Part:
    configs = [dataclasses.replace(config(*overrides), seed=seed) for seed in range(members)]
    return cost.Part(configs, tiny_images(), work, count)


def work(*overrides: str, steps: int = 100) -> float:
    c = config(*overrides)
    return cost.work(c, load("digits", c.data_root), steps, 1000, 100)


def test_work_grows_with_epochs_width_and_optimizer_state():
    assert work("trainer.max_epochs=6", steps=200) == pytest.approx(2 * work(), rel=0.01)
    assert work("model.widths=[70,50]") > work()
    assert work("optimizer=adam") > work("optimizer=momentum") > work()


def test_what_is_rehearsed_counts_for_all_of_its_kind_and_scales_the_rest(monkeypatch):
    asked: list[cost.Part] = []

    def rehearsed(p: cost.Part, threads: int | None) -> float:
        asked.append(p)
        return 30.0

    monkeypatch.setattr(cost, "_rehearsed", rehearsed)
    monkeypatch.setattr(cost, "RECORD_SECONDS", 0.0)
    monkeypatch.setattr(cost, "TRACKING_SECONDS", 0.0)
    alike = [part(3), part(1), part(1, "optimizer=adam", work=5.0)]
    assert cost.seconds(alike, rehearsal=60.0) == pytest.approx(4 * 30 + 30 + cost.REPORT_SECONDS)
    assert len(asked) == 2  # once a kind
    ticks = iter(range(0, 1000, 7))
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(ticks))
    assert cost.seconds(alike, rehearsal=10.0) == pytest.approx(3 * 45 + cost.REPORT_SECONDS)  # only the larger kind
    two = cost.seconds(alike, workers=2, rehearsal=10.0)
    assert two == pytest.approx(cost.WORKER_SECONDS + 3 * 45 / 2 + cost.REPORT_SECONDS)


def test_a_short_sweep_is_estimated_without_a_rehearsal(monkeypatch):
    monkeypatch.setattr(cost, "_rehearsed", lambda *_: pytest.fail("it takes longer than it is worth"))
    assert cost.seconds([part(1)]) > 10.0


def test_what_cannot_be_rehearsed_is_taken_by_its_work(monkeypatch):
    def no_memory(*_: object) -> float:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(rehearsal, "rehearsed_seconds", no_memory)
    assert cost.seconds([part(1)], rehearsal=60.0) == pytest.approx(10.0, rel=0.5)


@pytest.mark.parametrize(
    "overrides",
    [(), ("data.batch_size=full",), ("model.norm=batch",), ("model.dropout=0.3",), ("trainer.precision=64",)],
)
def test_a_rehearsal_takes_time_and_changes_nothing(overrides):
    configs = [config(f"seed={seed}", "probes.epochs=[dead]", *overrides) for seed in range(3)]
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    before = trained(*configs)
    assert 0 < rehearsed_seconds(configs, tiny_images()) < 60
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    for one, other in zip(before, trained(*configs), strict=True):
        assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_a_rehearsal_for_a_process_of_one_thread_has_one_thread(monkeypatch):
    seen: list[int] = []
    monkeypatch.setattr(rehearsal, "rehearsed_seconds", lambda *_: seen.append(torch.get_num_threads()) or 1.0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cost.seconds([part(1)], workers=2, rehearsal=60.0, threads=1)
        cost.seconds([part(1)], rehearsal=60.0)
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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
