"""What people pass, taken as a training: models, losses and optimizers, objects or names, Lightning modules, data."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mlp_study.doctor.examples import TAKES, taken
from mlp_study.doctor.observe import watching
from mlp_study.doctor.task import task_of
from mlp_study.doctor.training import Training, _takes_indices, evaluating, outputs_of
from mlp_study.doctor.untouched import copied, drawing_from, random_states
from mlp_study.errors import ConfigError, DataError

OPTIMIZERS = {  # names as people write them, PyTorch's or Keras's, in small letters -> PyTorch's
    "sgd": "SGD", "momentum": "SGD", "nesterov": "SGD", "adam": "Adam", "adamw": "AdamW", "nadam": "NAdam",
    "radam": "RAdam", "adamax": "Adamax", "adagrad": "Adagrad", "adadelta": "Adadelta", "rmsprop": "RMSprop",
}  # fmt: skip
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "cross_entropy": nn.CrossEntropyLoss, "crossentropy": nn.CrossEntropyLoss, "crossentropyloss": nn.CrossEntropyLoss,
    "categorical_crossentropy": nn.CrossEntropyLoss, "sparse_categorical_crossentropy": nn.CrossEntropyLoss,
    "nll": nn.NLLLoss, "nll_loss": nn.NLLLoss, "nllloss": nn.NLLLoss,
    "binary_crossentropy": nn.BCELoss, "bce": nn.BCELoss, "bceloss": nn.BCELoss, "binary_cross_entropy": nn.BCELoss,
    "bcewithlogits": nn.BCEWithLogitsLoss, "bcewithlogitsloss": nn.BCEWithLogitsLoss,
    "binary_cross_entropy_with_logits": nn.BCEWithLogitsLoss,
    "mse": nn.MSELoss, "mseloss": nn.MSELoss, "mse_loss": nn.MSELoss, "mean_squared_error": nn.MSELoss,
    "mae": nn.L1Loss, "l1": nn.L1Loss, "l1loss": nn.L1Loss, "mean_absolute_error": nn.L1Loss,
    "huber": nn.HuberLoss, "smooth_l1": nn.SmoothL1Loss,
}  # fmt: skip


def training_of(
    model: Any, loss: Any, optimizer: Any, data: Any, *, epochs: int, batch_size: Any, shuffle: bool,
    lr: float | None, step: Any, seed: int,
) -> tuple[Training, list[str]]:  # fmt: skip
    """The user's training on copies of their objects, and what was taken otherwise than it was given.

    Raises:
        ConfigError: an argument is missing or none of what is taken.
        DataError: data cannot be read, or the model cannot take them.
    """
    notes: list[str] = []
    model = _module(model)
    if data is None:
        raise ConfigError(f"data is missing; diagnose takes {TAKES}")
    _check_number("epochs", epochs, "a whole number of at least 1")
    full = isinstance(batch_size, str) and batch_size == "full"
    if not full and batch_size is not None:
        _check_number("batch_size", batch_size, 'a whole number of at least 1, or "full"')
    lightning = step is None and hasattr(model, "training_step") and hasattr(model, "configure_optimizers")
    schedulers: tuple[Any, ...] = ()
    if lightning:
        model, optimizer, schedulers, step = _lightning(model, optimizer, lr)
        loss = None
    else:
        loss = None if step is not None else _loss(loss)
        optimizer = _optimizer(optimizer, lr, model, notes)
        model, loss, optimizer, step = copied(model, loss, optimizer, step)
    if isinstance(loss, nn.Module):
        loss.train()
    examples, size, shuffled, plain = taken(data, None if full or batch_size is None else int(batch_size), shuffle)
    if full:
        size = examples.n
    training = Training(
        model, loss, optimizer, examples, batch_size=size, epochs=int(epochs), shuffle=shuffled, step=step,
        schedulers=schedulers, seed=seed,
    )  # fmt: skip
    _fit_inputs(training, notes)
    if step is None and not plain:
        _fit_targets(training, notes)
    _check_loss(training)
    return training, notes


def _check_number(name: str, value: Any, takes: str) -> None:
    try:
        whole = int(value) == value and value >= 1
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise ConfigError(f"{name}={value!r} is not valid; it takes {takes}")


def _module(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model is a {type(model).__name__}; diagnose takes a torch.nn.Module or a LightningModule")
    inner = getattr(model, "_orig_mod", model)  # of torch.compile
    if isinstance(inner, nn.Module) and not any(True for _ in inner.parameters()):
        raise ConfigError("model has no parameters; there is nothing to train")
    return inner


def _loss(loss: Any) -> Any:
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        return loss()
    if isinstance(loss, str):
        known = LOSSES.get(loss.lower())
        if known is None:
            takes = f"a callable (output, target) -> scalar, or one of {', '.join(LOSSES)}"
            raise ConfigError(f"loss={loss!r} is unknown; diagnose takes {takes}")
        return known()
    if not callable(loss):
        raise ConfigError(
            f"loss is a {type(loss).__name__}; diagnose takes a callable (output, target) -> scalar, or step="
        )
    return loss


def _optimizer(optimizer: Any, lr: float | None, model: nn.Module, notes: list[str]) -> torch.optim.Optimizer:
    if isinstance(optimizer, (list, tuple)):
        raise ConfigError(f"optimizer is a list of {len(optimizer)}; diagnose takes trainings with one, so no GANs")
    if isinstance(optimizer, torch.optim.Optimizer):
        return optimizer
    if isinstance(optimizer, str):
        name = OPTIMIZERS.get(optimizer.lower())
        if name is None:
            raise ConfigError(f"optimizer={optimizer!r} is unknown; diagnose takes an object of torch.optim, or one of "
                              f"{', '.join(OPTIMIZERS)} with lr=")  # fmt: skip
        optimizer_class, more = getattr(torch.optim, name), {}
        if optimizer.lower() in ("momentum", "nesterov"):
            more = {"momentum": 0.9, "nesterov": optimizer.lower() == "nesterov"}
    elif isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        optimizer_class, more = optimizer, {}
    else:
        takes = "an object of torch.optim, or a name such as 'adam' with lr="
        raise ConfigError(f"optimizer is a {type(optimizer).__name__}; diagnose takes {takes}")
    if lr is None:
        raise ConfigError("lr is missing; an optimizer's name takes the learning rate that you train with, lr=0.001")
    return optimizer_class([p for p in model.parameters() if p.requires_grad], lr=float(lr), **more)  # type: ignore[no-any-return]


def _lightning(model: Any, optimizer: Any, lr: float | None) -> tuple[Any, ...]:
    """A LightningModule's copy, its own optimizer, its schedulers and its own step, without a Trainer."""
    if not getattr(model, "automatic_optimization", True):
        raise ConfigError(
            "model optimizes by hand (automatic_optimization=False); diagnose takes trainings with one optimizer"
        )
    [copy] = copied(model)
    for name in ("log", "log_dict", "print"):
        object.__setattr__(copy, name, lambda *_args, **_options: None)
    configured = copy.configure_optimizers()
    optimizers, schedulers = _configured(configured)
    if len(optimizers) != 1:
        raise ConfigError(f"configure_optimizers gives {len(optimizers)} optimizers; diagnose takes trainings with one")
    [own] = optimizers
    if lr is not None:
        for group in own.param_groups:
            group["lr"] = float(lr)
    return copy, own, tuple(schedulers), LightningStep()


