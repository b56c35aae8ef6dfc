"""Checks of a training before it runs, each a cause with its evidence. One function each, in a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from mlp_study.doctor.facts import Facts, bounds_of, columns_differ, sizes_of
from mlp_study.doctor.task import RARE

SIZE = (0.05, 20.0)  # of inputs and of values to learn: outside, their scale is a cause
HEAVY = 0.5  # dropout from which on it is named
WEIGHT = (0.25, 4.0)  # of the deviation 1 / sqrt(inputs): weights outside are too small or too large


@dataclass(frozen=True)
class Cause:
    """Why a training fails, or what weighs on it.

    Attributes:
        key: of what to change, one of ``changes.KEYS``.
        evidence: what was measured, with its number.
        where: the layer or the columns.
        certain: whether the training cannot go well with it.
    """

    key: str
    evidence: str
    where: str = ""
    certain: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.evidence}" + (f" ({self.where})" if self.where else "")


def causes_before(facts: Facts) -> list[Cause]:
    """What can be said before the first step, what is certain first."""
    found = [cause for check in CHECKS for cause in check(facts)]
    return sorted(found, key=lambda cause: not cause.certain)


def _inputs(f: Facts) -> Iterator[Cause]:
    if f.x is None or not f.x.is_floating_point():
        return
    x_NI = f.x.flatten(1)
    bad = int((~x_NI.isfinite()).any(1).sum())
    if bad:
        yield Cause("scale", f"x has NaN or infinity in {bad:,} of {len(x_NI):,} examples", certain=True)
        return
    if len(x_NI) > 1 and bool((x_NI == x_NI[0]).all()):
        yield Cause("scale", "all inputs are equal: nothing tells one example from another", certain=True)
        return
    sizes = sizes_of(f.x)
    if columns_differ(f.x):
        lowest, highest = sizes.min().item(), sizes.max().item()
        largest = int(torch.maximum(x_NI.std(0), x_NI.mean(0).abs()).argmax())
        yield Cause("scale", f"columns have different units: their sizes go from {lowest:.2g} to {highest:.2g}",
                    f"column {largest} is the largest", certain=highest > max(100 * lowest, SIZE[1]))  # fmt: skip
    elif len(sizes) and not SIZE[0] < sizes.max() < SIZE[1]:
        yield Cause("scale", f"inputs are of size {sizes.max().item():.2g}; networks are made for about 1")


def _targets(f: Facts) -> Iterator[Cause]:
    if f.y is None or f.output is None:
        return
    y = f.y
    if y.is_floating_point() and not bool(y.isfinite().all()):
        yield Cause("labels", f"y has NaN or infinity in {int((~y.isfinite()).sum()):,} places", certain=True)
        return
    if f.loss_kind in ("ce", "nll", None) and not y.is_floating_point() and f.output.ndim > 1 and f.output.shape[1] > 1:
        outputs, low, high = f.output.shape[1], int(y.min()), int(y.max())
        if y.ndim < f.output.ndim and (low < 0 or high >= outputs) and f.loss_kind != "mse":
            yield Cause("labels", f"classes go from {low} to {high}; the {outputs} outputs take 0 to {outputs - 1}",
                        certain=True)  # fmt: skip
    if f.loss_kind in ("mse", "l1", None) and y.ndim == 1 and tuple(f.output.shape[1:]) == (1,):
        n = len(y)
        yield Cause("labels", f"outputs [{n}, 1] and targets [{n}] are broadcast: each is compared with each",
                    certain=True)  # fmt: skip
    task = f.task
    if task is None or not task.classifies:
        return
    truth = task.truth(y)
    shares = truth[truth >= 0].bincount().double() / len(truth)
    if (shares > 0).sum() < 2:
        yield Cause("labels", "all examples are of one class: there is nothing to learn", certain=True)
    elif shares.max() >= RARE:
        yield Cause(
            "class_weights", f"{shares.max():.1%} of the examples are of one class: guessing it is nearly right"
        )
    if (
        not f.training.shuffle
        and len(truth) > (f.training.batch_size or 1)
        and (truth.diff() != 0).sum() < 2 * len(shares)
    ):
        blocks = int((truth.diff() != 0).sum()) + 1
        yield Cause("shuffle", f"examples come sorted by class, in {blocks} blocks, and are not shuffled", certain=True)


def _values(f: Facts) -> Iterator[Cause]:
    if f.y is None or f.task is None or f.task.kind != "values" or not f.y.isfinite().all():
        return
    y = f.y.double()
    size, low, high = max(y.std().item(), abs(y.mean().item())), y.min().item(), y.max().item()
    bounds = bounds_of(f.final)
    if bounds and (low < bounds[0] - 1e-6 or high > bounds[1] + 1e-6):
        yield Cause("output_activation", f"targets go from {low:.4g} to {high:.4g}; {f.final} gives "
                    f"{bounds[0]:g} to {bounds[1]:g}", f.final_module or "the output", certain=True)  # fmt: skip
    if not SIZE[0] < size < SIZE[1]:
        yield Cause("target_scale", f"targets are of size {size:.3g}; outputs begin at about 1")


def _output(f: Facts) -> Iterator[Cause]:
    """The output activation against the loss."""
    if f.output is None or f.error:
        return
    one = f.output.ndim > 1 and f.output.shape[1] == 1
    where, kind, loss = f.final_module or "the output", f.final, f.loss_kind
    low = float(f.output.min()) if f.output.numel() and bool(f.output.isfinite().all()) else 0.0
    sums = f.output.flatten(1).sum(1) if f.output.ndim > 1 else f.output
    if kind == "softmax" and one:
        yield Cause("output_activation", "softmax of one output is always 1", where, certain=True)
    elif kind == "softmax" and loss == "ce":
        yield Cause("output_activation", "CrossEntropyLoss applies a softmax of its own to a softmax's outputs", where)
    elif kind == "softmax" and f.task and f.task.kind == "labels":
        yield Cause(
            "output_activation", "softmax lets one label be likely at a time; several can be true", where, certain=True
        )
    elif kind == "sigmoid" and loss == "bce_logits":
        yield Cause("output_activation", "BCEWithLogitsLoss applies a sigmoid of its own to a sigmoid's outputs", where)
    elif kind in ("sigmoid", "tanh", "relu") and loss == "ce":
        yield Cause("output_activation", f"{kind} bounds the logits that CrossEntropyLoss takes", where)
    elif (
        kind != "log_softmax"
        and loss == "nll"
        and f.training.step is None
        and (sums.exp().sum() > 0)
        and not _is_log(f)
    ):
        yield Cause("loss", "NLLLoss takes logarithms of probabilities: LogSoftmax is missing", where, certain=True)
    elif loss == "bce" and kind in ("relu", "linear", "tanh") and f.training.step is None:
        yield Cause("output_activation", f"BCELoss takes probabilities; {kind} outputs go down to {low:.3g}", where,
                    certain=True)  # fmt: skip
    elif f.task and f.task.kind in ("binary", "labels") and kind in ("relu", "tanh") and f.task.values == (0.0, 1.0):
        yield Cause("output_activation", f"a {kind} output for targets of 0 and 1", where)
    if f.task and f.task.classifies and loss in ("mse", "l1"):
        errors = "squared" if loss == "mse" else "absolute"
        yield Cause("loss", f"{errors} errors of classes give small gradients where answers are wrong", "the loss")


def _is_log(f: Facts) -> bool:
    """Whether a loss around NLLLoss takes the logarithm itself: then it is the user's own function."""
    return not isinstance(f.training.loss, nn.NLLLoss)


