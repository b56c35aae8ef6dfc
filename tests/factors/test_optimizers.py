"""Update rules against torch.optim and the papers, members together against each alone, thresholds on a quadratic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from mlp_study.errors import ConfigError
from mlp_study.factors.optimizers import OPTIMIZERS, check_layers, clip_gradients
from mlp_study.factors.update_rules import NEWTON_SCHULZ, orthogonalized

M, STEPS = 3, 50
DECOUPLED = ("adamw", "nadam", "muon")  # where torch.optim has a decoupled decay of its own


def torchs(name: str, h: dict[str, float], p: list[Tensor]) -> torch.optim.Optimizer:
    """torch.optim's version with these hyperparameters; ``l2`` is its weight_decay, except where that is decoupled."""
    adam = {"lr": h["lr"], "betas": (h.get("beta1"), h.get("beta2")), "eps": h.get("eps")}
    momentum = {"lr": h["lr"], "momentum": h.get("momentum")}
    if name == "adamw":
        return torch.optim.AdamW(p, **adam, weight_decay=h["weight_decay"])
    if name == "muon":
        return torch.optim.Muon(p, **momentum, nesterov=h["nesterov"], weight_decay=h["weight_decay"])
    if name == "nadam":
        decay = {"momentum_decay": h["momentum_decay"], "decoupled_weight_decay": h["weight_decay"] > 0}
        return torch.optim.NAdam(p, **adam, **decay, weight_decay=h["l2"] or h["weight_decay"])
    made = {
        "sgd": lambda: torch.optim.SGD(p, lr=h["lr"], weight_decay=h["l2"]),
        "momentum": lambda: torch.optim.SGD(p, **momentum, weight_decay=h["l2"]),
        "nesterov": lambda: torch.optim.SGD(p, **momentum, nesterov=h["momentum"] > 0, weight_decay=h["l2"]),
        "adam": lambda: torch.optim.Adam(p, **adam, weight_decay=h["l2"]),
        "rmsprop": lambda: torch.optim.RMSprop(p, **momentum, alpha=h["rho"], eps=h["eps"], weight_decay=h["l2"]),
        "adagrad": lambda: torch.optim.Adagrad(p, lr=h["lr"], eps=h["eps"], weight_decay=h["l2"]),
    }
    return made[name]()


RANGES = {
    "lr": (1e-4, 0.1),
    "beta1": (0.0, 0.99),
    "beta2": (0.0, 0.9999),
    "momentum": (0.0, 0.99),
    "rho": (0.0, 0.999),
    "eps": (1e-10, 1e-2),
    "momentum_decay": (1e-4, 1.0),
    "vector_lr": (0.01, 2.0),
}


@st.composite
def hyperparameters(draw, name: str) -> list[dict[str, float]]:
    """One set of hyperparameters a member, with no decay, L2 or decoupled decay, for all of them alike."""
    decay = draw(st.sampled_from(["none", "l2", "weight_decay"]))
    members = []
    for _ in range(M):
        h = {key: option.default for key, option in OPTIMIZERS[name].options.items() if option.default is not None}
        h |= {key: draw(st.floats(*RANGES[key])) for key in h if key in RANGES}
        h |= {"l2": 0.0, "weight_decay": 0.0}
        if decay != "none":
            h[decay] = draw(st.floats(0.0, 0.5))
        members.append(h)
    return members


def stacked(name: str, members: list[dict[str, float]], dtype: torch.dtype = torch.float64) -> dict:
    """Hyperparameters as training hands them over: plain where all agree or a switch, else [m, 1, 1]."""
    return {
        key: value
        if not OPTIMIZERS[name].options[key].per_member or all(h[key] == value for h in members)
        else torch.tensor([h[key] for h in members], dtype=dtype).view(-1, 1, 1)
        for key, value in members[0].items()
    }


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pull(p: Tensor, step: int) -> Tensor:
    """A gradient that depends on the weights, so that an error feeds back, and on the step."""
    return 0.3 * p + noise(p.shape[-2:], seed=step).to(p.dtype)


