"""Findings along a training: what the looks of a watch say together, with its number and what to try."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlp_study.doctor.checks import Cause
from mlp_study.doctor.observe import CUT, Operation, units_of

DEAD = 0.8  # of a layer's units: off for every example of the last looks
SATURATED = 0.9  # of a layer's (unit, example) pairs
VANISHED = 1e-4  # of the largest layer's gradient, each over its weight: less in the first layer vanishes on its way
LONG, TINY = 0.3, 1e-7  # of a weight's norm: a step above the one is too long, all steps below the other are too short
GROWN = 1e3  # times the median gradient so far
STUCK_STEPS, STUCK = 600, 0.995  # after so many steps the loss still is this part of its first, or more
RISEN = 3.0  # times the smallest loss so far
LOOKS = 4  # in a row before a finding counts: a single minibatch proves little
EXAMPLES = 100  # before a unit counts as dead
SETTLED = 20  # steps before a long step is a finding: an optimizer's first ones may be long


@dataclass(frozen=True)
class Layer:
    """One layer's or activation's numbers at one look; NaN for what does not apply.

    Attributes:
        step: steps taken before it.
        layer: its name in the model.
        kind: ``weight``, or the activation.
        dead: share of units off for every example of the last looks.
        saturated: share of (unit, example) pairs next to a bound of the activation.
        gradient: norm of the gradient, over the weight's.
        update: length of the step, over the weight's norm.
    """

    step: int
    layer: str
    kind: str
    dead: float = math.nan
    saturated: float = math.nan
    gradient: float = math.nan
    update: float = math.nan


@dataclass
class Course:
    """All that has been seen of a training, and the findings that follow from it."""

    rows: list[Layer] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    active: dict[tuple[str, str, int], deque[tuple[Tensor, int]]] = field(default_factory=dict)
    in_a_row: dict[tuple[str, str], int] = field(default_factory=dict)

    def add_units(self, step: int, operations: list[Operation]) -> list[Cause]:
        """The health of hidden activations at a look, and what it shows."""
        for place, operation in enumerate(operations):
            units = units_of(operation)
            dead = self._dead(place, operation) if operation.kind in CUT else math.nan
            self.rows.append(Layer(step, operation.module, operation.kind, dead, units.saturated))
        return [cause for row in self.rows[len(self.rows) - len(operations) :] for cause in self._of_units(row)]

    def _dead(self, place: int, operation: Operation) -> float:
        output = operation.output
        rows = output.movedim(1, -1).flatten(0, -2) if output.ndim > 2 else output.reshape(len(output), -1)
        kept = self.active.setdefault((operation.module, operation.kind, place), deque(maxlen=LOOKS + 1))
        if kept and kept[0][0].shape != rows.shape[1:]:
            kept.clear()
        kept.append(((rows > 0).any(0), len(rows)))
        if sum(count for _, count in kept) < EXAMPLES:
            return math.nan
        return 1 - torch.stack([active for active, _ in kept]).any(0).float().mean().item()

    def _of_units(self, row: Layer) -> Iterator[Cause]:
        share = f"of the units of {row.kind} are"
        if self._holds(f"dead {row.kind}", row.layer, row.dead >= DEAD):
            words = f"{row.dead:.0%} {share} off for every example of the last looks: no gradient reaches them"
            advice = "try a tenth of the learning rate, scaled inputs, or LeakyReLU"
            yield Cause("lr", f"{words}; {advice}", row.layer, certain=row.dead == 1)
        if self._holds(f"saturated {row.kind}", row.layer, row.saturated >= SATURATED):
            words = f"{row.saturated:.0%} of what {row.kind} gives lies next to its bounds, where its gradient is small"
            yield Cause("scale", f"{words}; try scaled inputs, smaller initial weights, or ReLU", row.layer)

    def add_weights(self, rows: list[Layer]) -> list[Cause]:
        """Gradients and updates of the layers' weights, in their order, and what they show."""
        self.rows += rows
        found = [cause for row in rows for cause in self._of_step(row)]
        gradients = [row.gradient for row in rows if math.isfinite(row.gradient)]
        if len(rows) > 2 and gradients and self._holds("vanishes", "", self._vanishes(gradients)):
            words = f"the first layer's gradient is {gradients[0] / max(gradients):.1g} of the largest: it vanishes"
            found.append(Cause("activation", f"{words}; try ReLU, normalization, or fewer layers", rows[0].layer))
        still = [row for row in rows if math.isfinite(row.update)]
        if still and self._holds("still", "", all(row.update < TINY for row in still) and not self._fallen()):
            words = f"no step moves a weight by more than {max(r.update for r in still):.1g} of its norm"
            found.append(Cause("lr", f"{words}; try a larger learning rate"))
        return found

    def _vanishes(self, gradients: list[float]) -> bool:
        """Whether the first layer's gradient is small beside the largest; not where the loss was seen to halve."""
        learnt = bool(self.losses) and self._fallen(0.5)
        return 0 < gradients[0] < VANISHED * max(gradients) and not learnt

    def _of_step(self, row: Layer) -> Iterator[Cause]:
        if self._holds("long", row.layer, row.step > SETTLED and row.update > LONG):
            words = f"a step moves the weight by {row.update:.2g} of its norm"
            yield Cause("lr", f"{words}; try a tenth of the learning rate", row.layer)
        before = [old.gradient for old in self.rows if old.layer == row.layer and old.step < row.step]
        before = [value for value in before if math.isfinite(value) and value > 0]
        if len(before) >= LOOKS and row.gradient > GROWN * statistics.median(before):
            words = f"the gradient is {row.gradient / statistics.median(before):.1g} times its median so far"
            yield Cause("lr", f"{words}; try a smaller learning rate, or torch.nn.utils.clip_grad_norm_", row.layer)

    def add_loss(self, step: int, loss: float) -> list[Cause]:
        """One loss, and what the losses show."""
        self.losses.append((step, loss))
        if len(self.losses) % 50 or len(self.losses) < 200:
            return []
        values = [value for _, value in self.losses]
        first, last = statistics.median(values[:25]), statistics.median(values[-50:])
        lowest = min(statistics.median(values[i : i + 50]) for i in range(0, len(values) - 49, 50))
        if last > RISEN * max(lowest, 1e-3 * abs(first)) and last > first:
            words = f"the loss has risen from {lowest:.3g} to {last:.3g}"
            return [Cause("lr", f"{words}; try a tenth of the learning rate")]
        if step >= STUCK_STEPS and not self._fallen():
            words = f"after {step} steps the loss is {last:.4g}, as at the start ({first:.4g})"
            return [Cause("lr", f"{words}; ask health.diagnosis(loss, data) what would make it fall")]
        return []

    def _fallen(self, part: float = STUCK) -> bool:
        """Whether the loss has fallen to this part of its start; also where no loss was seen."""
        values = [value for _, value in self.losses]
        if len(values) < 50:
            return len(values) == 0 or values[-1] < part * values[0]
        return statistics.median(values[-50:]) < part * statistics.median(values[:25])

    def _holds(self, what: str, where: str, shown: bool) -> bool:
        """Whether something has been seen at ``LOOKS`` looks in a row."""
        self.in_a_row[what, where] = self.in_a_row.get((what, where), 0) + 1 if shown else 0
        return self.in_a_row[what, where] == LOOKS
