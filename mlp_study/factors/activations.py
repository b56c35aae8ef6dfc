"""Activations: the function, its initialization gain, and when a unit is off or saturated. One entry per choice.

Every function takes pre-activations z_mOB (any shape works) and returns activations of the same shape, out of place;
its options arrive as floats or as tensors [m, 1, 1], one number per member.

Two rules hold for the whole table, so that diagnostics of different activations compare:

* A *flat side* is an unbounded stretch of z on which |f'(z)| stays below 5 % of the largest |f'| (is zero, where |f'|
  has no bound). Where a one-sided function's output vanishes too, the unit is *off*: it passes nothing on. On any other
  flat side it is *saturated*: it passes a constant on and no gradient back. So relu is off, not saturated, for z <= 0;
  sigmoid saturates on both sides (Glorot & Bengio 2010); elu's left side saturates, since it passes -alpha on. Leaky
  functions have no flat side, however small their slope. A unit that is off for every training image is dead (Lu et
  al. 2019, arXiv 1903.06733).
* The *gain* is torch.nn.init.calculate_gain's where torch has one, else He et al. 2015's rule (arXiv 1502.01852, eq.
  10) beyond ReLU: 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1), which keeps the signal's second moment from layer to layer;
  hardsigmoid takes its smooth original's.
"""

# ruff: noqa: PLW0108 - a lambda around a torch function leaves torch unimported until it is called
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlp_study.errors import ConfigError
from mlp_study.factors.table import Number, Option, Table, is_plain, lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F
else:
    torch = lazy_module("torch")
    nn = lazy_module("torch.nn")
    F = lazy_module("torch.nn.functional")


FLAT = 0.05
"""A slope below this part of the largest one counts as flat."""


@dataclass(frozen=True)
class Activation:
    """One activation.

    Attributes:
        function: ``f(z_mOB, **options) -> a_mOB``, differentiable, out of place.
        formula: the function in plain text.
        source: where it comes from.
        gain: recommended initialization gain (see the module's rule).
        module: ``module(**options) -> nn.Module`` that computes the same with one member's options, for export.
        off: ``off(z, **options)``, True where the unit passes nothing on; None if it has no such side.
        saturated: ``saturated(z, **options)``, True where the unit is stuck at a constant; None if it has no such side.
        options: what it can be given.
        learned: the options that are trained, one number per member and layer, starting from the option's value.
        slope: ``slope(g_mOB, z_mOB, a_mOB, **options)``: g times f'(z), where a = f(z); None leaves it to autograd.
    """

    function: Callable[..., Tensor]
    formula: str
    source: str
    gain: float
    module: Callable[..., nn.Module]
    off: Callable[..., Tensor] | None = None
    saturated: Callable[..., Tensor] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    learned: tuple[str, ...] = ()
    slope: Callable[..., Tensor] | None = None


@functools.cache
def _elementwise_class() -> type[nn.Module]:
    class Elementwise(nn.Module):
        """A function as a module, for what torch.nn has no class for."""

        def __init__(self, name: str, function: Callable[..., Tensor], options: dict[str, Any]) -> None:
            super().__init__()
            self.name, self.function, self.options = name, function, options

        def forward(self, z: Tensor) -> Tensor:
            return self.function(z, **self.options)

        def extra_repr(self) -> str:
            return ", ".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    return Elementwise


def _as_module(name: str, function: Callable[..., Tensor]) -> Callable[..., nn.Module]:
    return lambda **options: _elementwise_class()(name, function, options)


def _leaky(z: Tensor, slope: Number) -> Tensor:
    leaky: Tensor = F.leaky_relu(z, slope) if is_plain(slope) else torch.where(z > 0, z, z * slope)
    return leaky


def _leaky_slope(g: Tensor, z: Tensor, _a: Tensor, slope: Number) -> Tensor:
    return torch.where(z > 0, g, g * slope)


def _mismatched(z: Tensor, slope: Number) -> Tensor:
    leak: Tensor = (slope * z.clamp(max=0)).detach()  # detached: the value leaks, the gradient stays plain ReLU's
    return torch.relu(z) + leak


def _left(z: Tensor) -> Tensor:
    """Return ``z`` where it is not positive, else 0; unlike ``clamp`` with a gradient at 0 itself."""
    return torch.where(z > 0, 0.0, z)


def _elu(z: Tensor, alpha: Number) -> Tensor:
    elu: Tensor = F.elu(z, alpha) if is_plain(alpha) else torch.where(z > 0, z, alpha * _left(z).expm1())
    return elu


def _elu_slope(g: Tensor, z: Tensor, a: Tensor, alpha: Number) -> Tensor:
    if is_plain(alpha):
        slope: Tensor = torch.ops.aten.elu_backward(g, alpha, 1, 1, True, a)
        return slope
    return torch.where(z > 0, g, g * (a + alpha))


def _celu(z: Tensor, alpha: Number) -> Tensor:
    if is_plain(alpha):
        return F.celu(z, alpha)
    celu: Tensor = torch.where(z > 0, z, alpha * (_left(z) / alpha).expm1())
    return celu


