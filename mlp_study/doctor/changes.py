"""Fixes as Python: what is printed is what is run. One function a kind of change, in a table."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlp_study.doctor.facts import Facts, columns_differ, unique
from mlp_study.doctor.given import set_task
from mlp_study.doctor.training import Training

KEYS = (
    "labels", "scale", "target_scale", "layers", "activation", "output_activation", "normalization", "dropout", "init",
    "frozen", "loss", "class_weights", "optimizer", "lr", "weight_decay", "batch_size", "shuffle", "epochs",
)  # fmt: skip
WIDE = 32  # units of a widened layer
DEEP = 5  # layers: with more, signals and gradients depend on how each passes them on


@dataclass(frozen=True)
class Change:
    """One change of a training.

    Attributes:
        changes: key -> value, in words.
        code: the Python that makes it, in terms of ``model, loss, optimizer, x, y, data, batch_size, epochs, shuffle``.
        reason: why it might help.
        rebuild: whether the model's parameters are others afterwards, so that the optimizer must be made anew.
    """

    changes: dict[str, Any]
    code: str
    reason: str
    rebuild: bool = False

    @property
    def key(self) -> str:
        """The first of its keys."""
        return next(iter(self.changes))


def code_of(changes: tuple[Change, ...], training: Training) -> str:
    """The Python of several changes together, in the order in which a script has them."""
    ordered = sorted(changes, key=lambda change: KEYS.index(change.key))
    lines, model_done = [], False
    for change in ordered:
        after_model = KEYS.index(change.key) > KEYS.index("frozen")
        if after_model and not model_done and any(c.rebuild for c in ordered):
            model_done = True
            if not any("optimizer" in c.changes for c in ordered):
                lines.append(optimizer_line(training.optimizer))
        lines.append(change.code)
    if not model_done and any(c.rebuild for c in ordered):
        lines.append(optimizer_line(training.optimizer))
    return "\n".join(lines)


def apply(code: str, training: Training) -> Training:
    """Run a fix's code on a copy of a training."""
    new = training.copy()
    names: dict[str, Any] = {
        "torch": torch, "nn": nn, "F": F, "model": new.model, "loss": new.loss, "optimizer": new.optimizer,
        "data": new.data, "batch_size": new.batch_size, "epochs": new.epochs, "shuffle": new.shuffle,
    }  # fmt: skip
    x = y = None
    if new.data.parts:
        x, y = new.data.parts[0], new.data.parts[-1]
        names |= {"x": x, "y": y}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)  # written by this module from numbers and the names of the model's own modules
    new.model, new.loss, new.optimizer = names["model"], names["loss"], names["optimizer"]
    new.batch_size = new.data.n if names["batch_size"] == "full" else names["batch_size"]
    new.epochs, new.shuffle = names["epochs"], names["shuffle"]
    if new.data.parts and (names["x"] is not x or names["y"] is not y):
        middle = new.data.parts[1:-1]
        new.data = replace(new.data, parts=(names["x"], *middle, names["y"]))
        if names["x"] is not x and "mean" in names:
            new.input_scale = (names["mean"], names["std"])
    if "y_mean" in names:
        new.target_scale = (names["y_mean"], names["y_std"])
    if new.step is None:
        new.answers = training.task
        set_task(new)
    return new


def optimizer_line(optimizer: torch.optim.Optimizer, name: str | None = None, **options: Any) -> str:
    """The construction of an optimizer with the options that differ from PyTorch's defaults."""
    group = optimizer.param_groups[0]
    known = type(optimizer).__module__.startswith("torch.optim")
    if name is None:
        accepted = inspect.signature(type(optimizer)).parameters
        for key, parameter in accepted.items():
            if key in group and key not in ("params", "fused", "foreach") and group[key] != parameter.default:
                options.setdefault(key, group[key])
    options = {"lr": group["lr"], **options} if "lr" in group else options
    called = f"torch.optim.{name or type(optimizer).__name__}" if known or name else "type(optimizer)"
    told = ", ".join(f"{key}={_plain(value)!r}" for key, value in options.items())
    return f"optimizer = {called}(model.parameters(), {told})"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def rounded(value: float) -> float:
    """Two significant digits, as a person would type it."""
    return float(f"{value:.1e}")


def for_names(names: list[str], *lines: str) -> str:
    """A loop over modules' names."""
    listed = ", ".join(map(repr, names)) + ("," if len(names) == 1 else "")
    return "\n    ".join([f"for name in ({listed}):", *lines])


def changes_for(facts: Facts) -> list[Change]:
    """Every single change that is worth a try."""
    return [change for make in CHANGES for change in make(facts)]


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
    if several and f.loss_kind in ("ce", "nll") and y.numel() == len(y) and (y.ndim == 2 or y.is_floating_point()):
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


MODULES = {
    "relu": "nn.ReLU()",
    "tanh": "nn.Tanh()",
    "selu": "nn.SELU()",
    "leaky_relu": "nn.LeakyReLU(0.01)",
    "elu": "nn.ELU()",
}


