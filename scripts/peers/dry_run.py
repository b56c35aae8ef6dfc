"""A sweep, and what ``dry_run`` says beforehand of the time that it will take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter
from typing import Any

from peers.mnist import root

UNITS = {"h": 3600, "min": 60, "s": 1}
GRIDS = {
    "digits": "data=digits +sweeps=activation_by_scale",
    "mnist": "data=mnist activation=relu,tanh optimizer=sgd,adam model.widths=[100] seed=range(0,4)"
    f" trainer.max_epochs=3 data.root={root()}",
}


def prepare(grid: str, *, predicted: bool) -> tuple[Callable[[], float], None]:
    """(make the plan, train it unless ``predicted``; its seconds from the plan to the end, or what the plan says)."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["-m", "mlp_study.train", "-m", *GRIDS[grid].split(), "sweep_dir=sweep"]
            command = [sys.executable, "-u", *arguments, f"dry_run={str(predicted).lower()}"]
            about: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "WANDB_MODE": "offline"}, "text": True}
            with subprocess.Popen(command, stdout=subprocess.PIPE, **about) as process:
                assert process.stdout
                plan = next((line for line in process.stdout if re.search(r"at most .*, about ", line)), "")
                began = perf_counter()
                process.stdout.read()
            if process.returncode or not plan:
                raise RuntimeError("the sweep failed")
            said = re.findall(r"(\d+) (h|min|s)\b", plan.partition("about")[2])
            return sum(int(count) * UNITS[unit] for count, unit in said) if predicted else perf_counter() - began

    return run, None
