"""Which runs failed and why, which combinations fail, and what would make one learn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mlp_study.doctor.forecast import DEAD, PLATEAU, SATURATED, UNSTABLE, VANISHED, vanishing
from mlp_study.factors.losses import LOSSES
from mlp_study.reporting.axes import Members, Run, measured
from mlp_study.runtime.statistics import mean_deviation

METRIC, CHANCE = "test/accuracy", "test/chance"  # by which combinations are told apart; what one answer to all reaches
BLOWN_UP = 100.0  # of a training loss; chance costs ln C, and clipped probabilities 16.1 at most
FAILED = 0.5  # of the best combination's accuracy: a run below it has failed
LEARNT = 0.1  # of the way from chance to all images right: a run that ends below it has learnt nothing

MECHANISMS: Mapping[str, tuple[str, str]] = {  # name -> the mark in a cell, what it means
    "diverged": ("✖", "the loss stopped being finite"),
    "blown up": ("▲", "a training loss above 100 at the end"),
    "error": ("!", "the run ended with an error"),
    "plateau": ("▬", f"at least {PLATEAU:.0%} of the images on the clipped loss's plateau at the end"),
    "dead units": ("∅", f"at least {DEAD:.0%} of the units of a layer pass nothing on for any image at the end"),
    "saturated": (
        "≈",
        f"at least {SATURATED:.0%} of (unit, image) pairs of a layer on a flat side at the end, or {PLATEAU:.0%} of "
        "the images wrong and without a gradient though the loss clips nothing",
    ),
    "vanishing gradient": (
        "↓",
        f"at initialisation the first layer's gradient below {VANISHED:g} of the largest layer's "
        "(probes.ends=[gradient_norm,...] records it)",
    ),
    "step too large": ("↯", "sharpness above the optimizer's stability limit at initialisation"),
    "too slow": ("…", "the training loss still fell by at least 1 % in the last epoch"),
    "cause unknown": ("?", "none of the recorded diagnostics shows why"),
}


def mechanisms_of(runs: Sequence[Run], groups: Members, falling: Sequence[bool]) -> list[str | None]:
    """Why each run failed, None for those that did not; ``falling`` says whose training loss still fell at the end.

    A run failed if it diverged, ended with an error, learnt nothing (``LEARNT``; where chance was not recorded: has a
    layer whose units are all dead), or reached less than half of the test accuracy of its data set's best combination.
    Its mechanism is the first of ``MECHANISMS`` whose mark it bears.
    """
    best: dict[str, float] = {}
    for members in groups.values():
        mean = mean_deviation([measured(runs[i], METRIC) for i in members])[0]
        name = str(runs[members[0]].get("data"))
        best[name] = max(best.get(name, 0.0), 0.0 if math.isnan(mean) else mean)
    return [_mechanism(run, best[str(run.get("data"))], still) for run, still in zip(runs, falling, strict=True)]


def _mechanism(run: Run, best: float, falling: bool) -> str | None:
    ended = {"diverged": "diverged", "failed": "error"}.get(str(run["outcome"]))
    accuracy, chance = measured(run, METRIC), measured(run, CHANCE)
    # A layer that is dead may still learn: what ``leaky_relu_mismatched`` or SiLU let through differs among images.
    learnt = worst_layer(run, "final/dead") < 1 if math.isnan(chance) else accuracy >= chance + LEARNT * (1 - chance)
    if ended or (learnt and accuracy >= FAILED * best):
        return ended
    marks = [
        ("blown up", measured(run, "train/loss") > BLOWN_UP),
        ("plateau" if _clips(run) else "saturated", worst_layer(run, "final/plateau") >= PLATEAU),
        ("dead units", worst_layer(run, "final/dead") >= DEAD),
        ("saturated", worst_layer(run, "final/saturated") >= SATURATED),
        ("vanishing gradient", vanishing(run, "initial/") is not None),
        ("step too large", measured(run, "initial/stability_index") > UNSTABLE),
        ("too slow", falling),
    ]
    return next((name for name, found in marks if found), "cause unknown")


def _clips(run: Run) -> bool:
    """Whether the loss has a plateau of its own; without one it is the outputs that are saturated."""
    name = str(run.get("loss"))
    if name not in LOSSES:  # of another version
        return True
    loss = LOSSES[name]
    given = {option: run[key] for option in loss.options if run.get(key := f"loss.{option}") is not None}
    return loss.plateau(**given) is not None


def worst_layer(run: Run, name: str) -> float:
    """The largest of a diagnostic's values over the layers, 0 if it was not measured."""
    own = [measured(run, key) for key in run if key == name or key.startswith(f"{name}_")]
    return max((value for value in own if not math.isnan(value)), default=0.0)