def _elu_saturated(z: Tensor, alpha: Number) -> Tensor:
    largest = max(alpha, 1.0) if is_plain(alpha) else alpha.clamp(min=1.0)
    saturated: Tensor = (z <= 0) & (alpha * z.exp() <= FLAT * largest)
    return saturated


def _gelu(z: Tensor, form: str = "exact") -> Tensor:
    return F.gelu(z, approximate="tanh" if form == "tanh" else "none")


def _squared_relu(z: Tensor) -> Tensor:
    return torch.relu(z).square()


def _below(edge: float) -> Callable[..., Tensor]:
    return lambda z, **_: z <= edge


def _above(edge: float) -> Callable[..., Tensor]:
    return lambda z, **_: z >= edge


def _outside(edge: float) -> Callable[..., Tensor]:
    return lambda z, **_: z.abs() >= edge


_TANH_EDGE = math.atanh(math.sqrt(1 - FLAT))  # 1 - tanh(z)^2 = FLAT
_EXP_EDGE = math.log(FLAT)  # exp(z) = FLAT

ACTIVATIONS: Table[Activation] = Table(
    "activation",
    {
        "identity": Activation(
            function=lambda z: z,
            formula="z",
            source="the linear network, as a baseline",
            gain=1.0,
            module=lambda: nn.Identity(),
            slope=lambda g, _z, _a: g,
        ),
        "relu": Activation(
            function=lambda z: torch.relu(z),
            formula="max(z, 0)",
            source="Nair & Hinton 2010",
            gain=math.sqrt(2),
            module=lambda: nn.ReLU(),
            off=_below(0),
            slope=lambda g, _z, a: torch.ops.aten.threshold_backward(g, a, 0),
        ),
        "leaky_relu": Activation(
            function=_leaky,
            formula="z if z > 0 else slope z",
            source="Maas et al. 2013",
            gain=math.sqrt(2 / (1 + 0.01**2)),
            module=lambda slope: nn.LeakyReLU(slope),
            options={"slope": Option(0.01, "[0, 1]", "slope for z <= 0")},
            slope=_leaky_slope,
        ),
        "leaky_relu_mismatched": Activation(
            function=_mismatched,
            formula="forward z if z > 0 else slope z; backward ReLU's: 1 if z > 0 else 0",
            source="numpy_relu, whose hand-written gradient disagrees with its forward pass",
            gain=math.sqrt(2),
            module=_as_module("leaky_relu_mismatched", _mismatched),
            off=_below(0),  # a leak of 1e-4 that gets no gradient can't bring a unit back
            options={"slope": Option(1e-4, "[0, 1]", "forward slope for z <= 0")},
        ),
        "prelu": Activation(
            function=_leaky,
            formula="z if z > 0 else slope z, slope learned (one per member and layer)",
            source="He et al. 2015, arXiv 1502.01852",
            gain=math.sqrt(2 / (1 + 0.25**2)),
            module=lambda slope: nn.PReLU(init=slope),
            options={"slope": Option(0.25, "(-inf, inf)", "initial slope for z <= 0")},
            learned=("slope",),
        ),
        "relu6": Activation(
            function=lambda z: F.relu6(z),
            formula="min(max(z, 0), 6)",
            source="Krizhevsky 2010",
            gain=math.sqrt(2),
            module=lambda: nn.ReLU6(),
            off=_below(0),
            saturated=_above(6),
        ),
        "squared_relu": Activation(
            function=_squared_relu,
            formula="max(z, 0)^2",
            source="So et al. 2021, arXiv 2109.08668",
            gain=math.sqrt(2 / 3),
            module=_as_module("squared_relu", _squared_relu),
            off=_below(0),
        ),
        "elu": Activation(
            function=_elu,
            formula="z if z > 0 else alpha (exp(z) - 1)",
            source="Clevert et al. 2016, arXiv 1511.07289",
            gain=1.24520,
            module=lambda alpha: nn.ELU(alpha),
            saturated=_elu_saturated,
            options={"alpha": Option(1.0, "(0, inf)", "the left side's limit is -alpha")},
            slope=_elu_slope,
        ),
        "celu": Activation(
            function=_celu,
            formula="z if z > 0 else alpha (exp(z / alpha) - 1)",
            source="Barron 2017, arXiv 1704.07483",
            gain=1.24520,
            module=lambda alpha: nn.CELU(alpha),
            saturated=lambda z, alpha: z <= _EXP_EDGE * alpha,
            options={"alpha": Option(1.0, "(0, inf)", "the left side's limit is -alpha")},
        ),
        "selu": Activation(
            function=lambda z: F.selu(z),
            formula="1.0507 elu(z, alpha=1.6733)",
            source="Klambauer et al. 2017, arXiv 1706.02515",
            gain=0.75,
            module=lambda: nn.SELU(),
            saturated=_below(_EXP_EDGE),
        ),
        "gelu": Activation(
            function=_gelu,
            formula="z Phi(z), or with the tanh approximation of Phi",
            source="Hendrycks & Gimpel 2016, arXiv 1606.08415",
            gain=1.53353,
            module=lambda form="exact": nn.GELU(approximate="tanh" if form == "tanh" else "none"),
            off=_below(-2.279),
            options={
                "form": Option("exact", choices=("exact", "tanh"), doc="the normal distribution, or its tanh form")
            },
            slope=lambda g, z, _a, form: torch.ops.aten.gelu_backward(
                g, z, approximate="tanh" if form == "tanh" else "none"
            ),
        ),
        "silu": Activation(
            function=lambda z: F.silu(z),
            formula="z sigmoid(z)",
            source="Elfwing et al. 2018, arXiv 1702.03118",
            gain=1.67653,
            module=lambda: nn.SiLU(),
            off=_below(-3.930),
            slope=lambda g, z, _a: torch.ops.aten.silu_backward(g, z),
        ),
        "mish": Activation(
            function=lambda z: F.mish(z),
            formula="z tanh(softplus(z))",
            source="Misra 2020, arXiv 1908.08681",
            gain=1.48685,
            module=lambda: nn.Mish(),
            off=_below(-3.981),
        ),
        "hardswish": Activation(
            function=lambda z: F.hardswish(z),
            formula="z min(max(z + 3, 0), 6) / 6",
            source="Howard et al. 2019, arXiv 1905.02244",
            gain=1.73666,
            module=lambda: nn.Hardswish(),
            off=_below(-3),
        ),
        "softplus": Activation(
            function=lambda z: F.softplus(z),
            formula="ln(1 + exp(z))",
            source="Dugas et al. 2001",
            gain=1.04187,
            module=lambda: nn.Softplus(),
            off=_below(math.log(FLAT / (1 - FLAT))),  # its slope is sigmoid(z)
        ),
        "softsign": Activation(
            function=lambda z: F.softsign(z),
            formula="z / (1 + |z|)",
            source="Bergstra et al. 2009; Glorot & Bengio 2010",
            gain=2.33753,
            module=lambda: nn.Softsign(),
            saturated=_outside(math.sqrt(1 / FLAT) - 1),
        ),
        "tanh": Activation(
            function=lambda z: torch.tanh(z),
            formula="tanh(z)",
            source="LeCun et al. 1998",
            gain=5 / 3,
            module=lambda: nn.Tanh(),
            saturated=_outside(_TANH_EDGE),
            slope=lambda g, _z, a: torch.ops.aten.tanh_backward(g, a),
        ),
        "hardtanh": Activation(
            function=lambda z: F.hardtanh(z),
            formula="min(max(z, -1), 1)",
            source="Collobert 2004",
            gain=1.39204,
            module=lambda: nn.Hardtanh(),
            saturated=_outside(1),
        ),
        "sigmoid": Activation(
            function=lambda z: torch.sigmoid(z),
            formula="1 / (1 + exp(-z))",
            source="Rumelhart et al. 1986",
            gain=1.0,
            module=lambda: nn.Sigmoid(),
            saturated=_outside(2 * _TANH_EDGE),  # sigmoid(z) = (1 + tanh(z / 2)) / 2
            slope=lambda g, _z, a: torch.ops.aten.sigmoid_backward(g, a),
        ),
        "hardsigmoid": Activation(
            function=lambda z: F.relu6(z + 3) / 6,  # F.hardsigmoid has no second derivative, which sharpness needs
            formula="min(max(z + 3, 0), 6) / 6",
            source="Courbariaux et al. 2015, arXiv 1511.00363, with Keras 3's and torch's slope",
            gain=1.0,
            module=lambda: nn.Hardsigmoid(),
            saturated=_outside(3),
        ),
    },
)


