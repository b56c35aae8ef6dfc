"""How well does the verdict made before training foretell what training shows?

    python scripts/prediction_study.py run OUT [--runs 260] [--mnist 160]
    python scripts/prediction_study.py sources OUT [--seeds 3] [--only NAME]
    python scripts/prediction_study.py fit OUT
    python scripts/prediction_study.py report OUT

``run`` draws runs from the space of conf/sweeps/prediction.yaml, writes down what the diagnosis measures before
training (a look-ahead of a few dozen steps) and how the run then ends. Two halves: ``select`` with the space's
learning rates and seeds, from which ``fit`` finds the constants of mlp_study/probes/verdict.py, and ``held`` with
learning rates between them and other seeds, which only the report sees. ``mnist`` is a third data set that no
threshold saw. ``sources`` does the same with every variant of the five sources, as conf/experiment has them, each seed
by itself. ``report`` judges the stored measurements with the verdict's rules as they are now, and compares.

A run succeeds if its test accuracy is at least 0.8 of the best that any run of its data set, widths and half reached.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

SUCCESS = 0.8
LR_BETWEEN = 10**0.5  # the held half's learning rates lie between those of the space, on its logarithmic scale
HELD_SEEDS = 100
CHUNK = 48  # members of a population: bounds the memory of Lanczos' basis
PROBES: dict[str, Any] = {"ends": ["dead", "saturated", "plateau"], "epochs": []}

Run = tuple[dict[str, Any], Any]  # what is varied (its cell), and its config


def space() -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The sweep's fixed settings, and each swept key's values."""
    import yaml

    text = (resources.files("mlp_study.conf") / "sweeps" / "prediction.yaml").read_text(encoding="utf-8")
    fixed = yaml.safe_load(text)
    params = fixed.pop("hydra")["sweeper"]["params"]
    axes = {key: yaml.safe_load(f"[{values}]") for key, values in params.items()}
    return fixed, axes


def drawn(half: str, data: str, count: int) -> list[dict[str, Any]]:
    """``count`` different runs of a half on a data set, as swept key -> value."""
    _, axes = space()
    source = random.Random(f"{half} {data}")
    if half != "select":
        axes["optimizer.lr"] = [lr * LR_BETWEEN for lr in axes["optimizer.lr"][:-1]]
        axes["seed"] = [seed + HELD_SEEDS for seed in axes["seed"]]
    axes["data"] = [data]
    cells = list(itertools.product(*axes.values()))
    return [dict(zip(axes, cell, strict=True)) for cell in source.sample(cells, count)]


def config_of(cell: dict[str, Any]) -> Any:
    """The run's config."""
    from mlp_study.config import RunConfig

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
    from mlp_study.training.population import lockstep_order, shape_key

    groups: dict[Any, list[Run]] = defaultdict(list)
    for cell, config in runs:
        groups[shape_key(config)].append((cell, config))
    for group in groups.values():
        order = lockstep_order([config for _, config in group])
        for start in range(0, len(order), CHUNK):
            part = [group[k] for k in order[start : start + CHUNK]]
            yield [cell for cell, _ in part], [config for _, config in part]


def measure(half: str, runs: Sequence[Run], out: Path) -> None:
    """Look ahead, train, and append one line a run to ``out``."""
    from mlp_study.data.images import load
    from mlp_study.training.lookahead import look_ahead
    from mlp_study.training.population import train_population

    for some, configs in populations(runs):
        data = configs[0].data
        images = load(data.name, configs[0].data_root, **data.options)
        began = time.process_time()
        glimpses = look_ahead(configs, images)
        looked = time.process_time()
        results = train_population(configs, images=images)
        trained = time.process_time()
        with out.open("a", encoding="utf-8") as file:
            for cell, glimpse, result in zip(some, glimpses, results, strict=True):
                line: dict[str, Any] = {
                    "half": half,
                    "cell": cell,
                    "glimpse": dataclasses.asdict(glimpse),
                    "outcome": result.outcome,
                }
                line |= {"metrics": result.metrics, "diagnostics": result.diagnostics.get("final", {})}
                line |= {"look_seconds": (looked - began) / len(some), "train_seconds": (trained - looked) / len(some)}
                file.write(json.dumps(line) + "\n")
        seconds = f"CPU {looked - began:.1f} + {trained - looked:.1f} s"
        print(f"{half} {data.name} {configs[0].model.widths}: {len(some)} runs, {seconds}", flush=True)


