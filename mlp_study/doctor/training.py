"""A training as its author runs it, on copies: their forward, loss, optimizer, batches and order."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mlp_study.doctor.clock import now
from mlp_study.doctor.examples import Examples, moved, size_of, tensor_of
from mlp_study.doctor.observe import watching
from mlp_study.doctor.untouched import copied, drawing_from, random_states, seeded
from mlp_study.errors import ConfigError

if TYPE_CHECKING:
    from mlp_study.doctor.task import Task

SEEN = 2000  # examples that skill is measured on
FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)


class Training:
    """Copies of a person's model, loss and optimizer with their data, ready to be trained.

    Attributes:
        model: the network.
        loss: ``loss(output, target)`` -> scalar; None where ``step`` computes it.
        optimizer: bound to ``model``.
        data: the examples.
        batch_size: of minibatches; None where the data's own loader makes them.
        epochs: how long it is trained.
        shuffle: whether each epoch has an order of its own.
        step: ``step(model, batch)`` -> loss, in the place of ``loss``.
        task: how answers are compared with targets; None where that is not known.
        losses: of every minibatch so far.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any, Any], Tensor] | None,
        optimizer: torch.optim.Optimizer,
        data: Examples,
        *,
        batch_size: int | None,
        epochs: int,
        shuffle: bool,
        step: Callable[[nn.Module, Any], Any] | None = None,
        schedulers: tuple[Any, ...] = (),
        task: Task | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.loss, self.optimizer, self.data = model, loss, optimizer, data
        self.batch_size, self.epochs, self.shuffle, self.step = batch_size, epochs, shuffle, step
        self.schedulers, self.task, self.seed = schedulers, task, seed
        self.input_scale: tuple[Tensor, Tensor] | None = None  # mean and deviation that a fix takes inputs by
        self.target_scale: tuple[Tensor, Tensor] | None = None
        self.answers: Task | None = None  # the user's own targets, where a fix encodes them in another way
        self.baseline: float | None = None  # the loss that tells nothing, where targets are not known
        self.losses: list[float] = []

    def copy(self, data: Examples | None = None, seed: int | None = None) -> Training:
        """An independent copy, as far as this one is trained."""
        model, loss, optimizer, schedulers, step = copied(
            self.model, self.loss, self.optimizer, self.schedulers, self.step
        )
        new = Training(
            model, loss, optimizer, data or self.data, batch_size=self.batch_size, epochs=self.epochs,
            shuffle=self.shuffle, step=step, schedulers=schedulers, task=self.task,
            seed=self.seed if seed is None else seed,
        )  # fmt: skip
        new.input_scale, new.target_scale, new.answers = self.input_scale, self.target_scale, self.answers
        new.baseline = self.baseline
        return new

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((p.device for p in (*self.model.parameters(), *self.model.buffers())), torch.device("cpu"))

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * (self.data.epoch_steps or self.data.steps(self.batch_size))

    def batch_loss(self, batch: Any) -> Tensor:
        """The loss of one minibatch, as the user computes it."""
        batch = moved(batch, self.device)
        if self.step is not None:
            if self.data.parts and len(batch) == 1:
                [batch] = batch
            found = self.step(self.model, batch)
            loss: Tensor = found["loss"] if isinstance(found, dict) else found
            return loss
        assert self.loss is not None
        return self.loss(self.model(*batch[:-1]), batch[-1])

    def fit(self) -> Training:
        """Train it for all its epochs; the same seed gives the same weights."""
        from mlp_study.doctor.untouched import untouched

        with untouched():
            run = Run(self)
            run.advance(self.epochs * self.data.steps(self.batch_size))
        if run.error:
            raise ConfigError(f"the training stops with an error: {run.error}")
        return self

    def predict(self, x: Any) -> Any:
        """Answers in the target's own terms: class numbers (or names), values [N, D], or 0/1 labels [N, L]."""
        inputs = tensor_of("x", x)[0].to(self.device)
        floats = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)
        if self.input_scale is not None:
            mean, deviation = (s.to(self.device) for s in self.input_scale)
            inputs = (inputs - mean) / deviation
        if inputs.is_floating_point() or not _takes_indices(self.model):
            inputs = inputs.to(floats)
        output = outputs_of(self.model, (inputs,))
        if self.target_scale is not None:
            mean, deviation = (s.to(self.device) for s in self.target_scale)
            output = output * deviation + mean
        if self.task is None:
            return output
        guess = self.task.answers(output)
        if self.answers is not None and self.answers.kind == "binary" and isinstance(guess, Tensor):
            low, high = self.answers.values
            return torch.tensor([low, high], device=guess.device)[guess.long()] if (low, high) != (0, 1) else guess
        return guess

    def judged(self) -> tuple[Tensor, Tensor] | None:
        """Outputs and targets on at most ``SEEN`` examples, in evaluation mode; None where targets are not known."""
        if self.step is None and self.data.parts:
            chosen = _chosen(self.data.n)
            *inputs, target = (part[chosen.to(part.device)].to(self.device) for part in self.data.parts)
            return outputs_of(self.model, inputs), target
        pairs, seen = [], 0
        with evaluating(self.model):
            for batch in self.data.batches(min(self.data.n, 512), False, torch.Generator()):
                pairs += self._pair(batch)
                seen += size_of(batch)
                if seen >= SEEN:
                    break
        shapes = {(output.shape[1:], target.shape[1:]) for output, target in pairs}
        if len(shapes) != 1:
            return None
        return torch.cat([output for output, _ in pairs]), torch.cat([target for _, target in pairs])

    def _pair(self, batch: Any) -> list[tuple[Tensor, Tensor]]:
        if self.step is None:
            batch = moved(batch, self.device)
            return [(self.model(*batch[:-1]), batch[-1])]
        with watching(self.model) as seen:
            self.batch_loss(batch)
        return [(output, target) for _, output, target in seen.losses[-1:] if len(output) == len(target)]

    def mean_loss(self) -> float:
        """The loss over some examples in evaluation mode, not finite where it cannot be computed."""
        found, seen = [], 0
        with evaluating(self.model):
            for batch in self.data.batches(min(self.data.n, 512), False, torch.Generator()):
                try:
                    found.append((float(self.batch_loss(batch)), size_of(batch)))
                except (RuntimeError, ValueError, IndexError):
                    return math.nan
                seen += size_of(batch)
                if seen >= SEEN:
                    break
        return sum(loss * n for loss, n in found) / max(sum(n for _, n in found), 1)

    def skill(self) -> tuple[float, float]:
        """Skill and signal (see ``Task``) on some examples.

        Where targets are not known, both say by which part the loss is below the baseline's.
        """
        if self.task is None:
            loss = self.mean_loss()
            if self.baseline is None or not math.isfinite(loss):
                return 0.0, 0.0
            gained = max(0.0, (self.baseline - loss) / max(abs(self.baseline), 1e-30))
            return gained, gained
        pair = self.judged()
        if pair is None:
            return 0.0, 0.0
        return self.task.skill(*pair), self.task.signal(*pair)


