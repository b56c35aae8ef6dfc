"""The prediction study's report: what the verdict foretold against what training showed, and the forecast's fit.

`scripts/prediction_study.py` measures the runs and calls these; the verdict's rules are applied as they are now.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlp_study.doctor.forecast import CLOSE, LEARNS

SUCCESS = 0.8
LIMITS = (0.16, 0.20, LEARNS, 0.30, 0.40, 0.50)
BOUNDS = (0.0, CLOSE[0], LEARNS, 0.5, CLOSE[1], 1.01)  # of probabilities that the report counts apart
ENDS = (0.0, 0.6, 0.7, SUCCESS)  # of the best accuracy: where failures that were told to train end
SETTINGS = ("optimizer.lr", "data.scale", "model.widths")
LENGTHS = (8, 16, 32, 48, 64, 96, 128)  # look-aheads that the report compares, and from which the forecast is fitted


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """What ``prediction_study.measure`` has written to a file so far."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


@dataclasses.dataclass
class Case:
    """One run of the study, with the verdict of today's rules.

    Attributes:
        line: as ``measure`` wrote it.
        glimpse: what was measured before training.
        of_best: its test accuracy over the best of its kind; 0 if it diverged.
        succeeded: whether that is at least ``SUCCESS``.
        verdict: judged from the whole look-ahead.
        shown: what training showed: an outcome of the verdict's, judged from the run's end.
    """

    line: dict[str, Any]
    glimpse: Any
    of_best: float
    succeeded: bool
    verdict: Any
    shown: str


def read(out: Path) -> dict[str, list[Case]]:
    """Each half's runs."""
    from mlp_study.doctor.forecast import Glimpse, judge

    lines = [line for name in ("runs.jsonl", "sources.jsonl") for line in lines_of(out / name)]

    def kind(line: dict[str, Any]) -> tuple[Any, ...]:
        cell = line["cell"]
        return line["half"], cell["data"], str(cell["model.widths"]), cell.get("trainer.max_epochs")

    best: dict[Any, float] = defaultdict(float)
    for line in lines:
        best[kind(line)] = max(best[kind(line)], line["metrics"].get("test/accuracy", 0.0))
    halves: dict[str, list[Case]] = defaultdict(list)
    for line in lines:
        glimpse = Glimpse(**line["glimpse"])
        accuracy = 0.0 if line["outcome"] == "diverged" else line["metrics"]["test/accuracy"]
        good = line["outcome"] != "diverged" and accuracy >= SUCCESS * best[kind(line)]
        of_best = accuracy / best[kind(line)] if accuracy else 0.0
        halves[line["half"]].append(Case(line, glimpse, of_best, good, judge(glimpse), _shown(line, glimpse, good)))
    return halves


def _shown(line: dict[str, Any], glimpse: Any, good: bool) -> str:
    """The outcome, judged from the end of training by the verdict's own marks."""
    from mlp_study.doctor.forecast import mechanism_of

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
    return (sum(good) / len(good) + sum(bad) / len(bad)) / 2 if good and bad else math.nan


def interval(foretold: Sequence[bool], seen: Sequence[bool], samples: int = 2000) -> tuple[float, float]:
    """95 % interval of the balanced accuracy, from resampled runs (percentile bootstrap, Efron 1979).

    A sample of successes alone, or of failures alone, has no score and is left out; NaN where that leaves none.
    """
    source, pairs = random.Random(0), list(zip(foretold, seen, strict=True))
    drawn = (balanced_accuracy(*zip(*source.choices(pairs, k=len(pairs)), strict=True)) for _ in range(samples))
    found = sorted(score for score in drawn if not math.isnan(score)) or [math.nan]
    return found[int(0.025 * len(found))], found[int(0.975 * len(found))]


def fit(out: Path) -> None:
    """Print the forecast's constants, fitted on ``select`` only, and the middle of the limits that separate best."""
    from sklearn.linear_model import LogisticRegression

    from mlp_study.doctor.forecast import FORECAST, features, is_lost, truncated

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
    scores = {step: balanced_accuracy([p >= step / 100 for p in chances], seen) for step in range(6, 75, 2)}
    around = {step: sum(scores[step + d] for d in (-4, -2, 0, 2, 4)) / 5 for step in range(10, 71, 2)}
    best = max(around, key=lambda step: around[step])
    print(f"LEARNS = {best / 100}: balanced accuracy {scores[best]:.4f}, {around[best]:.4f} on average within 0.04")


