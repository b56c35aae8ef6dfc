"""What varies among the runs of a study, how each run ended, and why those that failed did."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from mlp_study.factors.losses import LOSSES
from mlp_study.probes.verdict import DEAD, PLATEAU, SATURATED, UNSTABLE, VANISHED, vanishing
from mlp_study.runtime.statistics import mean_deviation

Row = Mapping[str, Any]

SEEDS = ("seed", "data.split_seed")  # repeat a run, they are no factor of it
EXPERIMENT = ("experiment", "experiment.variant")
FIRST = ("folders", "activation", "data.scale")
SHARED = ("data.scale", "experiment.", "model.")  # settings of their own, not options of a choice
METRIC, CHANCE = "test/accuracy", "test/chance"  # by which combinations are told apart; what one answer to all reaches
BLOWN_UP = 100.0  # of a training loss; chance costs ln C, and clipped probabilities 16.1 at most
FAILED = 0.5  # of the best combination's accuracy: a run below it has failed
LEARNT = 0.1  # of the way from chance to all images right: a run that ends below it has learnt nothing
NONE_FAILS = f"none falls below {FAILED:.0%} of the best accuracy"  # which says nothing of runs that are all as bad

MECHANISMS: Mapping[str, tuple[str, str]] = {  # name -> the mark in a cell, what it means
    "diverged": ("✖", "the loss stopped being finite"),
    "blown up": ("▲", "a training loss above 100 at the end"),
    "error": ("!", "the run ended with an error"),
    "plateau": ("▬", f"at least {PLATEAU:.0%} of the images on the clipped loss's plateau at the end"),
    "dead units": ("∅", f"at least {DEAD:.0%} of the units of a layer pass nothing on for any image at the end"),
    "saturated": (
        "≈",
        f"at least {SATURATED:.0%} of (unit, image) pairs of a layer on a flat side at the end, or {PLATEAU:.0%} of "
        "the images wrong and without a gradient though the loss clips nothing",
    ),
    "vanishing gradient": (
        "↓",
        f"at initialisation the first layer's gradient below {VANISHED:g} of the largest layer's "
        "(probes.ends=[gradient_norm,...] records it)",
    ),
    "step too large": ("↯", "sharpness above the optimizer's stability limit at initialisation"),
    "too slow": ("…", "the training loss still fell by at least 1 % in the last epoch"),
    "cause unknown": ("?", "none of the recorded diagnostics shows why"),
}


def factors_of(rows: Sequence[Row], settings: Iterable[str], kind: str = "sweep") -> tuple[list[str], list[str]]:
    """The settings that vary: all that a reader may ask for, and those of which none follows from the others.

    An option of a choice that varies (``activation.slope`` beside ``activation``) follows from it as long as each
    choice has one value of it. In a reproduction the variants come first: what else varies follows from them; a
    comparison may hold one beside other folders.
    """
    varying = [key for key in settings if key not in SEEDS and len({text(row.get(key)) for row in rows}) > 1]
    places = {"reproduction": 0, "comparison": 1}  # of the variants among the first; elsewhere they come last
    first = [*FIRST[:at], *EXPERIMENT, *FIRST[at:]] if (at := places.get(kind)) is not None else list(FIRST)
    ordered = [key for key in first if key in varying]
    ordered += [key for key in varying if key not in ordered and key not in EXPERIMENT]
    ordered += [key for key in EXPERIMENT if key in varying and key not in ordered]
    own: list[str] = []
    cells: list[tuple[str, ...]] = [()] * len(rows)
    options = {key for key in ordered if key not in EXPERIMENT and key.partition(".")[0] in ordered and "." in key}
    for key in sorted(ordered, key=lambda key: key in options):
        with_it = [(*cell, text(row.get(key))) for cell, row in zip(cells, rows, strict=True)]
        if len(set(with_it)) > len(set(cells)):
            own.append(key)
            cells = with_it
    shown = [key for key in ordered if key in own or "." not in key or key.startswith(SHARED)]
    return shown, [key for key in ordered if key in own]


def text(value: Any) -> str:
    """A setting's value as a user types it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def levels_of(rows: Sequence[Row], key: str) -> list[str]:
    """A factor's values as texts: choices as their table has them, other words as they appear, then numbers by size.

    Lists of numbers, such as layer widths, are ordered by their length and numbers.
    """
    values = {text(row.get(key)): row.get(key) for row in rows}
    numeric = {name for name, value in values.items() if is_number(value)}
    known = {name: i for i, name in enumerate(_choices(key))}
    words = sorted((n for n in values if n not in numeric), key=lambda n: (known.get(n, len(known)), _listed(n)))
    return [*words, *sorted(numeric, key=lambda n: float(values[n] or 0))]


