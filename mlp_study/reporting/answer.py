"""The sentences at the top of a report, made from its numbers alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlp_study.records.trials import SearchRecord, Trial
from mlp_study.reporting.analysis import NAMED, Analysis, in_words
from mlp_study.reporting.axes import Combination, described, label, measured
from mlp_study.reporting.comparison import comparison_answer
from mlp_study.reporting.failures import FAILED, METRIC
from mlp_study.reporting.variance import Share

ALIKE = 1e-9  # a deviation of accuracies that are the same
CHANCE = 0.05  # a share or a difference that chance alone makes as large more often is not named
PARTLY = "holds in some cases only"  # the table of claims says in which
MOST_SHARED = 3  # combinations of one accuracy that are named


@dataclass(frozen=True)
class Answer:
    """What a report says first.

    Attributes:
        headline: the one thing to know, in two lines at most.
        sentences: what was run, what matters, what fails and why, what is best.
    """

    headline: str
    sentences: list[str] = field(default_factory=list)


def answer_of(study: Analysis) -> Answer:
    """The answer of any kind of study."""
    if not study.runs:
        return Answer("No finished run could be read." if study.study.damaged else "No run has finished yet.")
    found = _of_one(study) if len(study.runs) == 1 else Answer(_headline(study), list(_of_many(study)))
    if study.study.kind == "comparison":
        parts, sentences = comparison_answer(study)
        found = Answer(parts, sentences)
    if claims := study.study.claims:
        told = claims_answer(claims["claims"])
        found = Answer(told, [found.headline, *found.sentences])
    if study.study.search:
        told, sentences = search_answer(study.study.search)
        found = Answer(told, [*sentences, *found.sentences])
    return found


def _of_one(study: Analysis) -> Answer:
    run, mechanism = study.runs[0], study.mechanisms[0]
    accuracy, epochs = measured(run, METRIC), measured(run, "epochs")
    told = "has no finite test accuracy" if math.isnan(accuracy) else f"reaches a test accuracy of {accuracy:.3f}"
    after = "" if math.isnan(epochs) else f" after {epochs:.0f} epoch{'s' * (epochs != 1)}"
    failure = f" and fails: {mechanism}" if mechanism else ""
    cause = f" ({run['cause']})" if run.get("cause") else ""
    setting = f"{run.get('activation')} on {run.get('data')} (scale {run.get('data.scale')})"
    return Answer(
        f"{setting} {told}{after}{failure}.", [f"Outcome: {str(run['outcome']).replace('_', ' ')}{cause}, n = 1 run."]
    )


def _headline(study: Analysis) -> str:
    """What fails and what would make it learn; of runs that all learn the best."""
    found = study.failing()
    if not found:
        told = _fails_none(study)
        return f"{told[:1].upper()}{told[1:]}; {_best(study)}."
    several = f"{len(found)} of {len(study.main)} combinations fail; the worst, " if len(found) > 1 else ""
    named = f"{several}{label(study.factors, found[0])}, " if several else f"{label(study.factors, found[0])} fails: "
    accuracy = study.accuracy[found[0]]
    told = f"{named}{study.mechanism_of(found[0])[0]}" + ("" if math.isnan(accuracy) else f", accuracy {accuracy:.3f}")
    for key, other in list(study.cures(found[0]).items())[:1]:
        return f"{told}; with {key}={other[study.factors.index(key)]} it learns, {study.accuracy[other]:.3f}."
    return f"{told}; no single change that was run makes it learn."


def _fails_none(study: Analysis) -> str:
    """How many runs fail where no combination does."""
    failed = sum(study.mechanisms[i] is not None for own in study.main.values() for i in own)
    return f"{_count(failed, 'run')} fail{'s' * (failed == 1)}" if failed else "no run fails"


def _of_many(study: Analysis) -> Iterator[str]:
    sizes = sorted({len(members) for members in study.main.values()})
    each = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    runs = sum(map(len, study.main.values()))
    data = " and ".join(sorted({str(study.runs[own[0]].get("data")) for own in study.main.values()}))
    yield f"Over {_count(runs, 'run')} on {data}: {_count(len(study.main), 'combination')}, n = {each} " + (
        "seeds each." if each != "1" else "seed each."
    )
    if not study.study.search:  # which has chosen its combinations, and has sentences of its own on them
        yield from _importance(study.shares.get(METRIC, []))
    yield f"{_failures(study)}."
    if not study.study.search:
        told = _best(study)
        yield f"{told[:1].upper()}{told[1:]}."
        yield from _chance(study)


def _importance(shares: Sequence[Share]) -> Iterator[str]:
    terms = [share for share in shares if share.factors]
    if not terms:
        return
    unknown = all(math.isnan(share.p) for share in terms)
    sure = [share for share in terms if (unknown and share.part >= 0.01) or share.p < CHANCE]
    if not sure:
        yield f"No factor explains more of the test accuracy's variance than chance might (p < {CHANCE:g})."
        return
    first, *others = sure
    more = ", ".join(f"{' with '.join(share.factors)} {share.part:.0%}" for share in others[:3] if share.part >= 0.01)
    if len(first.factors) == 2:
        told = f"{' together with '.join(first.factors)} matters most: their interaction explains"
    else:
        told = f"{first.factors[0]} matters most: alone it explains"
    told = f"{told} {first.part:.0%} of the test accuracy's variance{f' ({more})' if more else ''}"
    yield f"{told}, chance included." if unknown else f"{told}."


def _failures(study: Analysis) -> str:
    failed = [name for own in study.main.values() for i in own if (name := study.mechanisms[i])]
    if not failed:
        return f"No run falls below {FAILED:.0%} of the best accuracy"
    words = f"{_count(len(failed), 'run')} fail{'s' * (len(failed) == 1)}"
    if study.study.search:
        return f"{words}: " + ", ".join(f"{name} in {count}" for name, count in Counter(failed).most_common())
    worst = study.failing()
    if not worst:
        return f"{words}, in no combination most of them"
    named = [_failure(study, group) for group in worst[:NAMED]]
    more = len(worst) - len(named)
    return f"{words}: {', '.join(named)}" + (f" and {_count(more, 'more combination')}" if more else "")


def _failure(study: Analysis, group: Combination) -> str:
    mechanism, count = study.mechanism_of(group)
    told = f"{mechanism} in {count}: {level(study, group)}"
    for key, other in list(study.cures(group).items())[:1]:
        reached = level(study, other).removeprefix("accuracy ")
        told += f"; with {key}={other[study.factors.index(key)]} {reached}"
    return f"{described(study.factors, group)} ({told})"


def _best(study: Analysis) -> str:
    """The best combination; those whose accuracy reads the same share it."""
    known = {group: study.accuracy[group] for group in study.main if not math.isnan(study.accuracy[group])}
    if not known:
        return "no test accuracy is recorded"
    top = max(known, key=lambda group: known[group])
    alike = [group for group, mean in known.items() if f"{mean:.3f}" == f"{known[top]:.3f}"]
    if len(alike) == 1:
        return f"best is {label(study.factors, top)} with {level(study, top)}"
    names = [label(study.factors, group) for group in alike[:MOST_SHARED]]
    if len(alike) > MOST_SHARED:
        names.append(f"{len(alike) - MOST_SHARED} more")
    return f"best, with accuracy {known[top]:.3f} each, are {', '.join(names[:-1])} and {names[-1]}"


def _chance(study: Analysis) -> Iterator[str]:
    """Which combinations are not told apart from the best; with one seed that cannot be known."""
    from scipy.stats import ttest_ind_from_stats

    if all(len(own) == 1 for own in study.main.values()):
        yield "With one run of each combination it cannot be known which differences are chance."
        return
    found = study.summaries.get(METRIC)
    places = {group: g for g, group in enumerate(study.groups)}
    several = [] if found is None else [g for group in study.main if found.deviation[g := places[group]] > ALIKE]
    if not found or not several:
        return
    top = max(several, key=lambda g: found.mean[g])
    others = [g for g in several if g != top]
    best, rest = ([part[g] for part in (found.mean, found.deviation, found.n)] for g in (top, others))
    close = int((ttest_ind_from_stats(*best, *rest, equal_var=False).pvalue >= CHANCE).sum()) if others else 0
    if close:
        yield (
            f"{_count(close, 'other combination')} differ{'s' * (close == 1)} from {study.labels[top]} by no more than "
            f"chance might (Welch's t-test, p >= {CHANCE:g})."
        )


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def level(study: Analysis, group: Combination) -> str:
    """A combination's mean accuracy, deviation and n in words."""
    return in_words([measured(study.runs[i], METRIC) for i in study.groups[group]])


