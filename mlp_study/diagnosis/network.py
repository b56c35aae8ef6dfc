"""A user's own network: an nn.Module of Linear, normalization and activation layers, diagnosed like a config's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mlp_study.config.schema import RunConfig
from mlp_study.diagnosis.cures import candidates
from mlp_study.diagnosis.diagnosis import SEEN, Diagnosis, by_shape, examined
from mlp_study.diagnosis.layers import Layers, layers_of
from mlp_study.errors import ConfigError, DataError
from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.factors.normalizers import AffineTransform
from mlp_study.factors.table import Option
from mlp_study.model.member_groups import MemberGroup
from mlp_study.model.population import PopulationMLP
from mlp_study.probes.verdict import Glimpse
from mlp_study.runtime.randomness import generator
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.lookahead import INITIAL, watch
from mlp_study.training.module import PopulationModule


@dataclass(frozen=True)
class Arrays:
    """A user's tensors in the place of a data set's images."""

    train_images_NI: Tensor
    train_labels_N: Tensor
    classes: tuple[str, ...]
    name: str = "x"

    @property
    def test_images_NI(self) -> Tensor:
        """One is enough: a diagnosis looks at training data only."""
        return self.train_images_NI[:1]

    @property
    def test_labels_N(self) -> Tensor:
        """See ``test_images_NI``."""
        return self.train_labels_N[:1]


class UserMLP(PopulationMLP):
    """Copies of one user's network: its own weights; a normalization and an activation of its own in each layer.

    Running statistics are not copied: a diagnosis normalizes by its minibatches, as training does.
    """

    def __init__(self, configs: Sequence[RunConfig], per_stream: Sequence[int], layers: Layers) -> None:
        super().__init__(configs, layers.sizes[0], layers.sizes[-1], per_stream, draw=False)
        self.layers = layers
        for layer, linear in enumerate(layers.linears):
            self.weights[layer].data[:] = linear.weight.detach()
            bias: Tensor | None = linear.bias
            if bias is not None:
                self.biases[layer].data[:] = bias.detach()[:, None]
            else:
                self.biases[layer].register_hook(torch.zeros_like)  # a bias that is not there stays at zero
        for layer, norm in enumerate(layers.norms):
            if norm is not None:
                self.scales[layer].data[:] = norm.get_parameter("weight").detach()[:, None]
                self.shifts[layer].data[:] = norm.get_parameter("bias").detach()[:, None]

    def unfilled(self, configs: Sequence[RunConfig], per_stream: Sequence[int]) -> PopulationMLP:
        """See PopulationMLP: of the same layers."""
        return UserMLP(configs, per_stream, self.layers)

    def groups_in(self, layer: int) -> list[MemberGroup]:
        """See PopulationMLP: here the same for all members, but another one in each layer."""
        choice = self.layers.activations[layer]
        return [MemberGroup(0, self.K, choice.name, ACTIVATIONS[choice.name], dict(choice.options))]

    def has_bias(self, layer: int) -> bool:
        """Whether the user's layer has biases; those that are not there stay at zero."""
        return self.layers.linears[layer].bias is not None

    def norm_in(self, layer: int) -> str:
        """The user's own; in a network without any, what a cure tries."""
        return self.layers.kinds[layer] if any(self.layers.norms) else self.norm


