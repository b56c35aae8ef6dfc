"""A search's record over folders of runs that were never trained: for tests of the report only."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from tests.reporting.synthetic import write_synthetic


def write_search(top: Path, trials: int = 24, objectives: Sequence[str] = ("val/accuracy", "seconds")) -> Path:
    """One run a trial; every fifth is pruned, one has failed, and one has an infinite value."""
    write_synthetic(top, trials, seeds=1)
    lines = []
    for number, path in enumerate(sorted(top.glob("*/result.json"))):
        result = json.loads(path.read_text())
        config = result["config"]
        values = {"val/accuracy": result["val/accuracy"], "seconds": 1 + (7 * number) % 11, "epochs": 4.0}
        state = "fail" if number == 3 else "pruned" if number % 5 == 4 else "complete"
        numbers = {name: "" if state == "fail" else "inf" if number == 7 else values[name] for name in objectives}
        params = {
            "optimizer.lr": config["optimizer"]["lr"],
            "activation": config["activation"]["name"],
            "momentum": 0.1 * number if number % 2 else "",  # a parameter that not every trial has
        }
        lines.append({"trial": number, "state": state, **numbers, **params, "run_ids": path.parent.name})
    parameters = {
        "optimizer.lr": {"log": True, "choices": None},
        "activation": {"log": False, "choices": ["relu", "sigmoid", "tanh", "elu", "gelu"]},
        "momentum": {"log": False, "choices": None},
    }
    directions = {name: "minimize" if name == "seconds" else "maximize" for name in objectives}
    about = {"format": 1, "study": "s", "objectives": directions, "parameters": parameters}
    (top / "search.json").write_text(json.dumps(about))
    shares = [{"objective": name, "optimizer.lr": 0.25, "activation": 0.75} for name in objectives]
    for name, table in (("trials.csv", lines), ("importance.csv", shares)):
        with (top / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    return top
