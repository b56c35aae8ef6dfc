"""Static figures of a study (PNG, SVG), from the numbers that the page's charts have, and figures that others drew."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.figures.curves import KEPT, STOPPED
from mlp_study.reporting.analysis import Analysis
from mlp_study.reporting.axes import Axis, continuous
from mlp_study.reporting.comparison import KEY
from mlp_study.reporting.failures import METRIC
from mlp_study.reporting.page_data import DRAWN, SHOWN_FIRST, chance_of, failures, loss_end
from mlp_study.runtime.files import write_file
from mlp_study.runtime.reading import read_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mlp_study.figures.study import Estimate

    Pair = tuple[str, str]
    Estimates = dict[Pair, Estimate]

PNG_BYTES = 100_000_000  # of a figure that is read
MOST_LEVELS = 24  # of a map's factor
MOST_ACROSS = 10  # of them beside each other, as long as there are fewer of the other factor
TIME = 0.8  # validation accuracy to be reached
NAME = "test accuracy (share of images)"
MOST_PHASES = 4  # phase diagrams, one an activation
PREFIX = "study_"  # of the files


@dataclass(frozen=True)
class Picture:
    """A static figure.

    Attributes:
        name: of its files.
        heading: above it in the page.
        text: what it shows, for the caption and for those who do not see it.
        png: its content.
        svg: its content, if it was drawn here.
        charted: whether the page has an interactive chart of the same, and does without the picture.
    """

    name: str
    heading: str
    text: str
    png: bytes
    svg: bytes | None = None
    charted: bool = False

    @classmethod
    def of(cls, name: str, heading: str, text: str, figure: Figure, *, charted: bool = False) -> Picture:
        """Draw a figure in both formats."""
        return cls(name, heading, text, rendered(figure, "png"), rendered(figure, "svg"), charted)

    def write(self, folder: Path) -> None:
        """``NAME.png`` and ``NAME.svg``, each whole or not at all.

        Raises:
            WriteError: the disk is full or read-only.
        """
        write_file(folder / f"{self.name}.png", self.png)
        if self.svg is not None:
            write_file(folder / f"{self.name}.svg", self.svg)


def rendered(figure: Figure, form: str) -> bytes:
    """A figure's bytes; an SVG's text stays text, and two drawings of one figure are equal."""
    from matplotlib import rc_context

    content = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mlp_study"}):
        figure.savefig(content, format=form, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()


def left_by_others(folder: Path, charted: tuple[str, ...] = (), of: str = "") -> list[Picture]:
    """The PNGs in ``folder/figures``: what a run, a search or a reproduction has drawn at its end.

    Args:
        folder: the run's, search's or reproduction's.
        charted: how the names of those begin that the page shows interactively.
        of: the folder in words, where others have figures of the same names; files and headings then begin with it.
    """
    found = []
    for path, png in _drawn_in(folder):
        name = path.stem.replace("_", " ")
        shown = path.stem.startswith(charted) if charted else False
        heading = f"{of}: {name}" if of else name[:1].upper() + name[1:]
        own = re.sub(r"[^\w.-]+", "_", f"{of}_{path.stem}") if of else path.stem
        text = f"{heading if of else name}, as drawn when the runs ended."
        found.append(Picture(own, heading, text, png, charted=shown))
    return found


def _drawn_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """The PNGs in ``folder/figures``; what only bears such a name is left out, or the page would show any file."""
    for path in sorted((folder / "figures").glob("*.png")):
        with contextlib.suppress(OSError, ValueError):
            png = read_bytes(path, PNG_BYTES)
            if png.startswith(b"\x89PNG\r\n"):
                yield path, png


def told_apart(pictures: Iterable[Picture]) -> list[Picture]:
    """No file's name twice: those that come later are numbered."""
    found: dict[str, Picture] = {}
    for picture in pictures:
        names = itertools.chain([picture.name], (f"{picture.name}_{i}" for i in itertools.count(2)))
        name = next(name for name in names if name not in found)
        found[name] = replace(picture, name=name)
    return list(found.values())


def static_figures(study: Analysis) -> list[Picture]:
    """Every figure that the study has something to show in; the page has interactive charts of the same."""
    return [Picture.of(PREFIX + name, "", "", figure, charted=True) for name, figure in _figures(study) if study.runs]


