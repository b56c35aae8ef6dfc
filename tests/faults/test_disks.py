"""Disks that are full or read-only at any moment, and files that are cut short or damaged."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.commands import GRID, RUNS, Server, completes, metrics, nothing_lost, said_clearly
from tests.sweep.sweeps import results

pytestmark = pytest.mark.slow

WHOLE = 1_700_000  # bytes that the sweep of ``GRID`` takes at most


@pytest.mark.repetitions(2, 3)
def test_a_disk_that_is_full_at_any_write(server: Server, small_disk: Path, chance: random.Random, undisturbed) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    room = int(WHOLE * chance.random() ** 2)
    ballast = small_disk / "ballast"
    folder = small_disk / "s"
    free = shutil.disk_usage(small_disk).free
    ballast.write_bytes(bytes(max(0, free - room)))
    with nothing_lost(folder):
        command = server.sweep(folder, *GRID)
        assert command.wait() is not None
    said_clearly(command)
    if command.code != 0:
        assert "the disk is full" in command.errors[0]
    ballast.unlink()
    completes(server, folder, *GRID)
    assert metrics(folder).keys() == undisturbed.keys()


@pytest.mark.repetitions(1, 3)
def test_a_disk_that_becomes_read_only(server: Server, small_disk: Path, chance: random.Random) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    folder = small_disk / "s"
    command = server.sweep(folder, *GRID)
    end = time.monotonic() + chance.uniform(0.2, 3)
    read_only = ["mount", "-o", "remount,ro", str(small_disk)]
    while not command.ended():
        # Refused while a file is open for writing; then a moment later.
        if time.monotonic() > end and subprocess.run(read_only, capture_output=True, check=False).returncode == 0:
            break
        time.sleep(0.01)
    assert command.wait() is not None
    said_clearly(command)
    if command.code != 0:
        assert "read-only" in command.errors[0]
    again = server.sweep(folder, *GRID)
    again.wait()
    said_clearly(again)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    completes(server, folder, *GRID)


@pytest.fixture(scope="module")
def interrupted(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep with finished runs, a checkpoint, and every kind of file, of which each test takes a copy."""
    folder = tmp_path_factory.mktemp("interrupted") / "s"
    assert server.sweep(folder, *GRID, "shard=0/3").wait() == 0
    command = server.sweep(folder, *GRID, inject=STOPS_AT_ITS_FIRST_CHECKPOINT)
    assert command.wait() == 130, command.err
    assert list((folder / ".sweep" / "checkpoints").glob("*.safetensors"))
    assert 2 <= len(results(folder)) < RUNS
    return folder


STOPS_AT_ITS_FIRST_CHECKPOINT = """
import os, signal
from mlp_study.training import callbacks
write, callbacks.CHECKPOINT_SHARE = callbacks.write_checkpoint, 0
def stopping(path, module):
    write(path, module)
    os.kill(os.getpid(), signal.SIGTERM)
callbacks.write_checkpoint = stopping
"""
KINDS = (
    *("*/result.json", "*/curves.csv", "*/model.safetensors", "*/.hydra/config.yaml", "*/.hydra/overrides.yaml"),
    *("*/train.log", "sweep.json", "runs.csv", "runs.parquet", "multirun.yaml"),
    *(".sweep/runs.txt", ".sweep/checkpoints/*.safetensors"),
)


def damage(path: Path, chance: random.Random) -> None:
    """Cut at a tenth of its length, or some bytes flipped."""
    content = bytearray(path.read_bytes())
    if chance.random() < 0.5:
        content = content[: len(content) * chance.randrange(10) // 10]
    for _ in range(3 if content else 0):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


@pytest.mark.repetitions(3, 1)
def test_a_damaged_file(server: Server, interrupted: Path, tmp_path: Path, seed: int, chance: random.Random) -> None:
    """One clear line at most; the others stay, and without the file, or with retry_failed, all is well again."""
    folder = tmp_path / "s"
    shutil.copytree(interrupted, folder)
    found = sorted(folder.glob(KINDS[seed % len(KINDS)]))
    path = chance.choice(found)
    if path.name == "result.json":
        damaged_run = path.parent.name
        damage(path, chance)
        before = {run: r for run, r in _readable(folder).items() if run != damaged_run}
    else:
        damage(path, chance)
        before = _readable(folder)
    command = server.sweep(folder, *GRID)
    assert command.wait() is not None
    said_clearly(command)
    after = _readable(folder)
    assert {run: after.get(run) for run in before} == before
    if command.code != 0:
        assert str(path) in command.errors[0] or path.name == "result.json", command.err
        if path.name != "result.json":
            path.unlink()
    again = server.sweep(folder, *GRID, "retry_failed=true")
    assert again.wait() == 0, again.err
    assert len(_readable(folder)) == RUNS


def _readable(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/result.json")}


def test_a_checkpoint_of_another_population(server: Server, interrupted: Path, tmp_path: Path, undisturbed) -> None:
    folder, other = tmp_path / "s", tmp_path / "other"
    shutil.copytree(interrupted, folder)
    assert server.sweep(other, *GRID, "data.scale=none", inject=STOPS_AT_ITS_FIRST_CHECKPOINT).wait() == 130
    foreign = next((other / ".sweep").rglob("*.safetensors"))
    for path in (folder / ".sweep").rglob("*.safetensors"):
        shutil.copy(foreign, path)
    command = server.sweep(folder, *GRID)
    assert command.wait() == 0, command.err
    assert metrics(folder).keys() == undisturbed.keys()
    assert {numbers[0] for numbers in metrics(folder).values()} == {"completed"}
    assert not list((folder / ".sweep" / "locks").glob("*.lock"))