def trained(name: str, h: dict, p: Tensor, steps: int = STEPS) -> Tensor:
    state = {key: torch.zeros_like(p) for key in OPTIMIZERS[name].state}
    p = p.clone()
    for step in range(1, steps + 1):
        OPTIMIZERS[name].update(p, pull(p, step), state, step, h)
    return p


def trained_by_torch(name: str, h: dict, p: Tensor) -> Tensor:
    parameter = torch.nn.Parameter(p.clone())
    optimizer = torchs(name, h, [parameter])
    if name == "nadam":  # torch keeps its momentum product in float32; the comparison is in float64
        optimizer.state[parameter] |= {key: torch.zeros_like(p) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] |= {"step": torch.tensor(0.0), "mu_product": torch.ones((), dtype=torch.float64)}
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            parameter.grad = pull(parameter.detach(), step)
            if name in ("adamw", "muon"):  # their weight_decay is decoupled, so L2 enters by hand
                parameter.grad += h["l2"] * parameter
            elif name not in DECOUPLED:  # and these have no decoupled decay
                parameter.mul_(1 - h["lr"] * h["weight_decay"])
        optimizer.step()
    return parameter.detach()


def test_every_optimizer_of_the_study_is_there():
    names = {"sgd", "momentum", "nesterov", "adam", "adamw", "nadam", "rmsprop", "adagrad", "lion", "muon"}
    assert set(OPTIMIZERS) == names


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lion", "muon")])
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_members_follow_torch_optim(name, data):
    members = data.draw(hyperparameters(name))
    p = noise((M, 4, 5), seed=99)
    together = trained(name, stacked(name, members), p)
    for k, h in enumerate(members):
        alone = trained(name, h, p[k : k + 1])[0]
        expected = trained_by_torch(name, h, p[k])
        torch.testing.assert_close(alone, expected, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(together[k], expected, rtol=1e-7, atol=1e-8)


def lion_of_the_paper(h: dict, p: np.ndarray) -> np.ndarray:
    """Chen et al. 2023, algorithm 2, line by line."""
    m = np.zeros_like(p)
    for step in range(1, STEPS + 1):
        g = pull(torch.from_numpy(p), step).numpy() + h["l2"] * p
        c = h["beta1"] * m + (1 - h["beta1"]) * g
        m, p = (
            h["beta2"] * m + (1 - h["beta2"]) * g,
            p - h["lr"] * (np.sign(c) + h["weight_decay"] * p),
        )
    return p


@given(members=hyperparameters("lion"))
@settings(max_examples=12, deadline=None)
def test_lion_follows_the_paper(members):
    p = noise((M, 4, 5), seed=99)
    together = trained("lion", stacked("lion", members), p)
    for k, h in enumerate(members):
        expected = torch.from_numpy(lion_of_the_paper(h, p[k].numpy()))
        torch.testing.assert_close(trained("lion", h, p[k : k + 1])[0], expected)
        torch.testing.assert_close(together[k], expected)


@given(members=hyperparameters("muon"), nesterov=st.booleans(), shape=st.sampled_from([(4, 7), (6, 3), (5, 5)]))
@settings(max_examples=12, deadline=None)
def test_muon_follows_torch_optim(members, nesterov, shape):
    members = [h | {"nesterov": nesterov} for h in members]
    p = noise((M, *shape), seed=99)
    together = trained("muon", stacked("muon", members), p)
    for k, h in enumerate(members):
        torch.testing.assert_close(together[k], trained("muon", h, p[k : k + 1])[0])
        expected = trained_by_torch("muon", h, p[k])
        # torch orthogonalizes in bfloat16: a step is off by about 1 %
        assert (together[k] - expected).norm() < 0.03 * h["lr"] * STEPS * math.sqrt(min(shape))


def polynomial_of_singular_values(g: Tensor, steps: int) -> Tensor:
    """What the Newton-Schulz iteration computes, from a decomposition in double precision."""
    a, b, c = NEWTON_SCHULZ
    u, s, v = torch.linalg.svd(g.double(), full_matrices=False)
    s = s / g.double().norm(dim=(-2, -1)).unsqueeze(-1)
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag_embed(s) @ v


@pytest.mark.parametrize("steps", [1, 3, 5, 6])
@pytest.mark.parametrize("shape", [(2, 20, 90), (2, 50, 20), (3, 16, 16), (2, 2, 2)])
def test_orthogonalized_is_the_polynomial_of_the_singular_values(shape, steps):
    full = noise(shape).float()
    poor = full[..., :2] @ full[..., :2, :]  # rank 2: rounding must not grow on the empty side
    for g in (full, poor):
        expected = polynomial_of_singular_values(g, steps)
        assert (orthogonalized(g, steps) - expected).norm() < 5e-3 * expected.norm()


def test_orthogonalized_brings_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalized(noise((4, 30, 100)).float()))
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert orthogonalized(torch.zeros(1, 3, 4)).equal(torch.zeros(1, 3, 4))


