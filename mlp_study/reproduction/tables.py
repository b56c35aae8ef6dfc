"""The findings as Markdown, CSV, JSON and on the terminal: one table, four forms."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.figures.images import GRID
from mlp_study.reproduction.claims import Case, Findings, Verdict

if TYPE_CHECKING:
    from mlp_study.reproduction.intervals import Estimate

HEADINGS = ("claim", "published", "case", "measured", "deviation", "n", "95 % interval", "verdict", "mechanism")
SHOWN = {  # columns of the variants' table: heading -> measure
    "test accuracy": "test/accuracy",
    "test loss": "test/loss",
    "epochs": "epochs",
    "dead": "final/dead",
    "plateau": "final/plateau",
    "saturated": "final/saturated",
    "stability index": "initial/stability_index",
    f"errors of {GRID}": f"errors_{GRID}",
    "gap": "gap/accuracy",
    "seconds a run": "seconds_each",
}


def rows_of(found: Sequence[Findings]) -> list[dict[str, Any]]:
    """One flat row a case of a claim."""
    return [
        {"experiment": f.experiment.name, **_row(verdict, case)}
        for f in found
        for verdict in f.verdicts
        for case in verdict.cases
    ]


def _row(verdict: Verdict, case: Case) -> dict[str, Any]:
    claim, measured = verdict.claim, case.measured
    published = claim.published
    number = isinstance(published, int | float) and measured.n
    return {
        "claim": claim.id,
        "text": claim.text,
        "where": claim.where,
        "metric": claim.metric,
        "case": case.name,
        "variants": " - ".join(case.variants),
        "published": published,
        "agrees_from": claim.low,
        "agrees_to": claim.high,
        "measured": measured.mean,
        "deviation": measured.deviation,
        "n": measured.n,
        "interval_low": measured.low,
        "interval_high": measured.high,
        "from_published": measured.mean - float(published) if number and published is not None else None,
        "case_holds": case.holds,
        "verdict": verdict.words,
        "mechanism": case.mechanism,
    }


def as_csv(found: Sequence[Findings]) -> str:
    """Every case a line; what does not apply is empty."""
    rows, text = rows_of(found), io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else ["experiment"], lineterminator="\n")
    table.writeheader()
    table.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)
    return text.getvalue()


def as_dict(found: Sequence[Findings], about: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``reproduction.json``: what was run, each claim's cases, each variant's means."""
    return {
        "format": 1,
        **about,
        "claims": rows_of(found),
        "experiments": {
            f.experiment.name: {
                "question": f.experiment.question,
                "source": f.experiment.source,
                "variants": {
                    variant: {
                        "overrides": list(f.experiment.variants[variant]),
                        "outcomes": dict(f.outcomes[variant]),
                        "measured": {name: vars(value) for name, value in means.items()},
                    }
                    for variant, means in f.measured.items()
                },
            }
            for f in found
        },
    }


def as_markdown(found: Sequence[Findings], about: str, figures: Mapping[str, Sequence[str]]) -> str:
    """The whole report.

    Args:
        found: of each experiment.
        about: a sentence on data, seeds and machine.
        figures: paths relative to the report, by experiment.
    """
    lines = ["# The five sources, reproduced", "", about, "", RULES, ""]
    for f in found:
        lines += [f"## {f.experiment.name}: {f.experiment.title}", "", f.experiment.question, ""]
        lines += [f"Source: {f.experiment.source}.", "", *claim_lines(f)]
        lines += ["", "Means over the seeds, of every variant:", "", *_markdown(*variant_cells(f)), ""]
        lines += [f"![{f.experiment.name}]({path})\n" for path in figures.get(f.experiment.name, ())]
    return "\n".join(lines).rstrip() + "\n"


def claim_lines(f: Findings) -> list[str]:
    """The claims of an experiment as a Markdown table."""
    return _markdown(HEADINGS, [cells for verdict in f.verdicts for cells in claim_cells(verdict)])


RULES = (
    "A claimed level holds where the mean's 95 % interval (Student's t over seeds) reaches the published range (with "
    "fewer than five seeds: where the mean lies in it); a claimed difference holds where the whole interval of the "
    "difference (paired by seed) lies on the claimed side. *Mechanism* lists what was measured of failure in the "
    "variants concerned: units that no training image activates, images on a clipped loss's plateau, the stability "
    "index (sharpness over the optimizer's limit, 2 / step size for plain descent; above 1 a step overshoots), "
    "saturation, divergence."
)


def claim_cells(verdict: Verdict) -> Iterator[list[str]]:
    """The cells of a claim: one line a case, the claim's own only on the first."""
    claim = verdict.claim
    for i, case in enumerate(verdict.cases):
        first = i == 0
        m = case.measured
        yield [
            claim.text if first else "",
            _published(claim.published) if first else "",
            case.name,
            number(m.mean),
            number(m.deviation),
            str(m.n),
            f"{number(m.low)} to {number(m.high)}",
            verdict.words if first else "",
            case.mechanism,
        ]


def variant_cells(f: Findings) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and lines of the variants' table, without measures that nobody has."""
    shown = {h: name for h, name in SHOWN.items() if any(name in means for means in f.measured.values())}
    lines = [
        [
            variant,
            ", ".join(f"{count} {outcome}" for outcome, count in f.outcomes[variant].items()),
            *(_mean(f.measured[variant].get(name)) for name in shown.values()),
        ]
        for variant in f.experiment.variants
    ]
    return ["variant", "outcome", *shown], lines


def number(value: float) -> str:
    """Three significant digits, more for accuracies; a dash for what is not known."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "infinite"
    size = abs(value)
    if size >= 100:
        return f"{value:.0f}"
    if size >= 1:
        return f"{value:.3g}"
    return f"{value:.3f}" if size >= 0.001 or size == 0 else f"{value:.1e}"


def _mean(value: Estimate | None) -> str:
    if value is None or not value.n:
        return "-"
    spread = "" if math.isnan(value.deviation) else f" ± {number(value.deviation)}"
    return number(value.mean) + spread


def _published(value: Any) -> str:
    return "-" if value is None else str(value)


def _markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(headings), line(["---"] * len(headings)), *map(line, lines)]
