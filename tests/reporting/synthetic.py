"""Folders of runs that were never trained: synthetic numbers, for tests of the report only."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

from mlp_study.records.run_folder import write_run
from mlp_study.training.results import MemberResult
from tests.small_runs import config

ACTIVATIONS = ("relu", "sigmoid", "tanh", "elu", "gelu")
SCALES = ("none", "unit", "symmetric", "standard")


def write_synthetic(
    top: Path,
    runs: int = 40,
    epochs: int = 4,
    seeds: int = 2,
    overrides: tuple[str, ...] = (),
    data: str = "digits",
    outcome: str = "completed",
) -> Path:
    """``runs`` folders, activation x scale x learning rate x seeds; relu on raw pixels has dead units."""
    source = random.Random(runs)
    rates = [
        round(0.001 * 1.3**i, 6) for i in range(max(1, math.ceil(runs / (len(ACTIVATIONS) * len(SCALES) * seeds))))
    ]
    cells = itertools.product(rates, ACTIVATIONS, SCALES, range(seeds))
    for i, (lr, activation, scale, seed) in enumerate(itertools.islice(cells, runs)):
        settings = [
            f"data={data}",
            f"activation={activation}",
            f"data.scale={scale}",
            f"optimizer.lr={lr}",
            f"seed={seed}",
        ]
        dead = activation == "relu" and scale == "none"
        level = 0.1 if dead else 0.9 + 0.01 * ACTIVATIONS.index(activation) + source.gauss(0, 0.004)
        curves = [_epoch(e, level, epochs, float(dead)) for e in range(1, epochs + 1)]
        ends = {key: value for key, value in curves[-1].items() if "/" in key}
        metrics = {
            **ends,
            "test/accuracy": level,
            "test/loss": 2.5 / epochs,
            "seconds": 0.1 * epochs,
            "epochs": float(epochs),
        }
        result = MemberResult(
            config=config(*settings, *overrides),
            outcome="diverged" if activation == "elu" and scale == "none" else outcome,
            curves=curves,
            metrics=metrics,
            diagnostics={"initial": {"dead": 0.0, "stability_index": lr * 300}, "final": {"dead": float(dead)}},
            weights={},
            population={"size": runs, "index": i},
            cause=None,
            device="cpu",
            predictions=None,
        )
        write_run(top / f"{i:05d}", result, overrides=settings, save_model=False)
    return top


def _epoch(e: int, level: float, epochs: int, dead: float) -> dict[str, float]:
    accuracy = level * e / epochs
    row = {"epoch": e, "step": 10 * e, "seconds": 0.1 * e, "train/loss": 2.3 / e, "train/accuracy": accuracy}
    return {**row, "val/loss": 2.4 / e, "val/accuracy": accuracy - 0.01, "dead": dead}