REASONS = {
    "selu": "self-normalising units keep signals at their size through many layers",
    "relu": "no flat side on both ends on which gradients vanish",
    "tanh": "centred and bounded units",
    "leaky_relu": "no unit can die",
}


def _activation(f: Facts) -> Iterator[Change]:
    kinds = unique(op.kind for op in f.hidden)
    names = unique(name for kind in kinds for name in f.replaceable(kind))
    deep = len(f.layers) > DEEP
    wanted = {"sigmoid": ("relu", "tanh"), "tanh": ("relu",), "relu": ("leaky_relu", "selu", "tanh")}
    usual = wanted.get(kinds[0], ("relu", "tanh")) if kinds else ()
    for new in unique((*(("selu", "tanh") if deep else ()), *usual)) if names else ():
        if new != kinds[0] and not (deep and new == "relu"):
            code = for_names(names, f"model.set_submodule(name, {MODULES[new]})")
            yield Change({"activation": new}, code, REASONS[new])


OUTPUTS = {  # activation -> its module, and why
    "linear": ("nn.Identity()", "an output without bounds"),
    "sigmoid": ("nn.Sigmoid()", "a probability for each output"),
    "softmax": ("nn.Softmax(dim=1)", "probabilities that sum to 1"),
    "tanh": ("nn.Tanh()", "outputs from -1 to 1, as the targets"),
    "log_softmax": ("nn.LogSoftmax(dim=1)", "logarithms of probabilities, which this loss takes"),
}


def wanted_output(f: Facts) -> str:
    """The output activation that loss and targets ask for."""
    task = f.task
    assert task is not None
    own = f.loss_kind == "nll" and not isinstance(f.training.loss, nn.NLLLoss)  # takes the logarithm itself
    if task.kind == "values":
        return "linear"
    if f.loss_kind in ("ce", "bce_logits"):
        return "linear"
    if f.loss_kind == "nll" and not own:
        return "log_softmax"
    if task.kind == "binary" and task.values != (0.0, 1.0):
        return "tanh" if task.values == (-1.0, 1.0) else "linear"
    return "sigmoid" if task.kind in ("binary", "labels") or f.loss_kind == "bce" else "softmax"


def _output(f: Facts) -> Iterator[Change]:
    """The output activation that the loss and the targets ask for."""
    if f.task is None or f.output is None or f.training.step is not None:
        return
    wanted = wanted_output(f)
    module, reason = OUTPUTS[wanted]
    if f.final_module:
        code = f"model.set_submodule({f.final_module!r}, {module})"
    else:
        code = (
            f"model.append({module})"
            if isinstance(f.model, nn.Sequential)
            else f"model = nn.Sequential(model, {module})"
        )
    if wanted != f.final and (f.final_module or f.final == "linear"):
        yield Change({"output_activation": "none" if wanted == "linear" else wanted}, code, reason)


def _loss(f: Facts) -> Iterator[Change]:
    """The cross-entropy that outputs as they are ask for, or that logits ask for once the output activation is gone."""
    task, loss, final = f.task, f.loss_kind, f.final
    if task is None or f.training.step is not None or f.output is None or task.kind == "values":
        return
    gone = f"model.set_submodule({f.final_module!r}, nn.Identity())\n"
    wrong = "cross-entropy keeps its gradient where answers are wrong"
    if task.kind in ("classes", "one-hot") and f.output.ndim == 2:
        logits = "nn.CrossEntropyLoss()"
        own = loss == "nll" and not isinstance(f.training.loss, nn.NLLLoss)
        if final == "softmax" and not own:
            y = "y.argmax(1)" if task.kind == "one-hot" else "y"
            code = f"loss = lambda p, y: F.nll_loss(p.clamp_min(1e-12).log(), {y})"
            yield Change({"loss": "cross-entropy of probabilities"}, code, wrong)
        elif final == "linear" and loss != "ce":
            yield Change({"loss": "CrossEntropyLoss"}, f"loss = {logits}", wrong)
        elif final == "sigmoid" and task.kind == "one-hot" and loss != "bce":
            yield Change({"loss": "BCELoss"}, "loss = nn.BCELoss()", wrong)
    elif task.kind in ("binary", "labels") and task.values == (0.0, 1.0):
        logits = "nn.BCEWithLogitsLoss()"
        if final == "sigmoid" and loss != "bce":
            yield Change({"loss": "BCELoss"}, "loss = nn.BCELoss()", wrong)
        elif final == "linear" and loss != "bce_logits":
            yield Change({"loss": "BCEWithLogitsLoss"}, f"loss = {logits}", wrong)
    else:
        return
    if f.final_module and loss not in ("ce", "bce_logits"):
        told = {"output_activation": "none", "loss": logits[3:-2]}
        yield Change(told, f"{gone}loss = {logits}", "logits with the cross-entropy that takes them")


