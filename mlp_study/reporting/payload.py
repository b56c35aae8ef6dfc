"""What the page's script draws from: the runs as columns, curves averaged over seeds, the decomposition."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlp_study.figures.curves import DECADES, LEAST, MARGIN, QUANTILE, WIDEST, loss_limit
from mlp_study.reporting.choosing import told_first
from mlp_study.reporting.factors import MECHANISMS, continuous, is_number, levels_of, text
from mlp_study.reporting.importance import Share
from mlp_study.reporting.reading import CURVE_METRICS
from mlp_study.reporting.search import search_payload
from mlp_study.runtime.statistics import grouped, half_widths, mean_deviation, t_quantile

if TYPE_CHECKING:
    import numpy as np

    from mlp_study.reporting.analysis import Analysis

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98)  # accuracies to be reached
DRAWN = CURVE_METRICS[:6]
NUMBERS = 1_200_000  # of all curves together: about 10 MB
SHOWN_LEVELS = 60
METRICS = (
    "test/accuracy", "val/accuracy", "train/accuracy", "test/loss", "val/loss", "train/loss", "gap", "epochs",
    "seconds", "final/dead", "final/saturated", "final/plateau", "final/dormant", "final/missed", "initial/dead",
    "initial/saturated", "initial/missed", "initial/stability_index", "initial/sharpness", "final/stability_index",
)  # fmt: skip


def payload(study: Analysis, page: Path) -> dict[str, Any]:
    """Everything that ``page.js`` needs, as plain JSON values; a number that is not finite is null."""
    rows = study.rows
    metrics = {name: [short(study.value(i, name)) for i in range(len(rows))] for name in METRICS}
    largest = max((len(members) for members in study.groups.values()), default=1)
    return {
        "kind": study.study.kind,
        "factors": study.factors,
        "axes": [_axis(study, key) for key in study.axes],
        "continuous": continuous(rows, study.factors),
        "metrics": {name: values for name, values in metrics.items() if any(v is not None for v in values)},
        "runs": {
            "id": [str(row["run_id"]) for row in rows],
            "seed": [row.get("seed") for row in rows],
            "outcome": [str(row["outcome"]) for row in rows],
            "cause": [None if row.get("cause") is None else str(row["cause"]) for row in rows],
            "mechanism": list(study.mechanisms),
            "link": [link(Path(row["folder"]), page) for row in rows],
            "folder": [str(row["folder"]) for row in rows],
        },
        "groups": list(study.groups.values()),
        "told_first": told_first(study),
        "curves": curves(study.curves, list(study.groups.values())),
        "times": {str(target): reached(study.curves, target) for target in TARGETS},
        "importance": {name: _shares(found) for name, found in study.shares.items()},
        "mechanisms": {name: list(about) for name, about in MECHANISMS.items()},
        "t": [short(t_quantile(n - 1)) for n in range(2, min(largest, 200) + 1)],
        "search": search_payload(found, lambda folder: link(folder, page)) if (found := study.study.search) else None,
        "data": None if study.study.kind == "comparison" else study.main_data,
    }


def _axis(study: Analysis, key: str) -> dict[str, Any]:
    """A factor's values and each run's place among them; numbers with many values are put into classes."""
    levels = levels_of(study.rows, key)
    numeric = all(is_number(row.get(key)) for row in study.rows)
    if len(levels) > SHOWN_LEVELS and numeric:
        return {"name": key, "numeric": True, **classes([float(row[key]) for row in study.rows])}
    place = {name: i for i, name in enumerate(levels)}
    return {"name": key, "numeric": numeric, "levels": levels, "codes": [place[text(r.get(key))] for r in study.rows]}


def classes(values: Sequence[float], count: int = 8) -> dict[str, Any]:
    """Classes of about equal size, named by their ends."""
    import numpy as np

    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    codes = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    return {"levels": names, "codes": codes.tolist(), "values": [short(value) for value in values]}


def _shares(found: Sequence[Share]) -> list[list[Any]]:
    return [[list(share.factors), short(share.part)] for share in found]


def link(folder: Path, page: Path) -> str:
    """A run's folder as the page, in its own folder, refers to it."""
    place = folder.resolve()
    try:
        return quote(Path(os.path.relpath(place, page.parent.resolve())).as_posix()) + "/"
    except ValueError:  # on another drive
        return place.as_uri() + "/"


def curves(values: np.ndarray, groups: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Mean and half of the 95 % interval of every group and metric, at up to 200 epochs.

    Args:
        values: [run, epoch, metric].
        groups: indices of runs.

    Returns:
        ``epochs`` drawn, of how many (``of``), ``parts`` by metric with ``mean`` and ``half`` [group][epoch],
        ``loss_limit``, where the loss axis ends at the latest (None: nowhere), and ``axis``, its rule.
    """
    import numpy as np

    epochs = values.shape[1]
    several = any(len(members) > 1 for members in groups)
    room = NUMBERS // max(1, len(groups) * len(DRAWN) * (1 + several))
    kept = np.unique(np.linspace(0, epochs - 1, min(epochs, max(12, min(200, room)))).round().astype(int))
    parts: dict[str, Any] = {}
    group_of = np.zeros(len(values), dtype=int)
    for place, members in enumerate(groups):
        group_of[list(members)] = place
    for place, name in enumerate(DRAWN):
        mean, deviation, n = grouped(values[:, kept, place], group_of, len(groups))
        half = half_widths(deviation, n)
        if np.isfinite(mean).any():
            parts[name] = {"mean": shortened(mean), "half": shortened(half) if np.isfinite(half).any() else None}
    return {
        "epochs": [int(i) + 1 for i in kept],
        "of": epochs,
        "parts": parts,
        "loss_limit": short(loss_end(values, groups)),  # JSON has no infinity: None
        "axis": {"decades": DECADES, "margin": MARGIN, "least": LEAST, "widest": WIDEST, "quantile": QUANTILE},
    }


def loss_end(values: np.ndarray, groups: Sequence[Sequence[int]]) -> float:
    """Where the loss axis of a study's curves [run, epoch, metric] ends, whichever of them are drawn."""
    if not values.shape[1]:
        return math.inf
    first = values[:, 0, DRAWN.index("train/loss")]
    return loss_limit([mean_deviation(first[list(members)].tolist())[0] for members in groups])


def reached(values: np.ndarray, target: float) -> list[int | None]:
    """The first epoch, from 1, at whose end each run's validation accuracy was at least ``target``."""
    import numpy as np

    if not values.size:
        return [None] * len(values)
    there = values[:, :, CURVE_METRICS.index("val/accuracy")] >= target
    return [
        int(epoch) + 1 if found else None
        for epoch, found in zip(np.argmax(there, axis=1).tolist(), np.any(there, axis=1).tolist(), strict=True)
    ]


def shortened(values: np.ndarray) -> list[list[float | None]]:
    """Rows of numbers with four significant digits."""
    return [[short(value, 4) for value in row] for row in values.tolist()]


def short(value: float, digits: int = 7) -> float | None:
    """A number with so many significant digits; None if it is not finite."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
