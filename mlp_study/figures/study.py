"""Figures of a whole study: a map of two factors, a phase diagram, combinations with intervals, shares of variance."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlp_study.figures.style import COLOURS, WRONG, Sheet, plain, text_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS = 30
ROOM = 1.005  # less an accuracy is its error on the colour scale, which has no end at 1 otherwise
TICKS = (0.5, 0.8, 0.9, 0.95, 0.98)  # accuracies on the colour scale
WIDEST = 14.5  # inches: of a map, 1,600 pixels
ROOMY = 1.15  # inches: a column that holds a mean beside its deviation
MOST_LETTERS = 36  # of a label's line
LETTER = 0.09  # inches: a letter's width at the size of tick labels, with room to spare


@dataclass(frozen=True)
class Estimate:
    """The mean over the runs of a combination, and what is known about it.

    Attributes:
        mean: of the runs.
        deviation: of the runs; NaN if there is only one.
        n: runs.
        mark: why they failed, in words; empty if they did not.
        low: where the 95 % interval begins; NaN of one run.
        high: where it ends; infinite beyond what was seen.
    """

    mean: float
    deviation: float
    n: int
    mark: str = ""
    low: float = math.nan
    high: float = math.nan


def value_map(
    cells: Mapping[tuple[str, str], Estimate],
    rows: Sequence[str],
    columns: Sequence[str],
    names: tuple[str, str],
    value: str,
    pooled: Sequence[str] = (),
) -> Figure:
    """Mean, deviation, n and the mark of failure of each combination of two factors; colour is the mean.

    Args:
        cells: by the values of both factors.
        rows: values of the first factor, top to bottom.
        columns: of the second, left to right.
        names: of the two factors.
        value: what is shown, with its unit.
        pooled: the factors that a cell averages over.
    """
    down = ["\n".join(textwrap.wrap(name, MOST_LETTERS)) for name in rows]
    left = _margin([line for name in down for line in name.split("\n")])
    longest = max(map(len, columns))
    need = max(ROOMY, 0.25 + LETTER * longest)
    column_width = min(need, max(ROOMY, 2.5), (WIDEST - left - 1.0) / len(columns))
    tight = column_width < ROOMY  # numbers below each other, the columns' names upright
    letters = max(MOST_LETTERS, longest // 2 + 8) if tight else max(4, int((column_width - 0.1) / LETTER))
    over = ["\n".join(textwrap.wrap(name, letters)) for name in columns]
    under = 0.5 + (LETTER * max(map(len, over)) if tight else 0.17 * max(name.count("\n") for name in over))
    texts = {key: _told(cell, tight) for key, cell in cells.items()}
    lines = max((text.count("\n") for text in texts.values()), default=0) + 1
    row_high = max(0.55, 0.12 * lines + 0.1, 0.17 * (max(name.count("\n") for name in down) + 1))
    wide = max(4.6, left + column_width * len(columns) + 1.0)
    high = max(row_high * len(rows), LETTER * len(names[0])) + under + 0.25
    count = sum(cell.n for cell in cells.values())
    over_runs = (
        f"Mean over n runs, averaged over {', '.join(pooled)}" if pooled else "Mean ± standard deviation over n runs"
    )
    caption = f"{over_runs}; in words: how most of them failed. n = {count} runs in all."
    sheet = Sheet(wide, high, value, caption)
    axes = sheet.panel(left, wide - 0.85, below=under, above=0.05)
    bar = sheet.panel(wide - 0.7, wide - 0.55, below=under, above=0.05)
    means = [[cells[r, c].mean if (r, c) in cells else math.nan for c in columns] for r in rows]
    shown = _coloured(axes, bar, means)
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6 if tight else 7, "parse_math": False}
    for (row, column), cell in cells.items():
        place = (columns.index(column), rows.index(row))
        colour = text_on(shown.to_rgba(cell.mean) if math.isfinite(cell.mean) else "white")
        axes.text(*place, texts[row, column], color=colour, **style)
    _ticks(axes, over, down, names)
    if tight:
        axes.set_xticks(range(len(over)), over, rotation=90, fontsize=8, parse_math=False)
    return sheet.figure


def _coloured(axes: Axes, bar: Axes, means: Sequence[Sequence[float]], **more: Any) -> Any:
    """Accuracies as colours, which span those that are there, evenly on the logarithm of the error.

    Between 0.9 and 0.99 as much happens as between 0 and 0.9.
    """
    import numpy as np
    from matplotlib.colors import FuncNorm

    known = [mean for row in means for mean in row if math.isfinite(mean)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    low = max(0.0, min(low, high - 0.05))
    norm = FuncNorm((lambda a: -np.log10(ROOM - a), lambda place: ROOM - 10**-place), low, max(high, low + 1e-3))
    shown = axes.imshow(means, cmap="cividis", norm=norm, aspect="auto", **more)
    ticks = [tick for tick in TICKS if low < tick < high]
    axes.figure.colorbar(shown, cax=bar, ticks=[low, *ticks, high], format="%.3g")
    return shown


def _told(cell: Estimate, tight: bool) -> str:
    """A cell's numbers and words; ``tight``: in as many lines as it takes."""
    mean = "–" if math.isnan(cell.mean) else f"{cell.mean:.3f}"
    deviation = [] if math.isnan(cell.deviation) else [f"± {cell.deviation:.3f}"]
    numbers = [mean, *deviation] if tight else [" ".join([mean, *deviation])]
    words = cell.mark.split() if tight else [cell.mark] * bool(cell.mark)
    return "\n".join([*numbers, f"n = {cell.n}", *words])


