"""From a training to its diagnosis: checks, the training itself on a copy, a verdict, and fixes where it fails."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch

from mlp_study.doctor.changes import code_of
from mlp_study.doctor.checks import Cause, causes_before, error_cause
from mlp_study.doctor.clock import now
from mlp_study.doctor.diagnosis import Diagnosis, Fix, Told
from mlp_study.doctor.facts import Facts, facts_of
from mlp_study.doctor.search import Attempt, Search
from mlp_study.doctor.task import Reference, reference
from mlp_study.doctor.training import Run, Training
from mlp_study.doctor.verdict import CLOSE, GOOD, SIGNAL, Course, chance_of

KEPT = 20_000  # examples that a look is at
OWN = 0.35  # of the budget, at most, for the user's own training
SEVERAL = 0.1  # of the budget: a training that takes less is run in three orders
ENOUGH = 3.0  # seconds after which a training that does well, or not at all, is believed
SOON = 0.27  # of the budget, at most, once a good fix is found
JUDGED = 12  # times along the training
FEW = 50  # examples: with fewer, what a fix learns by heart counts as learnt


def examined(training: Training, notes: list[str], budget: float, told: Told) -> Diagnosis:
    """The diagnosis of a training that nothing was done to yet."""
    began, passed = now(), time.perf_counter()
    rng = torch.Generator().manual_seed(training.seed)
    if sum(p.numel() for p in training.model.parameters()) < 300_000:
        torch.set_num_threads(1)
    told("reading the data")
    data = training.data.sample(KEPT, 0.15 * budget, training.batch_size, training.shuffle, rng)
    base = training.copy(data)
    facts = facts_of(base)
    training.task = base.task
    causes = causes_before(facts)
    told("training a copy")
    if base.task is None:
        base.baseline = training.baseline = _baseline(base, budget)
    plain = _reference(facts)
    own, *others = _own(base, plain, began, budget, told)
    assert own.run is not None
    if own.run.error:
        causes.insert(0, error_cause(own.run.error, facts))
    course = _course(own)
    courses = [course, *map(_course, others)]
    possible = plain.skill
    attempts: list[Attempt] = []
    tried = 0
    good = plain.skill >= SIGNAL and course.foretold() >= GOOD * plain.skill and not own.run.ended
    sure = good and ((plain.known and base.data.parts and base.data.parts[0].ndim == 2) or course.foretold() > 0.9)
    if not sure or CLOSE[0] < chance_of(courses, plain.skill) < CLOSE[1]:
        first = list(dict.fromkeys(cause.key for cause in causes))
        length = own.run.seconds / max(own.run.at, 1) * own.total
        clock = (began + min(max(2.5, 6 * length), SOON * budget), began + 0.9 * budget)
        search = Search(facts, own, plain.skill if plain.known else 0.0, clock, first, told)
        attempts, tried = search.run(), len(search.attempts)
        possible = max(plain.skill, _learnt([*attempts, own], base, plain))
    found = Diagnosis(
        "", "", chance_of(courses, possible), rows=list(course.rows), total_steps=own.total, skill=course.reached
    )
    found.about, found.notes, found.possible = about(training), notes, possible
    found.tried = tried
    if others:
        reached = " and ".join(f"{c.reached:.2f}" for c in courses[1:])
        found.notes.append(f"in two other orders of the examples it reaches {reached}")
    _judge(found, course, causes, own, attempts, facts, plain)
    if (not found.will_train or found.close_call) and possible >= SIGNAL:
        found.fixes = [_fix(a, training, own, possible) for a in attempts][:8]
    found.seconds = time.perf_counter() - passed
    return found


def _reference(facts: Facts) -> Reference:
    if facts.x is None or facts.y is None or facts.task is None:
        return Reference()
    if facts.y.is_floating_point() and not facts.y.isfinite().all():
        return Reference()
    return reference(facts.x.nan_to_num() if facts.x.is_floating_point() else facts.x, facts.y, facts.task)


def _own(base: Training, plain: Reference, began: float, budget: float, told: Told) -> list[Attempt]:
    """The user's own training on a copy, whole where time allows, and then in other orders; the middle one first.

    A training whose success hangs on the order of its examples is no success.
    """
    tries = [_once(base.copy(), plain, began, budget, told)]
    first = tries[0]
    assert first.run is not None
    cheap = first.run.seconds < SEVERAL * budget
    whole = first.run.at >= first.total and not first.run.error
    for seed in (1, 2) if cheap and whole and base.shuffle else ():
        tries.append(_once(base.copy(seed=base.seed + seed), plain, began, budget, told))
    middle = sorted(tries, key=lambda a: a.skill)[(len(tries) - 1) // 2]
    return [middle, *(a for a in tries if a is not middle)]


def _course(own: Attempt) -> Course:
    assert own.run is not None
    return Course(list(own.run.rows), own.total, own.run.ended)  # a copy: the search may train on beyond its end


def _once(training: Training, plain: Reference, began: float, budget: float, told: Told) -> Attempt:
    run = Run(training)
    own = Attempt((), run, training.total_steps)
    run.judge()
    deadline = now() + OWN * budget
    ratio = max(own.total / 8, 1.0) ** (1 / (JUDGED - 1))
    points = sorted({min(math.ceil(8 * ratio**k), own.total) for k in range(JUDGED)} | {own.total})
    for to in points:
        told(f"training a copy: {to:,} of {own.total:,} steps")
        run.advance(to, deadline)
        if run.at > run.rows[-1]["step"] or run.ended:
            own.row = run.judge()
        well = plain.known and own.skill >= NEARLY * plain.skill > SIGNAL and run.at >= 300
        lost = plain.known and run.at >= 1000 and Course(run.rows, own.total, False).foretold() < 0.5 * plain.skill
        if run.ended or run.at < to or ((well or lost) and now() - began > ENOUGH):
            break
    return own


NEARLY = 0.95


def _baseline(base: Training, budget: float) -> float | None:
    """The loss of the same training with inputs that do not belong to their targets: what tells nothing."""
    parts, data = base.data.parts, base.data
    if len(parts) > 1:
        order = torch.randperm(data.n, generator=torch.Generator().manual_seed(1), device="cpu").to(parts[0].device)
        data = replace(data, parts=(parts[0][order], *parts[1:]))
    mixed = base.copy(data)
    _mix_inputs(mixed.model)
    run = Run(mixed).advance(min(base.total_steps, 300), now() + 0.1 * budget)
    loss = run.training.mean_loss()
    start = base.copy().mean_loss()
    known = [value for value in (loss, start) if math.isfinite(value)]
    return min(known) if known else None


def _mix_inputs(model: torch.nn.Module) -> None:
    """Permute what goes into a model among the examples of a minibatch, also where a target is made of the inputs.

    A Lightning module's step may call its parts instead of itself.
    """
    inside: list[bool] = []
    rng = torch.Generator().manual_seed(1)

    def mix(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if module is not model and inside:
            return None
        if module is model:
            inside.append(True)
        rows = next((len(t) for t in inputs if isinstance(t, torch.Tensor) and t.ndim), 0)
        order = torch.randperm(rows, generator=rng)
        return tuple(
            t[order.to(t.device)] if isinstance(t, torch.Tensor) and t.ndim and len(t) == rows else t for t in inputs
        )

    model.register_forward_pre_hook(mix)
    model.register_forward_hook(lambda *_: inside.clear(), always_call=True)
    for part in model.children():
        part.register_forward_pre_hook(mix)


def _learnt(attempts: list[Attempt], base: Training, plain: Reference) -> float:
    """The skill that fixes show to be possible.

    Where a plain model knows the answer, it says what can be had. Else what a fix reaches counts, if it is more than
    learning by heart: if the same fix, trained on three quarters of the examples, does well on the rest.
    """
    best = max((a.skill for a in attempts if a.ended), default=0.0)
    if plain.known and plain.skill >= SIGNAL and base.data.parts and base.data.parts[0].ndim == 2:
        return 0.0
    if best < SIGNAL or base.data.n < FEW or base.task is None or base.step is not None or not base.data.parts:
        return best
    return best if _generalises(max(attempts, key=lambda a: a.skill), base) else 0.0


def _generalises(best: Attempt, base: Training) -> bool:
    from mlp_study.doctor.changes import apply

    n = base.data.n
    order = torch.randperm(n, generator=torch.Generator().manual_seed(2), device="cpu")
    cut = 3 * n // 4
    trained, rest = (
        tuple(part[some.to(part.device)] for part in base.data.parts) for some in (order[:cut], order[cut:])
    )
    new = apply(code_of(best.changes, base), base)
    whole = new.data
    trained, rest = (tuple(part[some.to(part.device)] for part in whole.parts) for some in (order[:cut], order[cut:]))
    new.data = replace(whole, parts=trained, n=cut)
    steps = best.run.at if best.run else 0
    run = Run(new).advance(steps)
    if run.ended or new.task is None:
        return False
    new.data = replace(whole, parts=rest, n=n - cut)
    return new.skill()[0] > max(SIGNAL, 2 / math.sqrt(n - cut))  # more than chance on so many examples


def _judge(
    found: Diagnosis,
    course: Course,
    causes: list[Cause],
    own: Attempt,
    attempts: list[Attempt],
    facts: Facts,
    plain: Reference,
) -> None:
    """Verdict, reason, and the causes in the order in which fixes confirm them."""
    reaches = found.possible >= SIGNAL and course.foretold() >= GOOD * found.possible and not course.failed
    found.close_call = CLOSE[0] < found.chance < CLOSE[1] and found.possible >= SIGNAL and not course.failed
    words = f"a skill of {course.reached:.2f}" + (
        "" if course.whole else f" after {int(own.row.get('step', 0)):,} steps"
    )
    can = f"{found.possible:.2f} can be had"
    if reaches:
        found.verdict = "will train"
        found.why = f"the training reaches {words}, where {can}"
        found.notes += [f"it trains although {cause.evidence}" for cause in causes]
        return
    causes = [*causes, *_causes_after(course, own, facts)]
    found.causes = _ordered(causes, attempts, found.possible)
    slow = [a for a in attempts if a.keys == {"epochs"} and a.skill >= GOOD * found.possible]
    found.verdict = "will train slowly" if slow else "will not train"
    if facts.task is not None and found.possible < SIGNAL and not course.failed:
        found.why = (
            "nothing was found that inputs tell of targets: no plain model and no fix does better than a constant guess"
        )
        found.verdict = "will not train"
        one = next((c for c in found.causes if "one class" in c.evidence or "all inputs are equal" in c.evidence), None)
        found.why = one.evidence if one else found.why
        if one is None:
            found.causes.insert(0, Cause("labels", found.why))
    elif course.failed and own.run is not None and own.run.diverged:
        found.why = f"the loss stops being finite at step {own.run.diverged:,}"
    elif course.failed and own.run is not None:
        found.why = f"the training stops with an error: {own.run.error}"
    elif found.causes:
        found.why = f"{found.causes[0].evidence}; the training reaches {words}, where {can}"
    else:
        found.why = f"the training reaches {words}, where {can}"


def _causes_after(course: Course, own: Attempt, facts: Facts) -> list[Cause]:
    """What the copy's training shows."""
    assert own.run is not None
    found = []
    rows = course.rows
    optimizer = facts.training.optimizer
    lr = optimizer.param_groups[0].get("lr", 0.0)
    if own.run.diverged or (len(rows) > 2 and rows[-1]["loss"] > 3 * max(rows[1]["loss"], 1e-30)):
        found.append(Cause("lr", f"the loss grows with lr={lr:g}" + (
            f" and is not finite from step {own.run.diverged:,} on" if own.run.diverged else "")))  # fmt: skip
    if isinstance(optimizer, torch.optim.SGD) and facts.sharpness and facts.sharpness * lr / 2 > 1:
        times = facts.sharpness * lr / 2
        found.append(
            Cause("lr", f"lr={lr:g} is {times:.3g} times the limit at the start's curvature {facts.sharpness:.3g}")
        )
    if own.run.error is None and own.run.diverged is None:
        after = facts_of(own.run.training.copy(), curvature=False)
        for at, unit in enumerate(after.units):
            where = unit.module or f"activation {at}"
            if unit.dead > 0.8:
                found.append(
                    Cause("activation", f"{unit.dead:.0%} of the units are off for every example after training", where)
                )
            elif unit.constant > 0.8 and unit.dead <= 0.8:
                words = f"{unit.constant:.0%} of the {unit.kind} units say the same for every example"
                found.append(Cause("activation", words, where))
        moved = _travel(facts.training, own.run.training)
        if moved < 0.05:
            found.append(Cause("lr", f"the whole training moves the weights by {moved:.1%} of their size"))
    return found[:4]


