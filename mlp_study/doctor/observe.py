"""What happens inside a network: its operations in their order, module or function, and the losses that it is given."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LOSSES = {  # PyTorch's functions -> what they take: logits or probabilities, classes or values
    "cross_entropy": "ce",
    "multi_margin_loss": "ce",
    "nll_loss": "nll",
    "kl_div": "nll",
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce_logits",
    "multilabel_soft_margin_loss": "bce_logits",
    "soft_margin_loss": "hinge",
    "hinge_embedding_loss": "hinge",
    "mse_loss": "mse",
    "l1_loss": "l1",
    "smooth_l1_loss": "l1",
    "huber_loss": "l1",
}
BOUNDS = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softmax": (0.0, 1.0),
    "hardtanh": (-1.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
}
CUT = ("relu", "relu6", "threshold")  # units of these can be off for every example
FUNCTIONS = (
    *BOUNDS, *CUT, "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "prelu",
    "rrelu", "logsigmoid", "log_softmax", "exp", "sin", "hardswish",
)  # fmt: skip
LAYERS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "bilinear", "addmm", "matmul")
NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
FLAT = 0.02  # of the range between an activation's bounds: closer to one of them, a unit is saturated


@dataclass(frozen=True)
class Operation:
    """One call of a layer, a normalization or an activation: its kind, the module that made it, what came out."""

    kind: str
    module: str
    output: Tensor


@dataclass
class Seen:
    """What a pass through a network did, and the losses that were computed: kind, output and target of each."""

    operations: list[Operation] = field(default_factory=list)
    losses: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)


class _Watch(TorchFunctionMode):
    def __init__(self, seen: Seen, stack: list[str]) -> None:
        super().__init__()
        self.seen, self.stack = seen, stack

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        if name in LOSSES:  # also one that raises
            output, target = (
                kwargs.get(key, args[i] if len(args) > i else None) for i, key in enumerate(("input", "target"))
            )
            if isinstance(output, Tensor) and isinstance(target, Tensor):
                self.seen.losses.append((LOSSES[name], output.detach(), target.detach()))
        found = func(*args, **kwargs)
        if isinstance(found, Tensor) and (name in FUNCTIONS or name in LAYERS or name in NORMS):
            kept = found.detach().clone() if name in FUNCTIONS else found
            self.seen.operations.append(Operation(name, self.stack[-1] if self.stack else "", kept))
        return found


@contextlib.contextmanager
def watching(model: nn.Module, itself: bool = True) -> Iterator[Seen]:
    """Record the operations of a model's passes, by whichever way they are called, and the losses.

    Args:
        model: whose modules are named.
        itself: whether its own pass is still to begin; not, where one of its hooks asks.
    """
    seen, stack, handles = Seen(), [], []
    for name, module in model.named_modules():
        if module is model and not itself:
            continue
        handles.append(module.register_forward_pre_hook(lambda _m, _a, name=name: stack.append(name)))
        handles.append(module.register_forward_hook(lambda _m, _a, _o: void(stack.pop()), always_call=True))
    try:
        with _Watch(seen, stack):
            yield seen
    finally:
        for handle in handles:
            handle.remove()


def void(_: Any) -> None:
    """Nothing: what a hook returns that leaves an output as it is."""


@dataclass(frozen=True)
class Units:
    """The health of one hidden activation's units, over examples.

    Attributes:
        module: that computed it; its parent, where it is a function call.
        kind: the activation.
        dead: share of units that are off for every example.
        saturated: share of (unit, example) pairs next to one of the activation's bounds.
        constant: share of units that say the same for every example.
        size: its mean square.
    """

    module: str
    kind: str
    dead: float
    saturated: float
    constant: float
    size: float


def units_of(operation: Operation) -> Units:
    """The health of what an activation gave, [B, O, ...]: of a convolution, a channel is a unit."""
    output = operation.output.float()
    rows = output.movedim(1, -1).flatten(0, -2) if output.ndim > 2 else output.reshape(len(output), -1)
    dead = (rows <= 0).all(0).float().mean().item() if operation.kind in CUT else 0.0
    saturated = 0.0
    if operation.kind in BOUNDS:
        low, high = BOUNDS[operation.kind]
        near = FLAT * (high - low)
        saturated = ((rows < low + near) | (rows > high - near)).float().mean().item()
    spread = rows.std(0, correction=0)
    level = rows.abs().mean().clamp_min(1e-30)
    return Units(operation.module, operation.kind, dead, saturated, (spread < 1e-4 * level).float().mean().item(),
                 (rows**2).mean().item())  # fmt: skip


def sharpness(loss: Tensor, parameters: Sequence[Tensor], iterations: int = 8) -> float | None:
    """The largest eigenvalue of the loss's Hessian, by power iteration; None where there are no second derivatives."""
    try:
        grads = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        pairs = [(g, p) for g, p in zip(grads, parameters, strict=True) if g is not None and g.requires_grad]
        rng = torch.Generator().manual_seed(0)
        vector = [torch.randn(p.shape, generator=rng, device="cpu").to(p) for _, p in pairs]
        value = 0.0
        for _ in range(iterations):
            norm = math.sqrt(sum(float((v * v).sum()) for v in vector))
            if not 0 < norm < math.inf:
                return None
            vector = [v / norm for v in vector]
            graph = ([g for g, _ in pairs], [p for _, p in pairs], vector)
            found = torch.autograd.grad(*graph, retain_graph=True, allow_unused=True)
            product = [torch.zeros_like(v) if h is None else h for h, v in zip(found, vector, strict=True)]
            value = sum(float((h * v).sum()) for h, v in zip(product, vector, strict=True))
            vector = [h.detach() for h in product]
        return value if math.isfinite(value) else None
    except (RuntimeError, NotImplementedError):
        return None