def diagnose_network(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    lr: float | None = None,
    *,
    optimizer: str = "sgd",
    loss: str = "cross_entropy",
    batch_size: int | str = 32,
    epochs: int = 10,
    steps: int | None = None,
    **options: Any,
) -> Diagnosis:
    """Why will, or won't, this network learn these data?

    Args:
        model: Linear layers, each followed by an activation, with BatchNorm1d or LayerNorm between the two if you like,
            called one after the other; it is left as it is. Dropout is taken as absent, a PReLU's slope as fixed.
        x: inputs [N, ...], as the model gets them; they are flattened to [N, I].
        y: classes [N], int64 from 0.
        lr: the learning rate that you train with.
        optimizer: your optimizer's name here, such as ``sgd``, ``momentum`` or ``adam``.
        loss: your loss's name here. It takes logits: a final Softmax or LogSoftmax of the model is left out, and the
            diagnosis has a note on it where the training that you have may differ by that.
        batch_size: of your minibatches, or ``full``.
        epochs: how long you would train.
        steps: of the look-ahead; as many as the training's length asks for, if None.
        options: further options of the optimizer, such as ``momentum=0.9``.

    Raises:
        ConfigError: a layer that is not supported, lr missing or out of range, an unknown name.
        DataError: x and y have wrong shapes or types, or x is not finite.
    """
    began = time.perf_counter()
    if lr is None:
        raise ConfigError(
            "lr is missing; diagnose takes the learning rate that you train with: diagnose(model, x, y, lr=0.01)"
        )
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model is a {type(model).__name__}; diagnose takes a torch nn.Module")
    lr, batch_size, epochs, steps, *own = map(_plain, (lr, batch_size, epochs, steps, *options.values()))
    options = dict(zip(options, own, strict=True))
    if steps is not None:
        Option(1, "[1, inf)").check("steps", steps)
    x, y = _tensor("x", x), _tensor("y", y)
    x_NI, y_N = _checked_data(x, y)
    layers = layers_of(model, x[:2])
    arrays = Arrays(x_NI, y_N, tuple(map(str, range(layers.sizes[-1]))))
    _check_fit(layers, arrays)
    config = _config(layers, {"name": optimizer, "lr": lr, **options}, loss, batch_size, epochs)
    fitted = _transforms(x_NI)

    def ahead(configs: Sequence[RunConfig], steps: int | None, **look: Any) -> list[Glimpse]:
        return by_shape(configs, lambda group: _watch(group, arrays, fitted, layers, steps, **look))

    [glimpse] = ahead([config], steps, initial=INITIAL, whole=True)
    described, changes = _described(x_NI, layers, config), [c for c in candidates(config, glimpse) if _applies(c[0])]
    spell, notes = partial(_spelt, x_NI=x_NI), _notes(layers, config)
    return examined(described, config, glimpse, ahead, began, changes=changes, spell=spell, notes=notes)


def _plain(value: Any) -> Any:
    """A number of NumPy's or PyTorch's as Python's, which the config takes."""
    return value.item() if hasattr(value, "item") else value


def _applies(change: Mapping[str, Any]) -> bool:
    """Whether a cure of a configuration is one of a user's network, too, and can be said in Python."""
    keys = {"data.scale", "optimizer.lr", "optimizer", "loss", "model.norm"}
    return set(change) <= keys and change.get("data.scale") in (None, *_SPELT)


def _described(x_NI: Tensor, layers: Layers, config: RunConfig) -> dict[str, Any]:
    """The network, its data and its training in words."""
    hidden = [
        choice.name if kind == "none" else f"{kind} norm and {choice.name}"
        for kind, choice in zip(layers.kinds, layers.activations, strict=True)
    ]
    return {
        "data": f"{len(x_NI)} examples of {x_NI.shape[1]} inputs from {x_NI.min():.4g} to {x_NI.max():.4g}",
        "network": f"{'-'.join(map(str, layers.sizes))}, {', '.join(hidden)}",
        "training": f"{config.optimizer.name} lr {config.optimizer.options['lr']:g}, batch {config.data.batch_size}, "
        f"{config.loss.name}, {config.trainer.max_epochs} epochs",
    }


def _notes(layers: Layers, config: RunConfig) -> tuple[str, ...]:
    """What the diagnosis takes otherwise than the model has it, and leaves out without the loss making up for it.

    A LogSoftmax changes nothing: NLLLoss takes it for cross-entropy's own, and its softmax is the logits'.
    """
    notes = list(layers.otherwise)
    if isinstance(layers.ending, nn.Softmax):
        twice = "cross-entropy takes logits; with it torch.nn.CrossEntropyLoss would apply softmax twice"
        own = f"{config.loss.name} takes logits here, and applies a softmax of its own"
        notes.append(f"the final Softmax is left out: {twice if config.loss.name == 'cross_entropy' else own}")
    return tuple(notes)


def _watch(
    configs: Sequence[RunConfig],
    arrays: Arrays,
    fitted: dict[tuple[int, str], AffineTransform],
    layers: Layers,
    steps: int | None,
    **look: Any,
) -> list[Glimpse]:
    stand_in: Any = arrays  # has what the feed reads of an ImageSet, with inputs that are no bytes
    data = PopulationData(configs, stand_in, dict(fitted))
    module = PopulationModule(data)
    module.mlp = UserMLP(configs, data.feed.per_stream, layers)
    return watch(module, steps, seen=SEEN, **{"initial": (), **look})


