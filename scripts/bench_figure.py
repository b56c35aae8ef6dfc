"""A figure of what ``bench.py --json FILE`` measured: every ratio with its range and its goal, and how it scales.

    python scripts/bench_figure.py docs/bench.json docs/figures/bench.png

`scripts/readme_tables.py` draws the README's. The PNG carries a digest of the numbers it was drawn from.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import judged, ratios_of
from mlp_study.figures.style import COLOURS, WRONG, Sheet, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = dict[str, Any]
LINE = 0.2  # inches: a peer or a heading
TITLE = "Time of mlp_study over the time of each peer: median and range of paired rounds; left of 1 is faster"
CURVES = {  # how a row's name starts: its title, what is at the bottom, and the row of another name that belongs to it
    "shape_width_": ("time over matrix products, by width", "hidden units", {}),
    "shape_depth_": ("by depth", "hidden layers of 100", {"shape_width_100": 1}),
    "shape_batch_": ("by minibatch, up to all 6,000 images", "images", {"shape_width_100": 100}),
    "overhead_": ("ms per run of a sweep, beyond training", "runs", {}),
    "gpu_": ("time over one network at a time, on a GPU", "members", {}),
}


@dataclass(frozen=True)
class Line:
    """A peer's line: the ratios of all rounds, the goal as a ratio (or as a range), and whether it is met."""

    label: str
    ratios: Sequence[float]
    goals: Sequence[float]
    met: bool | None

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)


def digest(record: Record) -> str:
    """What tells one file of numbers from another."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def drawn_from(path: Path) -> str:
    """The digest of the numbers that a figure was drawn from; nothing if there is no figure of ours."""
    from PIL import Image

    if not path.is_file():
        return ""
    with Image.open(path) as image:
        return str(image.info.get("Description", ""))


def compared(row: Record) -> Iterator[Line]:
    """The lines of a row: its peers, or its own time over what is allowed."""
    ours, *peers = (c for c in row["contenders"] if c["seconds"])
    if ours["limit"]:
        allowed = f"{ours['limit'] * 1000:g} ms" if ours["limit"] < 1 else f"{ours['limit']:g} s"
        ratios = [seconds / ours["limit"] for seconds in ours["seconds"]]
        yield Line(f"the allowed {allowed}", ratios, (1.0,), statistics.median(ratios) <= 1)
    for peer in peers:
        goal, within = peer["goal"], peer.get("within")
        said = judged(ours["seconds"], peer, alone=False)[1]
        goals = (goal,) if goal else (1 - within, 1 + within) if within else ()
        if apart := peer.get("apart"):  # seconds, as a ratio to this peer's median
            goals = (1 + apart / statistics.median(peer["seconds"]),)
        met = said.endswith("yes") if goals else None
        yield Line(peer["label"], ratios_of(ours["seconds"], peer["seconds"]), goals, met)


def groups(record: Record) -> dict[str, list[Line]]:
    """The lines of each row that is no point of a curve, under a heading with the row's name and what is ours."""
    found = {}
    for name, row in record.items():
        measured = [c for c in row["contenders"] if c["seconds"]]
        if measured and not (measured[0] is not row["contenders"][0] or name.startswith(tuple(CURVES))):
            lines = list(compared(row))
            if lines:
                found[f"{name}: {measured[0]['label']}, over"] = lines
    return found


def curve(record: Record, start: str) -> list[tuple[int, Sequence[float]]]:
    """(what is varied, all rounds' ratios, or milliseconds where there is no peer) of the rows whose names begin so."""
    points = {name: int(name.removeprefix(start)) for name in record if re.fullmatch(start + r"\d+", name)}
    points |= {name: x for name, x in CURVES[start][2].items() if name in record and points}
    found: list[tuple[int, Sequence[float]]] = []
    for name, x in sorted(points.items(), key=lambda item: item[1]):
        contenders = [c["seconds"] for c in record[name]["contenders"]]
        values = ratios_of(*contenders[:2]) if len(contenders) > 1 else [1000 * s for s in contenders[0]]
        if values:
            found.append((x, values))
    return found