def _normalization(f: Facts) -> Iterator[Change]:
    names = f.layers[:-1]
    if f.norms or len(names) < 2 or not all(op.output.ndim in (2, 4) for op in f.hidden):
        return
    small = (f.training.batch_size or 32) < 8
    of_kind = {
        nn.Linear: ("LayerNorm" if small else "BatchNorm1d", "out_features"),
        nn.Conv2d: ("BatchNorm2d", "out_channels"),
    }
    loops, placed = [], 0
    for kind, (norm, size) in of_kind.items():
        some = [name for name in names if isinstance(f.model.get_submodule(name), kind)]
        placed += len(some)
        new = f"model.set_submodule(name, nn.Sequential(layer, nn.{norm}(layer.{size})))"
        loops += [for_names(some, "layer = model.get_submodule(name)", new)] if some else []
    if placed == len(names):
        reason = "pre-activations are centred and of size 1 in every layer"
        yield Change({"normalization": "layer" if small else "batch"}, "\n".join(loops), reason, rebuild=True)


def _dropout(f: Facts) -> Iterator[Change]:
    names = [n for n, m in f.model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0.05]
    if names:
        code = for_names(names, "model.get_submodule(name).p = 0.0")
        yield Change({"dropout": 0.0}, code, "a small network needs all its units in each step")


def _init(f: Facts) -> Iterator[Change]:
    kinds = {op.kind for op in f.hidden}
    choices = {
        "He": 'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
        "Glorot": "nn.init.xavier_uniform_(layer.weight)",
    }
    for name, line in choices.items() if f.layers else ():
        if name == "He" and kinds and not kinds & {"relu", "leaky_relu", "elu", "gelu", "silu"}:
            continue
        zero = "if getattr(layer, 'bias', None) is not None:\n        nn.init.zeros_(layer.bias)"
        code = "torch.manual_seed(0)\n" + for_names(f.layers, "layer = model.get_submodule(name)", line, zero)
        yield Change({"init": name}, code, "weights that keep signals at their size from layer to layer")


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
    values = [rounded(lr * factor) for factor in FACTORS]
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
    for size in (4, 32, 128):
        if size < n and (size * 4 <= own or own * 8 <= size):
            steps = -(-n // size) / -(-n // own)
            reason = f"{steps:.3g} times as many steps in an epoch" if size < own else "less noise in each step"
            yield Change({"batch_size": size}, f"batch_size = {size}", reason)


def _shuffle(f: Facts) -> Iterator[Change]:
    if not f.training.shuffle and f.training.data.n > (f.training.batch_size or 1):
        yield Change({"shuffle": True}, "shuffle = True", "each batch has examples of every kind")


def _epochs(f: Facts) -> Iterator[Change]:
    for factor in (3, 10, 30):
        epochs = f.training.epochs * factor
        yield Change(
            {"epochs": epochs}, f"epochs = {epochs}  # {factor} times as long", f"trains {factor} times as long"
        )


def _layers(f: Facts) -> Iterator[Change]:
    """A chain of Linear layers with wider ones, or with fewer."""
    if not isinstance(f.model, nn.Sequential) or not all(
        isinstance(f.model.get_submodule(n), nn.Linear) for n in f.layers
    ):
        return
    if any("." in name for name in f.layers) or len(f.layers) < 2:
        return
    sizes = [f.model.get_submodule(name) for name in f.layers]
    widths = [int(layer.out_features) for layer in sizes[:-1]]  # type: ignore[arg-type]
    inputs, outputs = int(sizes[0].in_features), int(sizes[-1].out_features)  # type: ignore[arg-type]
    kinds = unique(op.kind for op in f.hidden if op.kind in MODULES or op.kind == "sigmoid")
    kind = {**MODULES, "sigmoid": "nn.Sigmoid()"}[kinds[0]] if kinds else "nn.ReLU()"
    children = dict(f.model.named_children())
    after = list(children)[list(children).index(f.layers[-1]) + 1 :]
    ends = "".join(f", model[{list(children).index(name)}]" for name in after)
    tries = {}
    if min(widths) < WIDE:
        tries["wider"] = [max(width, WIDE) for width in widths[:2]]
    if len(widths) > 4:
        tries["fewer"] = [max(width, WIDE) for width in widths[:2]]
    for what, new in tries.items():
        chain = ", ".join(f"nn.Linear({a}, {b}), {kind}" for a, b in pairwise([inputs, *new]))
        code = f"torch.manual_seed(0)\nmodel = nn.Sequential({chain}, nn.Linear({new[-1]}, {outputs}){ends})"
        told = "-".join(map(str, new))
        yield Change({"layers": told}, code, {"wider": "more units can hold what there is to learn",
                     "fewer": "a gradient reaches the first of few layers"}[what], rebuild=True)  # fmt: skip
        return


CHANGES: tuple[Callable[[Facts], Iterator[Change]], ...] = (
    _labels, _scale, _target_scale, _output, _loss, _class_weights, _shuffle, _frozen, _lr, _optimizer, _activation,
   _init,    _normalization, _dropout, _weight_decay, _batch_size, _epochs, _layers,
)  # fmt: skip
