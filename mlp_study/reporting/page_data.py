"""What the page's script draws from: finished numbers of every combination, and the runs for their table."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlp_study.figures.curves import BELOW_CHANCE, axis_ends, band, limits, loss_limit
from mlp_study.figures.style import COLOURS
from mlp_study.records.trials import COMPLETE
from mlp_study.reporting.analysis import Analysis, Summary
from mlp_study.reporting.axes import continuous, measured
from mlp_study.reporting.failures import CHANCE, MECHANISMS
from mlp_study.reporting.study import CURVE_METRICS

if TYPE_CHECKING:
    import numpy as np

    from mlp_study.records.trials import SearchRecord

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98)  # accuracies to be reached
DRAWN = CURVE_METRICS[:6]
SHOWN_FIRST = len(COLOURS)  # combinations whose curves are drawn, in page and PNG
NUMBERS = 300_000  # of all curves together: about 2 MB
IN_TABLE = (
    "test/accuracy", "test/loss", "val/accuracy", "train/accuracy", "gap", "epochs", "final/dead", "final/saturated",
    "initial/stability_index",
)  # fmt: skip


def page_data(study: Analysis, page: Path) -> dict[str, Any]:
    """Everything that the page's scripts need, as plain JSON values; a number that is not finite is null."""
    runs = study.runs
    return {
        "kind": study.study.kind,
        "factors": study.factors,
        "axes": [
            {
                "name": axis.name,
                "levels": axis.levels,
                "codes": axis.codes,
                "values": axis.values and [short(value) for value in axis.values],
            }
            for axis in study.axes
        ],
        "map": map_settings(study),
        "continuous": continuous(runs, study.factors),
        "groups": {
            "label": study.labels,
            "n": [len(members) for members in study.groups.values()],
            "why": [failures(study, members) for members in study.groups.values()],
        },
        "metrics": {name: _summary(found) for name, found in study.summaries.items()},
        "runs": {
            "id": [str(run["run_id"]) for run in runs],
            "seed": [run.get("seed") for run in runs],
            "outcome": [str(run["outcome"]) for run in runs],
            "cause": [None if run.get("cause") is None else str(run["cause"]) for run in runs],
            "mechanism": list(study.mechanisms),
            "link": [link(Path(run["folder"]), page) for run in runs],
            "folder": [str(run["folder"]) for run in runs],
            "group": study.group_of.tolist(),
            "values": {name: listed(study.values[name]) for name in IN_TABLE if name in study.values},
        },
        "told_first": study.telling,
        "curves": curves(study),
        "times": {str(t): reach for t in TARGETS if any((reach := times(study, t))["reached"])},
        "importance": {
            name: [[list(share.factors), short(share.part)] for share in found] for name, found in study.shares.items()
        },
        "mechanisms": {name: list(about) for name, about in MECHANISMS.items()},
        "search": search_data(found, page) if (found := study.study.search) else None,
        "data": None if study.study.kind == "comparison" else study.main_data,
    }


def map_settings(study: Analysis) -> list[str]:
    """The settings of the page's map when it opens: its rows and columns; an empty name for none."""
    names = [axis.name for axis in study.axes]
    rows = "activation" if "activation" in names else names[0] if names else ""
    among = [*(["folders"] if study.study.kind == "comparison" else []), "data.scale", *names]
    return [rows, next((name for name in among if name in names and name != rows), "")]


def failures(study: Analysis, members: Sequence[int]) -> list[tuple[str, int]]:
    """The mechanisms of runs that failed, with how many did; the most frequent first."""
    return Counter(name for i in members if (name := study.mechanisms[i])).most_common()


def _summary(found: Summary) -> dict[str, list[Any]]:
    return {
        "mean": listed(found.mean),
        "deviation": listed(found.deviation),
        "half": listed(found.half),
        "n": found.n.tolist(),
    }


def link(folder: Path, page: Path) -> str:
    """A run's folder as the page, in its own folder, refers to it."""
    place = folder.resolve()
    try:
        return quote(Path(os.path.relpath(place, page.parent.resolve())).as_posix()) + "/"
    except ValueError:  # on another drive
        return place.as_uri() + "/"