def _figures(study: Analysis) -> Iterator[tuple[str, Figure]]:
    from mlp_study.figures import learning_curves
    from mlp_study.figures import study as figures

    if study.curves.size:
        table, by = curve_table(study), "combination" if study.factors else None
        shown = f"{table['combination'].nunique()} of {len(study.groups)} combinations of {', '.join(study.factors)}"
        title = "; ".join(filter(None, [shown if by else "", kept(study)]))
        title = title[:1].upper() + title[1:]
        end, chance = loss_end(study), chance_of(study)
        yield "learning_curves", learning_curves(table, by, title=title, loss_end=end, chance=chance)
    if len(study.factors) >= 2:
        rows, columns = map_axes(study)
        if max(len(rows.levels), len(columns.levels) * 2) <= MOST_LEVELS * 2:
            cells = estimates(study, (rows, columns))
            names = rows.name, columns.name
            yield "map", figures.value_map(cells, rows.levels, columns.levels, names, NAME, pooled(study, names))
    yield from _phases(study)
    if "gap" in study.summaries and study.factors:
        gap = {name: cell for name, cell in _by_combination(study, "gap").items() if not cell.mark}
        if gap:
            value, told = (
                "training less test accuracy (share of images)",
                "Mean and its 95 % interval of runs that learn",
            )
            yield "gap", figures.combinations(gap, value, told=told, factors=study.factors)
    if study.factors and (found := _times(study)):
        value, most = f"epochs to validation accuracy {TIME}", float(study.curves.shape[1])
        told = f"Median and its 95 % interval (Kaplan-Meier) where half of the runs reach it, {len(found)} of "
        told += f"{len(study.groups)} combinations"
        yield "time", figures.combinations(found, value, 1.0, most, told, study.factors)
    if (shares := study.shares.get(METRIC)) and not study.study.search:
        named = [(" x ".join(share.factors) or "the rest", share.part) for share in shares]
        yield "importance", figures.importance_bars(named, "test accuracy", len(study.runs))


def kept(study: Analysis) -> str:
    """What a reader of curves of several runs must know of those that stopped early; empty if none did."""
    return KEPT if len(study.runs) > 1 and any(run["outcome"] == STOPPED for run in study.runs) else ""


def map_axes(study: Analysis) -> tuple[Axis, Axis]:
    """Rows and columns: activation and scale before others, of several folders each apart, more rows than columns."""
    axes = {axis.name: axis for axis in study.axes}
    among = [name for name in study.factors if name != KEY] if len(study.factors) > 2 else study.factors
    first = "activation" if "activation" in among else among[0]
    second = next(name for name in ("data.scale", *among) if name in among and name != first)
    rows, columns = axes[first], axes[second]
    if len(columns.levels) > max(MOST_ACROSS, len(rows.levels)):
        rows, columns = columns, rows
    if KEY in axes and KEY not in (first, second):  # folders may differ in settings that are no factors
        rows = _both(axes[KEY], rows)
    return rows, columns


def _both(first: Axis, second: Axis) -> Axis:
    """The pairs of two axes' values that occur."""
    pairs = list(zip(first.codes, second.codes, strict=True))
    order = {pair: i for i, pair in enumerate(sorted(set(pairs)))}
    levels = [f"{first.levels[a]}, {second.levels[b]}" for a, b in order]
    return Axis(f"{first.name}, {second.name}", levels, [order[pair] for pair in pairs])