def run(out: Path, runs: int, mnist: int) -> None:
    """All halves, into ``out``/runs.jsonl."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "runs.jsonl"
    path.unlink(missing_ok=True)
    _, axes = space()
    for half in ("select", "held"):
        for data in axes["data"]:
            measure(half, [(cell, config_of(cell)) for cell in drawn(half, data, runs)], path)
    if mnist:
        measure("mnist", [(cell, config_of(cell)) for cell in drawn("mnist", "mnist", mnist)], path)


def sources(out: Path, seeds: int, only: str | None) -> None:
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
        measure("sources", runs, out / "sources.jsonl")


LENGTHS = (8, 16, 32, 48, 96)  # look-aheads that the report compares, and from which the forecast is fitted


@dataclasses.dataclass
class Case:
    """One run of the study, with the verdict of today's rules.

    Attributes:
        line: as ``measure`` wrote it.
        glimpse: what was measured before training.
        succeeded: whether its test accuracy is at least ``SUCCESS`` of the best of its kind.
        verdict: judged from the whole look-ahead.
        shown: what training showed: an outcome of the verdict's, judged from the run's end.
    """

    line: dict[str, Any]
    glimpse: Any
    succeeded: bool
    verdict: Any
    shown: str


def read(out: Path) -> dict[str, list[Case]]:
    """Each half's runs."""
    from mlp_study.probes.verdict import Glimpse, judge

    paths = [path for path in (out / "runs.jsonl", out / "sources.jsonl") if path.exists()]
    lines = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]

    def kind(line: dict[str, Any]) -> tuple[str, str, str]:
        return line["half"], line["cell"]["data"], str(line["cell"]["model.widths"])

    best: dict[Any, float] = defaultdict(float)
    for line in lines:
        best[kind(line)] = max(best[kind(line)], line["metrics"].get("test/accuracy", 0.0))
    halves: dict[str, list[Case]] = defaultdict(list)
    for line in lines:
        glimpse = Glimpse(**{"classes": 10, **line["glimpse"]})
        good = line["outcome"] != "diverged" and line["metrics"]["test/accuracy"] >= SUCCESS * best[kind(line)]
        halves[line["half"]].append(Case(line, glimpse, good, judge(glimpse), _shown(line, glimpse, good)))
    return halves


def _shown(line: dict[str, Any], glimpse: Any, good: bool) -> str:
    """The outcome, judged from the end of training by the verdict's own marks."""
    from mlp_study.probes.verdict import mechanism_of

    if good:
        return "will train"
    if line["outcome"] == "diverged":
        return "will collapse: divergence"
    end = {"step": glimpse.total_steps, "loss": line["metrics"]["train/loss"], **line["diagnostics"]}
    mechanism = mechanism_of(dataclasses.replace(glimpse, rows=[glimpse.rows[0], end], diverged=None))
    return f"will collapse: {mechanism}" if mechanism else "will train slowly"


def balanced_accuracy(foretold: Sequence[bool], seen: Sequence[bool]) -> float:
    """Mean of the shares of successes and of failures that were foretold."""
    good = [f for f, s in zip(foretold, seen, strict=True) if s]
    bad = [not f for f, s in zip(foretold, seen, strict=True) if not s]
    return (sum(good) / len(good) + sum(bad) / len(bad)) / 2


