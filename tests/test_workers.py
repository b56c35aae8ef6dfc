"""Processes that train one thing after the other: what they answer, tell, raise, and what is done when one dies."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mlp_study.errors import DataError, Interrupted
from mlp_study.runtime import workers
from mlp_study.runtime.workers import Pool, Tell, cores, threads_of


@contextlib.contextmanager
def squaring(tell: Tell) -> Iterator[Callable[[int], tuple[int, int, int]]]:
    """Answers the square, its threads and its process; 13 is a fault of the data, 666 is deadly."""
    import torch

    def train(item: int) -> tuple[int, int, int]:
        tell(f"at {item}")
        if item == 13:
            raise DataError("13 cannot be read")
        if item == 666:
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item, torch.get_num_threads(), os.getpid()

    yield train


def pool(count: int, died: Callable[[int, int | None], list[int]] | None = None, **more: Any) -> Pool[int]:
    def nobody(item: int, status: int | None) -> list[int]:
        raise AssertionError(f"{item} has killed its process: {status}")

    more = {"raise_if_asked": lambda: None, **more}
    return Pool(squaring, count, died=died or nobody, **more)


def test_each_item_is_answered_once_by_processes_that_divide_the_cores_and_tell_where_they_are():
    told: list[tuple[int, str]] = []
    answers: dict[int, tuple[int, int, int]] = {}
    pool(2, heard=lambda item, note: told.append((item, note))).run([0, 1, 2, 3, 4], answers.__setitem__)
    assert {item: answer[0] for item, answer in answers.items()} == {0: 0, 1: 1, 2: 4, 3: 9, 4: 16}
    assert {threads for _, threads, _ in answers.values()} == {max(1, cores() // 2)} == {threads_of(2)}
    assert 1 <= len({process for _, _, process in answers.values()} - {os.getpid()}) <= 2
    assert sorted(told) == [(item, f"at {item}") for item in range(5)]


@pytest.mark.slow
def test_what_a_dead_process_leaves_goes_to_a_new_one():
    deaths: list[tuple[int, int | None]] = []

    def died(item: int, status: int | None) -> list[int]:
        deaths.append((item, status))
        return [6]

    done: list[int] = []
    pool(1, died).run([2, 666, 3], lambda item, _: done.append(item))
    assert deaths == [(666, -signal.SIGKILL)]
    assert done == [2, 6, 3]


def test_a_process_that_dies_before_it_takes_its_item_is_replaced_too(monkeypatch):
    monkeypatch.setattr(workers, "_work", dies_at_once)
    deaths: list[int | None] = []

    def died(item: bytes, status: int | None) -> list[bytes]:
        deaths.append(status)
        return [item] if len(deaths) < 2 else []

    more_than_a_pipe_holds = bytes(1_000_000)
    Pool(squaring, 1, died=died, raise_if_asked=lambda: None).run([more_than_a_pipe_holds], lambda *_: None)
    assert deaths == [7, 7]


def dies_at_once(*_: object) -> None:
    os._exit(7)


def test_a_processes_error_is_the_callers():
    with pytest.raises(DataError, match="13 cannot be read"):
        pool(2).run([1, 13, 2], lambda *_: None)


def test_the_caller_can_be_stopped():
    def asked() -> None:
        raise Interrupted("stopped by SIGTERM")

    with pytest.raises(Interrupted):
        pool(1, raise_if_asked=asked).run([1, 2], lambda *_: None)