def _phases(study: Analysis) -> Iterator[tuple[str, Figure]]:
    """A phase diagram of the first two continuous factors for each activation, whose limits differ, and folder."""
    from mlp_study.figures.study import phase_diagram

    axes = {axis.name: axis for axis in study.axes}
    names = continuous(study.runs, study.factors)[:2]
    if len(names) < 2:
        return
    columns, rows = (axes[name] for name in names)
    if len(rows.levels) > MOST_LEVELS or len(columns.levels) > MOST_LEVELS:
        return
    kinds = [axes[name] for name in (KEY, "activation") if name in axes]
    kind = _both(*kinds) if len(kinds) == 2 else kinds[0] if kinds else None
    for code, name in enumerate(kind.levels[:MOST_PHASES] if kind else ["all"]):
        own = [g for g in range(len(study.groups)) if kind is None or kind.codes[g] == code]
        cells = estimates(study, (rows, columns), METRIC, own)
        limits = estimates(study, (rows, columns), "initial/stability_index", own)
        index = {key: cell.mean for key, cell in limits.items() if cell.n}
        more = pooled(study, (rows.name, columns.name), own)
        title = f"{name}: {NAME}" if kind else NAME
        figure = phase_diagram(
            cells, rows.levels, columns.levels, (rows.name, columns.name), title, index or None, more
        )
        several = kind is not None and len(kind.levels) > 1
        yield f"phase_{re.sub(r'[^a-zA-Z0-9_.-]+', '_', name)}" if several else "phase", figure


def estimates(
    study: Analysis, axes: tuple[Axis, Axis], metric: str = METRIC, groups: Sequence[int] | None = None
) -> Estimates:
    """Mean, deviation, n and the most frequent mechanism at each pair of values of two axes.

    Of several combinations in one cell the mean is over all their runs, and there is no deviation.

    Args:
        study: the numbers.
        axes: rows and columns.
        metric: whose means.
        groups: the combinations that count; None: all.
    """
    together: dict[Pair, list[int]] = {}
    for g in range(len(study.groups)) if groups is None else groups:
        pair = axes[0].levels[axes[0].codes[g]], axes[1].levels[axes[1].codes[g]]
        together.setdefault(pair, []).append(g)
    return {pair: _estimate(study, metric, own) for pair, own in together.items()}


def _by_combination(study: Analysis, metric: str) -> dict[str, Estimate]:
    return {name: _estimate(study, metric, [g]) for g, name in enumerate(study.labels)}


def _times(study: Analysis) -> dict[str, Estimate]:
    """The median epochs to ``TIME`` of the combinations of which half of the runs reach it."""
    from mlp_study.figures.study import Estimate

    return {
        name: Estimate(found.median, math.nan, found.reached, low=found.low, high=found.high)
        for name, found in zip(study.labels, study.times(TIME), strict=True)
        if math.isfinite(found.median)
    }


def _estimate(study: Analysis, metric: str, groups: Sequence[int]) -> Estimate:
    from mlp_study.figures.study import Estimate

    members = [i for g in groups for i in list(study.groups.values())[g]]
    why = failures(study, members)
    mark = why[0][0] if why and 2 * sum(count for _, count in why) > len(members) else ""
    found = study.summaries.get(metric)
    if found is None:
        return Estimate(math.nan, math.nan, 0, mark)
    n = int(found.n[list(groups)].sum())
    if len(groups) == 1:
        g = groups[0]
        mean, half = float(found.mean[g]), float(found.half[g])
        return Estimate(mean, float(found.deviation[g]), n, mark, mean - half, mean + half)
    means = [(float(found.mean[g]), int(found.n[g])) for g in groups if found.n[g]]
    return Estimate(sum(mean * count for mean, count in means) / n if n else math.nan, math.nan, n, mark)


def pooled(study: Analysis, names: Sequence[str], groups: Sequence[int] | None = None) -> list[str]:
    """The factors that a map over the settings ``names`` averages over."""
    shown = {part for name in names for part in name.split(", ")}
    own = list(study.groups) if groups is None else [list(study.groups)[g] for g in groups]
    return [
        key for place, key in enumerate(study.factors) if key not in shown and len({group[place] for group in own}) > 1
    ]


def curve_table(study: Analysis) -> pd.DataFrame:
    """The curves of the combinations that tell the most, in the order of all, below each other."""
    import numpy as np
    import pandas as pd

    order = list(study.groups.values())
    shown = [(g, study.curves[i][:, : len(DRAWN)]) for g in sorted(study.telling[:SHOWN_FIRST]) for i in order[g]]
    whole = pd.DataFrame(np.concatenate([curve for _, curve in shown]), columns=list(DRAWN))
    whole["epoch"] = np.concatenate([np.arange(1, len(curve) + 1) for _, curve in shown])
    whole["combination"] = [study.labels[g] for g, curve in shown for _ in curve]
    return whole[whole["train/loss"].notna()]
