"""Activations against torch.nn, autograd, quadrature and their true slopes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import mlp_study
from mlp_study.errors import ConfigError
from mlp_study.factors.activations import ACTIVATIONS, FLAT
from mlp_study.factors.table import Option

NAMES = [
    *("identity", "relu", "leaky_relu", "prelu", "relu6", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus"),
    *("softsign", "squared_relu", "tanh", "hardtanh", "sigmoid", "hardsigmoid", "hardswish", "leaky_relu_mismatched"),
]
ALPHAS = (0.04, 0.5, 1.0, 3.0)
CASES = [(name, {}) for name in NAMES] + [
    ("gelu", {"form": "tanh"}),
    ("prelu", {"slope": -0.5}),
    *[(name, {"alpha": alpha}) for name in ("elu", "celu") for alpha in ALPHAS],
]


def options_of(name: str, **given_options: object) -> dict[str, object]:
    return {key: option.default for key, option in ACTIVATIONS[name].options.items()} | given_options


def slope_of(name: str, z: Tensor, **options: object) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(ACTIVATIONS[name].function(z, **options).sum(), z)[0]


def grid(edge: float = 30.0, points: int = 60_001) -> Tensor:
    """Values of z that fall on no kink."""
    return torch.linspace(-edge, edge, points, dtype=torch.float64) + 1e-4


def test_every_activation_of_the_study_is_there():
    assert set(NAMES) == set(ACTIVATIONS)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_exported_module_computes_the_same(name, options):
    options = options_of(name, **options)
    z = torch.cat([torch.linspace(-50, 50, 1001), torch.tensor([0.0, -3.0, 3.0, 6.0, -1.0, 1.0])])
    torch.testing.assert_close(ACTIVATIONS[name].module(**options)(z), ACTIVATIONS[name].function(z, **options))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradient_is_the_derivative(name, options):
    options, z, h = options_of(name, **options), grid(8, 1001), 1e-6
    function = ACTIVATIONS[name].function
    numeric = (function(z + h, **options) - function(z - h, **options)) / (2 * h)
    if name == "leaky_relu_mismatched":  # the one whose gradient lies
        numeric = torch.where(z > 0, numeric, 0.0)
    torch.testing.assert_close(slope_of(name, z, **options), numeric, atol=1e-8, rtol=1e-6)


def test_mismatched_gradient_differs_from_its_own_forward_pass():
    z = torch.tensor([-2.0, 3.0])
    value = ACTIVATIONS["leaky_relu_mismatched"].function(z, slope=0.1)
    torch.testing.assert_close(value, torch.tensor([-0.2, 3.0]))
    assert slope_of("leaky_relu_mismatched", z, slope=0.1).tolist() == [0.0, 1.0]


def flat_by_slope(name: str, z: Tensor, **options: object) -> Tensor:
    """Where |f'| stays below 5 % of the largest from here to the end of the grid: the definition."""
    slope = slope_of(name, z, **options).abs()
    low = slope == 0 if name == "squared_relu" else slope < FLAT * slope.max()
    left = torch.cumprod(low.int(), 0).bool()
    right = torch.cumprod(low.flip(0).int(), 0).flip(0).bool()
    return left | right


@pytest.mark.parametrize(("name", "options"), CASES)
def test_off_and_saturated_are_the_flat_sides(name, options):
    activation, options, z = ACTIVATIONS[name], options_of(name, **options), grid()
    if name in ("identity", "leaky_relu", "prelu"):
        assert activation.off is None
        assert activation.saturated is None
        return
    nowhere = torch.zeros_like(z, dtype=torch.bool)
    off = activation.off(z, **options) if activation.off else nowhere
    saturated = activation.saturated(z, **options) if activation.saturated else nowhere
    assert not (off & saturated).any()
    # the table's edges are rounded, and gelu's tanh form shares the exact form's: within 0.008
    assert int(((off | saturated) != flat_by_slope(name, z, **options)).sum()) <= 8
    assert activation.function(z, **options)[off].abs().max() < 0.1 if off.any() else True
    assert (off | saturated).any()


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "hardtanh", "softsign", "hardsigmoid"])
def test_squashing_functions_saturate_on_both_sides(name):
    z = torch.tensor([-20.0, 0.0, 20.0])
    assert ACTIVATIONS[name].off is None
    assert ACTIVATIONS[name].saturated(z).tolist() == [True, False, True]


def test_relu_is_off_where_it_is_zero():
    assert ACTIVATIONS["relu"].off(torch.tensor([-1.0, 0.0, 1e-30])).tolist() == [True, True, False]


