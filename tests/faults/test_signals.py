"""Processes that are killed, stopped or told to go, at random moments."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.commands import GRID, RUNS, Server, completes, metrics, nothing_lost, said_clearly
from tests.sweep.sweeps import results

pytestmark = pytest.mark.slow

TYPICAL = 3.0  # seconds that the sweep takes: the moments are spread over them


def same_numbers(folder: Path, expected: dict[str, tuple[object, ...]]) -> None:
    """To rounding: a population that lost members trains on in other company."""
    found = metrics(folder)
    assert found.keys() == expected.keys()
    for run, numbers in expected.items():
        assert found[run][:2] == numbers[:2]
        assert found[run][2:] == pytest.approx(numbers[2:], rel=1e-3, abs=0.02)


def test_sigkill_of_the_sweep(server: Server, tmp_path: Path, chance: random.Random, undisturbed) -> None:
    folder = tmp_path / "s"
    for _ in range(chance.choice([1, 1, 2])):
        with nothing_lost(folder):
            command = server.sweep(folder, *GRID)
            command.wait(chance.uniform(0, TYPICAL))
            command.send(signal.SIGKILL)
            command.wait()
    completes(server, folder, *GRID)
    same_numbers(folder, undisturbed)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.repetitions(1, 3)
def test_a_polite_signal(server: Server, tmp_path: Path, chance: random.Random, name: str, undisturbed) -> None:
    """Answered within seconds, in training in one line; what follows is the same to the bit."""
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID)
    while not folder.exists() and not command.ended():  # before, nothing is there to be lost
        time.sleep(0.01)
    command.wait(chance.uniform(0.2, TYPICAL))
    command.send(signal.Signals[name])
    assert command.wait(20) is not None, "it does not listen"
    if command.code != -signal.Signals[name]:  # while nothing trains, the signal ends the process as it always does
        said_clearly(command)
    if command.code != 0 and "what was finished is recorded" in command.err:
        assert command.code == (75 if name == "SIGUSR1" else 130)
        assert f"{len(results(folder))} of {RUNS} runs are finished" in command.err
        assert not list((folder / ".sweep" / "claims").glob("*.json"))
    completes(server, folder, *GRID)
    assert metrics(folder) == undisturbed


@pytest.mark.repetitions(1, 10)
def test_sigstop_for_a_while(server: Server, tmp_path: Path, chance: random.Random, undisturbed) -> None:
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID)
    command.wait(chance.uniform(0.2, TYPICAL))
    command.send(signal.SIGSTOP)
    other = server.sweep(folder, *GRID, "seed=range(0,1)")  # a second command meanwhile: it waits for what is claimed
    other.wait(2 if chance.random() < 0.9 else 60)
    command.send(signal.SIGCONT)
    assert command.wait() == 0, command.err
    assert other.wait() == 0, other.err
    assert metrics(folder) == undisturbed


@pytest.mark.repetitions(1, 20)
def test_sigkill_of_a_worker(server: Server, tmp_path: Path, chance: random.Random, undisturbed) -> None:
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID, "hydra.launcher.executor=processes", "hydra.launcher.workers=2")
    claims = folder / ".sweep" / "claims"
    while not list(claims.glob("*.json")) and not command.ended():
        time.sleep(0.01)
    command.wait(chance.uniform(0, 1))
    workers = [int(path.name.rsplit("-", 2)[1]) for path in claims.glob("*.json")]
    for pid in workers[:1]:
        os.kill(pid, signal.SIGKILL)
    assert command.wait() == 0, command.err
    assert len(results(folder)) == RUNS
    same_numbers(folder, undisturbed)


@pytest.mark.repetitions(1, 5)
def test_sigkill_of_wandbs_process(server: Server, tmp_path: Path, chance: random.Random, undisturbed) -> None:
    """The record is whole without W&B, and one line says so."""
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID, "wandb.mode=offline")
    killed = 0
    command.wait(chance.uniform(0, TYPICAL))
    for pid in children(command.pid):
        os.kill(pid, signal.SIGKILL)
        killed += 1
    assert command.wait() == 0, command.err
    assert command.out.count("The local record goes on") <= 2 * killed
    assert metrics(folder) == undisturbed


def children(pid: int) -> list[int]:
    """Processes that this one has started."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.repetitions(1, 10)
def test_processes_on_one_folder(
    server: Server, tmp_path: Path, chance: random.Random, count: int, undisturbed
) -> None:
    """Some are killed; the others take over, and nothing is trained twice by the living."""
    folder = tmp_path / "s"
    commands = [server.sweep(folder, *GRID) for _ in range(count)]
    doomed = commands[: count // 4]
    time.sleep(chance.uniform(0, TYPICAL))
    for command in doomed:
        command.send(signal.SIGKILL)
    for command in commands[len(doomed) :]:
        assert command.wait(240) == 0, command.err
        assert f"{RUNS} runs: {RUNS} completed" in command.out
    completes(server, folder, *GRID)
    same_numbers(folder, undisturbed)
    if not doomed:
        sizes = [result["population"]["size"] for result in results(folder).values()]
        assert sum(1 / size for size in sizes) == pytest.approx(RUNS / 2)


def test_a_claim_of_a_dead_process_of_another_host_is_taken_over(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID)
    while not (folder / ".sweep" / "runs.txt").exists() and not command.ended():
        time.sleep(0.01)
    command.send(signal.SIGKILL)
    command.wait()
    runs = (folder / ".sweep" / "runs.txt").read_text().split()
    claim = folder / ".sweep" / "claims" / "node7-4711-0a0b0c0d.json"
    claim.write_text(f'{{"machine": "node7", "pid": 4711, "started": "1", "runs": {runs!r}}}'.replace("'", '"'))
    old = time.time() - 3600
    os.utime(claim, (old, old))
    completes(server, folder, *GRID)


CLOCK = """
import time
real, calls = time.time, [0]
def backwards():
    calls[0] += 1
    return real() - 3600 * calls[0]
time.time = backwards
"""


def test_a_clock_that_goes_backwards(server: Server, tmp_path: Path, undisturbed) -> None:
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID, inject=CLOCK)
    command.wait(1)
    command.send(signal.SIGTERM)
    command.wait()
    command = server.sweep(folder, *GRID, inject=CLOCK)
    assert command.wait() == 0, command.err
    assert metrics(folder) == undisturbed
    status = server.start([str(folder)], module="status", inject=CLOCK)
    assert status.wait() == 0, status.err
    assert f"{RUNS} of {RUNS} runs are finished" in status.out
