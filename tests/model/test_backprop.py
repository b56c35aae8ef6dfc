"""Back-propagation written out against autograd on the whole pass, and each table's derivatives against autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlp_study.config.schema import Choice
from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.factors.lazy_gradient import multiplied_out
from mlp_study.factors.losses import LOSSES
from mlp_study.factors.table import Option
from mlp_study.model.backprop import Backprop
from mlp_study.model.population import PopulationMLP
from tests.small_runs import config

F64 = torch.float64
B = 11


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def by_autograd(mlp: PopulationMLP, x_GBI: Tensor, y_KB: Tensor, keys_K: Tensor | None = None) -> tuple[Tensor, ...]:
    share_KB = torch.full(y_KB.shape, 1 / B, dtype=mlp.weights[0].dtype)
    loss_KB = mlp.loss(mlp(x_GBI, keys_K), y_KB)
    return torch.autograd.grad(loss_KB, list(mlp.parameters()), share_KB, materialize_grads=True)


@torch.no_grad()
def written_out(mlp: PopulationMLP, x_GBI: Tensor, y_KB: Tensor, keys_K: Tensor | None = None) -> list[Tensor]:
    passed = Backprop(mlp)
    _, slope_KCB = mlp.loss_with_slope(passed.forward(x_GBI, keys_K), y_KB)
    dtype = mlp.weights[0].dtype
    return [multiplied_out(g, dtype) for g in passed.backward(slope_KCB / B)]


def same(mlp: PopulationMLP, streams: int, **more: Tensor) -> None:
    x, y = torch.randn(streams, B, mlp.sizes[0], dtype=F64), torch.randint(0, mlp.sizes[-1], (mlp.K, B))
    truth = by_autograd(mlp, x, y, **more)
    for ours, wanted in zip(written_out(mlp, x, y, **more), truth, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-11)


MIXTURES = {
    "formulas": ("relu", "tanh", "relu", "gelu"),
    "one of them without a formula": ("relu", "softsign", "tanh", "gelu"),
    "one of them learned": ("relu", "tanh", "prelu", "gelu"),
    "alike": ("sigmoid",) * 4,
}


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("streams", [[4], [2, 2], [3, 1], [1, 1, 1, 1]])
@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_networks_gradients_are_those_of_autograd_on_the_whole_pass(mixture, streams, norm):
    configs = [config("model.widths=[6,5]", f"model.norm={norm}", f"activation={a}", f"seed={k}")
               for k, a in enumerate(MIXTURES[mixture])]  # fmt: skip
    same(PopulationMLP(configs, 7, 3, streams).double(), len(streams))


def test_so_they_are_with_dropout_and_with_several_losses():
    names = ["cross_entropy", "mse", "clipped_cross_entropy", "cross_entropy"]
    configs = [config("model.widths=[6,5,4]", f"loss={name}", f"model.dropout={0.1 * k}", f"seed={k}")
               for k, name in enumerate(names)]  # fmt: skip
    same(PopulationMLP(configs, 7, 3, [2, 2]).double(), 2, keys_K=torch.arange(4) * 12345)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if ACTIVATIONS[name].slope])
def test_an_activations_derivative_is_autograds(name):
    entry = ACTIVATIONS[name]
    z = torch.cat([torch.linspace(-6, 6, 241, dtype=F64), torch.tensor([-800.0, 800.0], dtype=F64)])
    z = torch.stack([z, z])[:, None]  # two members
    for options in choices_of(entry.options):
        leaf = z.clone().requires_grad_()
        a = entry.function(leaf, **options)
        g = torch.randn_like(z)
        [truth] = torch.autograd.grad(a, leaf, g)
        torch.testing.assert_close(entry.slope(g.clone(), z, a.detach(), **options), truth, rtol=1e-12, atol=1e-12)


def choices_of(options: dict[str, Option]) -> list[dict[str, object]]:
    """The defaults, each choice of a switch, and a number of each member's own."""
    plain = {key: option.default for key, option in options.items()}
    found = [plain, *({**plain, key: choice} for key, o in options.items() for choice in o.choices or ())]
    own = {key: torch.tensor([0.2, 0.7], dtype=F64).view(-1, 1, 1) for key, o in options.items() if o.per_member}
    return [*found, {**plain, **own}]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, "own"])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_a_losss_formula_is_autograds(smoothing, scale):
    logits, labels = scale * torch.randn(2, 10, B, dtype=F64), torch.randint(10, (2, B))
    smoothing = torch.tensor([0.05, 0.3], dtype=F64).view(-1, 1, 1) if smoothing == "own" else smoothing
    entry = LOSSES["cross_entropy"]
    assert entry.formula
    leaf = logits.clone().requires_grad_()
    truth = entry.function(leaf, labels, label_smoothing=smoothing)
    loss, slope = entry.with_slope(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(loss, truth.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, torch.autograd.grad(truth.sum(), leaf)[0], rtol=1e-10, atol=1e-12)


def test_a_network_that_is_no_number_any_more_says_so_as_autograd_does():
    configs = [config("model.widths=[6]", f"seed={k}") for k in range(2)]
    mlp = PopulationMLP(configs, 7, 3).double()
    mlp.weights[0].data[1] = torch.inf
    x, y = torch.randn(1, B, 7, dtype=F64), torch.randint(0, 3, (2, B))
    truth, ours = by_autograd(mlp, x, y), written_out(mlp, x, y)
    for mine, wanted in zip(ours, truth, strict=True):
        torch.testing.assert_close(mine[0], wanted[0], rtol=1e-9, atol=1e-11)
        assert not mine[1].isfinite().all()
        assert not wanted[1].isfinite().all()


def test_in_mixed_precision_slopes_and_products_are_the_lower_ones():
    configs = [config("model.widths=[16]", "model.norm=layer", f"seed={k}") for k in range(3)]
    mlp = PopulationMLP(configs, 20, 4)
    x, y = torch.randn(1, B, 20), torch.randint(0, 4, (3, B))
    exact = written_out(mlp, x, y)
    with torch.autocast("cpu", torch.bfloat16):
        passed = Backprop(mlp)
        with torch.no_grad():
            _, slope = mlp.loss_with_slope(passed.forward(x), y)
            gradients = passed.backward(slope / B)
    assert {g.dtype for g in gradients[:2]} == {torch.bfloat16}
    assert {g.dtype for g in gradients[2:]} == {torch.float32}
    for ours, truth in zip(gradients, exact, strict=True):
        assert (multiplied_out(ours, torch.float32) - truth).norm() <= 0.05 * truth.norm()


def test_members_may_differ_in_an_activations_number():
    configs = [config("model.widths=[6]", f"seed={k}") for k in range(3)]
    configs = [type(c).from_dict({**c.to_dict(), "activation": {"name": "elu", "alpha": 0.5 + k}})
               for k, c in enumerate(configs)]  # fmt: skip
    assert configs[0].activation == Choice("elu", {"alpha": 0.5})
    same(PopulationMLP(configs, 7, 3).double(), 1)
