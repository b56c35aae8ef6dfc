"""Finished runs for tests, without training, and a reader of W&B's files that knows nothing of this project."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.model.population import PopulationMLP
from mlp_study.training.results import MemberResult


def config_of(*overrides: str) -> RunConfig:
    return RunConfig.from_dict(compose(["wandb.mode=disabled", *overrides]))


def row_of_epoch(epoch: int, loss: float = 0.5) -> dict[str, float]:
    return {
        "epoch": epoch,
        "step": 50 * epoch,
        "seconds": 0.1 * epoch,
        "train/loss": loss,
        "train/accuracy": 0.9,
        "val/loss": loss + 0.1,
        "val/accuracy": 0.85,
    }


def result_of(config: RunConfig, epochs: int = 3, inputs: int = 784, classes: int = 10, **changes: Any) -> MemberResult:
    """A result as training hands it over: untrained weights, made-up curves."""
    return MemberResult(
        **{
            "config": config,
            "outcome": "completed",
            "curves": [row_of_epoch(epoch) for epoch in range(1, epochs + 1)],
            "metrics": {"test/accuracy": 0.9, "test/loss": 0.4, "val/accuracy": 0.85, "seconds": 1.5, "epochs": epochs},
            "diagnostics": {"initial": {"dead": 0.0}, "final": {"dead": 0.25}},
            "weights": PopulationMLP([config], inputs, classes).state_of(0),
            "population": {"size": 1, "index": 0},
            "predictions": torch.arange(classes).repeat(40)[:360],
            **changes,
        }
    )


@dataclass
class WandbRecord:
    """What a ``run-*.wandb`` file says.

    Attributes:
        run: the run's protobuf record (id, project, group, tags).
        config: its configuration.
        rows: its history, W&B's own underscored keys left out.
        summary: the last value of each summary key.
        exit_code: None if the run was never finished.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def leveldb_records(content: bytes) -> list[bytes]:
    """The records of a LevelDB log (its public log_format.md) after W&B's header of 7 bytes, without a torn end."""
    found, part, place = [], b"", 7
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        if kind == 0 or place + 7 + length > len(content):
            break
        part += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # FULL, LAST
            found.append(part)
            part = b""
    return found


def read_wandb(folder: Path, finished: bool = True) -> list[WandbRecord]:
    """Every W&B run in a run's folder, oldest first; W&B writes the last lines of finished ones a moment later."""
    from wandb.proto import wandb_internal_pb2 as pb

    end = time.monotonic() + 120
    while True:
        found = [_read(path, pb) for path in sorted((folder / "wandb").glob("*run-*/run-*.wandb"))]
        if not finished or time.monotonic() > end or all(record.exit_code is not None for record in found):
            return found
        time.sleep(0.02)


def _read(path: Path, pb: Any) -> WandbRecord:
    found = WandbRecord()
    for raw in leveldb_records(path.read_bytes()):
        record = pb.Record.FromString(raw)
        match record.WhichOneof("record_type"):
            case "run":
                found.run = record.run
                found.config.update(_items(record.run.config.update))
            case "config":
                found.config.update(_items(record.config.update))
            case "history":
                row = _items(record.history.item)
                found.rows.append({key: value for key, value in row.items() if not key.startswith("_")})
            case "summary":
                found.summary.update(_items(record.summary.update))
            case "exit":
                found.exit_code = record.exit.exit_code
    return found


def _items(items: Sequence[Any]) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