def register_activation(
    name: str,
    function: Callable[..., Tensor],
    *,
    formula: str = "",
    source: str = "registered from Python",
    gain: float = 1.0,
    module: Callable[..., nn.Module] | None = None,
    off: Callable[..., Tensor] | None = None,
    saturated: Callable[..., Tensor] | None = None,
    options: Mapping[str, Option] | None = None,
) -> Activation:
    """Make ``activation=name`` mean your own function, in this process.

    From Python only: a YAML file names choices, it can't run code. Call it before the config is read::

        mlp_study.register_activation("custom", lambda z: torch.sin(z), formula="sin(z)")

    Args:
        name: the new choice, such as ``"custom"``.
        function: ``f(z_mOB, **options) -> a_mOB``: elementwise, differentiable, out of place; see :class:`Activation`.
        formula: the function in plain text.
        source: where it comes from.
        gain: recommended initialization gain.
        module: the nn.Module that an exported model holds; by default one that wraps ``function``.
        off: where a unit passes nothing on; None if it has no such side.
        saturated: where a unit is stuck at a constant; None if it has no such side.
        options: what it can be given.

    Raises:
        ConfigError: the name is taken or not an identifier, or ``function`` can't be called.
    """
    if not name.isidentifier():
        raise ConfigError(f"activation={name!r} can't be registered; a name has letters, digits and underscores only")
    if not callable(function):
        raise ConfigError(f"activation={name!r} can't be registered; it takes a function of z, not {function!r}")
    module = module or _as_module(name, function)
    entry = Activation(function, formula or name, source, gain, module, off, saturated, dict(options or {}))
    ACTIVATIONS.add(name, entry)
    return entry