def _choices(key: str) -> Sequence[str]:
    from mlp_study.config.schema import TABLES

    return list(TABLES.get(key, {}))


def _listed(name: str) -> tuple[float, ...]:
    """``[128,64]`` as its length and numbers; other words as nothing, so that they keep their order."""
    try:
        numbers = [float(part) for part in name.removeprefix("[").removesuffix("]").split(",")]
    except ValueError:
        return ()
    return (len(numbers), *numbers) if name.startswith("[") else ()


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a setting's value lies on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def continuous(rows: Sequence[Row], factors: Sequence[str]) -> list[str]:
    """Factors with at least three values, all of them numbers above zero."""

    def lies_on_an_axis(key: str) -> bool:
        values: set[Any] = {row.get(key) for row in rows}
        return len(values) >= 3 and all(is_number(value) and value > 0 for value in values)

    return [key for key in factors if lies_on_an_axis(key)]


def groups_of(rows: Sequence[Row], factors: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Runs that differ in nothing but their seed: indices of rows by the values of the factors."""
    levels = {key: {name: i for i, name in enumerate(levels_of(rows, key))} for key in factors}
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(tuple(text(row.get(key)) for key in factors), []).append(i)
    order = sorted(groups, key=lambda group: [levels[key][name] for key, name in zip(factors, group, strict=True)])
    return {group: groups[group] for group in order}


def measured(row: Row, key: str) -> float:
    """A finite number of a run, else NaN."""
    value = row.get(key)
    return float(value) if is_number(value) and math.isfinite(value) else math.nan


def mechanisms_of(
    rows: Sequence[Row], groups: Mapping[tuple[str, ...], Sequence[int]], falling: Sequence[bool]
) -> list[str | None]:
    """Why each run failed, None for those that did not; ``falling`` says whose training loss still fell at the end.

    A run failed if it diverged, ended with an error, learnt nothing (``LEARNT``; where chance was not recorded: has a
    layer whose units are all dead), or reached less than half of the test accuracy of its data set's best combination.
    Its mechanism is the first of ``MECHANISMS`` whose mark it bears.
    """
    best: dict[str, float] = {}
    for members in groups.values():
        mean = mean_deviation([measured(rows[i], METRIC) for i in members])[0]
        name = str(rows[members[0]].get("data"))
        best[name] = max(best.get(name, 0.0), 0.0 if math.isnan(mean) else mean)
    return [_mechanism(row, best[str(row.get("data"))], still) for row, still in zip(rows, falling, strict=True)]


def _mechanism(row: Row, best: float, falling: bool) -> str | None:
    ended = {"diverged": "diverged", "failed": "error"}.get(str(row["outcome"]))
    accuracy, chance = measured(row, METRIC), measured(row, CHANCE)
    # A layer that is dead may still learn: what ``leaky_relu_mismatched`` or SiLU let through differs among images.
    learnt = worst_layer(row, "final/dead") < 1 if math.isnan(chance) else accuracy >= chance + LEARNT * (1 - chance)
    if ended or (learnt and accuracy >= FAILED * best):
        return ended
    marks = [
        ("blown up", measured(row, "train/loss") > BLOWN_UP),
        ("plateau" if _clips(row) else "saturated", worst_layer(row, "final/plateau") >= PLATEAU),
        ("dead units", worst_layer(row, "final/dead") >= DEAD),
        ("saturated", worst_layer(row, "final/saturated") >= SATURATED),
        ("vanishing gradient", vanishing(row, "initial/") is not None),
        ("step too large", measured(row, "initial/stability_index") > UNSTABLE),
        ("too slow", falling),
    ]
    return next((name for name, found in marks if found), "cause unknown")


def _clips(row: Row) -> bool:
    """Whether the loss has a plateau of its own; without one it is the outputs that are saturated."""
    name = str(row.get("loss"))
    if name not in LOSSES:  # of another version
        return True
    loss = LOSSES[name]
    given = {option: row[key] for option in loss.options if row.get(key := f"loss.{option}") is not None}
    return loss.plateau(**given) is not None


def worst_layer(row: Row, name: str) -> float:
    """The largest of a diagnostic's values over the layers, 0 if it was not measured."""
    own = [measured(row, key) for key in row if key == name or key.startswith(f"{name}_")]
    return max((value for value in own if not math.isnan(value)), default=0.0)


def described(factors: Sequence[str], group: Sequence[str]) -> str:
    """A combination of values in words, such as ``activation=relu, optimizer.lr=0.1``; no experiment is left out."""
    pairs = zip(factors, group, strict=True)
    return ", ".join(f"{key}={value}" for key, value in pairs if key not in EXPERIMENT or value != "null") or "all runs"