def _weights(f: Facts) -> Iterator[Cause]:
    for name in f.layers:
        weight = f.model.get_submodule(name).get_parameter("weight").detach()
        rows = weight.flatten(1)
        inputs = rows.shape[1]
        last = name == f.layers[-1]
        if not weight.isfinite().all():
            yield Cause("init", "weights are NaN or infinite", name, certain=True)
        elif len(rows) > 1 and not last and bool((rows - rows[0]).abs().max() <= 1e-6 * rows.abs().max()):
            what = "zero" if not rows.any() else "equal"
            yield Cause("init", f"all units have {what} weights: they stay alike", name, certain=True)
        else:
            ratio = rows.std(correction=0).item() * math.sqrt(inputs)
            if rows.numel() > 8 and not WEIGHT[0] < ratio < WEIGHT[1]:
                yield Cause(
                    "init", f"weights are {ratio:.2g} times 1 / sqrt({inputs}), which keeps signals at their size", name
                )


def _held(f: Facts) -> Iterator[Cause]:
    """Parameters that are not trained."""
    named = dict(f.model.named_parameters())
    held = {id(p) for group in f.training.optimizer.param_groups for p in group["params"]}
    frozen = [name for name, p in named.items() if not p.requires_grad]
    missing = [name for name, p in named.items() if p.requires_grad and id(p) not in held]
    total = sum(p.numel() for p in named.values())
    share = sum(named[name].numel() for name in frozen + missing) / total
    if missing and len(missing) + len(frozen) == len(named):
        yield Cause("optimizer", "the optimizer holds no parameter of this model: it belongs to another", certain=True)
    elif missing:
        yield Cause("frozen", f"the optimizer does not hold {len(missing)} parameters, {share:.0%} of the weights",
                    ", ".join(missing[:4]))  # fmt: skip
    if f.unreached:
        cut = sum(named[name].numel() for name in f.unreached) / total
        words = f"no gradient reaches {len(f.unreached)} parameters, {cut:.0%} of the weights: forward cuts them off"
        yield Cause("frozen", f"{words} (detach, no_grad) or does not use them", ", ".join(f.unreached[:4]))
    if frozen:
        every = len(frozen) == len(named)
        yield Cause("frozen", f"{len(frozen)} parameters are frozen, {share:.0%} of the weights",
                    ", ".join(frozen[:4]), certain=every)  # fmt: skip


