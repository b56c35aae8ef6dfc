"""Fixes are tried: each is trained on a copy, the better ones longer, singles first and then pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from mlp_study.doctor.changes import Change, apply, code_of
from mlp_study.doctor.clock import now
from mlp_study.doctor.diagnosis import Told
from mlp_study.doctor.facts import Facts
from mlp_study.doctor.recipe_changes import changes_for
from mlp_study.doctor.training import Run, Training

LEAST_STEPS = 40  # that an attempt gets before it is compared
SIGNAL = 0.3  # weight of the signal beside the skill, for attempts that are not trained to their end
LONGER = (3, 10, 30, 100)  # times the user's epochs
PERFECT = 0.97  # a skill that is not searched beyond
LONG = 0.3  # of the time for fixes: a training that takes more is not run whole
BELIEVED = 600  # steps after which a long training that does well is believed
TRIED = 20  # attempts after which the search ends if one is good enough
KEPT = 12  # attempts that are trained further than the others
FINISHED = 8  # attempts that are trained to their end
TIE = 0.03  # of skill: attempts this close are told apart by how little they change


@dataclass(eq=False)
class Attempt:
    """A training with changes, as far as it was tried.

    Attributes:
        changes: at most two keys of them; none for the user's own.
        run: the training; None where the changes cannot be made.
        total: its steps from beginning to end.
        row: what it had reached when it was last judged.
    """

    changes: tuple[Change, ...]
    run: Run | None
    total: int
    row: dict[str, float] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str]:
        """What it changes."""
        return frozenset(key for change in self.changes for key in change.changes)

    @property
    def skill(self) -> float:
        """The latest."""
        return self.row.get("skill", 0.0)

    @property
    def promise(self) -> float:
        """What attempts that are not trained to their end are compared by."""
        return self.skill + SIGNAL * self.row["signal"] if self.row else -1.0

    @property
    def ended(self) -> bool:
        """Whether its whole training was run, or it failed."""
        return self.run is None or self.run.ended or self.row.get("step", 0) >= self.total

    def advance(self, fraction: float, deadline: float) -> None:
        """Train it to a fraction of its own length, and judge it."""
        if self.run is None or self.run.ended:
            return
        to = min(max(math.ceil(self.total * fraction), LEAST_STEPS), max(self.total, math.ceil(self.total * fraction)))
        if to > self.run.at:
            self.run.advance(to, deadline)
            self.row = self.run.judge()


def attempt(changes: tuple[Change, ...], base: Training) -> Attempt:
    """Make changes on a copy; one that cannot be made, or not be run, is never listed."""
    try:
        training = apply(code_of(changes, base), base)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError):
        return Attempt(changes, None, 0)
    same = training.batch_size == base.batch_size
    epoch = base.data.epoch_steps if same and base.data.epoch_steps else training.data.steps(training.batch_size)
    return Attempt(changes, Run(training), training.epochs * epoch)


class Search:
    """Singles, then pairs, by successive halving within the time there is; what the causes name comes first.

    Attributes:
        base: the training that is changed.
        own: it, as far as it was trained without changes.
        bar: the skill that a plain model reaches; 0 where that is not known.
        soon: the clock's time at which the search ends if a fix reaches the bar.
        deadline: and at which it ends in any case.
        first: keys that the causes name, the most certain first.
        attempts: all that were trained.
    """

    def __init__(
        self, facts: Facts, own: Attempt, bar: float, clock: tuple[float, float], first: list[str], told: Told
    ) -> None:
        self.base, self.facts, self.own, self.bar, self.told = facts.training, facts, own, bar, told
        self.soon, self.deadline = clock
        self.time = self.deadline - now()
        self.first = first
        self.attempts: list[Attempt] = []
        ran = own.run
        self.pace = ran.seconds / ran.at if ran and ran.at else 0.002
        self.length = own.total * self.pace

    @property
    def left(self) -> float:
        """Seconds until the end."""
        if not self.found():
            return self.deadline - now()
        return 0.0 if len(self.attempts) >= TRIED else self.soon - now()

    def found(self) -> bool:
        """Whether a fix is good enough."""
        best = max((a.skill for a in self.attempts if a.ended or self._believed(a)), default=0.0)
        return best >= min(self.bar, PERFECT) > 0.1 or best >= PERFECT

    def _believed(self, a: Attempt) -> bool:
        """Whether a training that is too long to be run whole was run for long enough."""
        return a.total * self.pace > LONG * self.time and a.row.get("step", 0) >= BELIEVED

    def run(self) -> list[Attempt]:
        """The attempts that help, the best first."""
        changes = changes_for(self.facts)
        rank = {key: place for place, key in enumerate(self.first)}
        changes.sort(key=lambda c: (c.key != "scale", min(rank.get(key, 99) for key in c.changes)))
        named = [c for c in changes if c.key == "scale" or set(c.changes) & set(self.first)]
        self.advance([attempt((c,), self.base) for c in named[:6]], self.fraction(len(named[:6]), 0.25), "the causes")
        singles = self.attempts + [attempt((change,), self.base) for change in changes if change not in named[:6]]
        self.advance(singles, self.fraction(len(singles), 0.3), "single changes")
        ranked = sorted(singles, key=lambda a: -a.promise)
        pairs = [attempt(changes, self.base) for changes in self.pairs(ranked) if self.left > 0]
        self.advance(pairs, self.fraction(len(pairs), 0.3), "pairs of changes")
        alive = self._kept([*singles, *pairs])
        self.advance(alive, self.fraction(len(alive), 0.4), "the better ones")
        self.finish([*singles, *pairs])
        if not self.found():
            self.longer(sorted([*singles, *pairs], key=lambda a: -a.promise)[:4])
        return self.listed()

    def _kept(self, tried: list[Attempt]) -> list[Attempt]:
        """The most promising that are not at their end, of each set of keys at most two."""
        kept: list[Attempt] = []
        for a in sorted(tried, key=lambda a: -a.promise):
            if sum(b.keys == a.keys for b in kept) < 2 and not a.ended:
                kept.append(a)
        return kept[:KEPT]

    def finish(self, tried: list[Attempt]) -> None:
        """Train the most promising ones to their end, one after the other, while that fits into the time."""
        done: set[frozenset[str]] = set()
        for _ in range(FINISHED):
            open_ones = [a for a in self._kept(tried) if a.keys not in done]
            fits = [a for a in open_ones if (a.total - a.row.get("step", 0)) * self.pace < self.left]
            if not fits:
                return
            done.add(fits[0].keys)
            self.advance(fits[:1], 1.0, "the best ones")

    def fraction(self, count: int, part: float) -> float:
        """How far ``count`` attempts can be trained in a part of the time that is left."""
        return min(1.0, max(part * self.left / max(count * self.length, 1e-9), 0.0))

    def advance(self, attempts: list[Attempt], fraction: float, what: str) -> None:
        """Train all to a fraction of their length."""
        for at, a in enumerate(attempts):
            if self.left <= 0:
                return
            self.told(f"{what}: {at + 1} of {len(attempts)}")
            a.advance(fraction, self.deadline)
            if not a.ended and a.skill >= min(self.bar, PERFECT) > 0.1:  # is it so at its end?
                long = a.total * self.pace > LONG * self.time
                a.advance(max(BELIEVED / a.total, fraction) if long else 1.0, self.deadline)
            if a not in self.attempts:
                self.attempts.append(a)

    def pairs(self, ranked: list[Attempt]) -> Iterator[tuple[Change, ...]]:
        """Two changes of one key each: the best with each other, and with those that the causes name."""
        best: dict[frozenset[str], Attempt] = {}
        for a in ranked:
            if a.run is not None and len(a.keys) == 1 and (not a.run.error or a.keys & {"labels", "scale"}):
                best.setdefault(a.keys, a)
        some = list(best.values())
        named = [a for a in some if a.keys & set(self.first[:4])]
        chosen = list(dict.fromkeys([*some[:6], *named[:4]]))
        yield from (a.changes + b.changes for a, b in combinations(chosen, 2))
        others = [a for a in ranked if a.run and not a.run.error and a not in chosen and len(a.keys) == 1]
        yield from (a.changes + b.changes for a in others[:6] for b in chosen[:2] if not a.keys & b.keys)

    def longer(self, best: list[Attempt]) -> None:
        """The user's own training and the best single changes, trained on beyond the user's epochs."""
        for factor in LONGER:
            for a in [self.own, *(a for a in best if len(a.keys) == 1)]:
                run = a.run
                if run is None or run.ended or run.at < a.total or self.left < 0.5 * factor * a.total * self.pace:
                    continue
                self.told(f"{factor} times as long")
                epochs = run.training.epochs * factor
                code = f"epochs = {epochs}  # {factor} times as long"
                change = Change({"epochs": epochs}, code, f"trains {factor} times as long")
                run.advance(a.total * factor, self.deadline)
                self.attempts.append(Attempt((*a.changes, change), run, a.total * factor, run.judge()))

    def listed(self) -> list[Attempt]:
        """What helps, the best first; of the same keys the best only."""
        helping = [a for a in self.attempts if a.run and a.skill > self.own.skill + 0.05 * max(self.bar, 0.1)]
        top = max((a.skill for a in helping), default=0.0)
        best: dict[frozenset[str], Attempt] = {}
        for a in sorted(helping, key=lambda a: self._rank(a, top)):
            best.setdefault(a.keys, a)
        return list(best.values())

    def _rank(self, a: Attempt, top: float) -> tuple[float, ...]:
        lag = top - a.skill
        enough = lag <= TIE * max(top, 0.1) or a.skill >= self.bar > 0.1  # the simplest of those is the best
        step = 0 if enough else math.ceil(lag / TIE)
        named = min((self.first.index(key) for key in a.keys if key in self.first), default=99)
        return (step, not a.ended, len(a.keys), "epochs" in a.keys, "scale" not in a.keys, named, -a.skill)
