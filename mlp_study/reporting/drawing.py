"""The static figures of a study, from its analysis: for papers and slides, the page has charts of its own."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlp_study.figures.style import COLOURS
from mlp_study.reporting.analysis import Analysis
from mlp_study.reporting.choosing import told_first
from mlp_study.reporting.comparing import KEY
from mlp_study.reporting.factors import METRIC, Row, continuous, levels_of, text
from mlp_study.reporting.payload import DRAWN, loss_end, reached
from mlp_study.reporting.pictures import Picture
from mlp_study.runtime.statistics import half_width, mean_deviation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mlp_study.figures.study import Cell

Axis = Sequence[str]  # factors whose values stand together
MOST_LEVELS = 24  # of a map's factor
MOST_ACROSS = 10  # of them beside each other, as long as there are fewer of the other factor
TIME = 0.8  # validation accuracy to be reached
NAME = "test accuracy (share of images)"
MOST_PHASES = 4  # phase diagrams, one an activation
PREFIX = "study_"  # of the files


def drawn_figures(study: Analysis) -> list[Picture]:
    """Every figure that the study has something to show in; the page has interactive charts of the same."""
    return [Picture.of(PREFIX + name, "", "", figure, charted=True) for name, figure in _figures(study) if study.rows]


def _figures(study: Analysis) -> Iterator[tuple[str, Figure]]:
    from mlp_study.figures import learning_curves
    from mlp_study.figures import study as figures

    if study.curves.size:
        table, by = curve_table(study), "combination" if study.factors else None
        shown = f"{table['combination'].nunique()} of {len(study.groups)} combinations" if by else ""
        shown += f" of {', '.join(study.factors)}" if by else ""
        title = "; ".join(filter(None, [shown, study.kept]))
        end = loss_end(study.curves, list(study.groups.values()))
        yield "learning_curves", learning_curves(table, by, title=title[:1].upper() + title[1:], loss_end=end)
    if len(study.factors) >= 2:
        first, second = map_axes(study)
        rows, columns = levels(study, first), levels(study, second)
        if max(len(rows), len(columns)) <= MOST_LEVELS * (2 if len(first) > 1 else 1) and len(columns) <= MOST_LEVELS:
            names = ", ".join(first), ", ".join(second)
            cells, more = cells_of(study, (first, second)), pooled(study, (first, second))
            yield "map", figures.value_map(cells, rows, columns, names, NAME, more)
    yield from _phases(study)
    if study.factors:
        gap, time = (_by_combination(study, values) for values in _values(study))
        if any(cell.n for cell in gap.values()):
            told = "training less test accuracy (share of images)"
            yield "gap", figures.combinations(gap, told, factors=study.factors)
        if any(cell.n for cell in time.values()):
            told, reaching = f"epochs to validation accuracy {TIME}", " that reach it"
            yield "time", figures.combinations(time, told, 1.0, study.factors, reaching)
    if (shares := study.shares.get(METRIC)) and not study.study.search:
        named = [(" x ".join(share.factors) or "the rest", share.part) for share in shares]
        yield "importance", figures.importance_bars(named, "test accuracy", len(study.rows))


def map_axes(study: Analysis) -> tuple[Axis, Axis]:
    """Rows and columns: activation and scale before others, of several folders each apart, more rows than columns."""
    among = [name for name in study.factors if name != KEY] if len(study.factors) > 2 else study.factors
    first = "activation" if "activation" in among else among[0]
    second = next(name for name in ("data.scale", *among) if name in among and name != first)
    apart = KEY in study.factors and KEY not in (first, second)  # folders may differ in settings that are no factors
    rows, columns = [first], [second]
    if len(levels(study, [second])) > max(MOST_ACROSS, len(levels(study, [first]))):
        rows, columns = columns, rows
    return [KEY, *rows] if apart else rows, columns


def levels(study: Analysis, axis: Axis) -> list[str]:
    """The values of one factor, or the combinations of several that occur, in the order of their values."""
    orders = [{name: i for i, name in enumerate(levels_of(study.rows, key))} for key in axis]
    found = {tuple(text(row.get(key)) for key in axis) for row in study.rows}
    ordered = sorted(found, key=lambda values: [order[v] for order, v in zip(orders, values, strict=True)])
    return [", ".join(values) for values in ordered]


def _phases(study: Analysis) -> Iterator[tuple[str, Figure]]:
    """A phase diagram of the first two continuous factors for each activation, whose limits differ, and folder."""
    from mlp_study.figures.study import phase_diagram

    axes = continuous(study.rows, study.factors)[:2]
    if len(axes) < 2:
        return
    names = (axes[1], axes[0])
    rows, columns = (levels_of(study.rows, name) for name in names)
    if len(rows) > MOST_LEVELS or len(columns) > MOST_LEVELS:
        return
    kind = [*([KEY] if KEY in study.factors else []), "activation"]
    kinds = levels(study, kind)
    for name in kinds[:MOST_PHASES]:
        own = [i for i, row in enumerate(study.rows) if _named(row, kind) == name]
        pair = ([names[0]], [names[1]])
        index = {key: c.mean for key, c in cells_of(study, pair, "initial/stability_index", own).items() if c.n}
        cells, more = cells_of(study, pair, METRIC, own), pooled(study, pair, own)
        figure = phase_diagram(cells, rows, columns, names, f"{name}: {NAME}", index or None, more)
        yield f"phase_{re.sub(r'[^a-zA-Z0-9_.-]+', '_', name)}" if len(kinds) > 1 else "phase", figure


def cells_of(
    study: Analysis, axes: tuple[Axis, Axis], metric: str = METRIC, runs: Sequence[int] | None = None
) -> dict[tuple[str, str], Cell]:
    """Mean, deviation, n and the most frequent mechanism at each pair of values of two axes; None: of all runs."""
    members = _members(study, axes, runs)
    return {key: _cell([study.value(i, metric) for i in own], _mark(study, own)) for key, own in members.items()}


def pooled(study: Analysis, axes: tuple[Axis, Axis], runs: Sequence[int] | None = None) -> list[str]:
    """The factors in which runs differ that stand in one cell of two axes."""
    cells = _members(study, axes, runs).values()
    return [key for key in study.factors if any(len({text(study.rows[i].get(key)) for i in own}) > 1 for own in cells)]


def _members(
    study: Analysis, axes: tuple[Axis, Axis], runs: Sequence[int] | None = None
) -> dict[tuple[str, str], list[int]]:
    members: dict[tuple[str, str], list[int]] = {}
    for i in range(len(study.rows)) if runs is None else runs:
        row = study.rows[i]
        members.setdefault((_named(row, axes[0]), _named(row, axes[1])), []).append(i)
    return members


def _named(row: Row, axis: Axis) -> str:
    return ", ".join(text(row.get(key)) for key in axis)


def _cell(values: Sequence[float], mark: str = "") -> Cell:
    from mlp_study.figures.study import Cell

    mean, deviation, n = mean_deviation(values)
    return Cell(mean, deviation, n, mark, half_width(deviation, n))


def _mark(study: Analysis, members: Sequence[int]) -> str:
    found = Counter(mechanism for i in members if (mechanism := study.mechanisms[i]))
    return found.most_common(1)[0][0] if 2 * found.total() > len(members) else ""


def _values(study: Analysis) -> tuple[list[float], list[float]]:
    """Each run's generalisation gap, and its epochs to an accuracy (NaN: never)."""
    epochs = [math.nan if epoch is None else float(epoch) for epoch in reached(study.curves, TIME)]
    return [study.value(i, "gap") for i in range(len(study.rows))], epochs


def _by_combination(study: Analysis, values: Sequence[float]) -> dict[str, Cell]:
    return {", ".join(group): _cell([values[i] for i in members]) for group, members in study.groups.items()}


def curve_table(study: Analysis) -> pd.DataFrame:
    """The curves of the combinations that tell the most, in the order of all, below each other."""
    import numpy as np
    import pandas as pd

    order = list(study.groups)
    groups = [order[place] for place in sorted(told_first(study)[: len(COLOURS)])]
    shown = [(group, study.curves[i][:, : len(DRAWN)]) for group in groups for i in study.groups[group]]
    whole = pd.DataFrame(np.concatenate([curve for _, curve in shown]), columns=list(DRAWN))
    whole["epoch"] = np.concatenate([np.arange(1, len(curve) + 1) for _, curve in shown])
    whole["combination"] = [", ".join(group) for group, curve in shown for _ in curve]
    return whole[whole["train/loss"].notna()]
