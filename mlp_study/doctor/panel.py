"""The diagnosis as a person reads it, and as a program does."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.doctor.forecast import LEARNS
from mlp_study.factors.diagnostics import DIAGNOSTICS

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from mlp_study.doctor.config_cures import Cure
    from mlp_study.doctor.config_diagnosis import Diagnosis

COLUMNS = {
    "preactivation_mean": "mean z",
    "preactivation_deviation": "dev z",
    "preactivation_low": "lowest z",
    "preactivation_high": "highest z",
    "sparsity": "off",
    "dead": "dead",
    "always_on": "always on",
    "saturated": "saturated",
    "missed": "missed",
}
SHARES = {name for name in COLUMNS if name in DIAGNOSTICS}
LOOKED = {
    "loss": "loss",
    "accuracy": "accuracy",
    "dead": "dead",
    "saturated": "saturated",
    "plateau": "plateau",
    "update_ratio": "step/weights",
}
CURES_SHOWN = 6


def as_dict(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything, in plain types."""
    return {
        "about": diagnosis.about,
        "notes": list(diagnosis.notes),
        "verdict": diagnosis.verdict.outcome,
        "mechanism": diagnosis.verdict.mechanism,
        "probability": diagnosis.verdict.probability,
        "close_call": diagnosis.verdict.close_call,
        "evidence": list(diagnosis.verdict.evidence),
        "cures": [
            {**dataclasses.asdict(cure), "verdict": cure.verdict.outcome, "probability": cure.verdict.probability}
            for cure in diagnosis.cures
        ],
        "threshold": diagnosis.threshold,
        "layers": diagnosis.layers,
        "initial": diagnosis.glimpse.initial,
        "look_ahead": diagnosis.glimpse.rows,
        "diverged": diagnosis.glimpse.diverged,
        "total_steps": diagnosis.glimpse.total_steps,
        "images_seen": diagnosis.seen,
        "seconds": diagnosis.seconds,
    }


def text_of(diagnosis: Diagnosis) -> str:
    """The panel as plain text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120)
    with console.capture() as captured:
        print_panel(diagnosis, console)
    return captured.get().rstrip()


def print_panel(diagnosis: Diagnosis, console: Console) -> None:
    """The configuration, its layers, the look-ahead, the verdict and the cures."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    good = diagnosis.verdict.will_learn
    unsure = diagnosis.verdict.close_call or diagnosis.verdict.mechanism == "slow"
    colour = "yellow" if unsure else "green" if good else "red"
    parts: list[RenderableType] = [
        *(Text(f"{name:<9} {text}") for name, text in diagnosis.about.items()),
        *(Text(f"{'note':<9} {sentence}", style="yellow") for sentence in diagnosis.notes),
        Text("\nBefore training, per hidden layer"),
        _layers(diagnosis),
        Text(_curvature(diagnosis)),
        Text(f"\nLook-ahead, on {diagnosis.seen} training images"),
        _look_ahead(diagnosis),
        Text(f"\nVerdict: {diagnosis.verdict.words}", style=f"bold {colour}"),
        Text(
            f"  {diagnosis.verdict.probability:.0%} to reach 0.8 of the best cure's accuracy in the training asked for"
        ),
        *(
            [Text(f"  the first steps do not settle it: from {LEARNS:.0%} on it is called trainable")]
            if diagnosis.verdict.close_call
            else []
        ),
        *(Text(f"  - {sentence}") for sentence in diagnosis.verdict.evidence),
    ]
    if diagnosis.cures:
        helping = [cure for cure in diagnosis.cures if cure.effect > 0 or cure.verdict.will_learn]
        tried, steps = len(diagnosis.cures), diagnosis.cures[0].steps
        none = f"\nNo cure: none of {tried} changes raises the accuracy in {steps} steps"
        parts += [Text(f"\nCures, tried for {steps} steps"), _cures(helping)] if helping else [Text(none)]
    console.print(Panel(Group(*parts), title="diagnosis", subtitle=f"{diagnosis.seconds:.1f} s"))


def _table(*heads: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head not in ("override", "verdict") else "left", overflow="fold")
    return table


def _unbroken(table: Any) -> Any:
    """The table with columns in which every word and number keeps to one line."""
    for column in table.columns:
        column.min_width = max(len(word) for text in (column.header, *column.cells) for word in (*text.split(), ""))
    return table


def _layers(diagnosis: Diagnosis) -> Any:
    shown = {name: head for name, head in COLUMNS.items() if any(name in row for row in diagnosis.layers)}
    table = _table("layer", *shown.values())
    table.collapse_padding = True  # nine columns in 80 letters
    for layer, row in enumerate(diagnosis.layers):
        table.add_row(str(layer), *(_cell(name, row.get(name, math.nan)) for name in shown))
    return _unbroken(table)


def _cell(name: str, value: float) -> str:
    if math.isnan(value):
        return ""
    if name in SHARES:
        return f"{value:.0%}"
    if abs(value) < 0.1:
        return f"{round(value, 3) + 0.0:.3f}"
    return f"{value:.3g}" if abs(value) < 1e5 else f"{value:.2g}"  # no wider


def _curvature(diagnosis: Diagnosis) -> str:
    start = diagnosis.glimpse.initial
    if "sharpness" not in start:
        return ""
    limit = "no known limit" if diagnosis.threshold is None else f"limit {diagnosis.threshold:.4g}"
    index = f", stability index {start['stability_index']:.3g}" if "stability_index" in start else ""
    return f"Sharpness {start['sharpness']:.4g} ({limit}){index}"


def _look_ahead(diagnosis: Diagnosis) -> Any:
    rows = diagnosis.glimpse.rows
    names = [n for n in LOOKED if any(n in row for row in rows)]
    table = _table("step", *(LOOKED[name] for name in names))
    for row in rows[:: max(1, len(rows) // 8)] + (rows[-1:] if (len(rows) - 1) % max(1, len(rows) // 8) else []):
        table.add_row(f"{row['step']:.0f}", *(_number(name, row.get(name, math.nan)) for name in names))
    return _unbroken(table)


def _number(name: str, value: float) -> str:
    if name in ("loss", "accuracy"):
        return f"{value:.4g}" if name == "loss" else f"{value:.3f}"
    if name == "update_ratio" and not math.isnan(value):
        return f"{value:.1e}"
    return "" if math.isnan(value) else f"{value:.0%}"


def _cures(cures: Sequence[Cure]) -> Any:
    table = _table("override", "accuracy", "effect", "verdict")
    for cure in cures[:CURES_SHOWN]:
        table.add_row(" ".join(cure.overrides), f"{cure.accuracy:.3f}", f"{cure.effect:+.3f}", cure.verdict.words)
    return _unbroken(table)
