"""What giving trials up saves: one search on the digits, the same 64 trials with and without a pruner."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Literal

SEARCH = (
    "-m hydra/sweeper=optuna hydra/sweeper/sampler=random hydra.sweeper.n_trials=64 hydra.sweeper.n_jobs=16 "
    "optimizer.lr=tag(log,interval(1e-5,10)) activation=relu,tanh,sigmoid data.scale=none,unit,standard "
    "wandb.mode=disabled probes.ends=[] save=none report=false"
)


def prepare(pruner: str, count: Literal["seconds", "epochs"]) -> tuple[Callable[[], float], Callable[[], float]]:
    """(run the search and return its seconds, or the epochs that its trials were trained; its best accuracy)."""
    from mlp_study import train
    from mlp_study.config.hydra_app import run_hydra

    best = [0.0]

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            sys.argv = ["train", *SEARCH.split(), f"hydra/sweeper/pruner={pruner}", f"sweep_dir={folder}/s"]
            start = perf_counter()
            run_hydra(train.run, "train", "")
            seconds = perf_counter() - start
            with (Path(folder) / "s" / "runs.csv").open() as file:
                rows = list(csv.DictReader(file))
        best[:] = [max(float(row["val/accuracy"]) for row in rows if row["outcome"] == "completed")]
        return seconds if count == "seconds" else sum(float(row["epochs"]) for row in rows)

    return run, lambda: best[0]