def _travel(before: Training, after: Training) -> float:
    """How far the weights went, over their size."""
    pairs = list(zip(before.model.parameters(), after.model.parameters(), strict=True))
    went = sum(float(((a - b).detach().double() ** 2).sum()) for a, b in pairs)
    size = sum(float((a.detach().double() ** 2).sum()) for a, _ in pairs)
    return math.sqrt(went / max(size, 1e-30))


def _ordered(causes: list[Cause], attempts: list[Attempt], possible: float) -> list[Cause]:
    """Causes whose fix was seen to help first; a key that helps without a cause is added by its reason."""
    helping = [a for a in attempts if a.skill >= GOOD * possible > 0] or attempts[:1]
    rank: dict[str, int] = {}
    for place, a in enumerate(helping):
        for key in a.keys:
            rank.setdefault(key, place)
    named = {cause.key for cause in causes}
    for a in helping[:1]:
        causes += [Cause(c.key, c.reason) for c in a.changes if not set(c.changes) & named]
    unique = list({(c.key, c.where): c for c in reversed(causes)}.values())[::-1]
    return sorted(unique, key=lambda c: (not c.certain, rank.get(c.key, 99)))


def _fix(a: Attempt, training: Training, own: Attempt, possible: float) -> Fix:
    assert a.run is not None
    course = Course([a.row], a.total, a.run.ended and a.run.error is not None)
    changes: dict[str, Any] = {}
    for change in a.changes:
        changes |= change.changes
    reasons = "; ".join(dict.fromkeys(change.reason for change in a.changes))
    longer = a.total / max(own.total, 1)
    return Fix(changes, code_of(a.changes, training), reasons, a.skill, course.chance(possible), round(longer, 2),
               course.whole, training)  # fmt: skip


def about(training: Training) -> dict[str, str]:
    """The training in a few words."""
    data, model = training.data, training.model
    shape = f" of {list(data.parts[0].shape[1:])}" if data.parts else ""
    count = sum(p.numel() for p in model.parameters())
    group = training.optimizer.param_groups[0]
    loss = (
        "its own step"
        if training.step is not None
        else getattr(training.loss, "__name__", type(training.loss).__name__)
    )
    kind = training.task.kind if training.task else "not known"
    size = f"batch {training.batch_size}" if training.batch_size else "its own batches"
    return {
        "data": f"{data.n:,} examples{shape}, targets: {kind}",
        "network": f"{type(model).__name__}, {count:,} parameters",
        "training": f"{type(training.optimizer).__name__} lr {group.get('lr', math.nan):g}, {loss}, {size}, "
        f"{training.epochs} epochs" + ("" if training.shuffle else ", not shuffled"),
    }