def _regularizers(f: Facts) -> Iterator[Cause]:
    for name, module in f.model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p >= HEAVY:
            yield Cause("dropout", f"drops {module.p:.0%} of its units in each step", name, certain=module.p >= 0.9)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f.training.batch_size == 1:
            yield Cause("batch_size", "BatchNorm needs more than one example a batch", name, certain=True)
    for group in f.training.optimizer.param_groups:
        decay = group.get("weight_decay", 0) or 0
        if decay >= 0.05 or decay * group.get("lr", 0) > 1e-4:
            yield Cause("weight_decay", f"weight_decay={decay:g} pulls all weights to zero")
            return


def _units(f: Facts) -> Iterator[Cause]:
    for at, unit in enumerate(f.units):
        if unit.dead >= 0.8:
            where = unit.module or f"activation {at}"
            yield Cause("init", f"{unit.dead:.0%} of the units are off for every example", where, unit.dead == 1)
        elif unit.saturated >= 0.9:
            yield Cause("activation", f"{unit.saturated:.0%} of the {unit.kind} units are saturated",
                        unit.module or f"activation {at}")  # fmt: skip
    if len(f.gradients) > 2:
        sizes = list(f.gradients.items())
        (first, lowest), highest = sizes[0], max(size for _, size in sizes)
        if 0 < lowest < 1e-3 * highest:
            yield Cause(
                "activation", f"the first layer's gradient is {lowest / highest:.1g} of the largest: it vanishes", first
            )


CHECKS: tuple[Callable[[Facts], Iterator[Cause]], ...] = (
    _inputs, _targets, _values, _output, _weights, _held, _regularizers, _units,
)  # fmt: skip


def error_cause(message: str, f: Facts) -> Cause:
    """A training that stops with an error, by the words of PyTorch's message."""
    for key, words in {
        "batch_size": ("more than 1 value per channel",),
        "frozen": ("does not require grad",),
        "output_activation": ("between 0 and 1",),
    }.items():
        if any(word in message for word in words):
            return Cause(key, f"the training stops with an error: {message}", certain=True)
    return Cause("labels", f"the training stops with an error: {message}", certain=True)
