"""The five sources as data: what ``conf/experiment/*.yaml`` says about each, checked when it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlp_study.config.composing import compose, experiment, yaml_choices
from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError, unknown

CURVES = {  # figure -> the panels of learning_curves
    "learning_curves": ("loss", "accuracy"),
    "loss_curves": ("loss",),
    "accuracy_curves": ("accuracy",),
}
OF_A_RUN = {"prediction_grid": "predictions", "first_layer_weights": "weights"}  # drawn with each variant's first seed
FIGURES = (*CURVES, *OF_A_RUN)


@dataclass(frozen=True)
class Claim:
    """Something a source says, as data.

    Attributes:
        id: its name within the experiment.
        text: the claim in words.
        where: who says so.
        metric: the number it is about, a name that ``measures.measures_of`` gives.
        published: what the source gives: a number, words, or None where it gives none.
        low, high: the values that agree with the claim.
        cases: each condition under which it is tested, by its name: one variant, whose mean should lie in the range;
            or two, whose difference (first less second) should.
    """

    id: str
    text: str
    where: str
    metric: str
    published: float | str | None
    low: float
    high: float
    cases: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Experiment:
    """One source.

    Attributes:
        name: of its YAML file.
        title, source, question: in words.
        variants: overrides of each variant, by its name.
        claims: what it says, and what this study adds about the mechanism.
        figures: the figures of the source, of ``FIGURES``.
        timed: whether each variant trains by itself, so that its time is its own.
        digits: overrides of the version on the embedded digits.
    """

    name: str
    title: str
    source: str
    question: str
    variants: Mapping[str, list[str]]
    claims: Sequence[Claim]
    figures: Sequence[str] = ()
    timed: bool = False
    digits: Sequence[str] = field(default_factory=list)


def load_experiments(source: str | None = None) -> list[Experiment]:
    """The experiments named in ``source`` (one name, or several with commas between), or all of them.

    Raises:
        ConfigError: there is none of that name, or its file contradicts itself.
    """
    known = yaml_choices("experiment")
    names = known if source in (None, "all") else str(source).split(",")
    for name in names:
        if name not in known:
            raise unknown("source", name, ["all", *known])
    return [_experiment(experiment(name)) for name in dict.fromkeys(names)]


def _experiment(node: Mapping[str, Any]) -> Experiment:
    claims = [_claim(node["name"], dict(claim), node["variants"]) for claim in node["claims"]]
    found = Experiment(**{**node, "claims": claims})
    for figure in found.figures:
        if figure not in FIGURES:
            raise unknown(f"experiment={found.name}: figures", figure, FIGURES)
    if len({claim.id for claim in claims}) < len(claims):
        raise ConfigError(f"experiment={found.name}: two claims have the same id")
    return found


def _claim(name: str, node: dict[str, Any], variants: Mapping[str, Any]) -> Claim:
    low, high = node.pop("range")
    cases = {str(label): (case,) if isinstance(case, str) else tuple(case) for label, case in node.pop("cases").items()}
    for label, case in cases.items():
        for variant in case:
            if variant not in variants:
                raise unknown(f"experiment={name}: case {label!r} of claim {node['id']}", variant, variants)
        if len(case) > 2:
            raise ConfigError(f"experiment={name}: case {label!r} of claim {node['id']} takes one variant or two")
    if not float(low) <= float(high):
        raise ConfigError(f"experiment={name}: claim {node['id']} has an empty range [{low}, {high}]")
    return Claim(low=_number(low), high=_number(high), cases=cases, **node)


def _number(value: Any) -> float:
    found = float(value)  # YAML reads inf as text
    assert not math.isnan(found), "a bound is a number"
    return found


def configs_of(found: Experiment, overrides: Sequence[str], seeds: int) -> dict[str, list[RunConfig]]:
    """Every variant's configs, one a seed from 0 on.

    Args:
        found: the experiment.
        overrides: the user's own, which win over the experiment's.
        seeds: how many.

    Raises:
        ConfigError: an override is unknown or out of range.
    """
    made = {}
    for variant in found.variants:
        config = RunConfig.from_dict(
            compose(
                [f"+experiment={found.name}", f"experiment.variant={variant}", *overrides],
                "a reproduction takes one, for all its runs",
            )
        )
        made[variant] = [replace(config, seed=seed) for seed in range(seeds)]
    return made