def fit(out: Path) -> None:
    """Print the forecast's constants, fitted on the ``select`` half only, and the probability that separates best."""
    from sklearn.linear_model import LogisticRegression

    from mlp_study.probes.verdict import FORECAST, features, is_lost, truncated

    cases = read(out)["select"]
    rows, seen = [], []
    for case in cases:
        for length in LENGTHS:
            short = truncated(case.glimpse, length)
            if not is_lost(short):
                rows.append([features(short)[name] for name in FORECAST if name != "constant"])
                seen.append(case.succeeded)
    model = LogisticRegression(C=10, max_iter=5000).fit(rows, seen)
    names = [name for name in FORECAST if name != "constant"]
    for name, value in zip(["constant", *names], [model.intercept_[0], *model.coef_[0]], strict=True):
        print(f'    "{name}": {value:.2f},')
    lost = [is_lost(case.glimpse) for case in cases]
    whole = [[features(c.glimpse)[name] for name in names] for c, gone in zip(cases, lost, strict=True) if not gone]
    found = iter(model.predict_proba(whole)[:, 1])
    chances = [0.0 if gone else float(next(found)) for gone in lost]
    seen = [case.succeeded for case in cases]
    tried = [step / 100 for step in range(10, 71, 2)]
    for limit in sorted(tried, key=lambda limit: -balanced_accuracy([p >= limit for p in chances], seen))[:5]:
        print(f"probability >= {limit}: balanced accuracy {balanced_accuracy([p >= limit for p in chances], seen):.4f}")


def summary(cases: Sequence[Case]) -> dict[str, Any]:
    """How well the verdicts of some runs foretold success and failure."""
    from mlp_study.probes.verdict import judge, truncated

    seen = [case.succeeded for case in cases]
    foretold = [case.verdict.will_learn for case in cases]
    stable = [case.glimpse.initial.get("stability_index", 0.0) <= 1 for case in cases]
    lengths = {n: [judge(truncated(case.glimpse, n)).will_learn for case in cases] for n in LENGTHS}
    confusion: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for case in cases:
        confusion[case.verdict.outcome][case.shown] += 1
    return {
        "runs": len(cases),
        "succeeded": sum(seen),
        "balanced accuracy": balanced_accuracy(foretold, seen),
        "successes foretold": sum(f and s for f, s in zip(foretold, seen, strict=True)) / max(sum(seen), 1),
        "failures foretold": sum(not f and not s for f, s in zip(foretold, seen, strict=True))
        / (len(seen) - sum(seen)),
        "stability index alone": balanced_accuracy(stable, seen),
        "by look-ahead": {n: balanced_accuracy(found, seen) for n, found in lengths.items()},
        "confusion": {told: dict(shown) for told, shown in confusion.items()},
        "wrong": [_told_wrong(case) for case in cases if case.verdict.will_learn != case.succeeded],
    }


def _told_wrong(case: Case) -> dict[str, Any]:
    return {
        **case.line["cell"],
        "verdict": case.verdict.outcome,
        "probability": round(case.verdict.probability, 3),
        "shown": case.shown,
        "test/accuracy": round(case.line["metrics"].get("test/accuracy", 0.0), 3),
    }


