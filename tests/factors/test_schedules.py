"""Schedules against torch's schedulers."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from mlp_study.factors.schedules import SCHEDULES


def torchs(total: int, make) -> torch.Tensor:
    """The multiplier at each step by one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects optimizer.step() in between
        scheduler, rates = make(optimizer), []
        for step in range(total):
            rates.append(optimizer.param_groups[0]["lr"])
            if step < total - 1:
                scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


def ours(name: str, total: int, **options) -> torch.Tensor:
    return SCHEDULES[name].multiplier(torch.arange(total, dtype=torch.float64), total, **options)


def test_every_schedule_of_the_study_is_there():
    assert set(SCHEDULES) == {"constant", "step", "cosine", "linear_warmup", "one_cycle"}


def test_constant():
    assert ours("constant", 5).tolist() == [1.0] * 5


@given(period=st.integers(1, 20), periods=st.integers(1, 5), factor=st.floats(0.1, 1))
@settings(max_examples=20, deadline=None)
def test_step(period, periods, factor):
    total = period * periods
    expected = torchs(total, lambda o: lr_scheduler.StepLR(o, period, factor))
    torch.testing.assert_close(ours("step", total, every=1 / periods, factor=factor), expected)


def test_step_drops_on_time_in_float32():
    for every in (0.1, 0.3, 1 / 3, 0.7):
        total = 9000
        step = torch.arange(total, dtype=torch.float32)
        multiplier = SCHEDULES["step"].multiplier(step, total, every=torch.tensor([[every]]), factor=0.5)
        first = int((multiplier < 1).flatten().nonzero()[0])
        assert first == round(total * every)


@given(total=st.integers(1, 50), floor=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_cosine(total, floor):
    expected = torchs(total, lambda o: lr_scheduler.CosineAnnealingLR(o, total, eta_min=floor))
    torch.testing.assert_close(ours("cosine", total, floor=floor), expected)


@given(total=st.integers(4, 60), steps=st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_linear_warmup(total, steps):
    expected = torchs(total, lambda o: lr_scheduler.LinearLR(o, start_factor=1 / steps, total_iters=steps - 1))
    torch.testing.assert_close(ours("linear_warmup", total, warmup=steps / total), expected)


@given(total=st.integers(20, 80), peak=st.floats(0.2, 0.8), start=st.floats(0.01, 1), end=st.floats(1e-6, 0.01))
@settings(max_examples=20, deadline=None)
def test_one_cycle(total, peak, start, end):
    expected = torchs(
        total,
        lambda o: lr_scheduler.OneCycleLR(
            o, 1.0, total, pct_start=peak, div_factor=1 / start, final_div_factor=start / end, cycle_momentum=False
        ),
    )
    torch.testing.assert_close(
        ours("one_cycle", total, peak=peak, start=start, end=end), expected, atol=1e-9, rtol=1e-7
    )


@pytest.mark.parametrize("name", [name for name in SCHEDULES if SCHEDULES[name].options])
def test_members_with_different_options_equal_each_alone(name):
    fractions = (0.2, 0.5, 0.9)
    options = {key: torch.tensor(fractions, dtype=torch.float64).view(3, 1) for key in SCHEDULES[name].options}
    together = ours(name, 40, **options)
    assert together.shape == (3, 40)
    for k, fraction in enumerate(fractions):
        torch.testing.assert_close(together[k], ours(name, 40, **dict.fromkeys(options, fraction)))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3, 100])
def test_short_trainings_get_a_usable_rate(name, total):
    entry = SCHEDULES[name]
    multiplier = ours(name, total, **{key: option.default for key, option in entry.options.items()})
    assert bool(multiplier.isfinite().all())
    assert bool((multiplier >= 0).all())
    assert bool((multiplier <= 1).all())
    assert multiplier.max() > 0
    for key, option in entry.options.items():
        assert option.check(key, option.default) == option.default