def summary(cases: Sequence[Case]) -> dict[str, Any]:
    """How well the verdicts of some runs foretold success and failure."""
    from mlp_study.doctor.forecast import judge, truncated

    seen = [case.succeeded for case in cases]
    foretold = [case.verdict.will_learn for case in cases]
    stable = [case.glimpse.initial.get("stability_index", 0.0) <= 1 for case in cases]
    lengths = {n: [judge(truncated(case.glimpse, n)).will_learn for case in cases] for n in LENGTHS}
    collapse = [case for case in cases if "collapse" in case.verdict.outcome]
    confusion: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for case in cases:
        confusion[case.verdict.outcome][case.shown] += 1
    return {
        "runs": len(cases),
        "succeeded": sum(seen),
        "balanced accuracy": balanced_accuracy(foretold, seen),
        "interval": interval(foretold, seen),
        "by limit": {
            limit: balanced_accuracy([c.verdict.probability >= limit for c in cases], seen) for limit in LIMITS
        },
        "successes foretold": sum(f and s for f, s in zip(foretold, seen, strict=True)) / max(sum(seen), 1),
        "failures foretold": sum(not f and not s for f, s in zip(foretold, seen, strict=True))
        / max(len(seen) - sum(seen), 1),
        "stability index alone": balanced_accuracy(stable, seen),
        "by look-ahead": {n: balanced_accuracy(found, seen) for n, found in lengths.items()},
        "confusion": {told: dict(shown) for told, shown in confusion.items()},
        "by probability": [_between(cases, *bounds) for bounds in pairwise(BOUNDS)],
        "mechanism right": sum(case.verdict.outcome == case.shown for case in collapse),
        "told to collapse": len(collapse),
        "failures told to train, by part of the best": {
            f"{low} to {high}": sum(low <= c.of_best < high for c in cases if c.verdict.will_learn and not c.succeeded)
            for low, high in pairwise(ENDS)
        },
        "wrong by setting": {key: _wrong_by(cases, key) for key in SETTINGS},
        "wrong": [_told_wrong(case) for case in cases if case.verdict.will_learn != case.succeeded],
    }


def _wrong_by(cases: Sequence[Case], key: str) -> dict[str, str]:
    """For each value of a swept key: how many verdicts are wrong, of how many."""
    found: dict[str, list[bool]] = defaultdict(list)
    for case in cases:
        found[str(case.line["cell"].get(key))].append(case.verdict.will_learn != case.succeeded)
    return {value: f"{sum(wrong)} of {len(wrong)}" for value, wrong in sorted(found.items())}


def _between(cases: Sequence[Case], low: float, high: float) -> dict[str, Any]:
    """The verdicts of a foretold probability from ``low`` to ``high``: how many there are, and how many succeeded."""
    some = [case for case in cases if low <= case.verdict.probability < high]
    return {"from": low, "to": min(high, 1.0), "runs": len(some), "succeeded": sum(case.succeeded for case in some)}


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
    kinds = {
        "select": "select (thresholds were chosen here)",
        "held": "held (other seeds and learning rates)",
        "fresh": "fresh (others again)",
        "short": "short (at most 190 steps)",
    }
    found: dict[str, Any] = {"sources": rows} if rows else {}
    for half, cases in halves.items():
        found[half] = summary(cases)
        for data in sorted({case.line["cell"]["data"] for case in cases}):
            part = [case for case in cases if case.line["cell"]["data"] == data]
            found[f"{half}, {data}"] = {k: v for k, v in summary(part).items() if k != "wrong"}
    (out / "report.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"{'runs':<42}{'n':>6}{'success':>9}{'balanced':>10}{'index only':>29}   by look-ahead of {LENGTHS} steps")
    for name, row in found.items():
        if name == "sources":
            continue
        lengths = "  ".join(f"{value:.3f}" for value in row["by look-ahead"].values())
        print(
            f"{kinds.get(name, name):<42}{row['runs']:>6}{row['succeeded'] / row['runs']:>9.2f}"
            f"{row['balanced accuracy']:>10.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})"
            f"{row['stability index alone']:>12.3f}   {lengths}"
        )
    for half in halves:
        _print_confusion(half, found[half]["confusion"])
        for what in ("by probability", "failures told to train, by part of the best", "wrong by setting"):
            print(f"{what}: {found[half][what]}")
    for row in rows:
        counts = f"foretold {row['foretold']}, succeeded {row['succeeded']}, right {row['right']} of {row['n']}"
        print(f"{row['source'] + ' ' + row['variant']:<40} {counts}; test accuracy {row['test/accuracy']}")
    if halves:
        draw_calibration(halves, out / "calibration.png")
    print(f"\nwritten: {out / 'report.json'}" + (f", {out / 'calibration.png'}" if halves else ""))


def _print_confusion(half: str, confusion: dict[str, dict[str, int]]) -> None:
    from mlp_study.doctor.forecast import OUTCOMES

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
        "Tenths of the foretold probability; bars: 95 % Wilson intervals; numbers: runs. The forecast was fitted on "
        "others."
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
            offset, side = ((4, -9), "left") if number else ((-4, 4), "right")
            axes.annotate(str(count), (place, share), offset, textcoords="offset points", fontsize=7, ha=side)
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
