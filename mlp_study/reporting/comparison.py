"""Several folders beside each other: what each has, in which settings they differ, what the same combination gave."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlp_study.reporting.analysis import Analysis, in_words
from mlp_study.reporting.axes import EXPERIMENT, SEEDS, Combination, described, measured, text
from mlp_study.reporting.failures import METRIC
from mlp_study.runtime.statistics import mean_deviation

KEY = "folders"  # the column of the runs' table that says where a run is from
NAMED = 3  # folders, and settings in which they differ, that the sentence names


@dataclass(frozen=True)
class Folder:
    """One of those that are compared.

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


def folders_of(study: Analysis) -> list[Folder]:
    """The folders that have finished runs, in the order in which they were given."""
    return [_folder(study, name) for name in dict.fromkeys(str(run[KEY]) for run in study.runs)]


def _folder(study: Analysis, name: str) -> Folder:
    own = [i for i, run in enumerate(study.runs) if run[KEY] == name]
    data = Counter(str(study.runs[i].get("data")) for i in own)
    main = data.most_common(1)[0][0]
    groups = [group for group, members in study.groups.items() if study.runs[members[0]][KEY] == name]
    on_main = [group for group in groups if str(study.runs[study.groups[group][0]].get("data")) == main]
    known = [group for group in on_main if not math.isnan(study.accuracy[group])]
    why = Counter(mechanism for i in own if (mechanism := study.mechanisms[i]))
    best = max(known, key=lambda group: study.accuracy[group]) if known else None
    words = described(*_without_folder(study.factors, best)) if best else None
    return Folder(name, len(own), list(data), len(groups), why, words, _accuracies(study, best) if best else [])


def differing(study: Analysis) -> dict[str, dict[str, str]]:
    """Settings of which no value occurs in all folders: by name each folder's values in words."""
    found: dict[str, dict[str, str]] = {}
    for key in study.study.settings:
        values: dict[str, dict[str, None]] = {}
        for run in study.runs:
            values.setdefault(str(run[KEY]), {})[text(run.get(key))] = None
        if key not in (*SEEDS, *EXPERIMENT, KEY) and not set.intersection(*map(set, values.values())):
            found[key] = {name: _either(list(own)) for name, own in values.items()}
    return found


def _either(values: Sequence[str]) -> str:
    more = [f"{len(values) - NAMED} more"] if len(values) > NAMED else []
    return " or ".join([*values[:NAMED], *more])


def shared(study: Analysis) -> list[tuple[str, dict[str, list[float]]]]:
    """Combinations that more than one folder has, with each folder's test accuracies; the largest difference first."""
    found: dict[tuple[Combination, str], dict[str, list[float]]] = {}
    for group, members in study.groups.items():
        names, values = _without_folder(study.factors, group)
        folder = str(study.runs[members[0]][KEY])
        found.setdefault((values, described(names, values)), {})[folder] = _accuracies(study, group)
    several = [(words, values) for (_, words), values in found.items() if len(values) > 1]
    return sorted(several, key=lambda entry: -_apart(entry[1]))


def _apart(values: Mapping[str, Sequence[float]]) -> float:
    """How far the folders' means lie apart, -1 if fewer than two have one."""
    means = [mean for own in values.values() if math.isfinite(mean := mean_deviation(own)[0])]
    return max(means) - min(means) if len(means) > 1 else -1.0


def _without_folder(factors: Sequence[str], group: Combination) -> tuple[list[str], Combination]:
    kept = [(key, value) for key, value in zip(factors, group, strict=True) if key != KEY]
    return [key for key, _ in kept], tuple(value for _, value in kept)


def _accuracies(study: Analysis, group: Combination) -> list[float]:
    return [measured(study.runs[i], METRIC) for i in study.groups[group]]


def comparison_answer(study: Analysis) -> tuple[str, list[str]]:
    """What each folder reached; what it has, in which settings they differ, where the same combination differs."""
    found = folders_of(study)
    named = found[:NAMED]
    more = f" and {len(found) - NAMED} more folders in the table below" if len(found) > NAMED else ""
    headline = "; ".join(f"{folder.name}: {_best(folder)}" for folder in named) + f"{more}."
    sentences = [f"{_told(folder)}." for folder in named]
    differ = [
        f"{key} ({' against '.join(values[folder.name] for folder in named)})"
        for key, values in differing(study).items()
    ]
    if differ:
        rest = f" and {len(differ) - NAMED} more settings" if len(differ) > NAMED else ""
        sentences.append(f"They differ in {', '.join(differ[:NAMED])}{rest}.")
    return headline, [*sentences, _told_shared(shared(study))]


def _best(folder: Folder) -> str:
    return f"best {in_words(folder.values)}" if folder.best is not None else "no test accuracy is recorded"


def _told(folder: Folder) -> str:
    failed = folder.why.total()
    fails = f"{failed or 'none'} fail{'s' * (failed < 2)}"
    return f"{folder.name}: {folder.runs} run{'s' * (folder.runs != 1)} on {' and '.join(folder.data)}, {fails}"


def _told_shared(found: Sequence[tuple[str, Mapping[str, Sequence[float]]]]) -> str:
    if not found:
        return "No combination of the other settings occurs in two of them."
    count = f"{len(found)} combination{'s' * (len(found) != 1)} of the other settings occur{'s' * (len(found) == 1)}"
    words, values = found[0]
    if _apart(values) < 0:
        return f"{count} in more than one."
    against = " against ".join(f"{in_words(own).removeprefix('accuracy ')} in {name}" for name, own in values.items())
    return f"{count} in more than one; the accuracies lie farthest apart for {words}: {against}."
