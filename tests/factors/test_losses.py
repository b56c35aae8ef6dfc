"""Losses against torch.nn, numpy's version of the sources' formulas, and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlp_study.factors.losses import LOSSES
from tests.small_runs import mean_loss

K, C, B = 3, 10, 6
CASES = [
    ("cross_entropy", {"label_smoothing": 0.0}),
    ("cross_entropy", {"label_smoothing": 0.2}),
    ("clipped_cross_entropy", {"eps": 1e-7, "label_smoothing": 0.0}),
    ("clipped_cross_entropy", {"eps": 1e-3, "label_smoothing": 0.1}),
    ("mse", {"output": "softmax"}),
    ("mse", {"output": "sigmoid"}),
    ("binary_cross_entropy_eps", {"eps": 1e-8, "gradient": "exact"}),
    ("binary_cross_entropy_eps", {"eps": 1e-2, "gradient": "exact"}),
    ("binary_cross_entropy_eps", {"eps": 1e-8, "gradient": "softmax_cross_entropy"}),
]


def examples(seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits_KCB = scale * torch.randn(K, C, B, generator=source, dtype=torch.float64)
    return logits_KCB, torch.randint(C, (K, B), generator=source)


def in_numpy(name: str, logits_CB: np.ndarray, labels_B: np.ndarray, **options) -> np.ndarray:
    """One member's losses [B], written out as Keras's backend and the numpy source have them."""
    y = np.eye(C)[labels_B].T
    p = np.exp(logits_CB - logits_CB.max(0))
    p /= p.sum(0)
    smoothing = options.get("label_smoothing", 0.0)
    target = y * (1 - smoothing) + smoothing / C
    if name == "cross_entropy":
        return -(target * np.log(p)).sum(0)
    if name == "clipped_cross_entropy":
        return -(target * np.log(np.clip(p, options["eps"], 1 - options["eps"]))).sum(0)
    if name == "mse":
        return np.mean(((p if options["output"] == "softmax" else 1 / (1 + np.exp(-logits_CB))) - y) ** 2, axis=0)
    return -(y * np.log(p + options["eps"]) + (1 - y) * np.log(1 - p + options["eps"])).sum(0)


def gradient(name: str, logits_KCB: Tensor, labels_KB: Tensor, **options) -> Tensor:
    logits_KCB = logits_KCB.clone().requires_grad_()
    return torch.autograd.grad(LOSSES[name].function(logits_KCB, labels_KB, **options).sum(), logits_KCB)[0]


def test_every_loss_of_the_study_is_there():
    assert set(LOSSES) == {name for name, _ in CASES}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_values_are_the_formulas(name, options):
    logits_KCB, labels_KB = examples()
    loss_KB = LOSSES[name].function(logits_KCB, labels_KB, **options)
    assert loss_KB.shape == (K, B)
    for k in range(K):
        expected = in_numpy(name, logits_KCB[k].numpy(), labels_KB[k].numpy(), **options)
        np.testing.assert_allclose(loss_KB[k].numpy(), expected, rtol=1e-9)
        mean = mean_loss(name, **options)(logits_KCB[k].T, labels_KB[k])
        assert mean.item() == pytest.approx(expected.mean())


@pytest.mark.parametrize(
    ("name", "options"), [case for case in CASES if case[1].get("gradient") != "softmax_cross_entropy"]
)
def test_gradient_is_the_derivative(name, options):
    logits_KCB, labels_KB = examples()
    h, found = 1e-6, gradient(name, *examples(), **options)
    for c in range(C):
        step = torch.zeros(C, 1, dtype=torch.float64)
        step[c] = h
        above = LOSSES[name].function(logits_KCB + step, labels_KB, **options)
        below = LOSSES[name].function(logits_KCB - step, labels_KB, **options)
        torch.testing.assert_close(found[:, c], (above - below) / (2 * h), atol=1e-8, rtol=1e-5)


@given(values=st.lists(st.floats(1e-6, 0.4), min_size=K, max_size=K), index=st.integers(0, len(CASES) - 1))
@settings(max_examples=30, deadline=None)
def test_members_with_different_options_equal_each_alone(values, index):
    name, options = CASES[index]
    own = [key for key, option in LOSSES[name].options.items() if option.per_member]
    stacked = torch.tensor(values, dtype=torch.float64).view(K, 1, 1)
    logits_KCB, labels_KB = examples()
    together = options | dict.fromkeys(own, stacked)
    loss_KB = LOSSES[name].function(logits_KCB, labels_KB, **together)
    gradient_KCB = gradient(name, logits_KCB, labels_KB, **together)
    for k, value in enumerate(values):
        alone = options | dict.fromkeys(own, value)
        one = logits_KCB[k : k + 1], labels_KB[k : k + 1]
        torch.testing.assert_close(loss_KB[k : k + 1], LOSSES[name].function(*one, **alone))
        torch.testing.assert_close(gradient_KCB[k : k + 1], gradient(name, *one, **alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-7, torch.full((2, 1, 1), 1e-7)])
def test_clipping_stops_the_gradient_exactly(dtype, eps):
    logits = torch.zeros(2, 4, 3, dtype=dtype)
    logits[:, 1, 0] = 200  # label 0: hopelessly wrong
    logits[:, 0, 1] = 200  # label 0: right beyond doubt
    labels = torch.zeros(2, 3, dtype=torch.int64)  # the third example is undecided
    options = {"eps": eps, "label_smoothing": 0.0}
    loss = LOSSES["clipped_cross_entropy"].function(logits, labels, **options)
    found = gradient("clipped_cross_entropy", logits, labels, **options)
    assert loss[0, 0].item() == pytest.approx(16.118, abs=5e-4)
    assert loss[0, 1].item() == pytest.approx(1e-7, rel=0.2)  # float32 holds 1 - 1.19e-7
    assert (found[..., :2] == 0).all()
    torch.testing.assert_close(found[0, :, 2], torch.tensor([-0.75, 0.25, 0.25, 0.25], dtype=dtype))
    assert gradient("cross_entropy", logits, labels)[0, 0, 0] == -1  # from the logits, the wrong one is pulled back


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clipped_cross_entropy", {"eps": 1e-7, "label_smoothing": 0.0}),
        ("clipped_cross_entropy", {"eps": 1e-3, "label_smoothing": 0.3}),
        ("binary_cross_entropy_eps", {"eps": 1e-8, "gradient": "exact"}),
    ],
)
def test_plateau_is_the_loss_of_a_network_that_is_wrong_beyond_recall(name, options):
    logits = torch.zeros(1, C, 1, dtype=torch.float64)
    logits[0, 3] = 500
    labels = torch.zeros(1, 1, dtype=torch.int64)
    loss = LOSSES[name].function(logits, labels, **options)
    assert LOSSES[name].plateau(**options) == pytest.approx(loss.item(), rel=1e-6)
    assert gradient(name, logits, labels, **options).abs().max() < 1e-100


def test_plateau_is_documented_where_there_is_one():
    assert LOSSES["clipped_cross_entropy"].plateau(eps=1e-7, label_smoothing=0.0) == pytest.approx(16.118, abs=5e-4)
    assert LOSSES["cross_entropy"].plateau(label_smoothing=0.0) is None
    assert LOSSES["binary_cross_entropy_eps"].plateau(eps=1e-8, gradient="softmax_cross_entropy") is None


@given(seed=st.integers(0, 1000), eps=st.floats(1e-12, 0.4))
@settings(max_examples=20, deadline=None)
def test_the_numpy_source_reports_one_loss_and_follows_another(seed, eps):
    logits_KCB, labels_KB = examples(seed)
    options = {"eps": eps, "gradient": "softmax_cross_entropy"}
    name = "binary_cross_entropy_eps"
    torch.testing.assert_close(
        LOSSES[name].function(logits_KCB, labels_KB, **options),
        LOSSES[name].function(logits_KCB, labels_KB, eps=eps, gradient="exact"),
    )
    found = gradient(name, logits_KCB, labels_KB, **options)
    one_hot_KCB = torch.nn.functional.one_hot(labels_KB, C).mT
    torch.testing.assert_close(found, logits_KCB.softmax(1) - one_hot_KCB)  # the hand-written gradient: A - Y


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_member_at_infinity_leaves_its_neighbours_alone(name, options):
    logits_KCB, labels_KB = examples()
    loss_KB, gradient_KCB = (
        LOSSES[name].function(logits_KCB, labels_KB, **options),
        gradient(name, *examples(), **options),
    )
    for broken in (math.inf, math.nan):
        logits_KCB[1] = broken
        assert LOSSES[name].function(logits_KCB, labels_KB, **options)[::2].equal(loss_KB[::2])
        assert gradient(name, logits_KCB, labels_KB, **options)[::2].equal(gradient_KCB[::2])
        if options.get("output") != "sigmoid" or math.isnan(broken):
            assert not LOSSES[name].function(logits_KCB, labels_KB, **options)[1].isfinite().any()


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("classes", [2, 10])
def test_chance_is_the_least_loss_of_one_answer_to_every_image(name, options, classes):
    """Against a search over constant outputs: equal logits, which is all that equally frequent labels can ask for."""
    labels_B = np.arange(classes)
    found = []
    for logit in np.linspace(-6, 6, 2401):
        logits_CB = torch.full((1, classes, classes), logit, dtype=torch.float64)
        found.append(float(LOSSES[name].function(logits_CB, torch.as_tensor(labels_B)[None], **options).mean()))
    assert LOSSES[name].chance_loss(classes, **options) == pytest.approx(min(found), rel=1e-4)


def test_chance_of_the_study_s_losses_in_closed_form():
    assert LOSSES["cross_entropy"].chance_loss(10) == pytest.approx(math.log(10))
    assert LOSSES["clipped_cross_entropy"].chance_loss(10) == pytest.approx(math.log(10))
    assert LOSSES["mse"].chance_loss(10) == pytest.approx(0.09)
    assert LOSSES["mse"].chance_loss(10, output="sigmoid") == pytest.approx(0.09)


@pytest.mark.parametrize("name", LOSSES)
def test_entries_explain_themselves(name):
    entry = LOSSES[name]
    assert entry.doc
    assert entry.source
    for key, option in entry.options.items():
        assert option.check(key, option.default) == option.default
        assert option.doc