def claims_answer(claims: Sequence[Mapping[str, Any]]) -> str:
    """How many of the sources' claims hold."""
    verdicts = {(claim.get("experiment"), claim.get("claim")): str(claim.get("verdict")) for claim in claims}
    counts = Counter(PARTLY if verdict.startswith("holds only") else verdict for verdict in verdicts.values())
    verb = {"holds": "hold", "does not hold": "do not hold", PARTLY: "hold in some cases only"}  # of several claims
    words = ", ".join(f"{count} {verb.get(v, v) if count > 1 else v}" for v, count in counts.most_common())
    return f"Of {len(verdicts)} claims of the sources: {words}."


def search_answer(search: SearchRecord) -> tuple[str, list[str]]:
    """The best trial; how many there were, what the best chose, and what the objective depends on."""
    counts = Counter(trial.state for trial in search.trials)
    ended = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    lead = f"Search of {_count(len(search.trials), 'trial')} ({ended}) for {' and '.join(search.objectives)}."
    best = search.best()
    if not best:
        return "No trial of the search has a value.", [lead]
    if len(search.objectives) == 1:
        headline = f"Best of {_count(len(search.trials), 'trial')}: {_values(search, best[0])}."
        sentences = [lead, f"The best is {_trial(search, best[0])}."]
    else:
        to = f" to {_trial(search, best[-1])}" if len(best) > 1 else ""
        headline = f"{_count(len(best), 'trial')} of {len(search.trials)} on the Pareto front of "
        headline += f"{' and '.join(search.objectives)}."
        sentences = [lead, f"On the Pareto front: from {_trial(search, best[0])}{to}."]
    first = next(iter(search.objectives))
    if shares := [f"{name} {share:.0%}" for name, share in list(search.importance.get(first, {}).items())[:3]]:
        sentences.append(f"Shares of the variance of {first} (fANOVA): {', '.join(shares)}.")
    return headline, sentences


def _values(search: SearchRecord, trial: Trial) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in zip(search.objectives, trial.values, strict=True))


def _trial(search: SearchRecord, trial: Trial) -> str:
    params = ", ".join(f"{name}={shown(value)}" for name, value in trial.params.items())
    return f"trial {trial.number} with {_values(search, trial)} ({params})"


def shown(value: Any) -> str:
    """A value of a record: four digits, all of a whole number's, a dash for none."""
    if value is None or value in ("", "NaN"):
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"
