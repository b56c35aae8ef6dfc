"""Watch a training loop: ``with mlp_study.watch(model, optimizer) as health:``."""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from mlp_study.doctor.checks import Cause
from mlp_study.doctor.health import Course, Layer
from mlp_study.doctor.observe import FUNCTIONS, watching
from mlp_study.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mlp_study.doctor.diagnosis import Diagnosis

FIRST = (1, 2, 4, 8, 16, 32)  # steps that are looked at in any case: most faults show early
_WATCHED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class TrainingHealthWarning(UserWarning):
    """A training that is watched shows a fault."""


class Health:
    """What is seen of a training while it runs; see ``mlp_study.watch``.

    Attributes:
        causes: the faults found so far, each once: key, evidence with its number and what to try, where.
        steps: steps of the optimizer so far.
    """

    def __init__(self, model: nn.Module, optimizer: Any, every: int, warn: bool, sees_loss: bool = True) -> None:
        self.causes: list[Cause] = []
        self.found_at: list[int] = []
        self.steps = 0
        self._plain = getattr(model, "_orig_mod", model)
        self._model, self._optimizer, self._every, self._warn = model, optimizer, every, warn
        self._sees_loss = sees_loss
        self._named = _weights(self._plain, optimizer)
        self._smallest = min((p for group in optimizer.param_groups for p in group["params"]), key=Tensor.numel)
        self._course = Course()
        self._state = "new"
        self._look: contextlib.ExitStack | None = None
        self._hooks: list[Any] = []
        self._before: dict[str, Tensor] = {}
        self._looked = False
        self._finite = True

    def __enter__(self) -> Self:
        """Begin to watch.

        Raises:
            ConfigError: it was closed, or another watch is on this model.
        """
        if self._state != "new":
            raise ConfigError("this watch was used before; each training takes a new mlp_study.watch(model, optimizer)")
        if self._plain in _WATCHED:
            raise ConfigError("this model is watched already; a watch inside another of the same model is not taken")
        _WATCHED.add(self._plain)
        self._state = "open"
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._before_step),
            self._optimizer.register_step_post_hook(self._after_step),
        ]
        if self._plain is self._model:  # what a compiled model does inside is the compiler's
            self._hooks += [
                self._model.register_forward_pre_hook(lambda *_: self.begin_look()),
                self._model.register_forward_hook(self._after_forward, always_call=True),
            ]
        if self._sees_loss and self._plain is self._model:
            self._hooks.append(nn.modules.module.register_module_forward_hook(self._after_loss))
        return self

    def __exit__(self, *error: object) -> None:
        """Leave no hook behind, also after an exception."""
        self.close()
        if self.steps == 0 and error[0] is None and self._warn:
            warnings.warn("nothing was watched: optimizer.step() was never called", TrainingHealthWarning, stacklevel=2)

    def close(self) -> None:
        """End the watch: no hook is left."""
        self.end_look()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        _WATCHED.discard(self._plain)
        self._state = "closed"

    @property
    def rows(self) -> list[Layer]:
        """The layers' numbers at each look."""
        return self._course.rows

    @property
    def hopeless(self) -> bool:
        """Whether no further step can save the training: values that are not finite, or a layer of dead units."""
        return any(cause.certain for cause in self.causes)

    def loss(self, value: Tensor | float) -> None:
        """Tell the loss of the coming step, where a function computes it; ``nn``'s loss modules are seen.

        Args:
            value: a scalar.
        """
        number = float(value.detach() if isinstance(value, Tensor) else value)
        if math.isfinite(number):
            self._find(self._course.add_loss(self.steps, number))
        else:
            self._non_finite(f"the loss is {number}")

    @property
    def due(self) -> bool:
        """Whether the coming step is one that is looked at."""
        return self.steps + 1 in FIRST or (self.steps + 1) % self._every == 0

    def begin_look(self) -> None:
        """See the operations from here on, if the coming step is looked at and nothing was seen of it yet."""
        wanted = self._plain.training and torch.is_grad_enabled() and self.due
        if wanted and self._look is None and not self._looked:
            self._look = contextlib.ExitStack()
            self._seen = self._look.enter_context(watching(self._plain, itself=False))

    def end_look(self) -> None:
        """Stop seeing operations, and judge what was seen."""
        if self._look is None:
            return
        self._look.close()
        self._look, self._looked = None, True
        hidden = [op for op in self._seen.operations if op.kind in FUNCTIONS and op.output.ndim > 1]
        self._seen.operations.clear()
        last = hidden and hidden[-1].kind in ("softmax", "log_softmax", "sigmoid", "logsigmoid")
        self._find(self._course.add_units(self.steps, hidden[:-1] if last else hidden))

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.end_look()
        if (
            isinstance(output, Tensor)
            and output.device.type == "cpu"
            and module.training
            and output.is_floating_point()
        ):
            total = float(output.detach().sum())
            if not math.isfinite(total) and not bool(output.detach().isfinite().all()):
                self._non_finite("the output has values that are not finite")

    def _after_loss(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(module, nn.modules.loss._Loss) or not isinstance(output, Tensor) or output.numel() != 1:
            return
        if self._plain.training and output.requires_grad and (output.device.type == "cpu" or self.due):
            self.loss(output.detach())

    def _before_step(self, *_: Any) -> None:
        gradient = self._smallest.grad
        if gradient is not None and gradient.device.type == "cpu" and not math.isfinite(float(gradient.detach().sum())):
            self._non_finite("the gradient has values that are not finite")
        if self.due:
            self._before = {name: p.detach().clone() for name, p in self._named.items()}

    def _after_step(self, *_: Any) -> None:
        if self._before:
            self._find(self._course.add_weights([self._row(name, p) for name, p in self._named.items()]))
            self._before = {}
        self.steps += 1
        self._looked = False

    def _row(self, name: str, p: Tensor) -> Layer:
        with torch.no_grad():
            size = max(float(self._before[name].norm()), 1e-30)
            moved = float((p - self._before[name]).norm()) / size
            gradient = math.nan if p.grad is None else float(p.grad.norm()) / size
        return Layer(self.steps, name.removesuffix(".weight"), "weight", gradient=gradient, update=moved)

    def _non_finite(self, what: str) -> None:
        if not self._finite:
            return
        bad = [name for name, p in self._plain.named_parameters() if not bool(p.detach().isfinite().all())]
        first = "" if not bad else f", in the weights of {bad[0].rpartition('.')[0] or bad[0]} first"
        grads = [
            n for n, p in self._plain.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())
        ]
        where = (bad or grads or [""])[0].rpartition(".")[0]
        advice = "try a tenth of the learning rate, and look for logarithms and divisions at 0"
        self._finite = False
        self._find([Cause("lr", f"{what}{first}; {advice}", where, certain=True)])

    def _find(self, causes: list[Cause]) -> None:
        for cause in causes:
            same = [c for c in self.causes if (c.key, c.where, _kind(c)) == (cause.key, cause.where, _kind(cause))]
            if same:
                continue
            self.causes.append(cause)
            self.found_at.append(self.steps + 1)
            if self._warn:
                where = f", {cause.where}" if cause.where else ""
                warnings.warn(f"step {self.steps + 1}{where}: {cause.evidence}", TrainingHealthWarning, stacklevel=2)

    def to_frame(self) -> pd.DataFrame:
        """One row a look and layer: step, layer, kind, dead, saturated, gradient, update; see ``health.Layer``."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows], columns=list(Layer.__dataclass_fields__))

    def losses(self) -> list[tuple[int, float]]:
        """The step and value of each loss that was seen."""
        return list(self._course.losses)

    def figure(self) -> Figure:
        """Loss, units, gradients and updates along the steps."""
        from mlp_study.doctor.figure import health_figure

        return health_figure(self.to_frame(), self.losses())

    def diagnosis(self, loss: Any, data: Any, **options: Any) -> Diagnosis:
        """Hand over to ``mlp_study.diagnose``, which says what would mend the training as it stands now."""
        from mlp_study.doctor.call import diagnose

        return diagnose(self._model, loss, self._optimizer, data, **options)

    def __repr__(self) -> str:
        lines = [
            f"<Health: {self.steps} steps watched, {len(self.causes) or 'no'} finding{'s' * (len(self.causes) != 1)}>"
        ]
        return "\n".join([*lines, *(f"  step {at}: {c}" for at, c in zip(self.found_at, self.causes, strict=True))])

    def _repr_html_(self) -> str:
        from mlp_study.doctor.html import health_html

        return health_html(self)


def _kind(cause: Cause) -> str:
    """What a cause says without its numbers."""
    return "".join(c for c in cause.evidence.partition(";")[0] if c.isalpha())


def _weights(model: nn.Module, optimizer: Any) -> dict[str, Tensor]:
    """The model's weights that the optimizer trains, in order.

    Raises:
        ConfigError: there are none, or the optimizer is none, or another model's.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"watch takes a torch.nn.Module, not {type(model).__name__}")
    named = dict(model.named_parameters())
    if not named:
        raise ConfigError(f"{type(model).__name__} has no parameters; there is nothing to watch")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ConfigError(f"watch takes an optimizer of torch.optim, not {type(optimizer).__name__}")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    ours: dict[str, Tensor] = {name: p for name, p in named.items() if id(p) in held}
    if not ours:
        raise ConfigError("the optimizer holds none of this model's parameters: it is another model's")
    return {name: p for name, p in ours.items() if p.ndim > 1} or ours


def watch(model: nn.Module, optimizer: torch.optim.Optimizer, *, every: int = 50, warn: bool = True) -> Health:
    """Watch a training loop of your own: each fault is told once, in one sentence, with its number and what to try.

        with mlp_study.watch(model, optimizer) as health:
            for x, y in loader:
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
        health                            # a notebook shows findings and figure
        health.diagnosis(criterion, loader).fixes

    It sees dying and saturated units, vanishing and exploding gradients, steps that are too long or too short, values
    that are not finite (at each step on a CPU), and a loss that does not fall. The training's numbers stay bit for bit
    what they were. It looks at steps 1, 2, 4, ... 32 and then at every ``every``-th.

    Args:
        model: any ``nn.Module``; of a compiled one only gradients and updates are seen.
        optimizer: of ``torch.optim``, that trains it.
        every: steps between looks.
        warn: whether a finding is a ``TrainingHealthWarning``; ``health.causes`` has them in any case.

    Raises:
        ConfigError: the model has no parameters, or the optimizer holds none of them.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ConfigError(f"every={every!r} is not valid; it takes a whole number in [1, inf)")
    return Health(model, optimizer, every, warn)