@given(members=hyperparameters("muon"))
@settings(max_examples=8, deadline=None)
def test_muon_trains_biases_by_adamw(members):
    p = noise((M, 5, 1), seed=99)
    together = trained("muon", stacked("muon", members), p)
    for k, h in enumerate(members):
        adamw = h | {"lr": h["lr"] * h["vector_lr"], "beta1": 0.9, "beta2": 0.95, "eps": 1e-10}
        torch.testing.assert_close(together[k], trained_by_torch("adamw", adamw, p[k]))


@pytest.mark.parametrize("layers", [[(1, 784), (10, 1)], [(16, 1), (10, 16)]])
def test_muon_refuses_a_one_dimensional_weight(layers):
    with pytest.raises(ConfigError, match=r"optimizer=muon needs weights that are matrices.*at least 2 units"):
        check_layers("muon", layers)
    check_layers("adam", layers)
    check_layers("muon", [(2, 784), (10, 2)])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_large_layers_equal_small_ones(name):
    """Where the fused kernel takes over: 70 x 64 entries a member, in float32, members alike and not."""
    defaults = {key: option.default for key, option in OPTIMIZERS[name].options.items() if option.default is not None}
    members = [defaults | {"lr": lr} for lr in (1e-3, 1e-2, 3e-2)]
    p = noise((M, 70, 64), seed=99).float()
    exact = trained(name, stacked(name, members), p.double(), steps=20)
    together = trained(name, stacked(name, members, torch.float32), p, steps=20)
    moved = (exact - p).norm()
    assert (together - exact).norm() < 1e-3 * moved
    for k, h in enumerate(members):
        assert (trained(name, h, p[k : k + 1], steps=20)[0] - exact[k]).norm() < 1e-3 * moved


def test_adam_takes_gradients_of_any_memory_layout():
    h = {key: option.default for key, option in OPTIMIZERS["adam"].options.items()}
    p, g = noise((M, 70, 64), seed=1), noise((M, 64, 70), seed=2)
    results = []
    for gradient in (g.mT, g.mT.contiguous()):
        q, state = p.clone(), {key: torch.zeros_like(p) for key in ("mean", "square")}
        OPTIMIZERS["adam"].update(q, gradient.clone(), state, 1, h)
        results.append(q)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("shape", [(4, 5), (70, 64), (5, 1)])
@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_a_member_at_infinity_leaves_its_neighbours_alone(name, shape, broken):
    defaults = {key: option.default for key, option in OPTIMIZERS[name].options.items() if option.default is not None}
    h = stacked(name, [defaults | {"lr": lr} for lr in (0.1, 0.2, 0.3)])
    p = noise((M, *shape), seed=99)
    healthy = trained(name, h, p, steps=3)
    p[1] = broken
    assert trained(name, h, p, steps=3)[::2].equal(healthy[::2])


