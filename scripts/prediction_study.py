"""How well does the verdict made before training foretell what training shows?

    python scripts/prediction_study.py run OUT [--runs 2000] [--mnist 2000]
    python scripts/prediction_study.py sources OUT [--seeds 3] [--only NAME]
    python scripts/prediction_study.py fit OUT
    python scripts/prediction_study.py report OUT

``run`` draws runs from the space of sweeps/prediction.yaml, writes down what the diagnosis measures before
training (a look-ahead at its first steps) and how the run then ends. Two halves: ``select`` with the space's learning
rates and seeds, from which ``fit`` finds the constants of doctor/forecast.py, and ``held`` with others between
them and other seeds, which only the report sees. ``mnist`` is a third data set. ``fresh``, half as large, has
learning rates and seeds of its own again, and ``short`` trainings that the look-ahead sees all or most of.
``sources`` does the same with every variant of the five sources, as conf/experiment has them, each seed by itself. The
same command again measures what is missing. ``report`` judges the stored measurements with the verdict's rules as they
are now, and compares.

A run succeeds if its test accuracy is at least 0.8 of the best that any run of its data set, widths and half reached.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlp_study.config.shipped import shipped
from prediction_report import fit, lines_of, report

# Each part's learning rates are the space's times a number, so that none meets another's; its seeds lie apart, too.
PARTS = {
    "select": (1.0, 0),
    "held": (10**0.5, 100),
    "mnist": (10**0.5, 100),
    "fresh": (10**0.25, 200),
    "short": (10**0.75, 300),
}
SHORT = [2, 3, 5]  # epochs: 76, 114 and 190 steps, of which the look-ahead sees all, all, and two thirds
CHUNK = 48  # members of a population: bounds the memory of Lanczos' basis
PROBES: dict[str, Any] = {"ends": ["dead", "saturated", "plateau"], "epochs": []}

Run = tuple[dict[str, Any], Any]  # what is varied (its cell), and its config


def space() -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The sweep's fixed settings, and each swept key's values."""
    import yaml

    text = (shipped("sweeps") / "prediction.yaml").read_text(encoding="utf-8")
    fixed = yaml.safe_load(text)
    params = fixed.pop("hydra")["sweeper"]["params"]
    axes = {key: yaml.safe_load(f"[{values}]") for key, values in params.items()}
    return fixed, axes


def drawn(half: str, data: str, count: int) -> list[dict[str, Any]]:
    """``count`` different runs of a part of the study on a data set, as swept key -> value."""
    _, axes = space()
    source = random.Random(f"{half} {data}")
    times, seeds = PARTS[half]
    if times > 1:
        axes["optimizer.lr"] = [lr * times for lr in axes["optimizer.lr"][:-1]]
        axes["seed"] = [seed + seeds for seed in axes["seed"]]
    if half == "short":
        axes["trainer.max_epochs"] = SHORT
    axes["data"] = [data]
    cells = list(itertools.product(*axes.values()))
    return [dict(zip(axes, cell, strict=True)) for cell in source.sample(cells, count)]


def config_of(cell: dict[str, Any]) -> Any:
    """The run's config."""
    from mlp_study.config.schema import RunConfig

    fixed, _ = space()
    values: dict[str, Any] = {section: dict(options) for section, options in fixed.items()}
    for key, value in cell.items():
        section, _, option = key.partition(".")
        if option:
            values.setdefault(section, {})[option] = value
        elif key == "seed":
            values[key] = value
        else:
            values.setdefault(section, {})["name"] = value
    return RunConfig.from_dict({"schedule": "constant", "probes": PROBES, **values})


def populations(runs: Sequence[Run]) -> Iterator[tuple[list[dict[str, Any]], list[Any]]]:
    """The runs in groups that train together, in the order in which a population holds them."""
    from mlp_study.training.lockstep import lockstep_order, shape_key

    groups: dict[Any, list[Run]] = defaultdict(list)
    for cell, config in runs:
        groups[shape_key(config)].append((cell, config))
    for group in groups.values():
        order = lockstep_order([config for _, config in group])
        for start in range(0, len(order), CHUNK):
            part = [group[k] for k in order[start : start + CHUNK]]
            yield [cell for cell, _ in part], [config for _, config in part]


