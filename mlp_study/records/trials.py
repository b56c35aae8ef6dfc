"""A search's record: ``search.json``, ``trials.csv`` and ``importance.csv``, read into one object."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlp_study.errors import DataError
from mlp_study.runtime.reading import parsed, read_bytes

ABOUT, TRIALS, IMPORTANCE = "search.json", "trials.csv", "importance.csv"
FORMAT = 1
COMPLETE = "complete"


@dataclass(frozen=True)
class Trial:
    """One line of ``trials.csv``.

    Attributes:
        number: from 0, in the order of the proposals.
        state: ``complete``, ``pruned`` or ``fail``.
        values: of each objective; None where there is none or it is not finite.
        params: what was chosen; a conditional parameter that does not apply is missing.
        run_ids: the trial's runs, one a seed.
    """

    number: int
    state: str
    values: list[float | None]
    params: dict[str, float | str]
    run_ids: list[str]

    @property
    def complete(self) -> bool:
        """Whether it has a value of every objective."""
        return self.state == COMPLETE and None not in self.values


@dataclass(frozen=True)
class SearchRecord:
    """A search that has ended.

    Attributes:
        folder: of the search.
        objectives: metrics, and whether more of them is better.
        parameters: names, and for each whether its axis is logarithmic (``log``) and its ``choices`` (None: numbers).
        trials: all of them.
        importance: each parameter's share in each objective's variance (fANOVA).
    """

    folder: Path
    objectives: dict[str, bool]
    parameters: dict[str, dict[str, Any]]
    trials: list[Trial]
    importance: dict[str, dict[str, float]] = field(default_factory=dict)

    def best(self) -> list[Trial]:
        """The best complete trial; of several objectives those that none is better than, in the first's order."""
        known = [trial for trial in self.trials if trial.complete]
        values = [[math.nan if value is None else value for value in trial.values] for trial in known]
        front = [known[i] for i in pareto_front(values, list(self.objectives.values()))]
        first = -1 if next(iter(self.objectives.values())) else 1
        ordered = sorted(front, key=lambda trial: (first * (trial.values[0] or 0.0), trial.number))
        return ordered[:1] if len(self.objectives) == 1 else ordered


def pareto_front(values: Sequence[Sequence[float]], more: Sequence[bool]) -> list[int]:
    """Places of those that no other is at least as good as in every objective and better in one.

    Args:
        values: [trial][objective].
        more: whether more of an objective is better.
    """
    signed = [[-v if up else v for v, up in zip(line, more, strict=True)] for line in values]

    def beaten(a: Sequence[float]) -> bool:
        return any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in signed)

    return [i for i, line in enumerate(signed) if not beaten(line)]


def read_search(folder: Path) -> SearchRecord | None:
    """The search that has ended in ``folder``; None if there is none.

    Raises:
        DataError: its record is damaged or of a newer version; the message names the file.
    """
    if not (folder / ABOUT).is_file():
        return None
    path = folder / ABOUT
    try:
        about = parsed(read_bytes(path), finite=True)
        if about["format"] > FORMAT:
            raise DataError(f"{path} was written by a newer mlp_study (format {about['format']}, here {FORMAT})")
        objectives = {str(name): direction == "maximize" for name, direction in about["objectives"].items()}
        parameters = {str(name): dict(found) for name, found in about["parameters"].items()}
        if not objectives:
            raise ValueError("it has no objective")
        path = folder / TRIALS
        trials = [_trial(line, objectives, parameters) for line in _lines(path)]
        path = folder / IMPORTANCE
        importance = {line["objective"]: _shares(line) for line in _lines(path)} if path.is_file() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return SearchRecord(folder, objectives, parameters, trials, importance)


def _lines(path: Path) -> list[dict[str, str]]:
    lines = list(csv.DictReader(io.StringIO(read_bytes(path).decode())))
    if any(None in line or None in line.values() for line in lines):
        raise ValueError("a line is longer or shorter than the first")
    return lines


def _trial(line: Mapping[str, str], objectives: Mapping[str, bool], parameters: Mapping[str, Any]) -> Trial:
    values = [float(line[name]) if line[name] else math.nan for name in objectives]
    return Trial(
        int(line["trial"]),
        line["state"],
        [value if math.isfinite(value) else None for value in values],
        {
            name: line[name] if about.get("choices") is not None else float(line[name])
            for name, about in parameters.items()
            if line.get(name)
        },
        line.get("run_ids", "").split(),
    )


def _shares(line: Mapping[str, str]) -> dict[str, float]:
    found = {name: float(share) for name, share in line.items() if name != "objective" and share}
    return dict(sorted(found.items(), key=lambda item: -item[1]))
