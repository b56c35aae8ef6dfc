"""What a sweep prints: its plan before, its table after."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.runtime.processes import threads_of
from mlp_study.runtime.statistics import mean_deviation
from mlp_study.sweep import estimates
from mlp_study.sweep.memory import GB
from mlp_study.sweep.plan_parts import Part, described, parts_of

if TYPE_CHECKING:
    from mlp_study.sweep.plan import Plan
    from mlp_study.sweep.table import SweepTable

SHOWN = 40  # lines of a table; of longer ones the best and the worst
FILES, FILE_BYTES = 6, 4096  # of a run that keeps no model; what a small file takes on a disk of blocks of 4 KB


def print_plan(plan: Plan, folder: Path, finished: Collection[str]) -> None:
    """Print populations, members, steps, estimated memory and time; and the folder, by which the sweep resumes."""
    runs, todo = len(plan), len(plan) - len(finished)
    same = len(plan.jobs) - runs - plan.elsewhere
    share = f" (of {runs + plan.elsewhere}; the others are other shards')" if plan.elsewhere else ""
    populations = counted(len(plan.populations), "population")
    print(f"Sweep of {counted(runs, 'run')}{share} in {populations}: sweep_dir={folder}")
    if not runs:
        print("  this share is empty: there are more shards than runs", flush=True)
        return
    if same:
        print(f"  {same} of the {len(plan.jobs)} jobs repeat another one and are trained once")
    if finished:
        print(f"  {len(finished)} are finished already, {todo} to do")
    parts = parts_of(plan.populations)
    print(aligned(_part_lines(parts)))
    crew = plan.crew
    several = crew.shared and crew.workers > 1
    by = f" by {crew.workers} processes of {counted(threads_of(crew.workers), 'thread')}" if several else ""
    size = f"{max(part.bytes for part in parts) / GB:.2f} GB {'each' if several else 'at a time'}"
    work = sum(p.work * sum(c.run_id not in finished for c in p.cells) / len(p.cells) for p in plan.populations)
    left = estimates.seconds(parts[0].config, work, todo, crew.workers, not crew.shared) if todo else 0.0
    print(f"  at most {size}, about {duration(left)}{by}", flush=True)


def print_sampled_plan(parts: Sequence[Part], runs: int, folder: Path) -> None:
    """Print the same of a grid that is too large to be planned run by run, with the files that it would leave."""
    print(f"Sweep of {runs} runs in about {sum(p.populations for p in parts)} populations: sweep_dir={folder}")
    print("  estimated from runs drawn at random, as the grid is large: not all combinations were checked")
    print(aligned(_part_lines(sorted(parts, key=lambda part: -part.work))))
    left = estimates.seconds(parts[0].config, sum(part.work for part in parts), runs)
    size = f"{max(part.bytes for part in parts) / GB:.2f} GB"
    print(f"  at most {size} at a time, about {duration(left)} for one process like this one")
    print(
        f"  about {FILES * runs:,} files, {FILE_BYTES * FILES * runs / GB:.0f} GB without models and figures",
        flush=True,
    )


def _part_lines(parts: Sequence[Part]) -> list[list[str]]:
    lines = [["populations", "members", "data", "layers", "batch", "epochs", "steps", "memory"]]
    for part in parts[:SHOWN]:
        size = f"{part.bytes / GB:.2f} GB"
        lines.append([str(part.populations), str(part.members), *described(part.config, part.steps), size])
    return [*lines, [f"... {len(parts) - SHOWN} more"]] if len(parts) > SHOWN else lines


def print_summary(table: SweepTable, plan: Plan) -> None:
    """Mean and deviation over seeds of each combination of what was swept, with how its runs ended."""
    rows = [table.rows[cell.run_id] for cell in plan.cells if cell.run_id in table.rows]
    keys = [key for key in swept_keys(plan) if key != "seed"]
    print(aligned(summary_lines(rows, keys)))
    print(f"{outcomes(rows)}; table: {table.folder / 'runs.csv'}", flush=True)


def summary_lines(rows: Iterable[Mapping[str, Any]], keys: Sequence[str]) -> list[list[str]]:
    """A header and a line for each combination of the values of ``keys``; of many the best and the worst."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.get(key, "")) for key in keys), []).append(row)
    ranked = list(groups)
    if len(ranked) > SHOWN:
        means = {group: _accuracy(members, "val")[0] for group, members in groups.items()}
        ranked.sort(key=lambda group: -math.inf if math.isnan(means[group]) else means[group], reverse=True)
        ranked = [*ranked[: SHOWN // 2], *ranked[-SHOWN // 2 :]]
    body = [[*group, *_numbers(groups[group])] for group in ranked]
    if len(ranked) < len(groups):
        body.insert(SHOWN // 2, [f"... {len(groups) - len(ranked)} more"])
    return [[*keys, "runs", "test accuracy", "val accuracy", "diverged", "failed"], *body]


def _numbers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    ended = [row["outcome"] for row in rows]
    shown = []
    for mean, deviation, n in (_accuracy(rows, part) for part in ("test", "val")):
        few = f" (n = {n})" if 0 < n < len(rows) else ""  # not the number of runs beside it
        shown.append(f"{mean:.4f}" + ("" if math.isnan(deviation) else f" ± {deviation:.4f}") + few)
    return [str(len(rows)), *shown, str(ended.count("diverged")), str(ended.count("failed"))]


def _accuracy(rows: Sequence[Mapping[str, Any]], part: str) -> tuple[float, float, int]:
    return mean_deviation([row.get(f"{part}/accuracy", math.nan) for row in rows])


def outcomes(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many runs there are, and how they ended."""
    ended = [str(row["outcome"]) for row in rows]
    parts = [f"{ended.count(outcome)} {outcome}" for outcome in dict.fromkeys(ended)]
    return f"{counted(len(rows), 'run')}: {', '.join(parts)}" if rows else "0 runs"


def swept_keys(plan: Plan) -> list[str]:
    """The keys that have more than one value among the jobs, as a user types them."""
    seen: dict[str, str] = {}
    varying: dict[str, None] = {}
    for cell in plan.cells:
        for override in cell.overrides:
            key, _, value = override.partition("=")
            if seen.setdefault(key, value) != value:
                varying[key] = None
    return [key for key in seen if key in varying]


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns under each other."""
    columns = max(map(len, lines))
    widths = [max((len(line[c]) for line in lines if c < len(line)), default=0) for c in range(columns)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def counted(count: int, thing: str) -> str:
    """A number of things in words."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def duration(total: float) -> str:
    """Seconds in words."""
    minutes, rest = divmod(round(total), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{max(1, rest)} s"