def report(out: Path) -> None:
    """Write report.json and calibration.png, and print the tables."""
    halves = read(out)
    rows = by_variant(halves.pop("sources", []))
    kinds = {"select": "select (thresholds were chosen here)", "held": "held (other seeds and learning rates)"}
    found: dict[str, Any] = {"sources": rows} if rows else {}
    for half, cases in halves.items():
        found[half] = summary(cases)
        for data in sorted({case.line["cell"]["data"] for case in cases}):
            part = [case for case in cases if case.line["cell"]["data"] == data]
            found[f"{half}, {data}"] = {k: v for k, v in summary(part).items() if k != "wrong"}
    (out / "report.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"{'runs':<42}{'n':>6}{'success':>9}{'balanced':>10}{'index only':>12}   by look-ahead of {LENGTHS} steps")
    for name, row in found.items():
        if name == "sources":
            continue
        lengths = "  ".join(f"{value:.3f}" for value in row["by look-ahead"].values())
        print(
            f"{kinds.get(name, name):<42}{row['runs']:>6}{row['succeeded'] / row['runs']:>9.2f}"
            f"{row['balanced accuracy']:>10.3f}"
            f"{row['stability index alone']:>12.3f}   {lengths}"
        )
    for half in halves:
        _print_confusion(half, found[half]["confusion"])
    for row in rows:
        counts = f"foretold {row['foretold']}, succeeded {row['succeeded']}, right {row['right']} of {row['n']}"
        print(f"{row['source'] + ' ' + row['variant']:<40} {counts}; test accuracy {row['test/accuracy']}")
    if halves:
        draw_calibration(halves, out / "calibration.png")
    print(f"\nwritten: {out / 'report.json'}" + (f", {out / 'calibration.png'}" if halves else ""))


def _print_confusion(half: str, confusion: dict[str, dict[str, int]]) -> None:
    from mlp_study.probes.verdict import OUTCOMES

    short = [outcome.removeprefix("will collapse: ").removeprefix("will ")[:10] for outcome in OUTCOMES]
    print(f"\n{half}: verdict (rows) against what training showed (columns)")
    print(" " * 38 + "".join(f"{name:>12}" for name in short))
    for told in OUTCOMES:
        print(f"{told:<38}" + "".join(f"{confusion.get(told, {}).get(shown, 0):>12}" for shown in OUTCOMES))


def by_variant(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """One row a variant of a source: in how many seeds success was foretold and shown, and the verdict was right."""
    variants: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for case in cases:
        variants[case.line["cell"]["source"], case.line["cell"]["variant"]].append(case)
    return [
        {
            "source": source,
            "variant": variant,
            "n": len(some),
            "foretold": sum(c.verdict.will_learn for c in some),
            "succeeded": sum(c.succeeded for c in some),
            "right": sum(c.verdict.will_learn == c.succeeded for c in some),
            "probability": [round(c.verdict.probability, 2) for c in some],
            "test/accuracy": [round(c.line["metrics"].get("test/accuracy", 0.0), 2) for c in some],
        }
        for (source, variant), some in variants.items()
    ]


def draw_calibration(halves: dict[str, list[Case]], path: Path) -> None:
    """Foretold probability against the share that succeeded, in tenths, with 95 % Wilson intervals."""
    from mlp_study.figures.style import COLOURS, MARKERS, Sheet, plain, save_png

    shown = [half for half in ("held", "mnist") if halves.get(half)]
    caption = (
        "Tenths of the foretold probability; bars: 95 % Wilson intervals; numbers: runs. No threshold saw these runs."
    )
    sheet = Sheet(5.4, 4.2, "Does a foretold 70 % succeed in 70 % of the runs?", caption)
    axes = sheet.panel(0.7, 5.2, below=0.5, above=0.1)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for number, half in enumerate(shown):
        points = []
        for tenth in range(10):
            some = [c for c in halves[half] if tenth / 10 <= c.verdict.probability < (tenth + 1) / 10 + (tenth == 9)]
            if some:
                points.append((sum(c.verdict.probability for c in some) / len(some), *wilson(some), len(some)))
        x, y, low, high, n = zip(*points, strict=True)
        errors = [[b - a for a, b in zip(low, y, strict=True)], [b - a for a, b in zip(y, high, strict=True)]]
        style: dict[str, Any] = {"color": COLOURS[number], "marker": MARKERS[number], "label": f"{half} (n = {sum(n)})"}
        axes.errorbar(x, y, errors, markersize=5, linewidth=1.2, capsize=2, **style)
        for place, share, count in zip(x, y, n, strict=True):
            axes.annotate(str(count), (place, share), (4, -9 if number else 5), textcoords="offset points", fontsize=7)
    axes.set_xlabel("foretold probability of success")
    axes.set_ylabel("share of runs that succeeded")
    axes.legend(frameon=False, fontsize=9)
    plain(axes)
    save_png(sheet.figure, path)


def wilson(cases: Sequence[Case]) -> tuple[float, float, float]:
    """The share that succeeded and its 95 % interval (Wilson 1927)."""
    n, z = len(cases), 1.96
    p = sum(case.succeeded for case in cases) / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return p, min((middle - half) / (1 + z * z / n), p), max((middle + half) / (1 + z * z / n), p)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "sources", "fit", "report"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=260, help="runs of each half on each data set")
    parser.add_argument("--mnist", type=int, default=160, help="runs on MNIST; 0: none")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each of the sources' variants")
    parser.add_argument("--only", help="a source's name, or several with commas between; all by default")
    args = parser.parse_args()
    if args.what == "run":
        run(args.out, args.runs, args.mnist)
    elif args.what == "sources":
        sources(args.out, args.seeds, args.only)
    else:
        {"fit": fit, "report": report}[args.what](args.out)


if __name__ == "__main__":
    main()