@given(values=st.lists(st.floats(0.01, 1), min_size=3, max_size=3), data=st.data())
@settings(max_examples=25, deadline=None)
def test_members_with_different_options_equal_each_alone(values, data):
    name = data.draw(st.sampled_from([n for n in NAMES if any(o.per_member for o in ACTIVATIONS[n].options.values())]))
    activation = ACTIVATIONS[name]
    [option] = activation.options
    z = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)) * 4
    stacked = torch.tensor(values).view(3, 1, 1)
    together = activation.function(z, **{option: stacked})
    for k, value in enumerate(values):
        torch.testing.assert_close(together[k], activation.function(z[k], **{option: value}))
        for rule in (activation.off, activation.saturated):
            if rule:
                assert rule(z, **{option: stacked})[k].equal(rule(z[k], **{option: value}))


@pytest.mark.parametrize("name", NAMES)
def test_out_of_place_and_nan_stays_visible(name):
    z = torch.tensor([-1.0, 2.0, math.nan])
    before = z.clone()
    a = ACTIVATIONS[name].function(z, **options_of(name))
    assert z[:2].equal(before[:2])
    assert a[2].isnan()


def test_prelu_slope_learns_like_torchs():
    z = torch.randn(2, 4, 5)
    slopes = torch.tensor([0.1, 0.3]).view(2, 1, 1).requires_grad_()
    ACTIVATIONS["prelu"].function(z, slope=slopes).square().sum().backward()
    for k, slope in enumerate((0.1, 0.3)):
        module = ACTIVATIONS["prelu"].module(slope=slope)
        module(z[k]).square().sum().backward()
        torch.testing.assert_close(slopes.grad[k].flatten(), module.weight.grad)
    assert ACTIVATIONS["prelu"].learned == ("slope",)


@pytest.mark.parametrize("name", NAMES)
def test_gain_is_torchs_or_keeps_the_second_moment(name):
    torchs = {
        "identity": ("linear", None),
        "relu": ("relu", None),
        "leaky_relu": ("leaky_relu", 0.01),
        "prelu": ("leaky_relu", 0.25),
        "sigmoid": ("sigmoid", None),
        "hardsigmoid": ("sigmoid", None),
        "tanh": ("tanh", None),
        "selu": ("selu", None),
    }
    if name in torchs:
        expected = torch.nn.init.calculate_gain(*torchs[name])
    else:
        z = torch.linspace(-10, 10, 400_001, dtype=torch.float64)
        density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        moment = torch.trapezoid(ACTIVATIONS[name].function(z, **options_of(name)) ** 2 * density, z)
        expected = 1 / math.sqrt(moment)
    assert ACTIVATIONS[name].gain == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_entries_explain_themselves(name):
    activation = ACTIVATIONS[name]
    assert activation.formula
    assert activation.source
    for key, option in activation.options.items():
        assert option.check(key, option.default) == option.default
        assert option.doc


@pytest.fixture
def own_table(monkeypatch):
    monkeypatch.setattr(ACTIVATIONS, "_entries", dict(ACTIVATIONS))


@pytest.mark.usefixtures("own_table")
def test_a_callable_becomes_a_choice():
    options = {"rate": Option(2.0, "(0, inf)", "how fast it swings")}
    mlp_study.register_activation("custom", lambda z, rate: torch.sin(rate * z), formula="sin(rate z)", options=options)
    z = torch.randn(2, 3, 4)
    rates = torch.tensor([1.0, 3.0]).view(2, 1, 1)
    np.testing.assert_allclose(ACTIVATIONS["custom"].function(z, rate=rates)[1], np.sin(3 * z[1].numpy()), rtol=1e-5)
    module = ACTIVATIONS["custom"].module(rate=1.0)
    torch.testing.assert_close(module(z[0]), torch.sin(z[0]))
    assert repr(module) == "Elementwise(custom, rate=1.0)"


@pytest.mark.usefixtures("own_table")
@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("relu", torch.sin, "activation='relu' exists already"),
        ("no name", torch.sin, "letters, digits and underscores"),
        ("custom", "torch.sin", "takes a function of z, not 'torch.sin'"),
    ],
)
def test_what_cannot_be_registered(name, function, message):
    with pytest.raises(ConfigError, match=message):
        mlp_study.register_activation(name, function)


@pytest.mark.parametrize("name", ["elu", "celu"])
def test_alphas_of_members_own_keep_the_derivative_at_zero(name):
    z = torch.tensor([0.0, -0.0, -1.0, 1.0, torch.nan], requires_grad=True)
    function = ACTIVATIONS[name].function
    [plain] = torch.autograd.grad(function(z, alpha=1.0)[:4].sum(), z)
    [own] = torch.autograd.grad(function(z, alpha=torch.ones(1))[:4].sum(), z)
    torch.testing.assert_close(own[:4], plain[:4])
    assert function(z, alpha=torch.ones(1))[4].isnan()