def _tensor(name: str, values: Any) -> Tensor:
    """A tensor of what is a tensor, an array or a list of numbers."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} is a {type(values).__name__}; it takes a tensor, or an array of numbers") from error


def _checked_data(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs flattened to float32 [N, I], and classes as int64 [N], shuffled: they may come sorted by class."""
    if x.ndim < 2 or len(x) == 0:
        raise DataError(f"x has shape {list(x.shape)}; it takes examples of at least one input each, [N, I]")
    if y.shape != (len(x),):
        raise DataError(f"y has shape {list(y.shape)}; for x of {list(x.shape)} it takes one class each, [{len(x)}]")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise DataError(f"y is {y.dtype}; it takes classes as whole numbers from 0")
    y = y.to("cpu", torch.int64)
    if int(y.min()) < 0:
        raise DataError(f"y has the class {int(y.min())}; it takes classes as whole numbers from 0")
    if x.is_complex():
        raise DataError(f"x is {x.dtype}; it takes real numbers")
    x_NI = x.detach().flatten(1).to("cpu", torch.float32)
    bad = int((~x_NI.isfinite()).any(1).sum())
    if bad:
        raise DataError(f"x has NaN or infinity in {bad} of its {len(x_NI)} examples; it takes finite numbers")
    order_N = torch.randperm(len(x), generator=generator(0, "diagnosed examples"))  # a look is at the first of them
    return x_NI[order_N], y[order_N]


def _check_fit(layers: Layers, arrays: Arrays) -> None:
    inputs, largest = arrays.train_images_NI.shape[1], int(arrays.train_labels_N.max())
    if inputs != layers.sizes[0]:
        raise DataError(f"x has {inputs} inputs an example; the model's first layer takes {layers.sizes[0]}")
    if len(arrays.classes) < 2:
        raise DataError("the model has one output; a classifier takes one for each class, at least two")
    if largest >= len(arrays.classes):
        raise DataError(
            f"y has the class {largest}; the model's {len(arrays.classes)} outputs take 0 to {len(arrays.classes) - 1}"
        )


def _config(layers: Layers, optimizer: dict[str, Any], loss: str, batch_size: int | str, epochs: int) -> RunConfig:
    """A config that trains such a network; data and initializer stand in for the user's own."""
    first = layers.activations[0]
    norm = next((kind for kind in ("batch", "layer") if kind in layers.kinds), "none")
    return RunConfig.from_dict(
        {
            "activation": {"name": first.name, **first.options},
            "init": "torch_default",
            "loss": loss,
            "optimizer": optimizer,
            "schedule": "constant",
            "data": {"name": "digits", "scale": "none", "batch_size": batch_size, "validation": "test"},
            "model": {"widths": layers.sizes[1:-1], "norm": norm},
            "trainer": {"max_epochs": epochs},
        }
    )


_SPELT = ("unit", "standard")


def _transforms(x_NI: Tensor) -> dict[tuple[int, str], AffineTransform]:
    """The inputs as they are, and the scales that cures try."""
    mean, deviation = float(x_NI.mean()), float(x_NI.std(correction=0))
    return {
        (0, "none"): AffineTransform(),
        (0, "unit"): AffineTransform(0.0, 1 / max(float(x_NI.abs().max()), 1e-30)),
        (0, "standard"): AffineTransform(mean, 1 / max(deviation, 1e-30)),
    }


def _spelt(change: Mapping[str, Any], x_NI: Tensor) -> tuple[str, ...]:
    """A cure as Python."""
    scales = {
        "unit": f"x = x / {float(x_NI.abs().max()):.4g}",
        "standard": f"x = (x - {float(x_NI.mean()):.4g}) / {float(x_NI.std(correction=0)):.4g}",
    }
    norms = {
        "batch": "nn.BatchNorm1d between Linear and activation",
        "layer": "nn.LayerNorm between Linear and activation",
    }
    words = []
    for key, value in change.items():
        name = key.rpartition(".")[2]
        plain = f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
        words.append({"data.scale": scales, "model.norm": norms}.get(key, {}).get(value, plain))
    return tuple(words)