def _margin(rows: Sequence[str]) -> float:
    """Inches that the rows' names and their factor's take."""
    return 0.55 + LETTER * max(map(len, rows))


def _ticks(axes: Axes, columns: Sequence[str], rows: Sequence[str], names: tuple[str, str]) -> None:
    every = max(1, len(columns) // 12)
    axes.set_xticks(range(0, len(columns), every), list(columns)[::every], parse_math=False)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.set_xlabel(names[1], parse_math=False)
    axes.set_ylabel(names[0], parse_math=False)


def phase_diagram(
    cells: Mapping[tuple[str, str], Estimate],
    rows: Sequence[str],
    columns: Sequence[str],
    names: tuple[str, str],
    value: str,
    index: Mapping[tuple[str, str], float] | None = None,
    pooled: Sequence[str] = (),
) -> Figure:
    """The mean over two continuous factors, and the line where the stability index is 1.

    Args:
        cells: by the values of both factors.
        rows: values of the first factor, ascending; they are drawn upwards, equally far apart.
        columns: of the second, left to right.
        names: of the two factors.
        value: what is shown, with its unit.
        index: sharpness at initialisation over the optimizer's threshold; None: not recorded.
        pooled: the factors that a cell averages over.
    """
    import numpy as np

    known = index is not None and len(rows) > 1 and len(columns) > 1
    told = "Line: sharpness at initialisation meets the optimizer's limit." if known else "Sharpness was not recorded."
    left, across = _margin(rows), max(4.1, (0.15 + LETTER * max(map(len, columns))) * min(len(columns), 12))
    runs = f"n = {sum(cell.n for cell in cells.values())} runs"
    more = f", averaged over {', '.join(pooled)}" if pooled else ""
    sheet = Sheet(left + across + 1.1, 4.4, value, f"{told} {runs}{more}.")
    axes = sheet.panel(left, left + across, below=0.5, above=0.05)
    bar = sheet.panel(left + across + 0.15, left + across + 0.3, below=0.5, above=0.05)
    means = [[cells[r, c].mean if (r, c) in cells else math.nan for c in columns] for r in rows]
    _coloured(axes, bar, means, origin="lower")
    if index is not None and known:
        logs = np.array(
            [[math.log10(i) if (i := index.get((r, c), 0.0)) > 0 else math.nan for c in columns] for r in rows]
        )
        if (logs < 0).any() and (logs > 0).any():
            axes.contour(logs, levels=[0.0], colors=[WRONG], linewidths=2.5)
    _ticks(axes, columns, rows, names)
    return sheet.figure


def combinations(
    cells: Mapping[str, Estimate],
    value: str,
    least: float = -math.inf,
    most: float = math.inf,
    told: str = "Mean and its 95 % interval over n seeds",
    factors: Sequence[str] = (),
) -> Figure:
    """A dot and its 95 % interval for each combination, smallest first; of many the thirty smallest.

    Args:
        cells: by the combination in words.
        value: what the axis shows, with its unit.
        least: what the value cannot be below, where intervals end.
        most: likewise above.
        told: what the dots are, in words.
        factors: whose values the combinations are.
    """
    known = {name: cell for name, cell in cells.items() if cell.n and math.isfinite(cell.mean)}
    some = sorted(known.items(), key=lambda item: item[1].mean)[:MOST_BARS]
    names = [f"{name} (n = {cell.n})" for name, cell in some]
    left = 0.3 + 0.08 * max(map(len, names), default=1)
    of = f" of {', '.join(factors)}" if factors else ""
    told = told if any(cell.n > 1 for cell in cells.values()) else "One run each"
    runs = sum(cell.n for cell in cells.values())
    caption = f"{told}: {len(some)} of {len(cells)} combinations{of}, n = {runs} runs."
    sheet = Sheet(left + 4.2, 0.24 * len(some) + 0.7, "", caption)
    axes = sheet.panel(left, left + 4.0, below=0.45, above=0.05)
    means = [cell.mean for _, cell in some]
    below = [0.0 if math.isnan(cell.low) else cell.mean - max(cell.low, least) for _, cell in some]
    above = [0.0 if math.isnan(cell.high) else min(cell.high, most) - cell.mean for _, cell in some]
    style: dict[str, Any] = {"fmt": "D", "color": COLOURS[0], "markersize": 4, "capsize": 2}
    axes.errorbar(means, range(len(some)), xerr=[below, above], **style)
    axes.set_yticks(range(len(some)), names, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel(value)
    plain(axes)
    return sheet.figure


def importance_bars(shares: Sequence[tuple[str, float]], value: str, n: int) -> Figure:
    """The part of the variance that each term explains.

    Args:
        shares: terms and their parts in [0, 1].
        value: whose variance it is.
        n: runs.
    """
    some = shares[:MOST_BARS]
    left = 0.3 + 0.08 * max((len(name) for name, _ in some), default=1)
    below = f"Type II sums of squares beyond chance, over the total; n = {n} runs."
    sheet = Sheet(left + 4.0, 0.28 * len(some) + 0.7, "", below)
    axes = sheet.panel(left, left + 3.8, below=0.45, above=0.05)
    axes.barh(range(len(some)), [part for _, part in some], color=COLOURS[0])
    axes.set_yticks(range(len(some)), [name for name, _ in some], fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of the variance of {value}")
    plain(axes)
    return sheet.figure
