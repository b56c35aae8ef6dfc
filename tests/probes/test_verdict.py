"""The verdict's rules on look-aheads that are made up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp_study.probes.verdict import MECHANISMS, OUTCOMES, Glimpse, forecast, judge, truncated


def glimpse(loss=0.5, accuracy=0.9, steps=96, total=400, diverged=None, initial=None, **last):
    first = {"step": 0, "loss": 2.3, "accuracy": 0.1, "plateau": 0.0}
    end = {"step": steps, "loss": loss, "accuracy": accuracy, "plateau": 0.0, **last}
    return Glimpse(initial or {}, [first, end], [loss] * steps, total, 10, diverged)


@pytest.mark.parametrize(
    ("looked", "outcome"),
    [
        (glimpse(), "will train"),
        (glimpse(2.3, 0.1), "will train slowly"),
        (glimpse(2.3, 0.1, dead_0=1.0), "will collapse: dead units"),
        (glimpse(14.5, 0.1, plateau=0.9), "will collapse: clipped-loss plateau"),
        (glimpse(2.3, 0.1, saturated_0=0.2, saturated_1=0.99), "will collapse: saturation"),
        (glimpse(1e9, 0.1), "will collapse: divergence"),
        (glimpse(math.nan, 0.1), "will collapse: divergence"),
        (glimpse(diverged="the loss became nan at step 3"), "will collapse: divergence"),
        (Glimpse(diverged="the loss became nan at step 1"), "will collapse: divergence"),
    ],
)
def test_each_mechanism_by_its_mark(looked, outcome):
    found = judge(looked)
    assert found.outcome == outcome
    assert found.will_learn == (outcome == "will train")
    assert found.mechanism == {"will train": None, "will train slowly": "slow"}.get(outcome, outcome[15:])


def test_every_mechanism_is_an_outcome():
    assert {f"will collapse: {m}" for m in MECHANISMS} < set(OUTCOMES)


shares = st.floats(0, 1)


@given(shares, st.floats(0.01, 20), shares, shares, st.integers(1, 10**6), st.integers(1, 200))
def test_a_forecast_is_a_probability_and_grows_with_the_time_left(accuracy, loss, plateau, saturated, total, steps):
    short, long = (
        glimpse(loss, accuracy, steps, t, plateau=plateau, saturated_0=saturated) for t in (total, 2 * total)
    )
    assert 0 <= forecast(short) <= forecast(long) <= 1


def test_evidence_names_the_mechanism_first():
    found = judge(glimpse(2.3, 0.1, dead_0=0.95, initial={"stability_index": 85.0}))
    assert found.evidence[0] == "after 96 steps 95% of a layer's units are dead (0% before)"
    assert any("stability index 85" in sentence for sentence in found.evidence)


def test_a_shorter_look_ahead_forgets_what_came_later():
    long = glimpse(diverged="the loss became nan at step 50", steps=49)
    long.losses = [1.0] * 49 + [math.nan]
    assert truncated(long, 10).diverged is None
    assert truncated(long, 10).rows == long.rows[:1]
    assert truncated(long, 96).diverged == long.diverged
