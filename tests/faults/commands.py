"""Small sweeps as commands that a fault can hit, and what must hold after each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.sweep.sweeps import ROOT, SMALL, results, stamps

GRID = ("activation=relu,tanh", "seed=range(0,3)", "max_members=2", "trainer.max_epochs=60", "report=false")
RUNS = 6


@dataclass
class Command:
    """A command in a child of the server.

    Attributes:
        code: its exit code once it has ended, negative for a signal.
    """

    server: Server
    pid: int
    out_file: Path
    err_file: Path
    code: int | None = None

    def wait(self, seconds: float = 400.0) -> int | None:
        """Its exit code; None if it still runs after that time."""
        if self.code is None:
            self.code = self.server.ask({"wait": self.pid, "seconds": seconds})
        return self.code

    def ended(self) -> bool:
        return self.wait(0) is not None

    def send(self, number: signal.Signals) -> None:
        """Nothing happens if it has ended."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def out(self) -> str:
        return self.out_file.read_text()

    @property
    def err(self) -> str:
        return self.err_file.read_text()

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error:")]


@dataclass
class Server:
    """The process that has imported everything; see ``tests/faults/server.py``."""

    place: Path
    count: int = 0
    living: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "HYDRA_"))}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HOME": str(self.place)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.read() == "ready"

    def read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, order: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.read()

    def start(self, argv: list[str], **order: Any) -> Command:
        self.count += 1
        out, err = (self.place / f"{self.count}.{name}" for name in ("out", "err"))
        order = {"argv": argv, "cwd": str(self.place), "out": str(out), "err": str(err), **order}
        command = Command(self, self.ask({"start": order}), out, err)
        self.living.append(command)
        return command

    def sweep(self, folder: Path, *overrides: str, **order: Any) -> Command:
        return self.start(["-m", *SMALL, f"sweep_dir={folder}", *overrides], **order)

    def close(self) -> None:
        for command in self.living:
            if not command.ended():
                command.send(signal.SIGCONT)
                command.send(signal.SIGKILL)
                command.wait(10)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=30)


def said_clearly(command: Command) -> None:
    """It ended well, or in one clear line without a traceback."""
    assert command.code is not None
    assert "Traceback" not in command.err, command.err
    if command.code != 0:
        assert len(command.errors) == 1, (command.code, command.err)


@contextlib.contextmanager
def nothing_lost(folder: Path) -> Iterator[None]:
    """What was finished before the block stays as it was in it."""
    before = stamps(folder)
    yield
    after = stamps(folder)
    assert {run: after.get(run) for run in before} == before


def metrics(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Each run's numbers."""
    keys = ("outcome", "epochs", "train/loss", "val/loss", "test/accuracy")
    return {run: tuple(result[key] for key in keys) for run, result in results(folder).items()}


def completes(server: Server, folder: Path, *overrides: str, runs: int = RUNS) -> Command:
    """The next command trains what is missing, and only that."""
    with nothing_lost(folder):
        command = server.sweep(folder, *overrides)
        assert command.wait() == 0, command.err
    assert len(results(folder)) == runs, command.out
    table = (folder / "runs.csv").read_text().splitlines()
    assert len(table) == 1 + runs
    left = [p for p in (folder / ".sweep").rglob("*") if p.is_file() and p.name not in ("lock", "runs.txt")]
    assert left == []
    return command
