"""One training of the corpus as its author has it in hand, what it truly reaches, and what the doctor says of it.

Skill is 0 for the best constant answer and 1 for perfect answers: (accuracy - majority) / (1 - majority), the same of
the mean recall where classes are rare, or R2. A training `trains` from 0.8 of the best known skill, `fails` below 0.5.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.doctor.tables import Table

GOOD, HARD = 0.8, 0.5


@dataclass(frozen=True)
class Case:
    """Plain PyTorch objects; every callable makes a fresh one, after the global seed is set."""

    id: str
    """KIND/NAME."""
    table: Callable[[], Table]
    model: Callable[[], nn.Module]
    loss: Callable[..., Tensor] | None
    """None where the model is a LightningModule, or where `step` knows the loss."""
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None
    epochs: int
    batch: int | str = 32
    shuffle: bool = True
    encode: str = "class"
    """How the target is handed over: class | onehot | column (float [N, 1]) | flat (float [N]) | given (as is)."""
    reads: str = "argmax"
    """How an answer is read off the output: argmax | zero (output > 0) | half (output > 0.5) | sign | value."""
    keys: frozenset[str] = frozenset()
    """Causes of which one must be named where the training fails."""
    best: float | str = 0.95
    """The best known skill, or the id of the healthy twin that reaches it."""
    balanced: bool = False
    form: Callable[[Tensor, Tensor, Any, bool], Any] | None = None
    """What is passed as `data`, of (x, target, batch, shuffle); (x, target) where None."""
    step: Callable[[nn.Module, Any], Tensor] | None = None
    repairable: bool = True
    refused: bool = False
    """A clear error is as good an answer as a cause."""
    held: bool = False
    slow: bool = False
    source: str = ""

    @property
    def kind(self) -> str:
        return self.id.split("/")[0]


def case(id: str, *args: Any, keys: str = "", **more: Any) -> Case:
    """A case whose right keys are written as one string."""
    return Case(id, *args, keys=frozenset(keys.split()), **more)


def encoded(y: Tensor, how: str) -> Tensor:
    """Return the target as the author hands it to the loss."""
    if how == "onehot":
        return F.one_hot(y, int(y.max()) + 1).float()
    return {"class": lambda: y, "column": lambda: y.float()[:, None], "flat": y.float, "given": lambda: y}[how]()


@dataclass
class Parts:
    """What a person has in hand, and the data to measure on."""

    model: nn.Module
    optimizer: Any
    data: Any
    x: Tensor
    y: Tensor
    schedulers: list[Any] = field(default_factory=list)


def parts(case: Case, seed: int) -> Parts:
    """Build the case as its author's script does, from this seed."""
    x, y = case.table()
    torch.manual_seed(seed)
    model = case.model()
    target = encoded(y, case.encode)
    batch = len(x) if case.batch == "full" else case.batch
    data = (x, target) if case.form is None else case.form(x, target, batch, case.shuffle)
    made = Parts(model, case.optimizer(model) if case.optimizer else None, data, x, y)
    if made.optimizer is None and hasattr(model, "configure_optimizers"):
        got = model.configure_optimizers()
        if isinstance(got, dict):
            made.schedulers = [got["lr_scheduler"]] if "lr_scheduler" in got else []
            got = got["optimizer"]
        elif isinstance(got, tuple):
            [got], made.schedulers = got
        made.optimizer = got
    return made


def _batches(case: Case, data: Any, x: Tensor, target: Tensor, order: torch.Generator) -> Iterator[Any]:
    if isinstance(data, DataLoader):
        yield from data
        return
    n = len(x)
    size = n if case.batch == "full" else int(case.batch)
    index = torch.randperm(n, generator=order) if case.shuffle else torch.arange(n)
    for chosen in index.split(size):
        yield x[chosen], target[chosen]


def _loss(case: Case, model: nn.Module, batch: Any, number: int) -> Tensor:
    if case.step is not None:
        return case.step(model, batch)
    if case.loss is None:
        return model.training_step(batch, number)
    x, target = batch
    return case.loss(model(x), target)


