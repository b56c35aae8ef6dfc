"""Changes of the network and of its loss."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import nn

from mlp_study.doctor.changes import DEEP, Change, for_names
from mlp_study.doctor.facts import Facts, unique

WIDE = 32  # units of a widened layer


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


def activation_changes(f: Facts) -> Iterator[Change]:
    """Other hidden activations."""
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


def output_changes(f: Facts) -> Iterator[Change]:
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


def loss_changes(f: Facts) -> Iterator[Change]:
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


def normalization_changes(f: Facts) -> Iterator[Change]:
    """Normalization after each hidden layer."""
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


def dropout_changes(f: Facts) -> Iterator[Change]:
    """No dropout."""
    names = [n for n, m in f.model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0.05]
    if names:
        code = for_names(names, "model.get_submodule(name).p = 0.0")
        yield Change({"dropout": 0.0}, code, "a small network needs all its units in each step")


def init_changes(f: Facts) -> Iterator[Change]:
    """Weights drawn anew."""
    kinds = {op.kind for op in f.hidden}
    choices = {
        "He": 'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
        "Glorot": "nn.init.xavier_uniform_(layer.weight)",
    }
    if not f.layers:  # parameters of its own
        code = "torch.manual_seed(0)\nfor weight in model.parameters():\n    if weight.dim() > 1:\n"
        code += "        nn.init.xavier_uniform_(weight)"
        yield Change({"init": "Glorot"}, code, "weights that keep signals at their size from layer to layer")
    for name, line in choices.items() if f.layers else ():
        if name == "He" and kinds and not kinds & {"relu", "leaky_relu", "elu", "gelu", "silu"}:
            continue
        zero = "if getattr(layer, 'bias', None) is not None:\n        nn.init.zeros_(layer.bias)"
        code = "torch.manual_seed(0)\n" + for_names(f.layers, "layer = model.get_submodule(name)", line, zero)
        yield Change({"init": name}, code, "weights that keep signals at their size from layer to layer")


def layers_changes(f: Facts) -> Iterator[Change]:
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
    shares = [module.p for module in f.model if isinstance(module, nn.Dropout)]
    drop = f", nn.Dropout({shares[0]})" if shares else ""
    tries = {}
    if min(widths) < WIDE:
        tries["wider"] = [max(width, WIDE) for width in widths[:2]]
    if len(widths) > 4:
        tries["fewer"] = [max(width, WIDE) for width in widths[:2]]
    for what, new in tries.items():
        chain = ", ".join(f"nn.Linear({a}, {b}), {kind}{drop}" for a, b in pairwise([inputs, *new]))
        code = f"torch.manual_seed(0)\nmodel = nn.Sequential({chain}, nn.Linear({new[-1]}, {outputs}){ends})"
        told = "-".join(map(str, new))
        yield Change({"layers": told}, code, {"wider": "more units can hold what there is to learn",
                     "fewer": "a gradient reaches the first of few layers"}[what], rebuild=True)  # fmt: skip
        return
