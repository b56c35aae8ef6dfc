"""Losses, ranks, linear pieces and gradients against numpy, exact geometry and single gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.probes.gradients import gradient_moments, gradient_probes, minibatches, update_ratios, weight_norms
from mlp_study.probes.layers import effective_rank, is_piecewise_linear, regions
from mlp_study.probes.losses import loss_probes
from tests.probes.small import chunked, config, images, population

X_NI = images(60)


def test_loss_and_accuracy_against_torch():
    mlp = population([config(), config("tanh", seed=3)])
    chunks = chunked(X_NI, 25, members=2)
    found = loss_probes(mlp, chunks)
    y_N = torch.cat([y[0] for _, y in chunks])
    for k in range(2):
        logits = mlp.export(k)(X_NI)
        assert found["loss"][k] == pytest.approx(torch.nn.functional.cross_entropy(logits, y_N).item(), rel=1e-5)
        assert found["accuracy"][k] == pytest.approx((logits.argmax(1) == y_N).double().mean().item())
    assert found["plateau"].tolist() == [0, 0]


def test_the_plateau_is_where_the_label_is_clipped():
    mlp = population([config(loss="clipped_cross_entropy"), config(loss="cross_entropy")])
    for weight in mlp.weights:
        weight.data *= 6
    chunks = chunked(X_NI, 60, members=2)
    y_N = chunks[0][1][0]
    p = mlp.export(0)(X_NI).double().softmax(1)
    clipped = (p[torch.arange(60), y_N] < 1e-7).double().mean().item()
    found = loss_probes(mlp, chunks)["plateau"]
    assert 0.2 < clipped < 0.9
    assert found[0] == pytest.approx(clipped)
    assert found[1] == 0


def test_effective_rank_against_numpy():
    mlp = population([config(widths=(7, 5)), config("tanh", widths=(7, 5), seed=1)])
    found = effective_rank(mlp, chunked(X_NI, 17, members=2))
    for k in range(2):
        h = X_NI
        layer = 0
        for module in mlp.export(k):
            h = module(h)
            if not isinstance(module, torch.nn.Linear):
                values = np.linalg.svd(h.detach().double().numpy(), compute_uv=False)
                share = values / values.sum()
                rank = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
                assert found[f"effective_rank_{layer}"][k] == pytest.approx(rank, rel=1e-4)
                layer += 1


def test_the_rank_of_a_dead_layer_is_zero():
    mlp = population([config(widths=(4, 4))])
    mlp.biases[1].data[:] = -1e6
    assert effective_rank(mlp, chunked(X_NI, 60))["effective_rank_1"][0] == 0


def test_regions_of_one_layer_against_geometry():
    """A unit's hyperplane crosses the path from a to b once, exactly if z has different signs at both ends."""
    mlp = population([config(widths=(20,))])
    found = regions(mlp, chunked(X_NI, 60), paths=16, points=20_000)["regions"][0]
    z = X_NI.double() @ mlp.weights[0][0].double().T + mlp.biases[0][0, :, 0].double()
    crossed = ((z[:16] > 0) != (z[1:17] > 0)).sum(1).double()
    assert found == pytest.approx(1 + crossed.mean().item(), abs=0.07)  # two crossings may share an interval
    assert found > 3


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_piecewise_linear_activations_are_told_from_curved_ones(name):
    bent = {"relu", "leaky_relu", "leaky_relu_mismatched", "prelu", "relu6", "hardtanh", "hardsigmoid", "identity"}
    assert is_piecewise_linear(ACTIVATIONS[name]) == (name in bent)
    value = regions(population([config(name)]), chunked(X_NI, 60))["regions"][0]
    assert value.isnan() == (name not in bent)
    assert name != "identity" or value == 1


def test_gradient_moments_against_single_gradients():
    mlp = population([config(widths=(5,)), config("sigmoid", widths=(5,), seed=2)]).double()
    chunks = [(x.double(), y) for x, y in chunked(X_NI, 30, members=2)]
    moments = gradient_moments(mlp, minibatches(chunks, 10))
    found = gradient_probes(mlp, moments)
    for k in range(2):
        net = mlp.export(k).double()
        gradients = []
        for x_GBI, y_KB in chunks:
            for x, y in zip(x_GBI[0].split(10), y_KB[0].split(10), strict=True):
                net.zero_grad()
                torch.nn.functional.cross_entropy(net(x), y).backward()
                gradients.append(torch.cat([net.linear_0.weight.grad.flatten(), net.linear_1.weight.grad.flatten()]))
        g = torch.stack(gradients)
        noise = g.var(0, correction=1).sum()
        signal = (g.mean(0).square().sum() - noise / len(g)).clamp(min=0)
        assert found["gradient_norm"][k] == pytest.approx(g.mean(0).norm().item(), rel=1e-6)
        assert found["gradient_snr"][k] == pytest.approx((signal / noise).sqrt().item(), rel=1e-6)


def test_norms_and_update_ratios():
    mlp = population([config(widths=(5,)), config(widths=(5,), seed=2)])
    before = [w.detach().clone() for w in mlp.weights]
    for k in range(2):
        both = torch.cat([w[k].flatten() for w in before])
        assert weight_norms(mlp)["weight_norm"][k] == pytest.approx(both.norm().item(), rel=1e-6)
        assert weight_norms(mlp)["weight_norm_1"][k] == pytest.approx(before[1][k].norm().item(), rel=1e-6)
    mlp.weights[0].data[1] *= 1.01
    found = update_ratios(mlp, before)
    assert found["update_ratio_0"].tolist() == pytest.approx([0, 0.01], abs=1e-6)
    assert found["update_ratio_1"].tolist() == [0, 0]