def runs_away(name: str, h: dict[str, float], sharpness: float) -> bool:
    """Whether gradient steps on sharpness/2 p^2 diverge, with a preconditioner that stays at 1."""
    start = 1e-9  # so small that the squares of 10,000 times as much don't move the preconditioner
    p = torch.full((1, 1, 1), start, dtype=torch.float64)
    state = {key: torch.zeros_like(p) for key in OPTIMIZERS[name].state}
    if "square" in state:
        state["square"].fill_(1.0)
    for step in range(600):
        OPTIMIZERS[name].update(p, sharpness * p, state, 10**9 + step, h)
        if abs(p.item()) > 1e4 * start:
            return True
    return False


@given(
    name=st.sampled_from([name for name in OPTIMIZERS if OPTIMIZERS[name].threshold]),
    lr=st.floats(1e-3, 1.0),
    beta=st.floats(0.0, 0.95),
)
@settings(max_examples=30, deadline=None)
def test_threshold_parts_convergence_from_divergence(name, lr, beta):
    h = {key: option.default for key, option in OPTIMIZERS[name].options.items()}
    still = math.nextafter(1.0, 0.0)  # a mean square that never moves
    changes = {
        "lr": lr,
        "momentum": beta,
        "beta1": beta,
        "beta2": still,
        "rho": still,
        "eps": 1e-12,
        "weight_decay": 0.0,
    }
    h |= {key: value for key, value in changes.items() if key in h}
    if name in ("adam", "adamw"):
        h["beta2"] = 1 - 1e-7  # its bias correction needs beta2^step to vanish
    threshold = OPTIMIZERS[name].threshold(h)
    assert not runs_away(name, h, 0.97 * threshold)
    assert runs_away(name, h, 1.03 * threshold)


def test_adams_threshold_is_the_published_38_over_lr():
    assert OPTIMIZERS["adam"].threshold({"lr": 0.001, "beta1": 0.9}) == pytest.approx(38 / 0.001)


@given(
    norms=st.lists(st.floats(0.01, 20) | st.just(math.inf), min_size=M, max_size=M),
    values=st.lists(st.floats(0.01, 3) | st.just(math.inf), min_size=M, max_size=M),
)
@settings(max_examples=30, deadline=None)
def test_clipping_is_torchs_member_by_member(norms, values):
    grads = [noise((M, 4, 5), seed=1), noise((M, 4, 1), seed=2)]
    expected = []
    for k in range(M):
        parameters = [torch.nn.Parameter(torch.zeros_like(g[k])) for g in grads]
        for parameter, g in zip(parameters, grads, strict=True):
            parameter.grad = g[k].clone()
        clip_grad_value_(parameters, values[k])
        if math.isfinite(norms[k]):
            clip_grad_norm_(parameters, norms[k])
        expected.append([parameter.grad for parameter in parameters])
    clip_gradients(grads, torch.tensor(norms, dtype=torch.float64), torch.tensor(values, dtype=torch.float64))
    for g, *wanted in zip(grads, *expected, strict=True):
        torch.testing.assert_close(g, torch.stack(wanted))


def test_without_limits_nothing_is_clipped():
    g = noise((M, 4, 5))
    g[1, 0, 0] = math.inf
    before = g.clone()
    clip_gradients([g], None, None)
    clip_gradients([g], torch.full((M,), math.inf), torch.full((M,), math.inf))
    assert g.equal(before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_entries_explain_themselves(name):
    entry = OPTIMIZERS[name]
    assert entry.doc
    assert entry.source
    assert {"lr", "weight_decay", "l2", "clip_norm", "clip_value"} <= set(entry.options)
    for key, option in entry.options.items():
        assert option.check(key, option.default) == option.default
        assert option.doc
