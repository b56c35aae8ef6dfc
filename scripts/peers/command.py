"""A whole command in a fresh interpreter and an empty folder: what a user waits for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from time import perf_counter


def prepare(arguments: list[str]) -> tuple[Callable[[], float], None]:
    """(run ``python ARGUMENTS`` and return its seconds, no accuracy); raises CalledProcessError if it fails."""
    environment = {**os.environ, "WANDB_MODE": "offline"}

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = perf_counter()
            subprocess.run(
                [sys.executable, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
            )
            return perf_counter() - start

    return run, None
