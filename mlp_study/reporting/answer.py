"""The sentence at the top of a report, made from the data alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mlp_study.reporting.factors import EXPERIMENT, METRIC, NONE_FAILS, Row, described, measured
from mlp_study.reporting.importance import Share
from mlp_study.runtime.statistics import mean_deviation

NAMED = 2  # failing combinations that are named one by one
CHANCE = 0.05  # a share that chance alone makes as large more often is not named
PARTLY = "holds in some cases only"  # the table of claims says in which


def answer(
    rows: Sequence[Row],
    factors: Sequence[str],
    groups: Mapping[tuple[str, ...], Sequence[int]],
    mechanisms: Sequence[str | None],
    shares: Sequence[Share],
    searched: bool = False,
) -> str:
    """Which factor matters most and by how much, what fails and why, what is best; each with its n.

    Args:
        rows: the finished runs.
        factors: what varies.
        groups: rows of equal factors.
        mechanisms: why each run failed, None if it did not.
        shares: the decomposition of the test accuracy's variance.
        searched: whether a search has chosen the combinations, which has sentences of its own for what matters most
            and what is best.
    """
    if not rows:
        return "No run has finished yet."
    if len(rows) == 1:
        return _of_one(rows[0], mechanisms[0])
    data = Counter(str(row.get("data")) for row in rows)
    seeds = sorted({len(members) for members in groups.values()})
    each = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    if searched:
        return f"Over its {len(rows)} runs on {' and '.join(sorted(data))}, {_mechanisms(mechanisms)}."
    combinations = f"{len(groups)} combination{'s' * (len(groups) != 1)}"
    lead = f"Over {len(rows)} run{'s' * (len(rows) != 1)} on {' and '.join(sorted(data))} "
    lead += f"({combinations}, n = {each} seed{'s' * (each != '1')} each), "
    return (
        lead
        + "; ".join([*_importance(shares), _failures(rows, factors, groups, mechanisms), *_best(rows, factors, groups)])
        + "."
    )


def _of_one(row: Row, mechanism: str | None) -> str:
    setting = f"{row.get('activation')} on {row.get('data')} (scale {row.get('data.scale')})"
    failure = f" and fails: {mechanism}" if mechanism else ""
    cause = f" ({row['cause']})" if row.get("cause") else ""
    reached = measured(row, METRIC)
    told = "has no finite test accuracy" if math.isnan(reached) else f"reaches a test accuracy of {reached:.3f}"
    epochs = measured(row, "epochs")
    after = "" if math.isnan(epochs) else f" after {epochs:.0f} epoch{'s' * (epochs != 1)}"
    return f"{setting} {told}{after}{failure}; outcome: {str(row['outcome']).replace('_', ' ')}{cause}, n = 1 run."


def _importance(shares: Sequence[Share]) -> list[str]:
    terms = [share for share in shares if share.factors]
    if not terms:
        return []
    sure = [share for share in terms if share.p < CHANCE]
    if not sure:
        return [f"no factor explains more of the test accuracy's variance than chance might (p < {CHANCE:g})"]
    mains = [share for share in sure if len(share.factors) == 1]
    pairs = [share for share in sure if len(share.factors) == 2]
    if pairs and (not mains or pairs[0].part > mains[0].part):
        words = f"{' together with '.join(pairs[0].factors)} matters most: their interaction explains"
        alone = ", ".join(f"{share.factors[0]} alone {share.part:.0%}" for share in mains[:3])
        told = f"{words} {pairs[0].part:.0%} of the test accuracy's variance"
        return [f"{told} ({alone})" if alone else told]
    words = f"{mains[0].factors[0]} matters most: alone it explains {mains[0].part:.0%} of the test accuracy's variance"
    more = [f"{share.factors[0]} {share.part:.0%}" for share in mains[1:3]]
    if pairs and pairs[0].part >= 0.01:
        more.append(f"{' with '.join(pairs[0].factors)} {pairs[0].part:.0%}")
    return [f"{words} ({', '.join(more)})" if more else words]


def _mechanisms(mechanisms: Sequence[str | None]) -> str:
    why = Counter(mechanism for mechanism in mechanisms if mechanism is not None)
    named = ", ".join(f"{name} in {count}" for name, count in why.most_common())
    return f"{why.total()} fail{'s' * (why.total() == 1)}: {named}" if why else NONE_FAILS


def _failures(
    rows: Sequence[Row],
    factors: Sequence[str],
    groups: Mapping[tuple[str, ...], Sequence[int]],
    mechanisms: Sequence[str | None],
) -> str:
    failed = sum(mechanism is not None for mechanism in mechanisms)
    if not failed:
        return NONE_FAILS
    words = f"{failed} run{'s' * (failed != 1)} fail{'s' * (failed == 1)}"
    worst = failing(rows, groups, mechanisms)
    if not worst:
        return words
    named = []
    for group in worst[:NAMED]:
        cause, count = Counter(mechanisms[i] for i in groups[group] if mechanisms[i] is not None).most_common(1)[0]
        told = f"{cause} in {count}: {level([measured(rows[i], METRIC) for i in groups[group]])}"
        if (other := cure(rows, factors, groups, mechanisms, group)) is not None:
            key, value = next((key, v) for key, v, own in zip(factors, other, group, strict=True) if v != own)
            reached = level([measured(rows[i], METRIC) for i in groups[other]]).removeprefix("accuracy ")
            told += f"; with {key}={value} {reached}"
        named.append(f"{described(factors, group)} ({told})")
    more = len(worst) - len(named)
    return f"{words}: {', '.join(named)}" + (f" and {more} more combination{'s' * (more != 1)}" if more else "")


def failing(
    rows: Sequence[Row], groups: Mapping[tuple[str, ...], Sequence[int]], mechanisms: Sequence[str | None]
) -> list[tuple[str, ...]]:
    """The combinations of which most runs fail: those of which more do first, then by their accuracy."""
    shares = {group: sum(mechanisms[i] is not None for i in own) / len(own) for group, own in groups.items()}
    means = {group: mean_deviation([measured(rows[i], METRIC) for i in own])[0] for group, own in groups.items()}
    found = [group for group, share in shares.items() if share > 0.5]
    return sorted(found, key=lambda g: (-shares[g], -1.0 if math.isnan(means[g]) else means[g], g))


def cure(
    rows: Sequence[Row],
    factors: Sequence[str],
    groups: Mapping[tuple[str, ...], Sequence[int]],
    mechanisms: Sequence[str | None],
    group: tuple[str, ...],
) -> tuple[str, ...] | None:
    """The best combination in which no run fails and which differs from ``group`` in one factor; None if none does."""
    found = []
    for other, members in groups.items():
        changed = [place for place, value in enumerate(other) if value != group[place]]
        if len(changed) != 1 or factors[changed[0]] in EXPERIMENT or any(mechanisms[i] for i in members):
            continue
        values = [measured(rows[i], METRIC) for i in members]
        if math.isfinite(mean := mean_deviation(values)[0]):
            found.append((mean, factors[changed[0]], other))
    return max(found)[-1] if found else None


def _best(rows: Sequence[Row], factors: Sequence[str], groups: Mapping[tuple[str, ...], Sequence[int]]) -> list[str]:
    found = [([measured(rows[i], METRIC) for i in members], group) for group, members in groups.items()]
    known = [(mean_deviation(values)[0], values, group) for values, group in found]
    known = [entry for entry in known if not math.isnan(entry[0])]
    if not known:
        return ["no test accuracy is recorded"]
    _, values, group = max(known, key=lambda entry: entry[0])
    return [f"best is {described(factors, group)} with {level(values)}"]


def level(values: Sequence[float]) -> str:
    """Mean, deviation and n in words."""
    mean, deviation, n = mean_deviation(values)
    if not n:
        return "no accuracy, n = 0"
    return f"accuracy {mean:.3f}" + ("" if math.isnan(deviation) else f" ± {deviation:.3f}") + f", n = {n}"


def claims_answer(claims: Sequence[Mapping[str, Any]]) -> str:
    """How many of the sources' claims hold."""
    verdicts = {(claim.get("experiment"), claim.get("claim")): str(claim.get("verdict")) for claim in claims}
    counts = Counter(PARTLY if verdict.startswith("holds only") else verdict for verdict in verdicts.values())
    verb = {"holds": "hold", "does not hold": "do not hold", PARTLY: "hold in some cases only"}  # of several claims
    words = ", ".join(f"{count} {verb.get(v, v) if count > 1 else v}" for v, count in counts.most_common())
    return f"Of {len(verdicts)} claims of the sources: {words}."
