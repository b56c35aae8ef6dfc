"""Sharpness against a dense Hessian, and optimizers' thresholds against a quadratic, where divergence is exact."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.factors.losses import LOSSES
from mlp_study.factors.optimizers import OPTIMIZERS
from mlp_study.model.population import PopulationMLP
from mlp_study.probes import sharpness
from mlp_study.probes.gradients import gradient_moments, minibatches
from mlp_study.probes.sharpness import Hessian, largest_eigenvalue, preconditioner, sharpness_probes
from tests.probes.small import chunked, config, images, population
from tests.small_runs import mean_loss

X_NI = images(40, 4)


class HardSigmoid(torch.nn.Module):
    def forward(self, z):
        return (z / 6 + 0.5).clamp(0, 1)


def dense_hessian(mlp, k, chunks, loss):
    """Member k's Hessian [P, P] by torch.autograd on the exported plain network, in float64."""
    x_NI, y_N = torch.cat([x[0] for x, _ in chunks]).double(), torch.cat([y[0] for _, y in chunks])
    net = mlp.export(k).double()
    for name, module in list(net.named_children()):
        if isinstance(module, torch.nn.Hardsigmoid):  # torch has no second derivative of it
            setattr(net, name, HardSigmoid())
    names = [name for name, _ in net.named_parameters()]
    shapes = [p.shape for p in net.parameters()]

    def total(vector):
        parts = vector.split([s.numel() for s in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return loss(functional_call(net, weights, x_NI), y_N)

    return hessian(total, parameters_to_vector(net.parameters()).detach())


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_against_the_dense_hessian(activation):
    configs = [config(activation, widths=(5,), seed=seed) for seed in (0, 1)]
    mlp = population(configs, inputs=4, spread=0.3).double()
    chunks = [(x.double(), y) for x, y in chunked(X_NI, 15, members=2)]
    found = largest_eigenvalue(Hessian(mlp, chunks), iterations=200)
    for k in (0, 1):
        dense = dense_hessian(mlp, k, chunks, torch.nn.functional.cross_entropy)
        assert found[k].item() == pytest.approx(torch.linalg.eigvalsh(dense).max().item(), rel=1e-5)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_against_the_dense_hessian(loss):
    mlp = population([config("tanh", widths=(5, 4), loss=loss)], inputs=4, spread=0.3).double()
    chunks = [(x.double(), y) for x, y in chunked(X_NI, 40)]
    dense = dense_hessian(mlp, 0, chunks, mean_loss(loss, **mlp.configs[0].loss.options))
    found = largest_eigenvalue(Hessian(mlp, chunks), iterations=200)[0].item()
    assert found == pytest.approx(torch.linalg.eigvalsh(dense).max().item(), rel=1e-5)


def test_members_are_independent_and_the_largest_is_algebraic():
    """A Hessian whose largest magnitude is negative: power iteration would find that one."""
    configs = [config(widths=(5,), seed=seed, loss={"name": "mse"}) for seed in range(3)]
    mlp = population(configs, inputs=4).double()
    for weight in mlp.weights:
        weight.data[1] *= 30
    chunks = [(x.double(), y) for x, y in chunked(X_NI, 40, members=3)]
    found = largest_eigenvalue(Hessian(mlp, chunks), iterations=200)
    for k in range(3):
        dense = dense_hessian(mlp, k, chunks, mean_loss("mse"))
        assert found[k].item() == pytest.approx(torch.linalg.eigvalsh(dense).max().item(), rel=1e-4, abs=1e-9)


def test_preconditioned_against_the_dense_matrix():
    configs = [config("tanh", widths=(5,), optimizer="adam"), config("tanh", widths=(5,), optimizer="sgd")]
    mlp = population(configs, inputs=4, spread=0.3).double()
    chunks = [(x.double(), y) for x, y in chunked(X_NI, 40, members=2)]
    square = gradient_moments(mlp, minibatches(chunks, 8)).square
    found = largest_eigenvalue(Hessian(mlp, chunks, preconditioner(mlp, square)), iterations=300)
    dense = dense_hessian(mlp, 0, chunks, torch.nn.functional.cross_entropy)
    order = [0, 2, 1, 3]  # the population holds weights, then biases; the plain network holds them layer by layer
    diagonal = torch.cat([square[i][0].flatten() for i in order]).sqrt() + configs[0].optimizer.options["eps"]
    scaled = dense / torch.sqrt(diagonal[:, None] * diagonal)
    assert found[0].item() == pytest.approx(torch.linalg.eigvalsh(scaled).max().item(), rel=1e-4)
    plain = dense_hessian(mlp, 1, chunks, torch.nn.functional.cross_entropy)
    assert found[1].item() == pytest.approx(torch.linalg.eigvalsh(plain).max().item(), rel=1e-4)


def test_an_l2_penalty_adds_to_every_eigenvalue():
    bare, penalized = (config(widths=(5,), optimizer={"name": "sgd", "l2": l2}) for l2 in (0.0, 0.7))
    mlp = population([bare, penalized], inputs=4, spread=0.3)
    for parameter in mlp.parameters():
        parameter.data[1] = parameter.data[0]
    found = largest_eigenvalue(Hessian(mlp, chunked(X_NI, 40, members=2)), 60)
    assert (found[1] - found[0]).item() == pytest.approx(0.7, abs=1e-3 * found[0].item())


def test_an_l2_penalty_is_left_out_where_an_optimizer_divides_by_the_gradients_root():
    """At a pixel that is always zero it would be l2 / eps, though no step is longer than lr."""
    bare, penalized = (config(widths=(5,), optimizer={"name": "adagrad", "l2": l2}) for l2 in (0.0, 0.01))
    mlp = population([bare, penalized], inputs=4, spread=0.3)
    for parameter in mlp.parameters():
        parameter.data[1] = parameter.data[0]
    chunks = [(x * torch.tensor([1.0, 1.0, 1.0, 0.0]), y) for x, y in chunked(X_NI, 40, members=2)]
    square = gradient_moments(mlp, minibatches(chunks, 8)).square
    found = largest_eigenvalue(Hessian(mlp, chunks, preconditioner(mlp, square)), 60)
    assert found[1].item() == pytest.approx(found[0].item())


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_parts_of_the_members_find_what_all_at_once_do(at_once, monkeypatch):
    """Seven members on three input streams of their own, one of them without numbers."""
    optimizers = ["sgd", "adam", "sgd", "adam", "momentum", "sgd", "adam"]
    configs = [config("tanh", widths=(5,), norm="batch", seed=k, optimizer=o) for k, o in enumerate(optimizers)]
    mlp = PopulationMLP(configs, 4, 3, [3, 2, 2]).double().train()
    mlp.weights[0].data[4] = torch.nan
    x_GBI = images(60, 4).double().view(3, 20, 4)
    labels = [torch.randint(3, (7, size), generator=torch.Generator().manual_seed(size)) for size in (12, 8)]
    chunks = list(zip(x_GBI.split([12, 8], 1), labels, strict=True))
    square = gradient_moments(mlp, minibatches(chunks, 4)).square
    whole = sharpness_probes(mlp, chunks, square)
    seen: list[int] = []
    plain_init = Hessian.__init__

    def counting_init(self, part, *arguments):
        seen.append(part.K)
        plain_init(self, part, *arguments)

    monkeypatch.setattr(Hessian, "__init__", counting_init)
    monkeypatch.setattr(sharpness, "LANCZOS_BYTES", at_once * sharpness.member_bytes(mlp, 20))
    in_parts = sharpness_probes(mlp, chunks, square)
    assert max(seen) == at_once
    assert sum(seen) == 7
    for name, value_K in whole.items():
        torch.testing.assert_close(in_parts[name], value_K, rtol=1e-6, atol=0, equal_nan=True)
    assert whole["sharpness"].isnan().tolist() == [k == 4 for k in range(7)]


def test_a_network_that_sends_no_gradient_back_is_flat():
    mlp = population([config(widths=(5,), loss="clipped_cross_entropy")], inputs=4)
    mlp.biases[1].data[:] = torch.tensor([[0.0], [0.0], [1e4]])
    x_NI = X_NI[:10]
    found = sharpness_probes(mlp, [(x_NI[None], torch.zeros(1, 10, dtype=torch.int64))])
    assert found["sharpness"].item() == 0
    assert found["sharpness_images"].item() == 10


@pytest.mark.parametrize("name", [n for n, o in OPTIMIZERS.items() if o.threshold and n != "adagrad"])
@pytest.mark.parametrize("index", [0.95, 1.05])
def test_thresholds_tell_divergence_on_a_quadratic(name, index):
    """Descent on c x^2 / 2 with the preconditioner held at 1: it grows above the threshold, and only there.

    Not adagrad: its preconditioner only grows, so it leaves every unstable region in the end.
    """
    entry = OPTIMIZERS[name]
    options = {k: o.default for k, o in entry.options.items() if o.default is not None}
    options |= {"lr": 0.01, "weight_decay": 0.0}
    curvature = index * entry.threshold(options)
    x = torch.full((1, 1, 1), 1e-60, dtype=torch.float64)
    state = {key: torch.zeros_like(x) for key in entry.state}
    beta2 = options.get("beta2", options.get("rho", 1.0))
    late, sizes = 100_000, []  # so late that Adam's bias corrections are 1
    for step in range(late, late + 1200):
        if "square" in state:
            state["square"][:] = 1 / beta2  # the update's own decay brings it to 1
        entry.update(x, curvature * x, state, step, options)
        sizes.append(x.abs().item())
    assert (max(sizes[-50:]) > max(sizes[:50])) == (index > 1)
