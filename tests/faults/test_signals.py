"""Processes that are killed, stopped or told to go, at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlp_study.runtime.signals import SIGNALS
from mlp_study.sweep.locks import held_in
from tests.faults.commands import GRID, RUNS, Server, completes, metrics, nothing_lost, said_clearly
from tests.sweep.sweeps import ROOT, results

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
    """At any moment: one line, the exit code, and what follows is the same to the bit."""
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID)
    command.wait(chance.uniform(0, TYPICAL))
    command.send(signal.Signals[name])
    assert command.wait() is not None, "it does not listen"
    said_clearly(command)
    assert command.code in (0, 75 if name == "SIGUSR1" else 130)  # 0: it came when all was trained
    if command.code != 0:
        assert command.errors[0].startswith(f"error: stopped by {name}")
    if "in epoch" in command.err:
        assert f"{len(results(folder))} of {RUNS} runs are finished" in command.err
    assert not list((folder / ".sweep" / "locks").glob("*.lock"))
    completes(server, folder, *GRID)
    assert metrics(folder) == undisturbed


ENDLESS = ("trainer.max_epochs=1000000", "wandb.mode=disabled")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("train", "SIGUSR1"),
        ("diagnose", "SIGUSR2"),
        ("reproduce", "SIGTERM"),
        ("report", "SIGINT"),
        ("status", "SIGUSR1"),
    ],
)
def test_a_command_listens_from_its_first_lines(tmp_path: Path, module: str, name: str) -> None:
    assert told_to_stop(tmp_path, module, signal.Signals[name], 0, *ENDLESS)


def test_a_signal_while_a_command_starts(tmp_path: Path, chance: random.Random) -> None:
    """Imports, the data, the first epochs."""
    name = chance.choice(["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"])
    assert told_to_stop(tmp_path, "train", signal.Signals[name], chance.uniform(0, 6), *ENDLESS)


SWALLOWED = """
import os, signal
from mlp_study.runtime.guard import guarded
def work():
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
    except BaseException:
        pass  # as an import does, and leaves half a module behind
    raise AttributeError("module has no attribute")
guarded(lambda: guarded(work))
"""


def test_an_error_that_a_swallowed_signal_leaves_behind_is_the_signals_answer() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.startswith("error: stopped by SIGUSR1")) == (75, True)


IMPORTED = """
import os, signal, sys
try:
    os.kill(os.getpid(), signal.SIGUSR1)
except BaseException as error:
    print("raised in an import:", type(error), file=sys.stderr)
"""


def test_a_signal_raises_nothing_inside_an_import(tmp_path: Path) -> None:
    """There it may meet C++ that aborts, as PyTorch's does."""
    (tmp_path / "imported.py").write_text(IMPORTED)
    work = "from mlp_study.runtime.guard import guarded; guarded(lambda: __import__('imported'))"
    run = [sys.executable, "-c", work]
    there = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=there)
    assert (done.returncode, done.stderr) == (75, "error: stopped by SIGUSR1; what was finished is recorded\n")


def told_to_stop(folder: Path, module: str, number: signal.Signals, delay: float, *arguments: str) -> bool:
    """Whether a command that gets a signal this many seconds after it began to listen says so, and no more."""
    with subprocess.Popen(
        [sys.executable, "-m", f"mlp_study.{module}", *arguments], cwd=folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        while not listens(process.pid):
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(number)
        _, err = process.communicate()
    assert err.count("\n") == 1, err
    code = 75 if number in (signal.SIGUSR1, signal.SIGUSR2) else 130
    return process.returncode == code and err.startswith(f"error: stopped by {number.name}")


def listens(pid: int) -> bool:
    """Whether a process has an answer of its own to the last of the signals; to SIGINT Python always has one."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return "SigCgt" in fields and bool(int(fields["SigCgt"], 16) >> (SIGNALS[-1] - 1) & 1)


ASKS = """
import os, signal
from mlp_study.sweep import {module} as place
real = place.{call}
def asked(*arguments, **options):
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
    except BaseException:
        {then}
    return real(*arguments, **options)
place.{call} = asked
"""


@pytest.mark.parametrize(
    ("module", "call", "then", "finished"),
    [("launch", "grouped", "raise", 0), ("launch", "grouped", "pass", 0), ("printing", "print_summary", "raise", RUNS)],
    ids=["while it plans", "swallowed by a library", "when all is trained"],
)
def test_a_signal_while_nothing_trains(
    server: Server, tmp_path: Path, module: str, call: str, then: str, finished: int, undisturbed
) -> None:
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID, inject=ASKS.format(module=module, call=call, then=then))
    assert command.wait() == 75, command.err
    said_clearly(command)
    assert command.errors[0].startswith("error: stopped by SIGUSR1")
    assert len(results(folder)) == finished
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
    locks = folder / ".sweep" / "locks"
    while not held_in(locks) and not command.ended():
        time.sleep(0.01)
    command.wait(chance.uniform(0, 1))
    workers = [held.owner.pid for held in held_in(locks)]
    for pid in [pid for pid in workers if pid != command.pid][:1]:  # at the end the parent looks for what is left
        with contextlib.suppress(ProcessLookupError):
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
        with contextlib.suppress(ProcessLookupError):
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
        assert command.wait() == 0, command.err
        assert f"{RUNS} runs: {RUNS} completed" in command.out
    completes(server, folder, *GRID)
    same_numbers(folder, undisturbed)
    if not doomed:
        sizes = [result["population"]["size"] for result in results(folder).values()]
        assert sum(1 / size for size in sizes) == pytest.approx(RUNS / 2)


def test_the_locks_of_a_dead_process_of_another_host_are_taken_over(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    command = server.sweep(folder, *GRID)
    while not (folder / ".sweep" / "runs.txt").exists() and not command.ended():
        time.sleep(0.01)
    command.send(signal.SIGKILL)
    command.wait()
    runs = (folder / ".sweep" / "runs.txt").read_text().split()
    old = time.time() - 3600
    for run in runs:
        lock = folder / ".sweep" / "locks" / f"{run}.lock"
        lock.write_text('{"machine": "node7", "pid": 4711, "started": "1", "token": "0a0b0c0d"}')
        os.utime(lock, (old, old))
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
