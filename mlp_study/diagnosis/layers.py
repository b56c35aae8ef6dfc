"""What a user's torch module is made of: its layers, in the order in which it calls them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mlp_study.config.schema import Choice
from mlp_study.errors import ConfigError
from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.model.population import NORM_EPS

# A torch module's class -> its entry in the activations' table, and where the entry's options stand in the module.
MODULES: Mapping[type[nn.Module], tuple[str, dict[str, str]]] = {
    nn.ReLU: ("relu", {}),
    nn.ReLU6: ("relu6", {}),
    nn.LeakyReLU: ("leaky_relu", {"slope": "negative_slope"}),
    nn.ELU: ("elu", {"alpha": "alpha"}),
    nn.CELU: ("celu", {"alpha": "alpha"}),
    nn.SELU: ("selu", {}),
    nn.GELU: ("gelu", {}),
    nn.SiLU: ("silu", {}),
    nn.Mish: ("mish", {}),
    nn.Hardswish: ("hardswish", {}),
    nn.Softplus: ("softplus", {}),
    nn.Softsign: ("softsign", {}),
    nn.Tanh: ("tanh", {}),
    nn.Hardtanh: ("hardtanh", {}),
    nn.Sigmoid: ("sigmoid", {}),
    nn.Hardsigmoid: ("hardsigmoid", {}),
}
NORMS: Mapping[type[nn.Module], str] = {nn.BatchNorm1d: "batch", nn.LayerNorm: "layer"}
PASSED = (nn.Flatten, nn.Identity, nn.Dropout)  # change nothing here: images are flat, and nothing is dropped
PROBABILITIES = (nn.Softmax, nn.LogSoftmax)  # at the end: the losses here take logits
SAME = 1e-3  # relative difference up to which two forward passes count as the same
ROUNDINGS = 4  # of a low precision such as bfloat16 make a larger difference, which counts as the same, too


@dataclass
class Layers:
    """A user's layers, one entry for each Linear layer or each hidden one.

    Attributes:
        linears: all Linear layers, the output's last.
        norms: BatchNorm1d or LayerNorm of each hidden layer, between its Linear layer and its activation; or None.
        activations: of each hidden layer.
        ending: Softmax or LogSoftmax, if the model ends with one; the losses here take the logits before it.
        otherwise: what is taken otherwise than the model has it, one sentence each.
    """

    linears: list[nn.Linear] = field(default_factory=list)
    norms: list[nn.Module | None] = field(default_factory=list)
    activations: list[Choice] = field(default_factory=list)
    ending: nn.Module | None = None
    otherwise: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """Each hidden layer's ``model.norm``."""
        return ["none" if norm is None else NORMS[type(norm)] for norm in self.norms]

    @property
    def sizes(self) -> list[int]:
        """The widths of all layers, the input's first."""
        return [self.linears[0].in_features, *(linear.out_features for linear in self.linears)]

    def add(self, name: str, module: nn.Module) -> None:
        """Take in the next module that the model calls.

        Raises:
            ConfigError: it is not supported, or not in this place.
        """
        _check_parameters(name, module)
        if isinstance(module, nn.Linear):
            if any(module.weight is linear.weight for linear in self.linears):
                raise ConfigError(
                    f"layer {name} ({_said(module)}) has another's weights; a diagnosis takes its own in each"
                )
            if self.linears:
                self._end_layer(Choice("identity", {}))
            self.linears.append(module)
            return
        is_norm = type(module) in NORMS
        choice = None if is_norm else _choice(name, module)
        if len(self.activations) >= len(self.linears) or (is_norm and len(self.norms) >= len(self.linears)):
            place = "between a Linear layer and its activation" if is_norm else "after a Linear layer, one to each"
            raise ConfigError(f"layer {name} ({_said(module)}) is not supported in its place; it takes one {place}")
        if choice is None:
            self.norms.append(_checked_norm(name, module))
        else:
            self._end_layer(choice)

    def _end_layer(self, choice: Choice) -> None:
        """The layer has what it has: no normalization and this activation, unless others were found."""
        if len(self.norms) < len(self.linears):
            self.norms.append(None)
        if len(self.activations) < len(self.linears):
            self.activations.append(choice)


def layers_of(model: nn.Module, x: Tensor) -> Layers:
    """The model's layers, in the order in which it calls them.

    Args:
        model: the user's module.
        x: a few inputs, to see what it calls.

    Raises:
        ConfigError: a layer that is not supported (its name is in the message), or a forward pass that does more
            than calling the layers one after the other.
    """
    called, output = _called(model, x)
    found = Layers()
    for name, module in called:
        if not isinstance(module, PASSED + PROBABILITIES):
            found.add(name, module)
    if len(found.linears) < 2:
        raise ConfigError(
            f"the model calls {len(found.linears)} Linear layers; "
            "a diagnosis takes at least one hidden layer and an output"
        )
    if len(found.norms) == len(found.linears):
        last = found.norms[-1] if len(found.activations) < len(found.linears) else found.activations[-1].name
        raise ConfigError(f"the model ends with {last}; it takes logits from its last Linear layer, as the loss does")
    last_called = called[-1][1]
    if any(isinstance(module, nn.Dropout) and module.p > 0 for _, module in called):
        found.otherwise.append("Dropout is taken as absent")
    if any(isinstance(module, nn.PReLU) for _, module in called):
        found.otherwise.append("PReLU's slope is taken as fixed")
    found.ending = last_called if isinstance(last_called, PROBABILITIES) else None
    _compare(found, x, output)
    return found