def fit(case: Case, made: Parts, seed: int) -> str:
    """Train in place as the author would; return why it stopped early, or nothing."""
    made.model.train()
    target, order = encoded(made.y, case.encode), torch.Generator().manual_seed(seed)
    try:
        for _ in range(case.epochs):
            for number, batch in enumerate(_batches(case, made.data, made.x, target, order)):
                made.optimizer.zero_grad()
                loss = _loss(case, made.model, batch, number)
                loss.backward()
                made.optimizer.step()
            for scheduler in made.schedulers:
                scheduler.step()
            if not math.isfinite(loss.item()):
                return "diverged"
    except (RuntimeError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    return ""


def answers(case: Case, output: Tensor) -> Tensor:
    """Return the output in the target's own terms."""
    if case.reads == "argmax":
        return output.argmax(1)
    if case.reads == "value":
        return output
    if case.reads == "sign":
        return torch.sign(output)
    return (output > (0.0 if case.reads == "zero" else 0.5)).float()


def skill(case: Case, said: Any, y: Tensor) -> float:
    """Score answers in the target's own terms against the best constant answer."""
    said = torch.as_tensor(said).detach().float().cpu()
    if not torch.isfinite(said).all():
        return 0.0
    said = said.reshape(y.shape)
    if y.ndim == 2 and set(y.unique().tolist()) <= {0.0, 1.0}:
        share = y.mean(0)
        base = torch.maximum(share, 1 - share).mean().item()
        reached = (said.round() == y).float().mean().item()
    elif y.is_floating_point():
        known = y[torch.isfinite(y)]
        rest, all_of_it = ((said - y)[torch.isfinite(y)] ** 2).sum().item(), ((known - known.mean(0)) ** 2).sum().item()
        return max(0.0, 1 - rest / all_of_it) if all_of_it > 0 else 0.0
    else:
        right = said.round().long() == y
        if case.balanced:
            reached = statistics.fmean(right[y == c].float().mean().item() for c in y.unique().tolist())
            base = 1 / len(y.unique())
        else:
            reached, base = (
                right.float().mean().item(),
                torch.bincount((y - y.min()).flatten()).max().item() / y.numel(),
            )
    return max(0.0, (reached - base) / (1 - base)) if base < 1 else 0.0


def reached(case: Case, seed: int) -> dict[str, Any]:
    """Train it once and measure."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = parts(case, seed)
        stopped = fit(case, made, seed)
        made.model.eval()
        try:
            with torch.no_grad():
                got = skill(case, answers(case, made.model(made.x)), made.y)
        except (RuntimeError, ValueError, IndexError):
            got = 0.0
    crashed = stopped not in ("", "diverged")
    return {"skill": 0.0 if crashed else round(got, 4), "stopped": stopped, "s": round(time.perf_counter() - began, 2)}


def truth(case: Case, seeds: int = 5) -> dict[str, Any]:
    """The median skill of several seeds; against the best known skill it is judged by `judged`."""
    runs = [reached(case, seed) for seed in range(seeds)]
    return {
        "skill": statistics.median(r["skill"] for r in runs),
        "skills": [r["skill"] for r in runs],
        "stopped": next((r["stopped"] for r in runs if r["stopped"]), ""),
        "s": round(statistics.fmean(r["s"] for r in runs), 2),
    }


def judged(case: Case, truths: dict[str, dict[str, Any]]) -> tuple[str, float]:
    """Return trains | partial | fails and the best known skill; where a seed says the contrary it is `partial`."""
    mine = truths[case.id]["skill"]
    best = truths[case.best]["skill"] if isinstance(case.best, str) else case.best
    best, runs = max(best, mine), truths[case.id]["skills"]
    if mine >= GOOD * best and min(runs) >= HARD * best:
        return "trains", best
    return ("fails" if mine < HARD * best and max(runs) < GOOD * best else "partial"), best


def asked(case: Case, made: Parts, **more: Any) -> Any:
    """Ask the doctor with the arguments that the author's script has in hand."""
    import mlp_study

    named = {"epochs": case.epochs, "batch_size": case.batch, "shuffle": case.shuffle} | more
    if isinstance(made.data, DataLoader):
        del named["batch_size"], named["shuffle"]
    if case.step is not None:
        named["step"] = case.step
        return mlp_study.diagnose(made.model, optimizer=made.optimizer, data=made.data, **named)
    if case.loss is None:
        return mlp_study.diagnose(made.model, data=made.data, **named)
    return mlp_study.diagnose(made.model, case.loss, made.optimizer, made.data, **named)


def explained(case: Case, seed: int = 0, **more: Any) -> dict[str, Any]:
    """What the doctor says, as plain values, and the skill that its best fix truly reaches."""
    made, began = parts(case, seed), time.perf_counter()
    try:
        d = asked(case, made, **more)
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {str(error)[:300]}", "s": round(time.perf_counter() - began, 2)}
    said = {
        "fails": not d.will_train,
        "verdict": d.verdict,
        "chance": d.chance,
        "why": str(d.why),
        "causes": [c.key for c in d.causes],
        "fixes": [dict(f.changes) for f in d.fixes[:4]],
        "s": round(time.perf_counter() - began, 2),
    }
    if d.fixes:
        best = d.fixes[0]
        said |= {"score": best.score, "fix_chance": best.chance}
        began = time.perf_counter()
        try:
            training = best.apply()
            training.fit()
            said |= {"fix_skill": round(skill(case, training.predict(_given(case, made)), made.y), 4)}
        except Exception as error:
            said |= {"fix_failed": f"{type(error).__name__}: {str(error)[:300]}"}
        said["fix_s"] = round(time.perf_counter() - began, 2)
    return said


def _given(case: Case, made: Parts) -> Any:
    """The inputs in the form in which the author has them."""
    return made.data[0] if isinstance(made.data, tuple) else made.x
