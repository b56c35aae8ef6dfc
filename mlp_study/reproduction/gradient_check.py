"""A numerical gradient check: do the gradients that train a network belong to its loss?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

DIRECTIONS = 5
STEPS = (1e-6, 1e-7, 1e-8)  # a kink between w - h v and w + h v spoils the longer ones, rounding the shorter ones
TOLERANCE = 1e-6  # right gradients err by 1e-8 in float64; a slope of 1e-4 that the gradient lacks by more than 1e-5


def gradient_error(loss: Callable[[], Tensor], parameters: Sequence[Tensor], seed: int = 0) -> float:
    """The relative error of autograd's gradient against central differences of the loss.

    Along a random direction v the loss's slope is both gradient . v and (loss(w + h v) - loss(w - h v)) / 2h. The
    error is the median over directions of the smallest difference over ``STEPS``, relative to the slopes' root mean
    square: about 1e-9 where the two agree, above ``TOLERANCE`` where they don't. Parameters are left as they were.

    Args:
        loss: the scalar loss of the parameters as they stand.
        parameters: float64 leaf tensors of any shapes that require gradients.
        seed: of the directions.

    Raises:
        ValueError: a parameter is not float64, in which differences would be rounding.
    """
    if any(p.dtype != torch.float64 for p in parameters):
        raise ValueError("a numerical gradient check takes float64 parameters")
    gradients = torch.autograd.grad(loss(), list(parameters), allow_unused=True)
    generator = torch.Generator().manual_seed(seed)
    slopes, errors = [], []
    for _ in range(DIRECTIONS):
        v = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device) for p in parameters]
        slope = sum(float((g * d).sum()) for g, d in zip(gradients, v, strict=True) if g is not None)
        numeric = [(_moved(loss, parameters, v, h) - _moved(loss, parameters, v, -h)) / (2 * h) for h in STEPS]
        errors.append(min(abs(slope - value) for value in numeric))
        slopes += [slope, numeric[-1]]
    size = math.sqrt(math.fsum(slope**2 for slope in slopes) / len(slopes))
    return statistics.median(errors) / size if size > 0 else 0.0


@torch.no_grad()
def _moved(loss: Callable[[], Tensor], parameters: Sequence[Tensor], v: Sequence[Tensor], by: float) -> float:
    """The loss a little further along v."""
    before = [p.clone() for p in parameters]
    for p, direction in zip(parameters, v, strict=True):
        p.add_(direction, alpha=by)
    value = float(loss())
    for p, old in zip(parameters, before, strict=True):
        p.copy_(old)
    return value


def gradient_check(
    model: nn.Module,
    x_BI: Tensor,
    labels_B: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
) -> float:
    """``gradient_error`` of a model's mean loss on some images; a copy in float64 is checked, the model stays as it is.

    Args:
        model: any module from inputs [B, I] to logits [B, C].
        x_BI: scaled images; a few dozen are enough.
        labels_B: their classes, int64.
        loss: (logits, labels) -> scalar.
    """
    import copy

    twin, x_BI = copy.deepcopy(model).double().eval(), x_BI.double()
    parameters = [p for p in twin.parameters() if p.requires_grad]
    return gradient_error(lambda: loss(twin(x_BI), labels_B), parameters)
