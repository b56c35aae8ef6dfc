"""The numerical gradient check: silent on right gradients, loud on wrong ones."""

from __future__ import annotations

import pytest
import torch
from small_runs import config, mean_loss
from torch import Tensor, nn

from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.model.population import PopulationMLP
from mlp_study.reproduction.gradient_check import TOLERANCE, gradient_check, gradient_error


def checked(activation: str, loss: nn.Module | None = None, scale: float = 1.0, seed: int = 0) -> float:
    model = PopulationMLP([config(f"activation={activation}", "model.widths=[12,9]", f"seed={seed}")], 20, 4).export(0)
    source = torch.Generator().manual_seed(seed)
    x_BI, y_B = scale * torch.rand(16, 20, generator=source), torch.randint(4, (16,), generator=source)
    return gradient_check(model, x_BI, y_B, loss or nn.functional.cross_entropy)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_it_flags_the_mismatched_gradient_and_no_other_activation(activation: str) -> None:
    error = checked(activation)
    assert (error > TOLERANCE) == (activation == "leaky_relu_mismatched"), error


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "hardtanh"])
@pytest.mark.parametrize("seed", range(3))
def test_kinks_and_raw_pixels_do_not_mislead_it(activation: str, seed: int) -> None:
    assert checked(activation, scale=255.0, seed=seed) < TOLERANCE


def test_it_flags_a_cost_that_is_followed_by_anothers_gradient() -> None:
    name = "binary_cross_entropy_eps"
    assert checked("sigmoid", mean_loss(name, eps=1e-8, gradient="exact")) < TOLERANCE
    assert checked("sigmoid", mean_loss(name, eps=1e-8, gradient="softmax_cross_entropy")) > 0.01


def test_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    before = [p.detach().clone() for p in model.parameters()]
    gradient_check(model, torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert all(p.grad is None and p.dtype == torch.float32 for p in model.parameters())


def test_the_error_is_the_part_that_the_gradient_lacks() -> None:
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        return w.sum() + 0.25 * w.detach().sum()  # slope 1.25, gradient 1

    error = gradient_error(loss, [w])
    assert 0.05 < error < 0.6  # 0.25 / 1.25 up to the directions' different lengths


def test_a_constant_loss_has_no_error_and_float32_is_refused() -> None:
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        return (0 * w).sum()

    assert gradient_error(loss, [w]) == 0.0
    with pytest.raises(ValueError, match="float64"):
        gradient_error(loss, [torch.zeros(3, requires_grad=True)])
