"""The verdict: what the first steps of a network foretell, and why. All thresholds of the diagnosis stand here.

The verdict judges a `Glimpse`: probes before the first step and along a look-ahead at the first steps. It says two
things. Whether the network will learn: a forecast, the probability that its final accuracy reaches 0.8 of what the
best cure would give. And if not, why: the mechanism whose mark the look-ahead shows.

The forecast's numbers were fitted on the `select` half of the prediction study (scripts/prediction_study.py: digits and
Fashion-MNIST, learning rates and seeds that the report's `held` half does not use); `python scripts/prediction_study.py
fit OUT` prints them. docs/prediction.md says which choices of its form saw more than that half.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

Row = Mapping[str, float]
Sentence = tuple[str, str]  # its topic, a mechanism where it could be the mark of one; its words

MECHANISMS = ("divergence", "dead units", "clipped-loss plateau", "saturation")
OUTCOMES = ("will train", "will train slowly", *(f"will collapse: {mechanism}" for mechanism in MECHANISMS))
LAYER_MARKS = {  # a layer's diagnostic -> the mechanism that it is the mark of, and in words
    "dead": ("dead units", "of a layer's units are dead"),
    "saturated": ("saturation", "of a layer's (unit, image) pairs are saturated"),
}

# A failure's mechanism, where the loss stays finite: the first of these marks that the end of the look-ahead shows.
PLATEAU = 0.4  # of the images are wrong and send back no gradient
DEAD = 0.8  # of the units of some layer are off for every image
SATURATED = 0.9  # of (unit, image) pairs of some layer are on a flat side
BLOWN_UP = 1.5  # times the initial loss, or times chance's ln C if that is larger
UNSTABLE = 1.0  # stability index above which steps grow: evidence, not a failure by itself
VANISHED = 1e-3  # of the largest layer's gradient: where the first layer's is less, it vanishes on its way back

# The forecast: a logistic model of the look-ahead's end, and the probability from which on it says ``will train``.
FORECAST = {
    "constant": -2.04,
    "gained": 6.47,  # accuracy above chance, as a part of what can be gained
    "loss gone": 0.52,  # ln of the part of the chance loss that is gone
    "ahead": 1.29,  # ln of how many times longer the whole training is than the look-ahead; 0 for the stuck
    "open": 0.75,  # ln of the part of the worst layer that can learn: units not dead, (unit, image) pairs not saturated
    "spike": -0.18,  # ln of how far, in ln, the highest loss of the last third stands above its median
    "reach": 1.02,  # ln of how far the whole training moves the weights, over the weights' norm; at most 0
    "haste": -0.91,  # ln of how many times ``HASTY`` the next step moves them; at least 0
}
LEARNS = 0.26  # the middle of a flat top: from 0.18 to 0.32 the balanced accuracy changes by 0.004
CLOSE = (0.1, 0.7)  # between these the first steps do not settle it
LEAST = 0.003  # of the chance loss, of a layer, of the weights' norm: less counts as this
LEAST_SPIKE = 0.01
HASTY = 0.005  # of the weights' norm
LITTLE, MUCH = 0.1, 0.03  # travel below, a step above which the evidence says so: 2 % of those that learn each
FARTHEST = 4.0  # of ``ahead``: the study knows trainings up to 48 times as long; longer ones count as 55 times


@dataclass
class Glimpse:
    """What the first steps do to one network.

    Attributes:
        initial: diagnostics before the first step.
        rows: ``loss``, ``accuracy``, ``dead``, ``saturated``, ``plateau``, ``update_ratio`` (and per layer) on some
            training images, at some ``step`` from 0 on.
        losses: the minibatch loss of each step.
        total_steps: how many steps the whole training would take.
        classes: how many classes the data have.
        diverged: in words, if the loss stopped being finite.
        chance_loss: the loss of a network that gives each class the same probability (``Loss.chance_loss``).
        clips: whether the loss has a plateau of its own (``Loss.plateau``); without one, images that send back no
            gradient are the mark of saturated outputs.
    """

    initial: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    total_steps: int = 0
    classes: int = 10
    diverged: str | None = None
    chance_loss: float = math.log(10)
    clips: bool = True


@dataclass(frozen=True)
class Verdict:
    """What will happen, and why.

    Attributes:
        outcome: one of ``OUTCOMES``.
        probability: that the network learns (its final accuracy reaches 0.8 of the best cure's).
        evidence: the measurements that speak for it, one sentence each.
    """

    outcome: str
    probability: float
    evidence: tuple[str, ...] = ()

    @property
    def will_learn(self) -> bool:
        """Whether it foretells success."""
        return self.outcome == "will train"

    @property
    def close_call(self) -> bool:
        """Whether the first steps do not settle it."""
        return CLOSE[0] <= self.probability <= CLOSE[1]

    @property
    def words(self) -> str:
        """The outcome as it is said: with how sure it is, where it is not."""
        return f"{self.outcome} (a close call)" if self.close_call else self.outcome

    @property
    def mechanism(self) -> str | None:
        """One of ``MECHANISMS``, ``slow``, or None for a network that will train."""
        if self.will_learn:
            return None
        return self.outcome.partition(": ")[2] or "slow"


def judge(glimpse: Glimpse) -> Verdict:
    """The verdict on a look-ahead."""
    probability = forecast(glimpse)
    if probability >= LEARNS:
        outcome = "will train"
    else:
        mechanism = mechanism_of(glimpse)
        outcome = f"will collapse: {mechanism}" if mechanism else "will train slowly"
    return Verdict(outcome, probability, tuple(evidence_of(glimpse, outcome)))


def features(glimpse: Glimpse) -> dict[str, float]:
    """What the forecast weighs; the look-ahead has at least its first and last row, with finite losses."""
    last, chance = glimpse.rows[-1], 1 / glimpse.classes
    return {
        "constant": 1.0,
        "gained": max((last["accuracy"] - chance) / (1 - chance), 0.0),
        "loss gone": math.log(max(1 - last["loss"] / glimpse.chance_loss, LEAST)),
        "ahead": 0.0 if is_stuck(last) else min(math.log(max(glimpse.total_steps, 1) / max(last["step"], 1)), FARTHEST),
        "open": math.log(max(1 - max(worst(last, "saturated"), worst(last, "dead")), LEAST)),
        "spike": math.log(max(spike(glimpse.losses), LEAST_SPIKE)),
        "reach": math.log(min(max(travel(glimpse), LEAST), 1.0)),
        "haste": math.log(max(pace_of(last), HASTY) / HASTY),
    }


def pace_of(row: Row) -> float:
    """The next step's length over the weights' norm, at most 1; 1 where it was not measured or is not finite."""
    return min(row.get("update_ratio", 1.0), 1.0)


def travel(glimpse: Glimpse) -> float:
    """How far the training moves the weights, over their norm: step by step, and on at the last pace until its end."""
    steps = [row["step"] for row in glimpse.rows] + [max(glimpse.total_steps, glimpse.rows[-1]["step"])]
    return sum(pace_of(row) * (after - at) for row, (at, after) in zip(glimpse.rows, pairwise(steps), strict=True))


def spike(losses: Sequence[float]) -> float:
    """How far the highest minibatch loss of the last third stands above its median, as a difference of logarithms."""
    some = sorted(max(loss, 1e-6) for loss in losses[-max(len(losses) // 3, 1) :] if math.isfinite(loss))
    return math.log(some[-1] / statistics.median(some)) if some else 0.0


def is_stuck(row: Row) -> bool:
    """Whether time cannot help: units that are dead, and images on a plateau, get no gradient to come back by."""
    return worst(row, "dead") >= DEAD or row.get("plateau", 0.0) >= PLATEAU


def is_lost(glimpse: Glimpse) -> bool:
    """Whether the loss stopped being finite."""
    return glimpse.diverged is not None or not glimpse.rows or not math.isfinite(glimpse.rows[-1]["loss"])


def forecast(glimpse: Glimpse) -> float:
    """The probability that the network learns."""
    if is_lost(glimpse):
        return 0.0
    found = features(glimpse)
    return 1 / (1 + math.exp(-sum(FORECAST[name] * value for name, value in found.items())))


def mechanism_of(glimpse: Glimpse) -> str | None:
    """Why a network fails: the first mechanism whose mark the look-ahead shows; None if it is only slow."""
    if is_lost(glimpse):
        return "divergence"
    first, last = glimpse.rows[0], glimpse.rows[-1]
    marks = [
        (flat_loss(glimpse), last.get("plateau", 0.0) >= PLATEAU),
        ("dead units", worst(last, "dead") >= DEAD),
        ("saturation", worst(last, "saturated") >= SATURATED),
        ("divergence", last["loss"] > BLOWN_UP * max(first["loss"], math.log(glimpse.classes))),
    ]
    return next((mechanism for mechanism, shown in marks if shown), None)


def flat_loss(glimpse: Glimpse) -> str:
    """The mechanism of which images that send back no gradient are the mark."""
    return "clipped-loss plateau" if glimpse.clips else "saturation"


def worst(row: Row, name: str) -> float:
    """The largest value of a diagnostic over the layers; 0 where it does not apply."""
    return max((value for key, value in row.items() if key.rpartition("_")[0] == name), default=0.0)


def evidence_of(glimpse: Glimpse, outcome: str) -> list[str]:
    """The measurements behind a verdict, in words, those for its mechanism first."""
    found = [*_of_the_start(glimpse), *_of_the_look_ahead(glimpse)]
    others = {"will train": ["accuracy"], "will train slowly": ["gradient", "pace", "accuracy"]}
    first = others.get(outcome, [outcome.partition(": ")[2]])
    found.sort(key=lambda sentence: [topic != sentence[0] for topic in first])
    return [words for _, words in found]


def _of_the_start(glimpse: Glimpse) -> list[Sentence]:
    start = glimpse.initial
    found = []
    index = start.get("stability_index")
    if index is not None and index > UNSTABLE:
        found.append(("stability", f"stability index {index:.3g}: the learning rate is past the optimizer's limit, 1"))
    elif index is not None:
        found.append(
            ("stability", f"stability index {index:.2g}: the learning rate is within the optimizer's limit, 1")
        )
    if (share := vanishing(start)) is not None:
        found.append(
            ("gradient", f"before training the first layer's gradient is {share:.1g} of the largest: it vanishes")
        )
    for name, least in (("saturated", 0.5), ("dead", 0.2)):
        if worst(start, name) > least:
            topic, words = LAYER_MARKS[name]
            found.append((topic, f"before training {worst(start, name):.0%} {words}"))
    return found


def vanishing(row: Row, when: str = "") -> float | None:
    """The first layer's gradient over the largest layer's, if that is below ``VANISHED``, and not 0 as of dead units.

    Args:
        row: of diagnostics, with ``gradient_norm_0``, ... if the gradient was measured.
        when: what stands before their names.
    """
    norms = [value for name, value in row.items() if name.startswith(f"{when}gradient_norm_") and math.isfinite(value)]
    share = row.get(f"{when}gradient_norm_0", math.nan) / (max(norms, default=0.0) or math.nan)
    return share if 0 < share < VANISHED else None


def _of_the_look_ahead(glimpse: Glimpse) -> list[Sentence]:
    if glimpse.diverged:
        return [("divergence", glimpse.diverged)]
    if not glimpse.rows:
        return []
    first, last = glimpse.rows[0], glimpse.rows[-1]
    steps = f"{last['step']:.0f} steps"
    found = [
        ("divergence", f"in {steps} the loss goes from {first['loss']:.4g} to {last['loss']:.4g}"),
        ("accuracy", f"in {steps} the accuracy goes from {first['accuracy']:.3f} to {last['accuracy']:.3f}"),
    ]
    peak = max(glimpse.rows, key=lambda row: row["loss"])
    if peak["loss"] > 3 * first["loss"]:
        found.append(("divergence", f"the loss shoots up to {peak['loss']:.3g} by step {peak['step']:.0f}"))
    for name, (topic, words) in LAYER_MARKS.items():
        if worst(last, name) > 0.3:
            found.append((topic, f"after {steps} {worst(last, name):.0%} {words} ({worst(first, name):.0%} before)"))
    if pace_of(last) == 0:
        found.append(("pace", "the weights no longer move"))
    elif travel(glimpse) < LITTLE:
        far = f"{travel(glimpse):.2g} of their norm at this pace"
        found.append(("pace", f"the whole training moves the weights by {far}"))
    elif pace_of(last) > MUCH:
        size = f"{pace_of(last):.2g} of their norm" if pace_of(last) < 1 else "their norm or more"
        found.append(("pace", f"the next step moves the weights by {size}"))
    if (stuck := last.get("plateau", 0.0)) > 0.05:
        words = f"after {steps} {stuck:.0%} of the images are wrong and send back no gradient"
        why = "" if glimpse.clips else ": the outputs are saturated, at probabilities of 0 and 1"
        found.append((flat_loss(glimpse), words + why))
    return found


def truncated(glimpse: Glimpse, steps: int) -> Glimpse:
    """The same look-ahead, had it ended after ``steps`` steps."""
    rows = [row for row in glimpse.rows if row["step"] <= steps]
    lost = glimpse.diverged if len(glimpse.losses) <= steps else None
    finite: Sequence[float] = glimpse.losses[:steps]
    if glimpse.diverged and not all(math.isfinite(loss) for loss in finite):
        lost = glimpse.diverged
    return replace(glimpse, rows=rows, losses=list(finite), diverged=lost)
