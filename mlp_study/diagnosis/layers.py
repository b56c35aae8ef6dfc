"""What a user's torch module is made of: its Linear layers and activations, in the order in which it calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mlp_study.config import Choice
from mlp_study.errors import ConfigError
from mlp_study.factors.activations import ACTIVATIONS

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
PASSED = (nn.Flatten, nn.Identity, nn.Dropout)  # change nothing here: images are flat, and nothing is dropped
PROBABILITIES = (nn.Softmax, nn.LogSoftmax)  # at the end: the losses here take logits
SAME = 1e-3  # relative difference up to which two forward passes count as the same


def layers_of(model: nn.Module, x: Tensor) -> tuple[list[nn.Linear], list[Choice]]:
    """The model's Linear layers in the order in which it calls them, and the activation after each but the last.

    Args:
        model: the user's module.
        x: a few inputs, to see what it calls.

    Raises:
        ConfigError: a layer that is not supported (its name is in the message), or a forward pass that does more
            than calling the layers one after the other.
    """
    called, output = _called(model, x)
    linears: list[nn.Linear] = []
    choices: list[Choice] = []
    for name, module in called:
        if isinstance(module, nn.Linear):
            if len(choices) < len(linears):
                choices.append(Choice("identity", {}))
            linears.append(module)
        elif not isinstance(module, PASSED + PROBABILITIES):
            choice = _choice(name, module)
            if len(choices) != len(linears) - 1:
                raise ConfigError(
                    f"layer {name} ({type(module).__name__}) must follow a Linear layer; each takes one activation"
                )
            choices.append(choice)
    if len(linears) < 2:
        raise ConfigError(
            f"the model calls {len(linears)} Linear layers; a diagnosis takes at least one hidden layer and an output"
        )
    if len(choices) == len(linears):
        raise ConfigError(
            f"the model ends with {choices[-1].name}; it takes logits from its last Linear layer, as the loss does"
        )
    _compare(linears, choices, x, output, [module for _, module in called])
    return linears, choices


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
        raise ConfigError(f"the model fails on x of shape {list(x.shape)}: {error}") from error
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return called, output


def _choice(name: str, module: nn.Module) -> Choice:
    """The activation that a module computes."""
    if isinstance(module, nn.PReLU) and module.weight.numel() == 1:
        return Choice("leaky_relu", {"slope": float(module.weight)})
    if type(module) not in MODULES:
        known = ", ".join(sorted({"Linear", "PReLU", *(kind.__name__ for kind in MODULES)}))
        raise ConfigError(f"layer {name} ({type(module).__name__}) is not supported; a diagnosis takes {known}")
    entry, places = MODULES[type(module)]
    options = {option: option_of.default for option, option_of in ACTIVATIONS[entry].options.items()}
    if isinstance(module, nn.GELU):
        options["form"] = "tanh" if module.approximate == "tanh" else "exact"
    return Choice(entry, options | {option: float(getattr(module, place)) for option, place in places.items()})


def _compare(
    linears: Sequence[nn.Linear], choices: Sequence[Choice], x: Tensor, output: Tensor, called: Sequence[nn.Module]
) -> None:
    """That the layers one after the other give what the model gives."""
    h = x.flatten(1).to("cpu", torch.float32)
    for layer, linear in enumerate(linears):
        bias = None if linear.bias is None else linear.bias.detach().cpu().float()
        h = nn.functional.linear(h, linear.weight.detach().cpu().float(), bias)
        if layer < len(choices):
            h = ACTIVATIONS[choices[layer].name].function(h, **choices[layer].options)
    last = called[-1]
    h = last(h) if isinstance(last, PROBABILITIES) else h
    if h.shape != output.shape or not torch.allclose(
        h, output.cpu().float(), rtol=SAME, atol=SAME * float(h.abs().max())
    ):
        raise ConfigError(
            "the model does more than calling its Linear and activation layers one after the other; "
            "write functions such as F.relu as layers (nn.ReLU()), without branches"
        )
