"""What a sweep prints: its plan before, its table after."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.data.images import load
from mlp_study.runtime.statistics import mean_deviation
from mlp_study.runtime.workers import threads_of
from mlp_study.sweep import cost
from mlp_study.sweep.memory import GB

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig
    from mlp_study.sweep.plan import Plan, Population
    from mlp_study.sweep.table import SweepTable

SHOWN = 40  # lines of a table; of longer ones the best and the worst


def print_plan(plan: Plan, folder: Path, finished: Collection[str], rehearsal: float | None = None) -> None:
    """Populations, members, steps, estimated memory and time; and the folder, by which the sweep resumes."""
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
    lines = [["population", "members", "data", "layers", "batch", "epochs", "steps", "memory"]]
    for number, population in enumerate(plan.populations, 1):
        lines.append([f"{number}/{len(plan.populations)}", *_described(population)])
    if len(lines) > SHOWN:
        lines = [*lines[: SHOWN // 2], ["..."], *lines[-SHOWN // 2 :]]
    print(aligned(lines))
    largest = max(population.bytes for population in plan.populations)
    several = plan.crew.shared and plan.crew.workers > 1
    by = f" by {plan.crew.workers} processes of {counted(threads_of(plan.crew.workers), 'thread')}" if several else ""
    size = f"{largest / GB:.2f} GB {'each' if several else 'at a time'}"
    print(f"  at most {size}, about {duration(estimated(plan, finished, rehearsal))}{by}", flush=True)


def _described(population: Population) -> list[str]:
    config = population.cells[0].config
    return [str(len(population.cells)), *described(config, population.steps, population.bytes)]


def described(config: RunConfig, steps: int, size: int) -> list[str]:
    """Data set, layers, minibatch, epochs, steps and memory of a population that this run is in."""
    layers = "-".join(map(str, config.model.widths)) + ("" if config.model.norm == "none" else f" {config.model.norm}")
    epochs = config.trainer.max_epochs
    parts = [config.data.name, layers, config.data.batch_size, epochs, steps]
    return [*map(str, parts), f"{size / GB:.2f} GB"]


def estimated(plan: Plan, finished: Collection[str], rehearsal: float | None = None) -> float:
    """Seconds for what is not finished; ``rehearsal`` bounds the time that finding out may take."""
    parts = []
    for population in plan.populations:
        left = [cell.config for cell in population.cells if cell.run_id not in finished]
        if left:
            images = load(left[0].data.name, left[0].data_root, **left[0].data.options)
            parts.append(cost.Part(left, images, population.work * len(left) / len(population.cells)))
    crew = plan.crew
    threads = threads_of(crew.workers) if crew.shared and crew.workers > 1 else None
    return cost.seconds(parts, crew.workers, rehearsal, threads) if parts else 0.0


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
