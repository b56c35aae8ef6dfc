"""Whether a training will succeed, from what it reached on a copy: measured where it was run whole, else foretold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GOOD = 0.8  # of the skill that can be had: what ``trains`` means
SIGNAL = 0.1  # least skill at which there is something to learn
CLOSE = (0.1, 0.9)  # between these chances the measurement does not settle it
SPREAD = 0.05  # of the ratio, between seeds
UNKNOWN = 0.1  # more of it, for each factor e that the training is longer than what was run

VERDICTS = ("will train", "will train slowly", "will not train")


@dataclass(frozen=True)
class Course:
    """How a training went on a copy.

    Attributes:
        rows: ``step`` and ``skill``, in order.
        total: steps of the whole training.
        failed: whether it stopped with an error or its loss stopped being finite.
    """

    rows: Sequence[dict[str, float]]
    total: int
    failed: bool

    @property
    def reached(self) -> float:
        """The last skill."""
        return 0.0 if self.failed or not self.rows else self.rows[-1]["skill"]

    @property
    def whole(self) -> bool:
        """Whether it was run to its end."""
        return self.failed or (bool(self.rows) and self.rows[-1]["step"] >= self.total)

    def foretold(self) -> float:
        """The skill at its end: as reached, or on along the last part of the curve over the logarithm of steps."""
        if self.whole or len(self.rows) < 2:
            return self.reached
        last = self.rows[-1]
        before = next((r for r in reversed(self.rows[:-1]) if r["step"] <= last["step"] / 2), self.rows[0])
        slope = (last["skill"] - before["skill"]) / max(math.log(last["step"] / max(before["step"], 1)), 0.5)
        rest = 1 - last["skill"]
        ahead = max(slope, 0.0) * math.log(self.total / max(last["step"], 1))
        return last["skill"] + rest * (1 - math.exp(-ahead / max(rest, 1e-9))) if rest > 0 else last["skill"]

    def chance(self, bar: float) -> float:
        """The probability that its end reaches ``GOOD`` of the skill that can be had."""
        if self.failed or bar < SIGNAL:
            return 0.01
        spread = SPREAD
        if not self.whole and self.rows:
            spread += UNKNOWN * math.log(self.total / max(self.rows[-1]["step"], 1))
        score = (self.foretold() / bar - GOOD) / spread
        return min(max(1 / (1 + math.exp(-1.7 * score)), 0.01), 0.99)


def chance_of(courses: Sequence[Course], bar: float) -> float:
    """The mean of several orders' chances."""
    return round(sum(course.chance(bar) for course in courses) / len(courses), 4)
