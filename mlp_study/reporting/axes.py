"""Which settings vary among the runs of a study, their values in order, and the combinations that were run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

Run = Mapping[str, Any]  # a line of the runs' table
Combination = tuple[str, ...]  # a value of each factor, as texts
Members = Mapping[Combination, Sequence[int]]  # the runs of each combination, by their place in the table

SEEDS = ("seed", "data.split_seed")  # repeat a run, they are no factor of it
EXPERIMENT = ("experiment", "experiment.variant")
FIRST = ("folders", "activation", "data.scale")
SHARED = ("data.scale", "experiment.", "model.")  # settings of their own, not options of a choice
CLASSES = 8  # that many values of a number are put into


@dataclass(frozen=True)
class Axis:
    """A setting's values in order, and the place of each combination among them.

    Attributes:
        name: of the setting.
        levels: its values as texts, or the classes that its numbers are put into.
        codes: of each combination, the place of its value among ``levels``.
        values: of each combination, its number; None if ``levels`` are not classes.
    """

    name: str
    levels: list[str]
    codes: list[int]
    values: list[float] | None = None


def axis_of(runs: Sequence[Run], groups: Members, key: str, most: int) -> Axis:
    """A setting as an axis; numbers of more than ``most`` values are put into classes of about equal size."""
    import numpy as np

    firsts = [runs[members[0]] for members in groups.values()]
    levels = levels_of(firsts, key)
    if len(levels) > most and all(is_number(run.get(key)) for run in firsts):
        values = [float(run[key]) for run in firsts]
        edges = np.unique(np.quantile(values, np.linspace(0, 1, CLASSES + 1)))
        codes = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        return Axis(key, [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)], codes.tolist(), values)
    place = {name: i for i, name in enumerate(levels)}
    return Axis(key, [tick(level) for level in levels], [place[text(run.get(key))] for run in firsts])


def factors_of(runs: Sequence[Run], settings: Iterable[str], kind: str = "sweep") -> tuple[list[str], list[str]]:
    """The settings that vary: all that a reader may ask for, and those of which none follows from the others.

    An option of a choice that varies (``activation.slope`` beside ``activation``) follows from it as long as each
    choice has one value of it. In a reproduction the variants come first: what else varies follows from them; a
    comparison may hold one beside other folders.
    """
    varying = [key for key in settings if key not in SEEDS and len({text(run.get(key)) for run in runs}) > 1]
    places = {"reproduction": 0, "comparison": 1}  # of the variants among the first; elsewhere they come last
    first = [*FIRST[:at], *EXPERIMENT, *FIRST[at:]] if (at := places.get(kind)) is not None else list(FIRST)
    ordered = [key for key in first if key in varying]
    ordered += [key for key in varying if key not in ordered and key not in EXPERIMENT]
    ordered += [key for key in EXPERIMENT if key in varying and key not in ordered]
    own: list[str] = []
    told: list[Combination] = [()] * len(runs)
    options = {key for key in ordered if key not in EXPERIMENT and key.partition(".")[0] in ordered and "." in key}
    for key in sorted(ordered, key=lambda key: key in options):
        with_it = [(*values, text(run.get(key))) for values, run in zip(told, runs, strict=True)]
        if len(set(with_it)) > len(set(told)):
            own.append(key)
            told = with_it
    shown = [key for key in ordered if key in own or "." not in key or key.startswith(SHARED)]
    return shown, [key for key in ordered if key in own]


def text(value: Any) -> str:
    """A setting's value as a user types it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def levels_of(runs: Sequence[Run], key: str) -> list[str]:
    """A factor's values as texts: choices as their table has them, other words as they appear, then numbers by size.

    Lists of numbers, such as layer widths, are ordered by their length and numbers.
    """
    values = {text(run.get(key)): run.get(key) for run in runs}
    numeric = {name for name, value in values.items() if is_number(value)}
    known = {name: i for i, name in enumerate(_choices(key))}
    words = sorted((n for n in values if n not in numeric), key=lambda n: (known.get(n, len(known)), _numbers_in(n)))
    return [*words, *sorted(numeric, key=lambda n: float(values[n] or 0))]


def _choices(key: str) -> Sequence[str]:
    from mlp_study.config.schema import TABLES

    return list(TABLES.get(key, {}))


def _numbers_in(name: str) -> tuple[float, ...]:
    """``[128,64]`` as its length and numbers; other words as nothing, so that they keep their order."""
    try:
        numbers = [float(part) for part in name.removeprefix("[").removesuffix("]").split(",")]
    except ValueError:
        return ()
    return (len(numbers), *numbers) if name.startswith("[") else ()


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a setting's value lies on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def measured(run: Run, key: str) -> float:
    """A finite number of a run, else NaN."""
    value = run.get(key)
    return float(value) if is_number(value) and math.isfinite(value) else math.nan


def continuous(runs: Sequence[Run], factors: Sequence[str]) -> list[str]:
    """Factors with at least three values, all of them numbers above zero."""

    def lies_on_an_axis(key: str) -> bool:
        values: set[Any] = {run.get(key) for run in runs}
        return len(values) >= 3 and all(is_number(value) and value > 0 for value in values)

    return [key for key in factors if lies_on_an_axis(key)]


def groups_of(runs: Sequence[Run], factors: Sequence[str]) -> dict[Combination, list[int]]:
    """Runs that differ in nothing but their seed: their places by the values of the factors."""
    levels = {key: {name: i for i, name in enumerate(levels_of(runs, key))} for key in factors}
    groups: dict[Combination, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(tuple(text(run.get(key)) for key in factors), []).append(i)
    order = sorted(groups, key=lambda group: [levels[key][name] for key, name in zip(factors, group, strict=True)])
    return {group: groups[group] for group in order}


def described(factors: Sequence[str], group: Combination) -> str:
    """A combination in words, such as ``activation=relu, optimizer.lr=0.1``; no experiment is left out."""
    pairs = zip(factors, group, strict=True)
    return ", ".join(f"{key}={value}" for key, value in pairs if key not in EXPERIMENT or value != "null") or "all runs"


def label(factors: Sequence[str], group: Combination) -> str:
    """A combination as a legend has it: ``relu · none · lr 0.01``. Words say what they are, numbers need their name."""
    parts = []
    for key, value in zip(factors, group, strict=True):
        if value == "null" and key in EXPERIMENT:
            continue
        name = key.rpartition(".")[2]
        bare = _number(value) is None and value not in ("true", "false", "null")
        parts.append(value if bare else f"{name} {tick(value)}")
    return " · ".join(parts) or "all runs"


def tick(value: str) -> str:
    """A value as an axis has it: ``0.00392157`` reads 1/255."""
    number = _number(value)
    if number and 0 < number < 1 and len(value.rstrip("0")) > 7 and f"{1 / round(1 / number):g}" == value:
        return f"1/{round(1 / number)}"
    return value


def _number(value: str) -> float | None:
    """The number, or the length of the list of numbers, that a text stands for; None if it is words."""
    try:
        return float(value)
    except ValueError:
        return float(len(_numbers_in(value))) or None