def measure(half: str, runs: Sequence[Run], out: Path, workers: int = 1) -> None:
    """Look ahead and train whatever ``out`` does not have yet, and append one line a run to it."""
    torn_line_removed(out)
    done = {_key(line) for line in lines_of(out)}

    def missing(cells: list[dict[str, Any]], configs: list[Any]) -> bool:
        lines = ({"half": half, "cell": a, "run_id": b.run_id} for a, b in zip(cells, configs, strict=True))
        return not all(_key(line) in done for line in lines)

    todo = [part for part in populations(runs) if missing(*part)]
    with _pool(min(workers, len(todo))) as each, out.open("a", encoding="utf-8") as file:
        for lines in each(functools.partial(measured, half), todo):
            file.writelines(json.dumps(line) + "\n" for line in lines if _key(line) not in done)
            file.flush()
            first = lines[0]
            seconds = [sum(line[name] for line in lines) for name in ("look_seconds", "train_seconds")]
            what = f"{half} {first['cell']['data']} {first['cell']['model.widths']}"
            print(f"{what}: {len(lines)} runs, CPU {seconds[0]:.1f} + {seconds[1]:.1f} s", flush=True)


def measured(half: str, part: tuple[list[dict[str, Any]], list[Any]]) -> list[dict[str, Any]]:
    """A line for each run of a population: what was seen before training, and how it ended."""
    from mlp_study.data.images import load
    from mlp_study.doctor.config_lookahead import STEPS, look_ahead
    from mlp_study.training.population import train_population

    cells, configs = part
    data = configs[0].data
    images = load(data.name, configs[0].data_root, **data.options)
    began = time.process_time()
    glimpses = look_ahead(configs, images)
    looked = time.process_time()
    results = train_population(configs, images=images)
    trained = time.process_time()
    return [
        {
            "half": half,
            "cell": cell,
            "run_id": config.run_id,
            "steps": STEPS,
            "glimpse": dataclasses.asdict(glimpse),
            "outcome": result.outcome,
            "metrics": result.metrics,
            "diagnostics": result.diagnostics.get("final", {}),
            "look_seconds": (looked - began) / len(cells),
            "train_seconds": (trained - looked) / len(cells),
        }
        for cell, config, glimpse, result in zip(cells, configs, glimpses, results, strict=True)
    ]


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Callable[..., Any]]:
    """``map`` over processes of one thread each, in the order in which they end; without processes if one is enough."""
    if workers < 2:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(workers, _one_thread) as pool:
        yield pool.imap_unordered


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def torn_line_removed(path: Path) -> None:
    """Cut off what a killed process left of its last line."""
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)


def _key(line: dict[str, Any]) -> str:
    """What a line is about; raises SystemExit for lines of another version, which nothing may be added to."""
    from mlp_study.doctor.config_lookahead import STEPS

    if line.get("steps", STEPS) != STEPS or "run_id" not in line:
        raise SystemExit("error: the folder has runs that another version has looked at; name a new one")
    return json.dumps([line["half"], line["cell"], line["run_id"]])


def run(out: Path, runs: int, mnist: int, workers: int) -> None:
    """All parts, into ``out``/runs.jsonl."""
    out.mkdir(parents=True, exist_ok=True)
    _, axes = space()
    counts = {"select": runs, "held": runs, "fresh": runs // 2, "short": runs // 4}
    draws = [(part, data, count) for part, count in counts.items() for data in axes["data"]]
    for part, data, count in [*draws, ("mnist", "mnist", mnist)]:
        measure(part, [(cell, config_of(cell)) for cell in drawn(part, data, count)], out / "runs.jsonl", workers)


def sources(out: Path, seeds: int, only: str | None, workers: int) -> None:
    """Every variant of the five sources (or of those named in ``only``), beside what ``out``/sources.jsonl has."""
    from mlp_study.reproduction.experiments import configs_of, load_experiments

    out.mkdir(parents=True, exist_ok=True)
    for found in load_experiments(only):
        runs: list[Run] = []
        for variant, configs in configs_of(found, [], seeds).items():
            for config in configs:
                cell = {"data": config.data.name, "model.widths": list(config.model.widths), "seed": config.seed}
                probed = dataclasses.replace(config, probes=dataclasses.replace(config.probes, **PROBES))
                runs.append(({"source": found.name, "variant": variant, **cell}, probed))
        measure("sources", runs, out / "sources.jsonl", workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "sources", "fit", "report"))
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--runs", type=int, default=2000, help="runs of each half on each data set; fresh: half, short: a quarter"
    )
    parser.add_argument("--mnist", type=int, default=2000, help="runs on MNIST; 0: none")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each of the sources' variants")
    parser.add_argument("--only", help="a source's name, or several with commas between; all by default")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--workers", type=int, default=cores, help="processes of one thread each")
    args = parser.parse_args()
    if args.what == "run":
        run(args.out, args.runs, args.mnist, args.workers)
    elif args.what == "sources":
        sources(args.out, args.seeds, args.only, args.workers)
    else:
        {"fit": fit, "report": report}[args.what](args.out)


if __name__ == "__main__":
    main()
