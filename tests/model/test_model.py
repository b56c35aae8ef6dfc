"""PopulationMLP against plain torch networks: parameters, logits, normalization, dropout, and who draws what."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mlp_study.config.schema import RunConfig
from mlp_study.factors.activations import ACTIVATIONS
from mlp_study.factors.initializers import INITIALIZERS
from mlp_study.model.population import PopulationMLP, build_sequential
from mlp_study.runtime.randomness import derived_seed, from_image, generator, hashed_uniform
from tests.small_runs import config

INPUTS, CLASSES = 6, 3


def mixed(norm: str = "none") -> list[RunConfig]:
    """Members of three streams that differ in activation, its options, initializer, dropout and seed."""
    each = [f"activation={name}" for name in ACTIVATIONS]
    more = [
        ("activation=leaky_relu", "activation.slope=0.3"),
        ("activation=prelu", "activation.slope=0.1"),
        ("activation=elu", "activation.alpha=0.5", "model.dropout=0.3"),
    ]
    rows = [(a, f"seed={k}", f"init={list(INITIALIZERS)[k % len(INITIALIZERS)]}") for k, a in enumerate(each)] + more
    return [config(*row, f"model.norm={norm}") for row in rows]


def stirred(mlp: PopulationMLP) -> PopulationMLP:
    """Every tensor away from its initial zeros and ones, so that none is taken for another's."""
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in mlp.tensors().items():
            tensor.add_(0.3 * torch.rand(tensor.shape, generator=source) + (0.1 if name.startswith("var_") else 0))
    return mlp