def draw(record: Record, path: Path) -> None:
    """Write the figure of a file of numbers as PNG: peers at the left, curves at the right."""
    peers = groups(record)
    curves = {start: points for start in CURVES if len(points := curve(record, start)) > 1}
    rows = sum(1 + len(lines) for lines in peers.values())
    wide = 11.5 if peers and curves else 6.5
    body = max(LINE * rows + 0.6, 1.9 * len(curves), 1.5)
    key = "Black ticks: goals. Blue: met; orange diamonds: missed; grey: no goal."
    about = next(iter(record.values()))["machine"]
    sheet = Sheet(wide, body, TITLE, f"{key} {about['cpu']}, {about['cores']} cores. scripts/bench.py --full")
    if peers:
        _peers(sheet.panel(3.3, 7.0 if curves else wide - 0.2, below=0.4), peers)
    left = wide - (4.0 if peers else 5.9)
    for place, (start, points) in enumerate(curves.items()):
        high = body / len(curves)
        axes = sheet.panel(left, wide - 0.15, below=body - (place + 1) * high + 0.55, above=place * high + 0.25)
        _curve(axes, start, points, record)
    sheet.figure.savefig(path, metadata={"Description": digest(record)})


def _style(met: bool | None) -> dict[str, Any]:
    colour, marker = {True: (COLOURS[0], "o"), False: (WRONG, "D"), None: ("0.45", "s")}[met]
    return {"color": colour, "marker": marker, "markersize": 5}


def _peers(axes: Axes, peers: dict[str, list[Line]]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    plain(axes)
    y = -1
    everything = [value for lines in peers.values() for line in lines for value in (*line.ratios, *line.goals)]
    low, high = min(0.5, 0.8 * min(everything)), max(2.0, 1.6 * max(everything))
    beside = axes.get_yaxis_transform()
    axes.axvline(1, color="0.5", linewidth=1)
    for heading, lines in peers.items():
        y += 1
        axes.text(-0.87, y, heading, transform=beside, va="center", fontsize=8, fontweight="bold", parse_math=False)
        for line in lines:
            y += 1
            style = _style(line.met)
            axes.vlines(line.goals, y - 0.42, y + 0.42, color="black", linewidth=1.6)
            axes.plot([min(line.ratios), max(line.ratios)], [y, y], color=style["color"], linewidth=1.8)
            axes.plot([line.median], [y], linestyle="", **style)
            axes.text(-0.02, y, line.label, transform=beside, ha="right", va="center", fontsize=8, parse_math=False)
            axes.text(1.01, y, f"{line.median:.2f}", transform=beside, ha="right", va="center", fontsize=8)
    axes.set(xscale="log", xlim=(low, high), ylim=(y + 0.6, -0.6), yticks=[])
    ticks = [v for v in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= v <= high]
    axes.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(labelsize=8)
    axes.spines["left"].set_visible(False)


def _curve(axes: Axes, start: str, points: list[tuple[int, Sequence[float]]], record: Record) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    plain(axes)
    title, what, _ = CURVES[start]
    xs = [x for x, _ in points]
    medians = [statistics.median(values) for _, values in points]
    axes.vlines(xs, [min(v) for _, v in points], [max(v) for _, v in points], color=COLOURS[0], linewidth=1.4)
    axes.plot(xs, medians, color=COLOURS[0], marker="o", markersize=4, linewidth=1.2)
    limits = {x: 1000 * record[f"{start}{x}"]["contenders"][0]["limit"] for x in xs if start == "overhead_"}
    axes.plot(list(limits), list(limits.values()), linestyle="", marker="_", markersize=14, color="black")
    for x, values in points:
        highest, median = max(values), statistics.median(values)
        axes.annotate(f"{median:.3g}", (x, highest), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(what, fontsize=8, labelpad=1)
    wide = (xs[-1] / xs[0]) ** 0.08
    axes.set(xscale="log", xlim=(xs[0] / wide, xs[-1] * wide))
    if start == "gpu_":
        axes.set_yscale("log")
        axes.axhline(1 / 300, color="black", linewidth=1.2)
    else:
        axes.set_ylim(0, 1.3 * max([*limits.values(), *(max(values) for _, values in points)]))
    if start.startswith("shape_"):
        axes.axhline(1, color="0.5", linewidth=1)
    axes.xaxis.set(major_locator=FixedLocator(xs), minor_locator=NullLocator())
    axes.set_xticks(xs, [f"{x:,}" for x in xs])
    axes.tick_params(labelsize=8)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
