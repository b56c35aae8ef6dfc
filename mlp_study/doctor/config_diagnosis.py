"""The diagnosis of a configuration: probes before training, a look-ahead, a verdict, and cures that were tried."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import load
from mlp_study.doctor.config_cures import Cure, candidates, changed, spelt
from mlp_study.doctor.config_lookahead import INITIAL, STEPS, look_ahead
from mlp_study.doctor.forecast import Glimpse, Verdict, is_lost, judge, truncated
from mlp_study.errors import DataError
from mlp_study.factors.optimizers import OPTIMIZERS
from mlp_study.model.population import PopulationMLP
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.lockstep import lockstep_order, shape_key
from mlp_study.training.probing import chunks, observed

if TYPE_CHECKING:
    from mlp_study.data.images import ImageSet

SEEN = 512  # training images that probes look at, and curvature is measured on
BEST = 4  # single changes that are combined in pairs if none of them helps enough

Change = tuple[dict[str, Any], str]  # overrides as key -> value, and the reason for trying them
Spelling = Callable[[dict[str, Any]], tuple[str, ...]]
LookAhead = Callable[[Sequence[RunConfig], int], list[Glimpse]]


@dataclass(repr=False)
class Diagnosis:
    """What will happen to a configuration, why, and what would cure it; ``print`` shows the command's panel.

    Attributes:
        about: the configuration in a few words, by name.
        glimpse: what was measured, in ``glimpse.initial`` that of units over the whole training split, the rest on
            ``seen`` training images.
        verdict: what follows from it.
        cures: changes that were tried, the best first.
        threshold: the optimizer's limit of the sharpness; None where no rule is known.
        seen: see ``glimpse``; fewer where the data set has fewer.
        seconds: how long the diagnosis took.
        notes: what was diagnosed otherwise than it was given, one sentence each.
    """

    about: dict[str, Any]
    glimpse: Glimpse
    verdict: Verdict
    cures: list[Cure] = field(default_factory=list)
    threshold: float | None = None
    seen: int = SEEN
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Diagnosis: {self.verdict.words}; print it for evidence and cures>"

    def __str__(self) -> str:
        from mlp_study.doctor.panel import text_of

        return text_of(self)

    @property
    def layers(self) -> list[dict[str, float]]:
        """One row of diagnostics at initialisation for each hidden layer."""
        rows: dict[int, dict[str, float]] = defaultdict(dict)
        for name, value in self.glimpse.initial.items():
            entry, _, layer = name.rpartition("_")
            if layer.isdigit():
                rows[int(layer)][entry] = value
        hidden = [layer for layer in sorted(rows) if "preactivation_mean" in rows[layer]]
        return [rows[layer] for layer in hidden]


def diagnose_config(
    config: RunConfig, images: ImageSet | None = None, *, cures: bool = True, steps: int | None = None
) -> Diagnosis:
    """Look at a configuration before it is trained.

    Args:
        config: what would be trained.
        images: its data set, if it is loaded already.
        cures: whether to try changes where the verdict is not ``will train``, or is a close call.
        steps: of the look-ahead; as many as the training's length asks for, if None.

    Raises:
        DataError: the data set cannot be read, or has one class.
    """
    found_images = images or load(config.data.name, config.data_root, **config.data.options)
    if len(found_images.classes) < 2:
        raise DataError(
            f"data={config.data.name} has one class, which needs no learning; a diagnosis takes at least two"
        )

    def ahead(configs: Sequence[RunConfig], steps: int) -> list[Glimpse]:
        return by_shape(configs, lambda group: look_ahead(group, found_images, steps, seen=SEEN, initial=()))

    began = time.perf_counter()
    [glimpse] = look_ahead([config], found_images, steps, seen=SEEN, whole=True, initial=INITIAL)
    return examined(about(config), config, glimpse, ahead if cures else None, began)


def examined(
    described: dict[str, Any],
    config: RunConfig,
    glimpse: Glimpse,
    ahead: LookAhead | None,
    began: float,
    *,
    changes: Iterable[Change] | None = None,
    spell: Spelling = spelt,
    notes: tuple[str, ...] = (),
) -> Diagnosis:
    """The diagnosis that follows from a look-ahead.

    Args:
        described: the configuration in words.
        config: what would be trained.
        glimpse: what looking ahead has shown.
        ahead: looks ahead for cures; None tries none.
        began: when the diagnosis began, on ``time.perf_counter``.
        changes: the cures to try; all that are known, if None.
        spell: a change as it is typed.
        notes: see ``Diagnosis``.
    """
    verdict = judge(glimpse)
    limit = OPTIMIZERS[config.optimizer.name].limit(config.optimizer.options)
    seen = int(glimpse.initial.get("sharpness_images", SEEN))
    found = Diagnosis(described, glimpse, verdict, threshold=limit, seen=seen, notes=notes)
    if ahead and (verdict.close_call or not verdict.will_learn):
        singles = list(candidates(config, glimpse) if changes is None else changes)
        found.cures = tried(config, glimpse, ahead, singles, spell)
    found.seconds = time.perf_counter() - began
    return found


def about(config: RunConfig) -> dict[str, Any]:
    """A configuration in a few words."""
    widths = "-".join(map(str, config.model.widths)) + (
        "" if config.model.norm == "none" else f" ({config.model.norm} norm)"
    )
    gain = "" if config.data.gain == 1 else f" x {config.data.gain:g}"
    init = config.init.name + ("" if config.init.options["gain"] == 1 else f" x {config.init.options['gain']:g}")
    return {
        "data": f"{config.data.name}, scale {config.data.scale}{gain}",
        "network": f"{widths}, {config.activation.name}, {init}",
        "training": f"{config.optimizer.name} lr {config.optimizer.options['lr']:g}, batch {config.data.batch_size}, "
        f"{config.loss.name}, {config.trainer.max_epochs} epochs",
    }


def tried(config: RunConfig, glimpse: Glimpse, ahead: LookAhead, singles: list[Change], spell: Spelling) -> list[Cure]:
    """Every change, trained for the unchanged configuration's first ``STEPS`` steps; the best first.

    If no single change makes the verdict ``will train``, the best ones are also combined in pairs.
    """
    steps = min(STEPS, glimpse.total_steps)
    same = truncated(glimpse, steps)
    before = 1 / glimpse.classes if is_lost(same) else same.rows[-1]["accuracy"]

    def measured(changes: list[Change]) -> list[Cure]:
        glimpses = ahead([changed(config, change) for change, _ in changes], steps)
        return [_cure(spell(c), why, g, steps, before) for (c, why), g in zip(changes, glimpses, strict=True)]

    cures = measured(singles)
    if not any(cure.verdict.will_learn for cure in cures):
        ranked = sorted(range(len(cures)), key=lambda i: _rank(cures[i]))
        cures += measured(_pairs([singles[i] for i in ranked]))
    return sorted(cures, key=_rank)


def _cure(overrides: tuple[str, ...], why: str, glimpse: Glimpse, steps: int, before: float) -> Cure:
    lost = is_lost(glimpse)
    accuracy = 1 / glimpse.classes if lost else glimpse.rows[-1]["accuracy"]
    loss = math.inf if lost else glimpse.rows[-1]["loss"]
    return Cure(overrides, why, judge(glimpse), accuracy, loss, steps, accuracy - before)


def _rank(cure: Cure) -> tuple[Any, ...]:
    """Best first: what will train, then by accuracy to two digits, then the smaller change, then by loss."""
    return (not cure.verdict.will_learn, -round(cure.accuracy, 2), len(cure.overrides), cure.loss)


def _pairs(ranked: Sequence[Change]) -> list[Change]:
    """The best changes of different options, two by two."""
    best: dict[str, Change] = {}
    for change, why in ranked:
        best.setdefault(next(iter(change)), (change, why))
    some = list(best.values())[:BEST]
    return [
        ({**a, **b}, f"{why_a}; {why_b}")
        for i, (a, why_a) in enumerate(some)
        for b, why_b in some[i + 1 :]
        if not {key.partition(".")[0] for key in a} & set(b) and not set(a) & set(b)
    ]


def by_shape(configs: Sequence[RunConfig], ahead: Callable[[Sequence[RunConfig]], list[Glimpse]]) -> list[Glimpse]:
    """Look ahead for configs of several shapes: one population a shape, the answers in the configs' order."""
    groups: dict[Any, list[int]] = defaultdict(list)
    for k, config in enumerate(configs):
        groups[shape_key(config)].append(k)
    found: dict[int, Glimpse] = {}
    for group in groups.values():
        order = [group[i] for i in lockstep_order([configs[k] for k in group])]
        found |= dict(zip(order, ahead([configs[k] for k in order]), strict=True))
    return [found[k] for k in range(len(configs))]


def preactivations(config: RunConfig, images: ImageSet | None = None, seen: int = SEEN) -> list[Tensor]:
    """What each hidden layer's activation receives before training, [O, B] on the first ``seen`` training images."""
    images = images or load(config.data.name, config.data_root, **config.data.options)
    data = PopulationData([config], images)
    mlp = PopulationMLP([config], images.train_images_NI.shape[1], len(images.classes), data.feed.per_stream)
    with torch.no_grad(), observed(mlp):
        [(x_GBI, _)] = list(chunks(data.feed, mlp, seen))[:1]
        return [z_KOB[0] for z_KOB, _ in mlp.layerwise(x_GBI)][:-1]
