"""Unit diagnostics against brute force in numpy on the exported plain networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.factors.diagnostics import DORMANT
from mlp_study.probes.units import unit_probes
from tests.probes.small import chunked, config, images, population


def pre_and_post(mlp, k, x_NI):
    """(z, a) of each hidden layer [N, O] of member k's exported network, as numpy."""
    found, h = [], x_NI
    for module in mlp.export(k):
        if not isinstance(module, torch.nn.Linear):
            z, h = h, module(h)
            found.append((z.detach().double().numpy(), h.detach().double().numpy()))
        else:
            h = module(h)
    return found


X_NI = images()


@pytest.mark.parametrize("size", [200, 64, 1])
def test_relu_units_against_numpy(size):
    mlp = population([config(seed=0), config("sigmoid", seed=1), config(seed=2)])
    found = unit_probes(mlp, chunked(X_NI, size))
    for k in (0, 2):
        dead = []
        for layer, (z, a) in enumerate(pre_and_post(mlp, k, X_NI)):
            dead += [(a <= 0).all(0)]
            assert found[f"dead_{layer}"][k] == pytest.approx(dead[-1].mean())
            assert found[f"always_on_{layer}"][k] == pytest.approx((a > 0).all(0).mean())
            assert found[f"sparsity_{layer}"][k] == pytest.approx((a <= 0).mean())
            same_side = (z >= 0).all(0) | (z <= 0).all(0)
            assert found[f"missed_{layer}"][k] == pytest.approx(same_side.mean())
            activity = np.abs(a).mean(0)
            assert found[f"dormant_{layer}"][k] == pytest.approx((activity <= DORMANT * activity.mean()).mean())
            assert found[f"preactivation_mean_{layer}"][k] == pytest.approx(z.mean(), abs=1e-6)
            assert found[f"preactivation_deviation_{layer}"][k] == pytest.approx(z.std(), rel=1e-5)
            assert found[f"preactivation_low_{layer}"][k] == pytest.approx(z.min(), rel=1e-5)
            assert found[f"preactivation_high_{layer}"][k] == pytest.approx(z.max(), rel=1e-5)
        assert found["dead"][k] == pytest.approx(np.concatenate(dead).mean())
        assert torch.isnan(found["saturated"][k])
    assert torch.isnan(found["dead"][1])
    assert found["dead"][0] > 0, "the case has something to count"


@pytest.mark.parametrize("name", [n for n, entry in ACTIVATIONS.items() if entry.saturated])
def test_saturation_means_a_flat_slope(name):
    """Counted by the slope itself: below 5 % of the largest one, off where the unit passes something on."""
    mlp = population([config(name, widths=(40,))])
    found = unit_probes(mlp, chunked(10 * X_NI, 50), ["saturated"])["saturated"][0]
    [(z, _)] = pre_and_post(mlp, 0, 10 * X_NI)
    z = torch.tensor(z, requires_grad=True)
    entry, options = ACTIVATIONS[name], mlp.configs[0].activation.options
    [slope] = torch.autograd.grad(entry.function(z, **options).sum(), z)
    grid = torch.linspace(-20, 20, 40001, dtype=torch.float64, requires_grad=True)
    [slopes] = torch.autograd.grad(entry.function(grid, **options).sum(), grid)
    flat = slope.abs() < 0.05 * slopes.abs().max()
    if entry.off:
        flat &= ~entry.off(z, **options)
    assert found == pytest.approx(flat.double().mean().item(), abs=2 / z.numel())
    assert 0 < found < 1


def test_a_dead_layer_is_seen_to_be_dead():
    mlp = population([config(widths=(4, 4))])
    mlp.biases[1].data[:] = -1e6
    found = unit_probes(mlp, chunked(X_NI, 64))
    assert found["dead_1"][0] == 1
    assert found["dead"][0] == pytest.approx((4 * found["dead_0"][0] + 4) / 8)
