"""What training hands to whoever records it: one result per member, and the events along the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mlp_study.config.schema import RunConfig

OUTCOMES = ("completed", "early_stopped", "diverged", "pruned", "failed")

Metrics = dict[str, float]
"""Numbers by name: an epoch's line of the curves, or the values that probes have found."""


@dataclass
class MemberResult:
    """What is known of a finished member.

    Attributes:
        config: the member's resolved configuration.
        outcome: one of ``OUTCOMES``.
        curves: one row an epoch (``epoch, step, seconds, train/loss, ...``, then diagnostics).
        metrics: the last numbers: ``test/accuracy``, ``test/loss``, ``val/...``, ``train/...``, ``seconds`` (the
            population's), ``seconds_share`` (see ``shares_of``), ``epochs``, ``parameters``, and
            ``test/chance``, the accuracy of the best one answer to every test image.
        diagnostics: probe values at initialisation (``initial``) and at the end (``final``).
        weights: the exported ``nn.Sequential``'s state dict, on the CPU.
        population: the population's ``size`` and this member's ``index`` in it.
        cause: why it diverged or failed, in words; None otherwise.
        device: where it trained.
        predictions: predicted class of each test image [N], int64; None if not kept.
    """

    config: RunConfig
    outcome: str
    curves: list[Metrics] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    diagnostics: dict[str, Metrics] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    population: dict[str, int] = field(default_factory=dict)
    cause: str | None = None
    device: str = "cpu"
    predictions: Tensor | None = None


class Listener:
    """Hears what happens to each member; subclasses override what they need."""

    def started(self, configs: Sequence[RunConfig]) -> None:
        """Training of these members begins; ``k`` below indexes this sequence."""

    def steps_logged(self, k: int, rows: list[Metrics]) -> None:
        """Member k's training loss at some steps: ``{"step": s, "train/step_loss": x}``."""

    def epoch_ended(self, k: int, row: Metrics) -> None:
        """Member k ended an epoch; ``row`` is its line of the curves."""

    def finished(self, k: int, result: MemberResult) -> None:
        """Member k is done, whatever its outcome."""


def shares_of(curves: Sequence[Sequence[Metrics]], seconds: float) -> list[float]:
    """Each member's part of its population's ``seconds``: what an epoch took, divided by who trained in it.

    Members that ended early have less, and the parts add up to the whole; what is no epoch's is divided alike.
    """
    ends = {row["epoch"]: row["seconds"] for rows in curves for row in rows}
    counts = Counter(row["epoch"] for rows in curves for row in rows)
    epochs = sorted(ends)
    took = {epoch: ends[epoch] - ends.get(before, 0.0) for before, epoch in pairwise([0, *epochs])}
    rest = max(0.0, seconds - sum(took.values())) / len(curves)  # a resumed run's epochs took more than its own seconds
    return [rest + sum(took[row["epoch"]] / counts[row["epoch"]] for row in rows) for rows in curves]
