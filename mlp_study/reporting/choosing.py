"""Which combinations a report's curves show first: those that tell what its answer tells, the same in page and PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mlp_study.reporting.answer import NAMED, cure, failing
from mlp_study.reporting.factors import METRIC
from mlp_study.runtime.statistics import mean_deviation

if TYPE_CHECKING:
    from mlp_study.reporting.analysis import Analysis

Group = tuple[str, ...]

PUZZLE = {"data.scale": ("none", "unit"), "activation": ("relu", "sigmoid")}  # does ReLU fail on raw pixels?


def told_first(study: Analysis) -> list[int]:
    """Places of all combinations in the order in which curves of some of them are of interest.

    ReLU and sigmoid on raw and on scaled pixels; the failing ones that the answer names, each with what would make it
    learn; the best; then the worst, the middle one, and so on between those, so that the first few of any filter's
    choice are spread evenly. Of several data sets the one that the answer is about comes first.
    """
    places = {group: place for place, group in enumerate(study.groups)}
    mains, others = _by_data(study)
    order = list(
        dict.fromkeys(group for own in (mains, others) for group in (*_story(study, own), *_spread(study, own)))
    )
    return [places[group] for group in order]


def _by_data(study: Analysis) -> tuple[dict[Group, list[int]], dict[Group, list[int]]]:
    """The combinations on the data set that the answer is about, and all others; a comparison's is about all."""
    pooled = study.main_data is None or study.study.kind == "comparison"
    mains = {
        group: own
        for group, own in study.groups.items()
        if pooled or str(study.rows[own[0]].get("data")) == study.main_data
    }
    return mains, {group: own for group, own in study.groups.items() if group not in mains}


def _story(study: Analysis, groups: Mapping[Group, Sequence[int]]) -> Iterator[Group]:
    best = _from_the_best(study, groups)[:1]
    yield from _puzzle(study.factors, groups, best, _from_the_best(study, groups))
    for group in failing(study.rows, groups, study.mechanisms)[:NAMED]:
        yield group
        if (other := cure(study.rows, study.factors, groups, study.mechanisms, group)) is not None:
            yield other
    yield from best


def _puzzle(
    factors: Sequence[str], groups: Mapping[Group, Sequence[int]], best: Sequence[Group], order: Sequence[Group]
) -> Iterator[Group]:
    """Both activations on both scales, with the best combination's other settings where they have been run."""
    if not (set(PUZZLE) <= set(factors) and best):
        return
    at = {key: factors.index(key) for key in PUZZLE}
    for scale in PUZZLE["data.scale"]:
        for activation in PUZZLE["activation"]:
            asked = {at["data.scale"]: scale, at["activation"]: activation}
            alike = tuple(asked.get(place, value) for place, value in enumerate(best[0]))
            some = [group for group in order if all(group[place] == value for place, value in asked.items())]
            yield from [alike] if alike in groups else some[:1]


def _from_the_best(study: Analysis, groups: Mapping[Group, Sequence[int]]) -> list[Group]:
    """By mean test accuracy; those without one last."""
    level = {group: mean_deviation([study.value(i, METRIC) for i in own])[0] for group, own in groups.items()}
    return sorted(groups, key=lambda group: math.inf if math.isnan(level[group]) else -level[group])


def _spread(study: Analysis, groups: Mapping[Group, Sequence[int]]) -> Iterator[Group]:
    """The best, the worst, the one in the middle of them, those in the middle of the halves, and so on."""
    order = _from_the_best(study, groups)
    yield from order[:1]
    yield from order[-1:]
    spans = [(0, len(order) - 1)]
    for low, high in spans:  # grows while it is gone through
        if high - low > 1:
            middle = (low + high) // 2
            yield order[middle]
            spans += [(low, middle), (middle, high)]
