"""Initial weights and biases: a distribution and its variance per choice.

Weights are drawn on the CPU in float32 from the member's own generator, layer by layer and weight before bias: the same
seed gives the same weights whatever else is in the population and whatever device trains it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlp_study.factors.table import Option, Table, lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor
else:
    torch = lazy_module("torch")

Variance = Callable[[int, int], float]  # (fan_out, fan_in) -> variance of a weight at gain 1


@dataclass(frozen=True)
class Initializer:
    """One way to draw a layer's weights.

    Attributes:
        draw: ``draw(fan_out, fan_in, generator, gain=1.0, **options) -> weight_OI``, float32 on the CPU; ``options``
            are the entry's own, that is without gain, bias and bias_value.
        doc: the distribution.
        source: where it comes from.
        options: what it can be given; ``gain``, ``bias`` and ``bias_value`` (for :func:`draw_bias`) are shared by all.
    """

    draw: Callable[..., Tensor]
    doc: str
    source: str
    options: Mapping[str, Option]


def draw_bias(bias: str, bias_value: float, fan_out: int, fan_in: int, generator: Generator) -> Tensor:
    """Draw a layer's biases [O]: zeros, ``bias_value`` (constant), or torch's U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    if bias == "uniform":
        bound = 1 / math.sqrt(fan_in)
        return torch.empty(fan_out).uniform_(-bound, bound, generator=generator)
    return torch.full((fan_out,), bias_value if bias == "constant" else 0.0)


def _uniform(variance: Variance) -> Callable[..., Tensor]:
    """Make the draw from U(-b, b) with b = gain sqrt(3 variance)."""

    def draw(fan_out: int, fan_in: int, generator: Generator, gain: float = 1.0) -> Tensor:
        bound = gain * math.sqrt(3 * variance(fan_out, fan_in))
        return torch.empty(fan_out, fan_in).uniform_(-bound, bound, generator=generator)

    return draw


def _normal(variance: Variance) -> Callable[..., Tensor]:
    """Make the draw from N(0, gain^2 variance), not truncated (Keras truncates at two deviations)."""

    def draw(fan_out: int, fan_in: int, generator: Generator, gain: float = 1.0) -> Tensor:
        std = gain * math.sqrt(variance(fan_out, fan_in))
        return torch.empty(fan_out, fan_in).normal_(0.0, std, generator=generator)

    return draw


def _orthogonal(fan_out: int, fan_in: int, generator: Generator, gain: float = 1.0) -> Tensor:
    weight_OI = torch.empty(fan_out, fan_in)
    return torch.nn.init.orthogonal_(weight_OI, gain=gain, generator=generator)


def _fixed_uniform(fan_out: int, fan_in: int, generator: Generator, gain: float = 1.0, bound: float = 0.05) -> Tensor:
    return torch.empty(fan_out, fan_in).uniform_(-gain * bound, gain * bound, generator=generator)


def _fixed_normal(fan_out: int, fan_in: int, generator: Generator, gain: float = 1.0, std: float = 0.05) -> Tensor:
    return torch.empty(fan_out, fan_in).normal_(0.0, gain * std, generator=generator)


def _glorot(fan_out: int, fan_in: int) -> float:
    return 2 / (fan_in + fan_out)


def _he(_fan_out: int, fan_in: int) -> float:
    return 2 / fan_in


def _lecun(_fan_out: int, fan_in: int) -> float:
    return 1 / fan_in


def _entry(draw: Callable[..., Tensor], doc: str, source: str, bias: str = "zeros", **own: Option) -> Initializer:
    """Make one entry; ``own`` are its options beside the shared ones."""
    shared = {
        "gain": Option(1.0, "(0, inf)", "multiplies every weight", per_member=False),
        "bias": Option(bias, choices=("zeros", "uniform", "constant"), doc="initial biases; uniform as in torch"),
        "bias_value": Option(0.0, "(-inf, inf)", "every bias, if bias=constant", per_member=False),
    }
    return Initializer(draw, doc, source, shared | own)


_GLOROT, _HE, _LECUN = "Glorot & Bengio 2010, eq. 16", "He et al. 2015, arXiv 1502.01852", "LeCun et al. 1998, sec. 4.6"

INITIALIZERS: Table[Initializer] = Table(
    "init",
    {
        "glorot_uniform": _entry(
            _uniform(_glorot), "U(-b, b), b = sqrt(6 / (fan_in + fan_out)): Keras's default", _GLOROT
        ),
        "glorot_normal": _entry(_normal(_glorot), "N(0, 2 / (fan_in + fan_out))", _GLOROT),
        "he_uniform": _entry(_uniform(_he), "U(-b, b), b = sqrt(6 / fan_in)", _HE),
        "he_normal": _entry(_normal(_he), "N(0, 2 / fan_in)", _HE),
        "lecun_uniform": _entry(_uniform(_lecun), "U(-b, b), b = sqrt(3 / fan_in)", _LECUN),
        "lecun_normal": _entry(_normal(_lecun), "N(0, 1 / fan_in)", _LECUN),
        "orthogonal": _entry(
            _orthogonal,
            "orthonormal rows or columns, whichever are fewer, uniformly over the rotations",
            "Saxe et al. 2014, arXiv 1312.6120",
        ),
        "torch_default": _entry(
            _uniform(lambda _fan_out, fan_in: 1 / (3 * fan_in)),
            "U(-b, b), b = 1 / sqrt(fan_in), biases too: torch.nn.Linear's default",
            "torch.nn.Linear.reset_parameters",
            bias="uniform",
        ),
        "uniform": _entry(
            _fixed_uniform,
            "U(-bound, bound) whatever the layer's size",
            "numpy_relu draws from [-1, 1]; the default bound is Keras's RandomUniform",
            bound=Option(0.05, "(0, inf)", "largest absolute weight", per_member=False),
        ),
        "normal": _entry(
            _fixed_normal,
            "N(0, std^2) whatever the layer's size",
            "Keras's RandomNormal",
            std=Option(0.05, "(0, inf)", "standard deviation", per_member=False),
        ),
    },
)
