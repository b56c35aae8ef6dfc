"""The report's tables as CSV: full precision, one fact a column."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.reporting.analysis import METRICS
from mlp_study.reporting.page_data import DRAWN, TARGETS
from mlp_study.runtime.files import table_cell, write_file

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
            writer.writerow(map(table_cell, head))
            writer.writerows([_field(value) for value in line] for line in body)
            write_file(folder / f"{name}.csv", text.getvalue())


def _field(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else table_cell(value)


def runs(study: Analysis) -> list[Sequence[Any]]:
    """Every run with all that its record says, and why it failed."""
    names = list(dict.fromkeys(key for run in study.runs for key in run if key not in ("folder", "mechanism")))
    gap = study.values.get("gap")
    body = [
        [*(run.get(name) for name in names), study.mechanisms[i], None if gap is None else float(gap[i]), run["folder"]]
        for i, run in enumerate(study.runs)
    ]
    return [[*names, "mechanism", "gap", "folder"], *body]


WHAT = ("mean", "deviation", "n")


def combinations(study: Analysis) -> list[Sequence[Any]]:
    """Mean, sample deviation and n of every metric, for each combination of factors."""
    names = [name for name in METRICS if name in study.summaries]
    found = [study.summaries[name] for name in names]
    body = []
    for g, (group, members) in enumerate(study.groups.items()):
        failed = sum(study.mechanisms[i] is not None for i in members)
        numbers = [part[g].item() for own in found for part in (own.mean, own.deviation, own.n)]
        body.append([*group, len(members), failed, *numbers])
    return [[*study.factors, "runs", "failed", *(f"{name} {what}" for name in names for what in WHAT)], *body]


def learning_curves(study: Analysis) -> list[Sequence[Any]]:
    """Mean over seeds of every epoch, with the sample deviation and n."""
    return [
        [*study.factors, "epoch", *(f"{name} {what}" for name in DRAWN for what in WHAT)],
        *_epochs(study),
    ]


def _epochs(study: Analysis) -> Iterable[list[Any]]:
    import numpy as np

    whole = study.curve_summary
    for g, group in enumerate(study.groups):
        mean, deviation, n = (part[g][:, : len(DRAWN)] for part in (whole.mean, whole.deviation, whole.n))
        numbers = np.stack([mean, deviation, n], axis=2).reshape(len(n), 3 * len(DRAWN)).tolist()
        for e in np.flatnonzero(n.any(axis=1)):
            yield [*group, int(e) + 1, *(int(v) if k % 3 == 2 else v for k, v in enumerate(numbers[e]))]


def times(study: Analysis) -> list[Sequence[Any]]:
    """The first epoch at whose end each run's validation accuracy was at least the target; empty: never."""
    found = [[None if math.isnan(e) else int(e) for e in study.reached(target).tolist()] for target in TARGETS]
    head = ["run_id", *study.factors, "seed", *(f"epochs to {target}" for target in TARGETS)]
    body = [
        [run["run_id"], *(run.get(key) for key in study.factors), run.get("seed"), *(column[i] for column in found)]
        for i, run in enumerate(study.runs)
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
