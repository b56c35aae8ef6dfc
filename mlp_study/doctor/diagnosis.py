"""The doctor's answer: verdict, reason, causes, and fixes that were tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlp_study.doctor.changes import apply
from mlp_study.doctor.checks import Cause
from mlp_study.doctor.training import Training

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Fix:
    """A change of the training, at most two keys, that was tried on a copy.

    Attributes:
        changes: key -> value, in words.
        code: the Python that makes it, as it was run: after it, train as before.
        reason: why it helps.
        score: the skill that it reached, on its training's examples: 0 is the best constant answer, 1 perfect.
        chance: that it reaches 0.8 of the skill that can be had.
        longer: how many times as many steps as the user's training it takes.
        whole: whether it was trained to its end.
    """

    changes: dict[str, Any]
    code: str
    reason: str
    score: float
    chance: float
    longer: float = 1.0
    whole: bool = True
    training: Training | None = field(default=None, repr=False, compare=False)

    def apply(self) -> Training:
        """Copies of the user's objects with the fix in place: ``fit()`` and ``predict(x)``."""
        assert self.training is not None
        return apply(self.code, self.training)

    def __str__(self) -> str:
        return self.code


@dataclass(repr=False)
class Diagnosis:
    """Whether a training will succeed, why, and what would mend it. ``print`` shows it; a notebook draws it.

    Attributes:
        verdict: ``will train``, ``will train slowly`` or ``will not train``.
        why: the reason, in one sentence.
        chance: that the training reaches 0.8 of the skill that can be had.
        close_call: whether the measurement does not settle it.
        causes: what weighs on the training, the most certain first.
        fixes: changes that were tried and help, the best first.
        notes: what was taken otherwise than it was given, and what trains all the same.
        about: the training in a few words, by name.
        skill: reached at the end of what was run on a copy.
        possible: the skill that can be had: of a plain model in cross-validation, or of the best fix.
        rows: ``step``, ``skill``, ``signal`` and ``loss`` along the copy's training.
        total_steps: of the user's whole training.
        tried: how many changes were tried.
        seconds: how long it took.
    """

    verdict: str
    why: str
    chance: float
    close_call: bool = False
    causes: list[Cause] = field(default_factory=list)
    fixes: list[Fix] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    skill: float = 0.0
    possible: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    total_steps: int = 0
    tried: int = 0
    seconds: float = 0.0

    @property
    def will_train(self) -> bool:
        """Whether the verdict is ``will train``."""
        return self.verdict == "will train"

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types, as JSON takes them."""
        from mlp_study.doctor.text import as_dict

        return as_dict(self)

    def figure(self) -> Figure:
        """Skill along the training, and what each fix reached."""
        from mlp_study.doctor.figure import drawn

        return drawn(self)

    def __repr__(self) -> str:
        return f"<Diagnosis: {self.verdict}; print it for the reason, and for {len(self.fixes)} fixes>"

    def __str__(self) -> str:
        from mlp_study.doctor.text import text_of

        return text_of(self)

    def _repr_html_(self) -> str:
        from mlp_study.doctor.html import html_of

        return html_of(self)


Told = Callable[[str], None]