def _chosen(n: int) -> Tensor:
    """The examples that are judged: ``SEEN`` random ones, the same each time."""
    every = torch.arange(n, device="cpu")
    return every if n <= SEEN else torch.randperm(n, generator=torch.Generator().manual_seed(0), device="cpu")[:SEEN]


def _takes_indices(model: nn.Module) -> bool:
    return any(isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for module in model.modules())


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients; each module's own mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def outputs_of(model: nn.Module, inputs: Any) -> Tensor:
    """The model's outputs in evaluation mode, by parts of 1,000 examples."""
    with evaluating(model):
        parts = [model(*chunk) for chunk in zip(*(part.split(1000) for part in inputs), strict=True)]
    return torch.cat([part if part.ndim else part[None] for part in parts])


class Run:
    """A training that is advanced step by step, and judged on the way.

    Attributes:
        at: steps done.
        rows: ``step``, ``skill``, ``signal`` and ``loss`` wherever it was judged.
        error: what stopped it, in PyTorch's words.
        diverged: at which step its loss stopped being finite.
        seconds: spent in steps.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        self.at = 0
        self.rows: list[dict[str, float]] = []
        self.error: str | None = None
        self.diverged: int | None = None
        self.seconds = 0.0
        self._states = seeded(training.seed)
        self._steps = self._stepping()

    @property
    def ended(self) -> bool:
        """Whether no further step makes sense."""
        return self.error is not None or self.diverged is not None

    def advance(self, to: int, deadline: float = math.inf) -> Run:
        """Train until ``to`` steps are done, it fails, or the clock (see ``now``) passes the deadline."""
        began = now()
        with drawing_from(self._states), _fast(self.training.optimizer), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            while self.at < to and not self.ended and now() < deadline:
                try:
                    loss = next(self._steps)
                except StopIteration:
                    break
                except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
                    self.error = " ".join(str(error).split())[:300] or type(error).__name__
                    break
                self.at += 1
                self.training.losses.append(loss)
                if not math.isfinite(loss):
                    self.diverged = self.at
        self.seconds += now() - began
        return self

    def _stepping(self) -> Iterator[float]:
        """One step at a time, without end: epochs are counted by the caller."""
        training = self.training
        model, optimizer = training.model, training.optimizer
        rng = torch.Generator().manual_seed(training.seed)
        model.train()
        while True:
            total, count = 0.0, 0
            for batch in training.data.batches(training.batch_size, training.shuffle, rng):
                value = self._one(batch, model, optimizer)
                if value is None:
                    continue
                yield value
                total, count = total + value, count + 1
                for scheduler, per_epoch in training.schedulers:
                    if not per_epoch:
                        scheduler.step()
            if not count:
                raise ValueError("an epoch has no batch that can be trained on")
            for scheduler, per_epoch in training.schedulers:
                if per_epoch:
                    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
                    scheduler.step(total / count) if plateau else scheduler.step()

    def _one(self, batch: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> float | None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.training.batch_loss(batch)
            loss.backward()
            return loss

        try:
            if isinstance(optimizer, torch.optim.LBFGS):
                return float(optimizer.step(closure))
            loss = closure()
        except ValueError as error:  # BatchNorm and a last batch of one example, which only a sample of the data has
            if "more than 1 value per channel" in str(error) and self.training.data.epoch_steps:
                return None
            raise
        optimizer.step()
        return loss.item()

    def judge(self) -> dict[str, float]:
        """Add a row of skill, signal and loss at this step; a training that failed has none of either."""
        with drawing_from(random_states()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.ended:
                skill = signal = 0.0
            else:
                try:
                    skill, signal = self.training.skill()
                except (RuntimeError, ValueError, IndexError):
                    skill = signal = 0.0
        recent = self.training.losses[-50:]
        loss = sum(recent) / len(recent) if recent else math.nan
        self.rows.append({"step": self.at, "skill": skill, "signal": signal, "loss": loss})
        return self.rows[-1]


@contextlib.contextmanager
def _fast(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """The optimizer's fused form where there is one: the same numbers in fewer calls."""
    changed = []
    for group in optimizer.param_groups:
        plain = all(p.is_floating_point() and not p.is_sparse for p in group["params"])
        form = "fused" if type(optimizer) in FUSED else "foreach"
        unset = form in group and group.get("fused") is None and group.get("foreach") is None
        if plain and unset and group["params"] and not group.get("differentiable"):
            group[form] = True
            changed.append((group, form))
    try:
        yield
    finally:
        for group, form in changed:
            group[form] = None