def _called(model: nn.Module, x: Tensor) -> tuple[list[tuple[str, nn.Module]], Tensor]:
    """The leaves of the model in the order in which it calls them, and what it returns for x."""
    called: list[tuple[str, nn.Module]] = []
    names = {module: name or type(module).__name__ for name, module in model.named_modules()}
    hooks = [
        module.register_forward_hook(lambda module, *_: called.append((names[module], module)))
        for module in names
        if not list(module.children())
    ]
    first = next(model.parameters(), torch.zeros(1))
    was_training = model.training
    try:
        with torch.no_grad():
            output = model.eval()(x.to(first.device, first.dtype))
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise ConfigError(f"the model fails on x of shape {list(x.shape)}: {said}") from error
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return called, output


def _said(module: nn.Module) -> str:
    """A module as it prints itself where its options matter, else its class."""
    return repr(module) if type(module) in NORMS or type(module) in MODULES else type(module).__name__


def _checked_norm(name: str, module: Any) -> nn.Module:
    """The normalization, if it is the one that PopulationMLP computes."""
    affine = module.affine if isinstance(module, nn.BatchNorm1d) else module.elementwise_affine
    shape = (module.num_features,) if isinstance(module, nn.BatchNorm1d) else tuple(module.normalized_shape)
    if not affine or module.bias is None or module.eps != NORM_EPS or len(shape) > 1:
        raise ConfigError(
            f"layer {name} ({module!r}) is not supported; a diagnosis takes eps={NORM_EPS:g}, one axis, scale and shift"
        )
    found: nn.Module = module
    return found


def _check_parameters(name: str, module: nn.Module) -> None:
    """That they are numbers, and trained: the look-ahead trains them all."""
    for which, p in module.named_parameters(recurse=False):
        where = f"layer {name} ({_said(module)}): its {which}"
        if not p.requires_grad:
            raise ConfigError(f"{where} has requires_grad=False; a diagnosis takes layers that train")
        if not p.isfinite().all():
            raise ConfigError(f"{where} has NaN or infinity; a diagnosis takes finite numbers")


def _choice(name: str, module: nn.Module) -> Choice:
    """The activation that a module computes."""
    if isinstance(module, nn.PReLU) and module.weight.numel() == 1:
        return Choice("leaky_relu", {"slope": module.weight.item()})
    if type(module) not in MODULES:
        kinds: set[type[nn.Module]] = {nn.Linear, *NORMS, *PASSED, *MODULES}
        known = ", ".join(sorted({"PReLU with one slope", *(kind.__name__ for kind in kinds)}))
        raise ConfigError(f"layer {name} ({_said(module)}) is not supported; a diagnosis takes {known}")
    entry, places = MODULES[type(module)]
    options = {option: option_of.default for option, option_of in ACTIVATIONS[entry].options.items()}
    if isinstance(module, nn.GELU):
        options["form"] = "tanh" if module.approximate == "tanh" else "exact"
    options |= {option: float(getattr(module, place)) for option, place in places.items()}
    z = torch.linspace(-8, 8, 65)
    if not torch.allclose(ACTIVATIONS[entry].function(z, **options), module(z.clone()), rtol=SAME, atol=SAME):
        raise ConfigError(f"layer {name} ({_said(module)}) is not supported; a diagnosis takes it as torch has it")
    return Choice(entry, options)


def _compare(found: Layers, x: Tensor, output: Any) -> None:
    """That the layers one after the other give what the model gives."""
    h = x.flatten(1).to("cpu", torch.float32)
    for layer, linear in enumerate(found.linears):
        h = _plainly(linear, h)
        if layer < len(found.activations):
            norm, choice = found.norms[layer], found.activations[layer]
            h = ACTIVATIONS[choice.name].function(h if norm is None else _plainly(norm, h), **choice.options)
    h = h if found.ending is None else found.ending(h)
    if not _alike(h, output):
        raise ConfigError(
            "the model does more than calling its Linear and activation layers one after the other; "
            "write functions such as F.relu as layers (nn.ReLU()), without branches"
        )


def _alike(h: Tensor, output: Any) -> bool:
    """Whether the model's output is h, to the rounding of the model's own precision."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or h.shape != output.shape:
        return False
    same = max(SAME, ROUNDINGS * torch.finfo(output.dtype).eps)
    size = float(h.abs().nan_to_num().max())  # a network that overflows does so alike
    return torch.allclose(h, output.cpu().float(), rtol=same, atol=same * size, equal_nan=True)


@torch.no_grad()
def _plainly(module: nn.Module, h: Tensor) -> Tensor:
    """A copy's output on the CPU, as in evaluation."""
    found: Tensor = copy.deepcopy(module).cpu().float().eval()(h)
    return found
