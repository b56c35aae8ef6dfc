"""Fixes as Python: what is printed is what is run. One function a kind of change, in a table."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlp_study.doctor.given import set_task
from mlp_study.doctor.training import Training

KEYS = (
    "labels", "scale", "target_scale", "layers", "activation", "output_activation", "normalization", "dropout", "init",
    "frozen", "loss", "class_weights", "optimizer", "lr", "weight_decay", "batch_size", "shuffle", "epochs",
)  # fmt: skip
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
        if new.task is not None and new.task.kind == "classes" and new.data.parts and names["y"].shape == y.shape:
            new.task = replace(new.task, values=(float(y.flatten()[0] - names["y"].flatten()[0]),))  # counted from 0
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
