"""Initial weights against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp_study.factors.initializers import INITIALIZERS, draw_bias

O, I = 300, 500
BOUND = {
    "glorot_uniform": math.sqrt(6 / (O + I)),
    "he_uniform": math.sqrt(6 / I),
    "lecun_uniform": math.sqrt(3 / I),
    "torch_default": 1 / math.sqrt(I),
    "uniform": 0.05,
}
STD = {
    "glorot_normal": math.sqrt(2 / (O + I)),
    "he_normal": math.sqrt(2 / I),
    "lecun_normal": math.sqrt(1 / I),
    "normal": 0.05,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_initializer_of_the_study_is_there():
    assert set(INITIALIZERS) == {*BOUND, *STD, "orthogonal"}


@pytest.mark.parametrize("name", BOUND)
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_uniform_fills_its_interval(name, gain):
    weight = INITIALIZERS[name].draw(O, I, seeded(), gain)
    bound = gain * BOUND[name]
    assert weight.shape == (O, I)
    assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert weight.abs().max() <= bound * (1 + 1e-6)
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.01)
    assert abs(weight.mean().item()) < 4 * bound / math.sqrt(3 * O * I)


@pytest.mark.parametrize("name", STD)
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_normal_has_its_variance_and_tails(name, gain):
    weight = INITIALIZERS[name].draw(O, I, seeded(), gain)
    std = gain * STD[name]
    assert weight.var().item() == pytest.approx(std**2, rel=0.02)
    assert (weight.abs() > 2 * std).float().mean().item() == pytest.approx(0.0455, abs=0.003)  # not truncated


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), gain=st.floats(0.1, 5))
@settings(max_examples=30, deadline=None)
def test_orthogonal_has_orthonormal_rows_or_columns(rows, columns, gain):
    weight = INITIALIZERS["orthogonal"].draw(rows, columns, seeded(), gain).double() / gain
    small = weight @ weight.T if rows <= columns else weight.T @ weight
    torch.testing.assert_close(small, torch.eye(min(rows, columns), dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_seed_fixes_the_weights(name):
    draw = INITIALIZERS[name].draw
    first, again, other = draw(20, 30, seeded(1)), draw(20, 30, seeded(1)), draw(20, 30, seeded(2))
    assert first.equal(again)
    assert not first.equal(other)
    assert first.dtype == torch.float32
    torch.manual_seed(123)  # the global generator has no say
    assert first.equal(draw(20, 30, seeded(1)))


def test_own_options_set_the_width():
    assert INITIALIZERS["uniform"].draw(O, I, seeded(), bound=1.0).abs().max().item() == pytest.approx(1, abs=1e-3)
    assert INITIALIZERS["normal"].draw(O, I, seeded(), std=2.0).std().item() == pytest.approx(2, rel=0.01)


def test_torch_default_matches_torchs_linear_layer():
    layer = torch.nn.Linear(I, O)
    weight, bias = INITIALIZERS["torch_default"].draw(O, I, seeded()), draw_bias("uniform", 0.0, 20_000, I, seeded())
    assert layer.weight.std().item() == pytest.approx(weight.std().item(), rel=0.02)
    assert layer.bias.abs().max() <= 1 / math.sqrt(I)
    assert bias.std().item() == pytest.approx(1 / math.sqrt(3 * I), rel=0.02)
    assert INITIALIZERS["torch_default"].options["bias"].default == "uniform"


def test_biases():
    assert draw_bias("zeros", 0.7, 4, 9, seeded()).equal(torch.zeros(4))
    assert draw_bias("constant", 0.7, 4, 9, seeded()).equal(torch.full((4,), 0.7))
    assert draw_bias("uniform", 0.7, 4, 9, seeded(3)).equal(draw_bias("uniform", 0.0, 4, 9, seeded(3)))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_entries_explain_themselves(name):
    entry = INITIALIZERS[name]
    assert entry.doc
    assert entry.source
    assert {"gain", "bias", "bias_value"} <= set(entry.options)
    for key, option in entry.options.items():
        assert option.check(key, option.default) == option.default
