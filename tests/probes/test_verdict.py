"""The verdict's rules on look-aheads that are made up."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp_study.diagnosis.diagnosis import Diagnosis
from mlp_study.diagnosis.panel import as_dict
from mlp_study.probes.verdict import MECHANISMS, OUTCOMES, Glimpse, features, forecast, judge, spike, truncated


def glimpse(loss=0.5, accuracy=0.9, steps=96, total=400, diverged=None, initial=None, **last):
    first = {"step": 0, "loss": 2.3, "accuracy": 0.1, "plateau": 0.0}
    end = {"step": steps, "loss": loss, "accuracy": accuracy, "plateau": 0.0, "update_ratio": 0.002, **last}
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


@pytest.mark.parametrize(("loss", "accuracy", "close"), [(2.3, 0.1, False), (2.1, 0.25, True), (0.5, 0.95, False)])
def test_a_close_call_is_said_to_be_one(loss, accuracy, close):
    looked = glimpse(loss, accuracy)
    assert judge(looked).close_call == close == (0.1 <= forecast(looked) <= 0.7)
    found = Diagnosis({}, looked, judge(looked))
    assert as_dict(found)["close_call"] == close
    assert ("a close call" in str(found)) == close


shares = st.floats(0, 1)


@given(shares, st.floats(0.01, 20), shares, shares, st.integers(1, 10**6), st.integers(1, 200))
def test_a_forecast_is_a_probability_and_grows_with_the_time_left(accuracy, loss, plateau, saturated, total, steps):
    short, long = (
        glimpse(loss, accuracy, steps, t, plateau=plateau, saturated_0=saturated) for t in (total, 2 * total)
    )
    assert 0 <= forecast(short) <= forecast(long) <= 1


@given(shares, shares, st.floats(0.01, 20), shares, st.floats(1e-8, 10))
def test_better_signs_never_lower_the_forecast(some, other, loss, plateau, pace):
    """More accuracy, less loss, fewer saturated pairs, fewer images on a plateau."""
    low, high = sorted((some, other))
    kept = {"plateau": plateau, "update_ratio": pace}
    assert forecast(glimpse(loss, low, **kept)) <= forecast(glimpse(loss, high, **kept))
    assert forecast(glimpse(loss, 0.5, saturated_0=high, **kept)) <= forecast(
        glimpse(loss, 0.5, saturated_0=low, **kept)
    )
    assert forecast(glimpse(loss * (1 + high), 0.5, **kept)) <= forecast(glimpse(loss * (1 + low), 0.5, **kept))
    assert forecast(glimpse(loss, 0.5, **{**kept, "plateau": high})) <= forecast(
        glimpse(loss, 0.5, **{**kept, "plateau": low})
    )


def test_the_forecast_knows_chance_by_the_loss_s_own_scale():
    """The same part of the chance loss is gone from a squared error as from a cross-entropy."""
    found = [features(replace(glimpse(part * chance), chance_loss=chance)) for part in (0.5,) for chance in (2.3, 0.09)]
    assert found[0] == pytest.approx(found[1])
    assert found[0]["loss gone"] == pytest.approx(math.log(0.5))


@given(st.lists(st.floats(1e-5, 1e9), min_size=1, max_size=200))
def test_spike_is_the_last_third_s_highest_loss_over_its_median(losses):
    last = np.log(losses[-max(len(losses) // 3, 1) :])
    assert spike(losses) == pytest.approx(last.max() - math.log(np.median(np.exp(last))), abs=1e-9)


@pytest.mark.parametrize(("pace", "said"), [(1e-6, "0.0003 of their norm"), (0.002, None), (0.5, "0.5 of their norm")])
def test_evidence_speaks_of_steps_too_short_and_too_long(pace, said):
    found = [line for line in judge(glimpse(update_ratio=pace, total=396)).evidence if "the weights by" in line]
    assert len(found) == (said is not None)
    assert not found or said in found[0]


def test_small_steps_are_small_for_the_steps_that_are_left():
    """A tenth of the pace costs nothing to a training that is long enough to get as far."""
    chances = {
        (pace, total): forecast(glimpse(0.5, 0.7, 96, total, update_ratio=pace))
        for pace in (1e-3, 1e-4)
        for total in (400, 20_000)
    }
    assert chances[1e-4, 400] < chances[1e-3, 400]
    assert chances[1e-4, 20_000] == chances[1e-3, 20_000]


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