def curves(study: Analysis) -> dict[str, Any]:
    """Means of every combination and metric, at up to 200 epochs, with the bands that are drawn around them.

    Returns:
        ``epochs`` drawn, of how many (``of``); ``parts`` by metric with ``mean``, ``half`` and ``band`` (its two ends,
        None where it covers most of the axis) [combination][epoch]; ``axes`` of the curves that are shown first
        (``log``, ``low``, ``high``); ``loss_limit``, where the loss axis ends at the latest (None: nowhere); and
        ``chance``.
    """
    import numpy as np

    count, epochs = len(study.groups), study.curves.shape[1]
    if not epochs:
        return {"epochs": [], "of": 0, "parts": {}, "axes": {}, "loss_limit": None, "chance": None}
    several = any(len(members) > 1 for members in study.groups.values())
    room = NUMBERS // max(1, count * len(DRAWN) * (1 + 3 * several))
    kept = np.unique(np.linspace(0, epochs - 1, min(epochs, max(12, min(200, room)))).round().astype(int))
    whole = study.curve_summary
    axes = {metric: curve_axis(study, metric) for metric in ("loss", "accuracy")}
    parts: dict[str, Any] = {}
    for place, name in enumerate(DRAWN):
        mean, half = whole.mean[:, kept, place], whole.half[:, kept, place]
        if not np.isfinite(mean).any():
            continue
        log, *ends = axes.get(name.rpartition("/")[2], (False, -0.03, 1.03))
        metric = name.rpartition("/")[2] if "/" in name else "accuracy"
        found = [band(m, h, limits(metric), (ends[0], ends[1]), log) for m, h in zip(mean, half, strict=True)]
        parts[name] = {
            "mean": [listed(line, 4) for line in mean],
            "half": [listed(line, 4) for line in half] if several else None,
            "band": [b and [listed(b[0], 4), listed(b[1], 4)] for b in found] if several else None,
        }
    return {
        "epochs": [int(i) + 1 for i in kept],
        "of": epochs,
        "parts": parts,
        "axes": {m: {"log": log, "low": short(low), "high": short(high)} for m, (log, low, high) in axes.items()},
        "chance": chance_of(study),
        "loss_limit": short(loss_end(study)),  # JSON has no infinity: None
    }


def curve_axis(study: Analysis, metric: str) -> tuple[bool, float, float]:
    """The axis of the curves that are shown first: whether it is logarithmic, and its ends."""
    import numpy as np

    places = [DRAWN.index(f"{part}/{metric}") for part in ("train", "val")]
    means = study.curve_summary.mean[study.telling[:SHOWN_FIRST]][:, :, places]
    limit = loss_end(study) if metric == "loss" else math.inf
    beyond = [(own > limit).any() for own in means if np.isfinite(own).any()]
    limit = math.inf if all(beyond) else limit  # curves that all leave have no other to flatten
    known = means[np.isfinite(means)]
    if not known.size:
        return False, 0.0, 1.0
    log, low, high = axis_ends(metric, float(known.min()), float(known.max()), limit)
    chance = chance_of(study) if metric == "accuracy" else None
    return log, low if chance is None else min(low, chance - BELOW_CHANCE), high


def chance_of(study: Analysis) -> float | None:
    """The accuracy of one answer to every test image; None if it was not recorded, or data sets differ in it."""
    found = {measured(run, CHANCE) for run in study.runs}
    return found.pop() if len(found) == 1 and not math.isnan(max(found)) else None


def loss_end(study: Analysis) -> float:
    """Where the loss axis of a study's curves ends, whichever of them are drawn."""
    first = DRAWN.index("train/loss")
    return loss_limit(study.curve_summary.mean[:, 0, first].tolist()) if study.curves.shape[1] else math.inf


def times(study: Analysis, target: float) -> dict[str, list[Any]]:
    """By combination how many runs reach a validation accuracy, and after how many epochs, by ``Analysis.times``."""
    found = study.times(target)
    return {
        name: [short(getattr(one, name)) for one in found] for name in ("reached", "median", "low", "high", "seconds")
    }


def search_data(search: SearchRecord, page: Path) -> dict[str, Any]:
    """What ``page.search.js`` draws from: a search's trials."""
    trials = search.trials
    front = {trial.number for trial in search.best()}
    return {
        "objectives": [{"name": name, "more": more} for name, more in search.objectives.items()],
        "parameters": [
            {"name": name, "log": bool(about.get("log")), "choices": about.get("choices")}
            for name, about in search.parameters.items()
        ],
        "number": [trial.number for trial in trials],
        "state": [trial.state for trial in trials],
        "values": [[trial.values[k] for trial in trials] for k in range(len(search.objectives))],
        "best_so_far": [_best_so_far(search, k) for k in range(len(search.objectives))],
        "params": [[trial.params.get(name) for trial in trials] for name in search.parameters],
        "best": [trial.number in front for trial in trials],
        "link": [link(search.folder / trial.run_ids[0], page) if trial.run_ids else None for trial in trials],
        "importance": {name: list(shares.items()) for name, shares in search.importance.items()},
    }


def _best_so_far(search: SearchRecord, k: int) -> list[float | None]:
    """Of each trial, the best value of an objective among the complete ones up to it."""
    better = max if list(search.objectives.values())[k] else min
    best: float | None = None
    found = []
    for trial in search.trials:
        value = trial.values[k] if trial.state == COMPLETE else None
        best = value if best is None else best if value is None else better(best, value)
        found.append(best)
    return found


def listed(values: np.ndarray, digits: int = 7) -> list[float | None]:
    """Numbers with so many significant digits; None for those that are not finite."""
    return [short(value, digits) for value in values.tolist()]


def short(value: float, digits: int = 7) -> float | None:
    """A number with so many significant digits; None if it is not finite."""
    if not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
