"""A member's account: its sums over a pass, and what is set aside of it when it ends."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlp_study.training.results import Metrics


@dataclass
class EndedMember:
    """A member that has ended: why, its tensors, and its last step, counted from 1."""

    outcome: str
    cause: str | None
    tensors: dict[str, Tensor]
    step: int


class Tally:
    """Per-member sums of loss and correct answers over the images of one pass that were seen so far."""

    def __init__(self, loss_K: Tensor | None = None, correct_K: Tensor | None = None, seen: int = 0) -> None:
        self.loss_K, self.correct_K, self.seen = loss_K, correct_K, seen

    def add(self, loss_K: Tensor, correct_K: Tensor, count: int) -> None:
        """``loss_K`` is the sum over ``count`` images."""
        self.loss_K = loss_K if self.loss_K is None else self.loss_K + loss_K
        self.correct_K = correct_K if self.correct_K is None else self.correct_K + correct_K
        self.seen += count

    def to(self, device: torch.device) -> Tally:
        """Return the same sums on a device."""
        if self.loss_K is None or self.correct_K is None:
            return self
        return Tally(self.loss_K.to(device), self.correct_K.to(device), self.seen)

    def rows(self, part: str) -> list[Metrics]:
        """Return each member's mean loss and accuracy."""
        if self.loss_K is None or self.correct_K is None:
            return []
        losses, correct = self.loss_K.tolist(), self.correct_K.tolist()
        return [
            {f"{part}/loss": loss / self.seen, f"{part}/accuracy": hits / self.seen}
            for loss, hits in zip(losses, correct, strict=True)
        ]
