"""A published claim held against measurements: the same rule for every claim, whatever its experiment."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlp_study.doctor.forecast import UNSTABLE
from mlp_study.reproduction.experiments import Claim, Experiment
from mlp_study.reproduction.gradient_check import TOLERANCE
from mlp_study.reproduction.intervals import Estimate, difference, estimate
from mlp_study.reproduction.measures import GRADIENT, widest
from mlp_study.reproduction.runs import Done

HOLDS, FAILS, ONLY, UNKNOWN = "holds", "does not hold", "holds only with ", "not measured"

BySeed = Mapping[str, Mapping[int, Mapping[str, float]]]  # variant -> seed -> name -> number


@dataclass(frozen=True)
class Case:
    """What was found under one condition of a claim.

    Attributes:
        name: the condition.
        variants: one, or the two whose difference it is.
        measured: the mean and its interval.
        holds: whether that agrees with the claim; None if nothing was measured.
        mechanism: the signs of failure that were measured in its variants.
    """

    name: str
    variants: tuple[str, ...]
    measured: Estimate
    holds: bool | None
    mechanism: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim, what each of its cases gave, and the verdict in words."""

    claim: Claim
    cases: Sequence[Case]
    words: str


@dataclass(frozen=True)
class Findings:
    """All about one experiment.

    Attributes:
        verdicts: one a claim.
        measured: variant -> name -> mean over seeds.
        outcomes: variant -> outcome -> number of seeds.
    """

    experiment: Experiment
    verdicts: Sequence[Verdict]
    measured: Mapping[str, Mapping[str, Estimate]]
    outcomes: Mapping[str, Mapping[str, int]]


def findings(found: Experiment, done: Iterable[Done]) -> Findings:
    """Hold every claim of an experiment against its finished runs."""
    by_seed: dict[str, dict[int, dict[str, float]]] = {variant: {} for variant in found.variants}
    outcomes: dict[str, dict[str, int]] = {variant: {} for variant in found.variants}
    for run in done:
        by_seed[run.variant][run.config.seed] = run.measures
        outcomes[run.variant][run.outcome] = outcomes[run.variant].get(run.outcome, 0) + 1
    measured = {
        variant: {name: estimate(list(values.values())) for name, values in _by_name(members).items()}
        for variant, members in by_seed.items()
    }
    signs = {variant: failure_signs(means, len(by_seed[variant])) for variant, means in measured.items()}
    verdicts = [verdict(claim, by_seed, signs) for claim in found.claims]
    return Findings(found, verdicts, measured, outcomes)


def verdict(claim: Claim, by_seed: BySeed, signs: Mapping[str, str]) -> Verdict:
    """Test each case; a claim that holds in some of several cases holds only with those."""
    cases = [
        replace(_case(claim, name, variants, by_seed), mechanism=_mechanism(variants, signs))
        for name, variants in claim.cases.items()
    ]
    return Verdict(claim, cases, verdict_in_words(cases))


def _mechanism(variants: Sequence[str], signs: Mapping[str, str]) -> str:
    found = [signs.get(variant, UNKNOWN) for variant in variants]
    if len(set(found)) == 1:
        return found[0] if len(found) == 1 else f"both: {found[0]}"
    return "; ".join(f"{variant}: {sign}" for variant, sign in zip(variants, found, strict=True))


def verdict_in_words(cases: Sequence[Case]) -> str:
    """``holds``, ``does not hold`` or ``holds only with ...``."""
    known = [case for case in cases if case.holds is not None]
    holding = [case.name for case in known if case.holds]
    if not known:
        return UNKNOWN
    if len(holding) == len(known):
        return HOLDS
    return ONLY + " and ".join(holding) if holding else FAILS


def _case(claim: Claim, name: str, variants: tuple[str, ...], by_seed: BySeed) -> Case:
    """A level agrees if its interval meets the claimed range; a difference has to lie in it with its whole interval.

    A bound of the range where the measure itself ends (differences of accuracies, at -1 and 1) excludes nothing: the
    interval of a few seeds may pass it, no difference can.
    """
    values = [
        {seed: row[claim.metric] for seed, row in by_seed[variant].items() if claim.metric in row}
        for variant in variants
    ]
    if len(values) == 1:
        measured = estimate(list(values[0].values()))
        holds = measured.meets(claim.low, claim.high)
    else:
        measured = difference(values[0], values[1])
        end = widest(claim.metric)
        low = -math.inf if claim.low <= -end else claim.low
        holds = measured.inside(low, math.inf if claim.high >= end else claim.high)
    return Case(name, variants, measured, holds if measured.n else None)


def _by_name(members: Mapping[int, Mapping[str, float]]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for seed, row in members.items():
        for name, value in row.items():
            found.setdefault(name, {})[seed] = value
    return found


# How a network fails: a measure, the value from which on it is a sign, and how it is said.
SIGNS = (
    ("initial/stability_index", UNSTABLE, "stability index {:.3g} at the start"),
    (GRADIENT, TOLERANCE, "gradient check fails by {:.1e}"),
    ("final/stability_index", UNSTABLE, "{:.3g} at the end"),
    ("final/dead", 0.02, "{:.0%} of the hidden units dead"),
    ("final/plateau", 0.02, "{:.0%} of the images on the plateau"),
    ("final/saturated", 0.5, "{:.0%} saturated"),
)


def failure_signs(means: Mapping[str, Estimate], seeds: int) -> str:
    """What was measured of a variant's failure, in words."""
    found = []
    diverged = means.get("diverged")
    if diverged is not None and diverged.mean > 0:
        found.append(f"{round(diverged.mean * diverged.n)} of {seeds} diverged")
    for measure, above, words in SIGNS:
        if measure in means and means[measure].mean > above:
            found.append(words.format(means[measure].mean))
    return ", ".join(found) or "no sign of failure"
