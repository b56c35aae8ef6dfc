"""Changes of the data, the optimizer and the loop; and the table of all changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from mlp_study.doctor.changes import DEEP, Change, optimizer_line, rounded
from mlp_study.doctor.facts import Facts, columns_differ, unique
from mlp_study.doctor.network_changes import (
    activation_changes,
    dropout_changes,
    init_changes,
    layers_changes,
    loss_changes,
    normalization_changes,
    output_changes,
)


def _labels(f: Facts) -> Iterator[Change]:
    if f.y is None or f.output is None or f.training.step is not None:
        return
    y, output = f.y, f.output
    several = output.ndim > 1 and output.shape[1] > 1
    if f.loss_kind in ("mse", "l1", "bce", "bce_logits", None) and not several and y.numel() == len(y):
        if y.ndim == 1 and output.ndim == 2:
            code = "y = y.unsqueeze(1)" if y.is_floating_point() else "y = y.float().unsqueeze(1)"
            yield Change(
                {"labels": "targets [N, 1]"}, code, "outputs and targets of the same shape are compared one by one"
            )
        elif y.ndim == 2 and output.ndim == 1:
            yield Change(
                {"labels": "targets [N]"}, "y = y.squeeze(1).float()", "outputs and targets have the same shape"
            )
    if not y.is_floating_point() and f.loss_kind not in ("ce", "nll") and y.shape == output.shape:
        yield Change({"labels": "float"}, "y = y.float()", "this loss takes floating-point targets")
    if several and f.loss_kind in ("ce", "nll") and y.numel() == len(y) and (y.ndim == 2 or y.dtype != torch.int64):
        yield Change({"labels": "class numbers"}, "y = y.flatten().long()", "this loss takes class numbers [N]")
    if several and f.loss_kind == "nll" and y.shape == output.shape:
        yield Change({"labels": "class numbers"}, "y = y.argmax(1)", "this loss takes class numbers [N]")
    if several and f.loss_kind not in ("ce", "nll") and y.numel() == len(y) and not y.is_floating_point() and f.error:
        code = f"y = F.one_hot(y.flatten(), {output.shape[1]}).float()"
        yield Change({"labels": "one-hot"}, code, "this loss takes one target for each output")
    if several and f.loss_kind in ("ce", "nll", None) and y.ndim == 1 and not y.is_floating_point():
        low, high = int(y.min()), int(y.max())
        if (low < 0 or high >= output.shape[1]) and high - low < output.shape[1]:
            yield Change({"labels": f"from 0, not from {low}"}, f"y = y - {low}", "classes count from 0")
    if f.loss_kind in ("bce", "bce_logits"):
        numbers = y.unique()
        if len(numbers) == 2 and set(numbers.tolist()) != {0, 1}:
            low, high = numbers.tolist()
            yield Change({"labels": "0 and 1"}, f"y = (y > {(low + high) / 2:g}).float()", "this loss takes 0 and 1")


def _scale(f: Facts) -> Iterator[Change]:
    x = f.x
    own = f.training.data.parts
    if x is None and own and f.training.step is not None:
        x = own[0]
    if x is None or not x.is_floating_point() or not x.numel():
        return
    if not bool(x.isfinite().all()):
        yield Change({"scale": "NaN as 0"}, "x = x.nan_to_num(0.0, 0.0, 0.0)", "one NaN makes all weights NaN")
        return
    if bool((x == x[0]).all()):
        return
    flat = x.double()
    near = abs(flat.mean().item()) < 0.3 and 0.7 < flat.std().item() < 1.4
    columns = columns_differ(x) or (x.ndim == 2 and x.shape[1] < 64)
    done = x.ndim == 2 and bool((flat.mean(0).abs() < 0.05).all() and ((flat.std(0) - 1).abs() < 0.05).all())
    if done or (near and not columns):
        return
    dims = "0" if columns or x.ndim == 1 else "(0, 2, 3), keepdim=True" if x.ndim == 4 else None
    told = {"0": "standardised columns", None: "standardised", "(0, 2, 3), keepdim=True": "standardised channels"}[dims]
    of = f"{dims}" if dims else ""
    spread = f"{of}, correction=0" if of else "correction=0"
    if f.training.step is None and f.training.data.loader is None:
        largest = "x.abs().amax(0)" if dims == "0" else "x.abs().max()"
        code = (f"mean, std = x.double().mean({of}), x.double().std({spread})\n"
                f"std[std <= 1e-9 * {largest}] = 1\n"
                "x = ((x - mean) / std).float()")  # fmt: skip
        if f.x is not None and f.x.dtype != torch.float32:
            code = code.replace(".float()", ".to(x.dtype)")
    else:
        code = ("x = torch.cat([batch[0] for batch in data]).double()\n"
                f"mean, std = x.mean({of}), x.std({spread})\n"
                "std[std <= 0] = 1\n"
                "mean, std = mean.float(), std.float()\n"
                "model.register_forward_pre_hook(lambda _, args: ((args[0] - mean) / std, *args[1:]))")  # fmt: skip
    yield Change(
        {"scale": told}, code, "inputs of mean 0 and deviation 1 give every weight a gradient of the same size"
    )


def _target_scale(f: Facts) -> Iterator[Change]:
    if (
        f.task is None
        or f.task.kind != "values"
        or f.y is None
        or f.training.step
        or f.training.data.loader is not None
    ):
        return
    y = f.y.double()
    if not y.isfinite().all() or y.std() == 0:
        return
    if f.final in ("sigmoid", "softmax", "relu") or f.final == "tanh":
        low, width = (
            ("y.amin(0)", "(y.amax(0) - y.amin(0))") if f.final != "tanh" else ("y.mean(0)", "(y.amax(0) - y.amin(0))")
        )
        code = f"y_mean, y_std = {low}, {width}\ny = (y - y_mean) / y_std"
        if y.min() < 0 or y.max() > 1.001:
            yield Change({"target_scale": "from 0 to 1" if f.final != "tanh" else "within -1 and 1"}, code,
                         f"targets within what {f.final} can give")  # fmt: skip
    elif abs(y.mean().item()) > 0.2 or not 0.6 < y.std().item() < 1.6:
        code = "y_mean, y_std = y.mean(0), y.std(0)\ny = (y - y_mean) / y_std"
        yield Change({"target_scale": "standardised"}, code, "errors of about 1 give steps of the learning rate's size")


def _frozen(f: Facts) -> Iterator[Change]:
    held = {id(p) for group in f.training.optimizer.param_groups for p in group["params"]}
    named = list(f.model.parameters())
    if all(p.requires_grad and id(p) in held for p in named):
        return
    owned = any(id(p) in held for p in named)
    if not owned and all(p.requires_grad for p in named):
        yield Change({"optimizer": "of this model's parameters"}, optimizer_line(f.training.optimizer),
                     "the optimizer holds another model's parameters")  # fmt: skip
    else:
        code = "for p in model.parameters():\n    p.requires_grad_(True)"
        yield Change({"frozen": "nothing"}, code, "all parameters are trained", rebuild=True)


def _class_weights(f: Facts) -> Iterator[Change]:
    task = f.task
    if task is None or f.y is None or not task.classifies or f.training.step is not None:
        return
    truth = task.truth(f.y)
    counts = truth.clamp_min(0).bincount()
    if len(counts) < 2 or (counts == 0).any() or counts.max() < 2 * counts.min():
        return
    weights = [round(len(truth) / (len(counts) * c), 4) for c in counts.tolist()]
    listed = f"torch.tensor({weights}, device={str(f.y.device)!r})"
    code = None
    if f.loss_kind == "ce" and f.output is not None and len(counts) == f.output.shape[1]:
        code = f"loss = nn.CrossEntropyLoss(weight={listed})"
    elif f.loss_kind == "nll" and isinstance(f.training.loss, nn.NLLLoss):
        code = f"loss = nn.NLLLoss(weight={listed})"
    elif task.kind == "binary" and f.loss_kind == "bce_logits":
        code = f"loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor({round(weights[1] / weights[0], 4)}))"
    elif task.kind == "binary" and f.loss_kind == "bce":
        weight = f"torch.where(y > 0.5, {weights[1]}, {weights[0]})"
        code = f"loss = lambda p, y: F.binary_cross_entropy(p, y, weight={weight})"
    if code:
        yield Change({"class_weights": "inverse to the classes' shares"}, code, "each class counts alike, however rare")


CHOICES = (("Adam", 0.001, ""), ("Adam", 0.01, ""), ("SGD", 0.01, ", momentum=0.9"))


def _optimizer(f: Facts) -> Iterator[Change]:
    own = type(f.training.optimizer).__name__
    lr = f.training.optimizer.param_groups[0].get("lr", 0.0)
    for name, value, more in CHOICES:
        if name in own or (name == "SGD" and "Adam" in own and len(f.layers) > DEEP):
            continue
        told: dict[str, Any] = {"optimizer": f"{name}(lr={value})" if value == 0.001 else name}
        if value not in (0.001, lr):
            told["lr"] = value
        code = f"optimizer = torch.optim.{name}(model.parameters(), lr={value}{more})"
        steps = "steps of about lr for each weight, whatever its gradient's size"
        yield Change(told, code, steps if name == "Adam" else "steps along the gradient, with momentum")


FACTORS = (0.1, 10.0, 0.01, 100.0, 3.0, 0.3, 0.001, 1000.0)


def _lr(f: Facts) -> Iterator[Change]:
    group = f.training.optimizer.param_groups[0]
    lr = float(group.get("lr", 0.0))
    plain = isinstance(f.training.optimizer, torch.optim.SGD)
    least, most = (1e-5, 1.0) if plain else (1e-4, 0.1)
    values = [rounded(lr * factor) for factor in FACTORS] + ([0.1, 0.01] if plain else [0.001, 0.01])
    values = [value for value in values if value != lr]
    if plain and f.sharpness and f.sharpness * lr / 2 > 0.5:
        values.insert(0, rounded(0.5 * 2 / f.sharpness))
    for value in unique(values):
        if value > 0 and (least <= value <= most or (value == values[0] and value < lr)):
            reason = f"{value / lr:g} times the learning rate"
            if plain and f.sharpness and f.sharpness > 0 and value < lr:
                reason += f": the curvature at the start, {f.sharpness:.3g}, takes at most {2 / f.sharpness:.2g}"
            yield Change({"lr": value}, f'for group in optimizer.param_groups:\n    group["lr"] = {value!r}', reason)


def _weight_decay(f: Facts) -> Iterator[Change]:
    if any((group.get("weight_decay") or 0) > 0 for group in f.training.optimizer.param_groups):
        code = 'for group in optimizer.param_groups:\n    group["weight_decay"] = 0.0'
        yield Change({"weight_decay": 0.0}, code, "nothing pulls the weights to zero")


def _batch_size(f: Facts) -> Iterator[Change]:
    own, n = f.training.batch_size, f.training.data.n
    if own is None:
        return
    batchnorm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in f.training.model.modules())
    if batchnorm and own > 1 and n % own == 1:
        size = next(s for s in range(own + 1, n + 2) if n % s != 1)
        yield Change({"batch_size": size}, f"batch_size = {size}", "no minibatch has a single example")
    for size in (4, 32, 128):
        if size < n and (size * 4 <= own or own * 8 <= size):
            steps = -(-n // size) / -(-n // own)
            reason = f"{steps:.3g} times as many steps in an epoch" if size < own else "less noise in each step"
            yield Change({"batch_size": size}, f"batch_size = {size}", reason)


def _shuffle(f: Facts) -> Iterator[Change]:
    if not f.training.shuffle and f.training.data.n > (f.training.batch_size or 1):
        yield Change({"shuffle": True}, "shuffle = True", "each batch has examples of every kind")


CHANGES: tuple[Callable[[Facts], Iterator[Change]], ...] = (
    _labels, _scale, _target_scale, output_changes, loss_changes, _class_weights, _shuffle, _frozen, _lr, _optimizer,
    activation_changes, init_changes, normalization_changes,
    dropout_changes, _weight_decay, _batch_size, layers_changes,
)  # fmt: skip


def changes_for(facts: Facts) -> list[Change]:
    """Every single change that is worth a try."""
    return [change for make in CHANGES for change in make(facts)]
