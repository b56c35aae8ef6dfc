"""Several folders beside each other: what each has, in which settings they differ, what the same combination gave."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlp_study.reporting.answer import level
from mlp_study.reporting.factors import EXPERIMENT, METRIC, NONE_FAILS, SEEDS, described, measured, text
from mlp_study.runtime.statistics import mean_deviation

if TYPE_CHECKING:
    from mlp_study.reporting.analysis import Analysis

KEY = "folders"  # the column of the rows that says where a run is from
NAMED = 3  # folders, and settings in which they differ, that the sentence names


@dataclass(frozen=True)
class Side:
    """One of the folders.

    Attributes:
        name: of the folder.
        runs: finished ones.
        data: their data sets.
        combinations: of factors.
        why: how many failed by each mechanism.
        best: the best combination on the folder's most frequent data set; None without a test accuracy.
        values: its runs' test accuracies.
    """

    name: str
    runs: int
    data: list[str]
    combinations: int
    why: Counter[str]
    best: str | None
    values: list[float]


def sides(study: Analysis) -> list[Side]:
    """The folders that have finished runs, in the order in which they were given."""
    names = list(dict.fromkeys(str(row[KEY]) for row in study.rows))
    return [_side(study, name) for name in names]


def _side(study: Analysis, name: str) -> Side:
    own = [i for i, row in enumerate(study.rows) if row[KEY] == name]
    data = Counter(str(study.rows[i].get("data")) for i in own)
    main = data.most_common(1)[0][0]
    best: tuple[float, str | None, list[float]] = (-math.inf, None, [])
    groups = {group: members for group, members in study.groups.items() if study.rows[members[0]][KEY] == name}
    for group, members in groups.items():
        values = _accuracies(study, members)
        mean = mean_deviation(values)[0]
        if str(study.rows[members[0]].get("data")) == main and mean > best[0]:
            best = mean, described(*_without_folder(study.factors, group)), values
    why = Counter(mechanism for i in own if (mechanism := study.mechanisms[i]))
    return Side(name, len(own), list(data), len(groups), why, best[1], best[2])


def differing(study: Analysis) -> dict[str, dict[str, str]]:
    """Settings of which no value occurs in all folders: by name each folder's values in words."""
    found: dict[str, dict[str, str]] = {}
    for key in study.study.settings:
        values: dict[str, dict[str, None]] = {}
        for row in study.rows:
            values.setdefault(str(row[KEY]), {})[text(row.get(key))] = None
        if key not in (*SEEDS, *EXPERIMENT, KEY) and not set.intersection(*map(set, values.values())):
            found[key] = {name: _either(list(own)) for name, own in values.items()}
    return found


def _either(values: Sequence[str]) -> str:
    more = [f"{len(values) - NAMED} more"] if len(values) > NAMED else []
    return " or ".join([*values[:NAMED], *more])


def shared(study: Analysis) -> list[tuple[str, dict[str, list[float]]]]:
    """Combinations that more than one folder has, with each folder's test accuracies; the largest difference first."""
    found: dict[tuple[tuple[str, ...], str], dict[str, list[float]]] = {}
    for group, members in study.groups.items():
        names, values = _without_folder(study.factors, group)
        first = study.rows[members[0]]
        found.setdefault((tuple(values), described(names, values)), {})[str(first[KEY])] = _accuracies(study, members)
    several = [(words, values) for (_, words), values in found.items() if len(values) > 1]
    return sorted(several, key=lambda entry: -_apart(entry[1]))


def _apart(values: Mapping[str, Sequence[float]]) -> float:
    """How far the folders' means lie apart, -1 if fewer than two have one."""
    means = [mean for own in values.values() if math.isfinite(mean := mean_deviation(own)[0])]
    return max(means) - min(means) if len(means) > 1 else -1.0


def _without_folder(factors: Sequence[str], group: Sequence[str]) -> tuple[list[str], list[str]]:
    kept = [(key, value) for key, value in zip(factors, group, strict=True) if key != KEY]
    return [key for key, _ in kept], [value for _, value in kept]


def _accuracies(study: Analysis, members: Sequence[int]) -> list[float]:
    return [measured(study.rows[i], METRIC) for i in members]


def comparison_answer(study: Analysis) -> str:
    """What each folder has, in which settings the folders differ, and where the same combination ended differently."""
    told = sides(study)
    if not told:
        return "No run has finished yet."
    parts = [_told(side) for side in told[:NAMED]]
    parts += [f"{len(told) - NAMED} more folders in the table below"] if len(told) > NAMED else []
    differ = [
        f"{key} ({' against '.join(values[side.name] for side in told[:NAMED])})"
        for key, values in differing(study).items()
    ]
    more = f" and {len(differ) - NAMED} more settings" if len(differ) > NAMED else ""
    sentence = f"{'; '.join(parts)}."
    if differ:
        sentence += f" They differ in {', '.join(differ[:NAMED])}{more}."
    return f"{sentence} {_told_shared(shared(study))}"


def _told(side: Side) -> str:
    failed = side.why.total()
    best = f"best {level(side.values)}" if side.best is not None else "no test accuracy is recorded"
    fails = f"{failed} fail{'s' * (failed == 1)}" if failed else NONE_FAILS
    return f"{side.name}: {side.runs} run{'s' * (side.runs != 1)} on {' and '.join(side.data)}, {fails}, {best}"


def _told_shared(found: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> str:
    if not found:
        return "No combination of the other settings occurs in two of them."
    count = f"{len(found)} combination{'s' * (len(found) != 1)} of the other settings occur{'s' * (len(found) == 1)}"
    words, values = found[0]
    if _apart(values) < 0:
        return f"{count} in more than one."
    against = " against ".join(f"{level(own).removeprefix('accuracy ')} in {name}" for name, own in values.items())
    return f"{count} in more than one; the accuracies lie farthest apart for {words}: {against}."
