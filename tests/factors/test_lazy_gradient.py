"""Weight gradients as two factors: multiplied out, added up, divided among members, against numpy's einsum."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlp_study.config.schema import Choice
from mlp_study.factors.lazy_gradient import LazyGradient, cleared, multiplied_out, summed
from mlp_study.factors.optimizers import OPTIMIZERS
from mlp_study.model.backprop import Backprop
from mlp_study.model.population import PopulationMLP
from mlp_study.training.updates import Updates
from tests.small_runs import config

streams = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)
F64 = torch.float64


def drawn(per_stream: tuple[int, ...] | None, members: int, seed: int = 0) -> tuple[LazyGradient, np.ndarray]:
    """A gradient of random factors, and what it is by definition: the sum over images of slope times input."""
    source = torch.Generator().manual_seed(seed)
    slope = torch.randn(members, 4, 5, generator=source, dtype=F64)
    if per_stream is None:
        inputs = torch.randn(members, 3, 5, generator=source, dtype=F64)
        own = inputs.numpy()
    else:
        inputs = torch.randn(len(per_stream), 5, 3, generator=source, dtype=F64)
        own = np.repeat(inputs.numpy().transpose(0, 2, 1), per_stream, axis=0)
    return LazyGradient(slope, inputs, per_stream), np.einsum("mob,mib->moi", slope.numpy(), own)


@given(streams)
def test_it_is_the_product_of_its_factors(per_stream):
    for shape in (per_stream, None):
        gradient, truth = drawn(shape, sum(per_stream))
        np.testing.assert_allclose(gradient.dense(F64), truth, rtol=1e-12, atol=1e-12)


@given(streams, st.booleans(), st.booleans())
def test_it_adds_itself_to_a_target_with_one_number_or_one_a_member(per_stream, own_alpha, own_beta):
    m = sum(per_stream)
    alpha = torch.linspace(-1, 2, m, dtype=F64).view(-1, 1, 1) if own_alpha else -0.3
    beta = torch.linspace(0, 1, m, dtype=F64).view(-1, 1, 1) if own_beta else 0.9
    for shape in (per_stream, None):
        gradient, truth = drawn(shape, m)
        target = torch.ones(m, 4, 3, dtype=F64)
        if own_alpha:
            gradient.scaled(alpha).add_to(target, 1.0, beta)
        else:
            gradient.add_to(target, alpha, beta)
        np.testing.assert_allclose(target, np.asarray(beta) + np.asarray(alpha) * truth, rtol=1e-12, atol=1e-12)


@given(streams, st.data())
def test_some_neighbours_part_is_theirs_also_where_it_cuts_a_stream(per_stream, data):
    m = sum(per_stream)
    start = data.draw(st.integers(0, m - 1))
    stop = data.draw(st.integers(start + 1, m))
    for shape in (per_stream, None):
        gradient, truth = drawn(shape, m)
        part = gradient.of(slice(start, stop))
        np.testing.assert_allclose(part.dense(F64), truth[start:stop], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("per_stream", [(2, 1), None])
def test_a_cleared_member_is_zero_even_where_it_was_no_number_and_its_neighbours_stay(per_stream):
    gradient, truth = drawn(per_stream, 3)
    gradient.slope_mOB[1, 0, 0] = torch.nan
    if per_stream is None:
        gradient.inputs[1] = torch.inf
    plain = torch.full((3, 4, 1), torch.nan, dtype=F64)
    cleared([gradient, plain], 1)
    truth[1] = 0
    np.testing.assert_allclose(gradient.dense(F64), truth, rtol=1e-12, atol=1e-12)
    assert plain[1].eq(0).all()
    assert plain[0].isnan().all()


def test_pieces_of_a_minibatch_add_up_to_the_whole():
    (first, a), (second, b) = drawn((2, 1), 3), drawn((2, 1), 3, seed=1)
    biases = torch.ones(3, 3, 4, 1, dtype=F64)
    weight, both = summed(summed([first, biases[0]], [second, biases[1]], F64), [first, biases[2]], F64)
    np.testing.assert_allclose(weight, 2 * a + b, rtol=1e-12, atol=1e-12)
    assert both.eq(3).all()


def test_mixed_precision_multiplies_in_the_lower_and_adds_in_the_higher_one():
    gradient, truth = drawn((3,), 3)
    low = LazyGradient(gradient.slope_mOB.bfloat16(), gradient.inputs.bfloat16(), (3,))
    target = torch.ones(3, 4, 3)
    low.add_to(target, alpha=0.5, beta=2.0)
    np.testing.assert_allclose(target, 2 + 0.5 * truth, rtol=0.05, atol=0.05)
    assert low.dense(torch.float32).dtype == torch.float32


RULES = {
    "sgd": {}, "momentum": {"momentum": 0.9}, "sgd with l2": {"l2": 0.1}, "sgd, clipped": {"clip_norm": 0.5},
    "momentum with decay": {"momentum": 0.5, "weight_decay": 0.2}, "momentum, l2": {"momentum": 0.9, "l2": 0.01},
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("same", [True, False])
def test_an_update_from_factors_is_the_update_from_their_product(rule, same):
    name = rule.split(",")[0].split()[0]
    options = {k: o.default for k, o in OPTIMIZERS[name].options.items()} | RULES[rule]
    lrs = [0.1, 0.1, 0.1] if same else [0.1, 0.2, 0.05]
    configs = [replace(config("model.widths=[4]"), optimizer=Choice(name, {**options, "lr": lr})) for lr in lrs]
    moved = []
    for factored in (True, False):
        mlp = PopulationMLP(configs, 3, 4, [2, 1]).double()
        updates = Updates(mlp, 10)
        updates.numbers = [{k: v.to(mlp.weights[0]) if torch.is_tensor(v) else v for k, v in n.items()}
                           for n in updates.numbers]  # fmt: skip
        for step in range(3):
            x = torch.randn(2, 5, 3, dtype=F64, generator=torch.Generator().manual_seed(step))
            y = torch.randint(0, 4, (3, 5), generator=torch.Generator().manual_seed(step))
            with torch.no_grad():
                passed = Backprop(mlp)
                _, slope = mlp.loss_with_slope(passed.forward(x), y)
                gradients = passed.backward(slope / 5)
                updates.step(gradients if factored else [multiplied_out(g, F64) for g in gradients])
        moved.append([p.detach().clone() for p in mlp.parameters()])
    for ours, truth in zip(*moved, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-12)