class LightningStep:
    """``step(model, batch)`` of a LightningModule: its ``training_step``."""

    def __init__(self) -> None:
        self.at = 0

    def __call__(self, model: Any, batch: Any) -> Any:
        """The loss of its own training step."""
        self.at += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return model.training_step(batch, self.at - 1)
            except TypeError as error:
                if "positional argument" not in str(error):
                    raise
                return model.training_step(batch)


def _configured(found: Any) -> tuple[list[Any], list[tuple[Any, bool]]]:
    if isinstance(found, dict):
        chosen = found.get("lr_scheduler")
        return [found["optimizer"]], [] if chosen is None else [_scheduler(chosen)]
    if isinstance(found, (list, tuple)) and len(found) == 2 and isinstance(found[0], (list, tuple)):
        return list(found[0]), [_scheduler(s) for s in found[1]]
    if isinstance(found, (list, tuple)):
        return [f["optimizer"] if isinstance(f, dict) else f for f in found], []
    return [] if found is None else [found], []


def _scheduler(chosen: Any) -> tuple[Any, bool]:
    if isinstance(chosen, dict):
        return chosen["scheduler"], chosen.get("interval", "epoch") == "epoch"
    return chosen, True


def _fit_inputs(training: Training, notes: list[str]) -> None:
    """Inputs in the type of the model's weights; a data set that the model cannot take is refused."""
    examples, model = training.data, training.model
    if not examples.parts or training.step is not None:
        return
    x = examples.parts[0]
    floats = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    if x.dtype != floats and not x.is_complex() and not (_takes_indices(model) and not x.is_floating_point()):
        given, weights = (str(dtype).removeprefix("torch.") for dtype in (x.dtype, floats))
        notes.append(f"x is {given}; it is taken as {weights}, the type of the model's weights")
        training.data = replace(examples, parts=(x.to(floats), *examples.parts[1:]))
    if len(examples.parts) < 2:
        raise DataError("data has inputs without targets; diagnose takes (x, y), or step= for a loss of another form")
    try:
        inputs = [part[:2].to(training.device) for part in training.data.parts[:-1]]
        outputs_of(model, inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = list(training.data.parts[0].shape)
        raise DataError(f"the model does not take x of shape {shape}: {error}") from error


def _fit_targets(training: Training, notes: list[str]) -> None:
    """Targets that came as an array or a table, in the first type and shape that the loss takes."""
    *inputs, y = training.data.parts
    output = outputs_of(training.model, [part[:64].to(training.device) for part in inputs])
    y = y.to(torch.float32) if y.is_floating_point() else y.to(torch.int64)
    same = y.reshape(-1, 1) if output.ndim == 2 and output.shape[1] == 1 and y.ndim == 1 else y
    column = y.flatten() if y.ndim == 2 and y.shape[1] == 1 else y
    forms = (column, same, same.float(), y, y.float(), column.long())
    for form in forms:
        narrow = form.numel() == len(form) and output.numel() == len(output) and form.ndim != output.ndim
        if narrow:  # PyTorch would compare each output with each target
            continue
        with contextlib.suppress(RuntimeError, ValueError, TypeError, IndexError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert training.loss is not None
            with torch.no_grad():
                training.loss(output, form[:64].to(training.device))
            if not (form is y or (form.shape == y.shape and form.dtype == y.dtype)):
                notes.append(
                    f"y is taken as {str(form.dtype).removeprefix('torch.')} {list(form.shape)}, as the loss takes it"
                )
            training.data = replace(training.data, parts=(*inputs, form))
            return
    training.data = replace(training.data, parts=(*inputs, y))


def _some(training: Training) -> Any:
    return next(iter(training.data.batches(min(training.data.n, 64), False, torch.Generator())))


def _check_loss(training: Training) -> None:
    """Refuse a loss that no training could use; one that raises is a cause, not a mistake in the call."""
    found: Any = None
    copy = training.copy()
    with drawing_from(random_states()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = copy.batch_loss(_some(copy))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError):
            return
    name = "loss" if training.step is None else "step"
    if not isinstance(found, Tensor) or found.numel() != 1:
        given = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ConfigError(f"{name} gives {given}; it takes a scalar tensor, such as that of reduction='mean'")


def set_task(training: Training) -> str | None:
    """Find out what the training's targets are, and which kind of loss it computes."""
    task = None
    with warnings.catch_warnings(), evaluating(training.model), watching(training.model) as seen:
        warnings.simplefilter("ignore")
        with contextlib.suppress(RuntimeError, ValueError, TypeError, IndexError):
            training.batch_loss(_some(training))
    kind = seen.losses[-1][0] if seen.losses else None
    with contextlib.suppress(RuntimeError, ValueError, TypeError, IndexError):
        pair = training.judged()
        if pair is not None:
            output, target = pair
            task = task_of(output, target, kind, training.data.names)
    training.task = task
    return kind
