"""What is known of a training before its first step: its data, operations, output beside its loss, and units."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mlp_study.doctor.given import set_task
from mlp_study.doctor.observe import BOUNDS, FUNCTIONS, LAYERS, NORMS, Operation, Units, sharpness, units_of, watching
from mlp_study.doctor.task import Task
from mlp_study.doctor.training import Training
from mlp_study.doctor.untouched import drawing_from, seeded

T = TypeVar("T")
LOOKED = 512  # examples that units and gradients are measured on
APART = 10.0  # times: columns whose sizes differ by more have different units


@dataclass
class Facts:
    """See the module.

    Attributes:
        training: the user's, before its first step.
        x: inputs and ``y`` targets of some examples, as the loss gets them; None where ``step`` hides them.
        loss_kind: see ``observe.LOSSES``; None for a loss of another form.
        output: on these examples, as in training.
        final: the kind of the last operation: an activation, or ``linear``.
        final_module: the module that computes it, where it can be replaced.
        hidden: activations before the last operation.
        layers: names of Linear and convolution modules in the order in which they are called.
        norms: kinds of normalization in use.
        units: of the hidden activations.
        gradients: of each layer's weight, over the weight's norm.
        unreached: parameters that require a gradient and get none.
        sharpness: the largest curvature of the loss on these examples.
        error: what stops the first step.
    """

    training: Training
    x: Tensor | None = None
    y: Tensor | None = None
    loss_kind: str | None = None
    output: Tensor | None = None
    final: str = "linear"
    final_module: str | None = None
    hidden: list[Operation] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    norms: set[str] = field(default_factory=set)
    units: list[Units] = field(default_factory=list)
    gradients: dict[str, float] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    sharpness: float | None = None
    error: str | None = None

    @property
    def task(self) -> Task | None:
        """What the targets are."""
        return self.training.task

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.training.model

    def replaceable(self, kind: str) -> list[str]:
        """Names of the modules that compute hidden activations of a kind."""
        return unique(op.module for op in self.hidden if op.kind == kind and is_activation(self.model, op.module))


def unique(names: Iterable[T]) -> list[T]:
    """Each once, in order."""
    return list(dict.fromkeys(names))


def is_activation(model: nn.Module, name: str) -> bool:
    """Whether a module does nothing but an activation, so that another can take its place."""
    module = model.get_submodule(name) if name else model
    return bool(name) and not list(module.children()) and not list(module.parameters())


def facts_of(training: Training, curvature: bool = True) -> Facts:
    """Look at a copy of a training: one pass forward and one back."""
    found = Facts(training)
    found.loss_kind = set_task(training)
    parts = training.data.parts
    if parts and training.step is None:
        found.x, found.y = parts[0], parts[-1]
    with drawing_from(seeded(training.seed)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = training.copy()
        copy.model.train()
        for module in copy.model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        try:
            _look(found, copy, curvature)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
            found.error = " ".join(str(error).split())[:300]
    return found


def _look(found: Facts, copy: Training, curvature: bool) -> None:
    rng = torch.Generator().manual_seed(copy.seed)
    batch = next(iter(copy.data.batches(min(LOOKED, copy.data.n), True, rng)))
    found_output: list[Any] = []
    handle = copy.model.register_forward_hook(lambda _m, _a, output: found_output.append(output))
    with watching(copy.model) as seen:
        if copy.step is None:
            with contextlib.suppress(RuntimeError, ValueError):
                copy.model(*(part.to(copy.device) for part in batch[:-1]))
        else:
            copy.batch_loss(batch)
    handle.remove()
    operations = list(seen.operations)
    output = next((o for o in reversed(found_output) if isinstance(o, Tensor)), None)
    if copy.step is not None and seen.losses:
        output = seen.losses[-1][1]
        operations = [op for op in operations if op.kind != "log_softmax" or op.output.shape == output.shape]
    found.output = None if output is None else output.detach()
    _name_operations(found, operations)
    loss = copy.batch_loss(batch)
    loss.backward(retain_graph=curvature)
    found.unreached = [name for name, p in copy.model.named_parameters() if p.requires_grad and p.grad is None]
    for name in found.layers:
        weight = copy.model.get_submodule(name).get_parameter("weight")
        if weight.grad is not None:
            found.gradients[name] = (weight.grad.norm() / weight.detach().norm().clamp_min(1e-30)).item()
    if curvature:
        wanted = [p for p in copy.model.parameters() if p.requires_grad]
        found.sharpness = sharpness(copy.batch_loss(batch), wanted)


def _name_operations(found: Facts, operations: list[Operation]) -> None:
    kinds = [op for op in operations if op.kind in FUNCTIONS]
    last = operations[-1] if operations else None
    if last is not None and last.kind in FUNCTIONS:
        found.final = last.kind
        found.final_module = last.module if is_activation(found.model, last.module) else None
        kinds = kinds[:-1] if kinds and kinds[-1] is last else kinds
    found.hidden = kinds
    found.units = [units_of(op) for op in kinds if op.output.ndim > 1]
    typed = dict(found.model.named_modules())
    found.layers = unique(
        op.module for op in operations
        if op.kind in LAYERS and isinstance(getattr(typed.get(op.module), "weight", None), Tensor)
    )  # fmt: skip
    found.norms = {op.kind for op in operations if op.kind in NORMS}


def sizes_of(x: Tensor) -> Tensor:
    """The size of each column: its deviation, or its mean's size where that is larger; constant zeros are left out."""
    flat = x.flatten(1).double()
    size = torch.maximum(flat.std(0, correction=0), flat.mean(0).abs())
    return size[size > 0]


def columns_differ(x: Tensor) -> bool:
    """Whether columns of a table have different units; the pixels of an image have the same."""
    if x.ndim != 2 or x.shape[1] < 2 or not x.is_floating_point():
        return False
    sizes = sizes_of(x)
    if len(sizes) < 2:
        return False
    if x.shape[1] >= 64:  # pixels at the margin are small without having another unit
        largest = x.double().abs().amax(0)
        return bool(largest.max() > 100 * APART * largest[largest > 0].median())
    return bool(sizes.max() > APART * sizes.min())


def bounds_of(kind: str) -> tuple[float, float] | None:
    """What an output activation can give; None where there is no bound, infinite on one side for ReLU's like."""
    infinite = float("inf")
    return {**BOUNDS, "relu": (0.0, infinite), "softplus": (0.0, infinite), "exp": (0.0, infinite)}.get(kind)


def again(facts: Facts, training: Training) -> Facts:
    """The same on a training that has gone on."""
    found = facts_of(training, curvature=False)
    return replace(found, x=facts.x, y=facts.y)
