"""The report's tables as CSV: full precision, one fact a column."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.reporting.payload import DRAWN, METRICS, TARGETS, reached
from mlp_study.runtime.files import write_file
from mlp_study.runtime.statistics import grouped, mean_deviation

if TYPE_CHECKING:
    from mlp_study.reporting.analysis import Analysis


def write_tables(study: Analysis, folder: Path) -> None:
    """``runs.csv``, ``combinations.csv``, ``learning_curves.csv``, ``times.csv``, ``importance.csv``, ``claims.csv``.

    Raises:
        WriteError: the disk is full or read-only.
    """
    tables = {
        "runs": runs(study),
        "combinations": combinations(study),
        "learning_curves": learning_curves(study),
        "times": times(study),
        "importance": importance(study),
    }
    if study.study.claims:
        lines = study.study.claims["claims"]
        heads = list(dict.fromkeys(key for line in lines for key in line))
        tables["claims"] = [heads, *([line.get(key) for key in heads] for line in lines)]
    for name, (head, *body) in tables.items():
        if body:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(head)
            writer.writerows([_cell(value) for value in line] for line in body)
            write_file(folder / f"{name}.csv", text.getvalue())


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value


def runs(study: Analysis) -> list[Sequence[Any]]:
    """Every run with all that its record says, and why it failed."""
    names = list(dict.fromkeys(key for row in study.rows for key in row if key != "folder"))
    body = [
        [*(row.get(name) for name in names), study.mechanisms[i], study.value(i, "gap"), row["folder"]]
        for i, row in enumerate(study.rows)
    ]
    return [[*names, "mechanism", "gap", "folder"], *body]


def combinations(study: Analysis) -> list[Sequence[Any]]:
    """Mean, sample deviation and n of every metric, for each combination of factors."""
    head = [
        *study.factors,
        "runs",
        "failed",
        *(f"{name} {what}" for name in METRICS for what in ("mean", "deviation", "n")),
    ]
    return [head, *(_combination(study, group, members) for group, members in study.groups.items())]


def _combination(study: Analysis, group: Sequence[str], members: Sequence[int]) -> list[Any]:
    failed = sum(study.mechanisms[i] is not None for i in members)
    numbers = [v for name in METRICS for v in mean_deviation([study.value(i, name) for i in members])]
    return [*group, len(members), failed, *numbers]


def learning_curves(study: Analysis) -> list[Sequence[Any]]:
    """Mean over seeds of every epoch, with the sample deviation and n."""
    return [
        [*study.factors, "epoch", *(f"{name} {what}" for name in DRAWN for what in ("mean", "deviation", "n"))],
        *_epochs(study),
    ]


def _epochs(study: Analysis) -> Iterable[list[Any]]:
    import numpy as np

    for group, members in study.groups.items():
        own = study.curves[members][:, :, : len(DRAWN)]
        mean, deviation, n = (found[0] for found in grouped(own, np.zeros(len(own), dtype=int), 1))
        for e in np.flatnonzero(n.any(axis=1)):
            numbers = zip(mean[e].tolist(), deviation[e].tolist(), n[e].tolist(), strict=True)
            yield [*group, int(e) + 1, *(value for triple in numbers for value in triple)]


def times(study: Analysis) -> list[Sequence[Any]]:
    """The first epoch at whose end each run's validation accuracy was at least the target; empty: never."""
    found = [reached(study.curves, target) for target in TARGETS]
    head = ["run_id", *study.factors, "seed", *(f"epochs to {target}" for target in TARGETS)]
    body = [
        [row["run_id"], *(row.get(key) for key in study.factors), row.get("seed"), *(column[i] for column in found)]
        for i, row in enumerate(study.rows)
    ]
    return [head, *body]


def importance(study: Analysis) -> list[Sequence[Any]]:
    """The decomposition of each metric's variance."""
    body = [
        [name, " x ".join(share.factors) or "rest", share.part, share.p]
        for name, shares in study.shares.items()
        for share in shares
    ]
    return [["metric", "term", "share", "p"], *body]