def batch(streams: int, size: int = 9) -> Tensor:
    return torch.randn(streams, size, INPUTS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_member_is_its_exported_network(norm: str) -> None:
    configs = mixed(norm)
    streams = [2, 1, len(configs) - 3]
    mlp = stirred(PopulationMLP(configs, INPUTS, CLASSES, streams)).eval()
    x_GBI = batch(len(streams))
    logits_KCB = mlp(x_GBI)
    stream_of = [0, 0, 1] + [2] * streams[2]
    for k in range(len(configs)):
        torch.testing.assert_close(mlp.export(k)(x_GBI[stream_of[k]]), logits_KCB[k].T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_parameters_are_counted_as_torch_counts_them(norm: str) -> None:
    mlp = PopulationMLP(mixed(norm), INPUTS, CLASSES)
    for k, member in enumerate(mlp.configs):
        plain = build_sequential(member, INPUTS, CLASSES)
        assert mlp.count_parameters(k) == sum(p.numel() for p in plain.parameters())


def test_the_first_network_of_the_study_has_79510_parameters() -> None:
    mlp = PopulationMLP([config("model.widths=[100]")], 784, 10)
    assert mlp.count_parameters(0) == 784 * 100 + 100 + 100 * 10 + 10 == 79510


def test_initial_weights_depend_on_nobody_else() -> None:
    configs = mixed()
    together = PopulationMLP(configs, INPUTS, CLASSES)
    for k, member in enumerate(configs):
        alone = PopulationMLP([member], INPUTS, CLASSES)
        for name, tensor in alone.state_of(0).items():
            assert torch.equal(tensor, together.state_of(k)[name]), (k, name)


def test_equal_seeds_draw_equal_weights_and_others_do_not() -> None:
    mlp = PopulationMLP([config("seed=0"), config("seed=1"), config("seed=0", "activation=tanh")], INPUTS, CLASSES)
    assert torch.equal(mlp.weights[0][0], mlp.weights[0][2])
    assert not torch.equal(mlp.weights[0][0], mlp.weights[0][1])
    assert not torch.equal(mlp.weights[1][0][:3, :3], mlp.weights[2][0][:3, :3]), (
        "layers draw from one another's numbers"
    )


@pytest.mark.parametrize(("norm", "module"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_normalization_in_training_is_torchs(norm: str, module: type[nn.Module]) -> None:
    mlp = stirred(PopulationMLP([config(f"model.norm={norm}", f"seed={k}") for k in range(3)], INPUTS, CLASSES)).train()
    plain = [mlp.export(k).train() for k in range(3)]
    for step in range(4):
        x_GBI = batch(1, size=8 + step)
        logits_KCB = mlp(x_GBI)
        for k in range(3):
            torch.testing.assert_close(plain[k](x_GBI[0]), logits_KCB[k].T, rtol=1e-4, atol=1e-5)
    for k in range(3):  # the running statistics too
        for name, tensor in mlp.state_of(k).items():
            torch.testing.assert_close(plain[k].state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert any(isinstance(part, module) for part in plain[0])


def test_a_minibatch_of_one_image_passes_batch_normalization() -> None:
    mlp = PopulationMLP([config("model.norm=batch")], INPUTS, CLASSES).train()
    assert torch.isfinite(mlp(batch(1, size=1))).all()
    assert all(torch.isfinite(b).all() for b in mlp.buffers())


def test_layerwise_ends_in_the_logits() -> None:
    mlp = stirred(PopulationMLP(mixed(), INPUTS, CLASSES)).eval()
    x_GBI = batch(1)
    *hidden, (logits_KCB, _) = mlp.layerwise(x_GBI)
    assert [tuple(z.shape[1:]) for z, _ in hidden] == [(7, 9), (5, 9)]
    assert torch.equal(logits_KCB, mlp(x_GBI))


def test_a_selection_keeps_its_members_numbers() -> None:
    mlp = stirred(PopulationMLP(mixed("batch"), INPUTS, CLASSES)).eval()
    few = mlp.select([1, 4, 9], [3])
    assert torch.equal(mlp.weights[0][[1, 4, 9]], few.weights[0])
    for place, k in enumerate([1, 4, 9]):
        torch.testing.assert_close(few.export(place)(batch(1)[0]), mlp.export(k)(batch(1)[0]), rtol=0, atol=0)


def test_dropout_scales_what_it_keeps_and_drops_its_share() -> None:
    shares = [0.0, 0.2, 0.75]
    mlp = PopulationMLP([config(f"model.dropout={p}", "model.widths=[200]") for p in shares], INPUTS, CLASSES).train()
    ones_KOB = torch.ones(3, 200, 300)
    keys_K = torch.tensor([derived_seed(k) for k in range(3)])
    dropped_KOB = mlp._dropped(0, ones_KOB, keys_K)
    for k, p in enumerate(shares):
        values = dropped_KOB[k].unique()
        assert all(math.isclose(v, 0, abs_tol=0) or math.isclose(v, 1 / (1 - p), rel_tol=1e-6) for v in values.tolist())
        error = 4 * math.sqrt(p * (1 - p) / 60_000)
        assert (dropped_KOB[k] == 0).float().mean().item() == pytest.approx(p, abs=error)
        for axis in (0, 1):  # and no unit or image is favoured
            spread = (dropped_KOB[k] == 0).float().mean(axis).std().item()
            assert spread <= 1.2 * math.sqrt(p * (1 - p) / dropped_KOB.shape[1 + axis]) + 1e-9


def test_dropout_masks_differ_between_layers_and_members_and_are_alike_in_evaluation() -> None:
    twins = [config("model.dropout=0.5", "model.widths=[40,40]") for _ in range(2)]
    mlp = PopulationMLP(twins, INPUTS, CLASSES)
    a_KOB, keys_K = torch.ones(2, 40, 50), torch.tensor([derived_seed(0), derived_seed(1)])
    first, second = mlp._dropped(0, a_KOB, keys_K), mlp._dropped(1, a_KOB, keys_K)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert torch.equal(mlp.eval()(batch(1)), mlp.train()(batch(1), None))


@given(st.integers(0, 2**62), st.integers(1, 40), st.integers(2, 60), st.data())
def test_dropout_of_a_minibatch_in_pieces_is_that_of_the_whole(
    seed: int, units: int, images: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, images - 1))
    key_m = torch.tensor([derived_seed(seed), derived_seed(seed + 1)])
    whole = hashed_uniform(key_m, units, images)
    pieces = [hashed_uniform(key_m, units, cut), hashed_uniform(from_image(key_m, cut), units, images - cut)]
    assert torch.equal(whole, torch.cat(pieces, 2))
    assert torch.equal(whole[1:], hashed_uniform(key_m[1:], units, images)), "a member's numbers depend on its key only"
    assert whole.min() >= 0
    assert whole.max() < 1


def test_hashed_numbers_are_uniform_and_uncorrelated() -> None:
    u_mOB = hashed_uniform(torch.tensor([derived_seed(0, "a"), derived_seed(1, "a")]), 300, 400).double()
    counts = torch.histc(u_mOB[0].flatten(), bins=64, min=0, max=1)
    chi2 = ((counts - 120_000 / 64) ** 2 / (120_000 / 64)).sum().item()
    assert 25 < chi2 < 120  # 63 degrees of freedom: 0.9999 of all samples lie inside
    pairs = [(u_mOB[0], u_mOB[1]), (u_mOB[0, 1:], u_mOB[0, :-1]), (u_mOB[0, :, 1:], u_mOB[0, :, :-1])]
    for a, b in pairs:
        r = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
        assert abs(r) < 4 / math.sqrt(a.numel())


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {
        derived_seed(s, *p) for s in range(50) for p in (("weights", 0), ("weights", 1), ("order", 0), ("dropout",))
    }
    assert len(seeds) == 200
    assert torch.equal(torch.rand(3, generator=generator(0, "a")), torch.rand(3, generator=generator(0, "a")))
