"""The verdict's rules on look-aheads that are made up."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlp_study.doctor.config_diagnosis import Diagnosis
from mlp_study.doctor.forecast import (
    MECHANISMS,
    OUTCOMES,
    Glimpse,
    features,
    forecast,
    judge,
    spike,
    truncated,
    vanishing,
)
from mlp_study.doctor.panel import as_dict


def glimpse(loss=0.5, accuracy=0.9, steps=96, total=400, diverged=None, initial=None, **last):
    first = {"step": 0, "loss": 2.3, "accuracy": 0.1, "plateau": 0.0, "update_ratio": 0.0}
    end = {"step": steps, "loss": loss, "accuracy": accuracy, "plateau": 0.0, "update_ratio": 0.002, **last}
    return Glimpse(initial or {}, [first, end], [loss] * steps, total, 10, diverged)


@pytest.mark.parametrize(
    ("looked", "outcome"),
    [
        (glimpse(), "will train"),
        (glimpse(2.3, 0.1), "will train slowly"),
        (glimpse(2.3, 0.1, dead_0=1.0), "will collapse: dead units"),
        (glimpse(14.5, 0.1, plateau=0.9), "will collapse: clipped-loss plateau"),
        (replace(glimpse(0.18, 0.1, plateau=0.9), clips=False), "will collapse: saturation"),
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


def test_outputs_that_send_back_no_gradient_are_saturated_where_the_loss_clips_nothing():
    clipped = glimpse(0.18, 0.1, plateau=0.97, saturated_0=0.2)
    plain = replace(clipped, clips=False)
    assert judge(plain).probability == judge(clipped).probability
    mark = "after 96 steps 97% of the images are wrong and send back no gradient"
    assert judge(clipped).evidence[0] == mark
    assert judge(plain).evidence[0] == f"{mark}: the outputs are saturated, at probabilities of 0 and 1"


def test_every_mechanism_is_an_outcome():
    assert {f"will collapse: {m}" for m in MECHANISMS} < set(OUTCOMES)


@pytest.mark.parametrize(("loss", "accuracy", "close"), [(2.3, 0.1, False), (2.1, 0.25, True), (0.5, 0.95, False)])
def test_a_close_call_is_said_to_be_one(loss, accuracy, close):
    looked = glimpse(loss, accuracy)
    assert judge(looked).close_call == close == (0.1 <= forecast(looked) <= 0.7)
    found = Diagnosis({}, looked, judge(looked))
    assert as_dict(found)["close_call"] == close
    assert (f"Verdict: {judge(looked).outcome} (a close call)" in str(found)) == close


shares = st.floats(0, 1)


@given(shares, st.floats(0.01, 20), shares, shares, st.integers(1, 10**6), st.integers(1, 200))
def test_a_forecast_is_a_probability_and_grows_with_the_time_left(accuracy, loss, plateau, saturated, total, steps):
    short, long = (
        glimpse(loss, accuracy, steps, t, plateau=plateau, saturated_0=saturated) for t in (total, 2 * total)
    )
    assert 0 <= forecast(short) <= forecast(long) <= 1


@given(shares, shares, st.floats(0.01, 20), shares, st.floats(1e-8, 10))
def test_better_signs_never_lower_the_forecast(some, other, loss, plateau, pace):
    """More accuracy, less loss, fewer dead units, saturated pairs and images on a plateau, fewer jumps, no haste."""
    low, high = sorted((some, other))

    def chance(loss=loss, accuracy=0.5, jump=0.0, **last):
        looked = glimpse(loss, accuracy, **{"plateau": plateau, "update_ratio": pace, **last})
        return forecast(replace(looked, losses=[loss] * 95 + [loss * (1 + jump)]))

    assert chance(accuracy=low) <= chance(accuracy=high)
    for worse in (
        lambda x: {"saturated_0": x},
        lambda x: {"dead_0": x},
        lambda x: {"plateau": x},
        lambda x: {"loss": loss * (1 + x)},
        lambda x: {"jump": x},
        lambda x: {"update_ratio": 0.01 + x},
    ):
        assert chance(**worse(high)) <= chance(**worse(low))


def test_what_is_measured_counts():
    """Each sign moves the forecast by itself."""
    plain = forecast(glimpse(0.9, 0.6))
    for sign in ({"dead_0": 0.7}, {"saturated_0": 0.7}, {"update_ratio": 0.1}, {"update_ratio": 1e-6}):
        assert forecast(glimpse(0.9, 0.6, **sign)) < plain - 0.02


@pytest.mark.parametrize("missing", [{}, {"update_ratio": math.inf}])
def test_a_step_beyond_numbers_is_hasty_not_slow(missing):
    looked = glimpse(0.9, 0.6)
    looked.rows[-1].pop("update_ratio")
    looked.rows[-1].update(missing)
    assert features(looked)["reach"] == 0
    assert features(looked)["haste"] == features(glimpse(0.9, 0.6, update_ratio=1.0))["haste"] > 0
    assert "the next step moves the weights by their norm or more" in judge(looked).evidence


def test_a_training_that_was_seen_to_its_end_is_judged_by_its_end():
    """Whatever the schedule made of the last step."""
    for last in (0.0, 1e-9, 0.002):
        looked = glimpse(0.3, 0.92, 96, 96, update_ratio=last)
        looked.rows[0]["update_ratio"] = 0.01
        assert judge(looked).outcome == "will train"


def test_the_limit_is_where_the_verdict_turns():
    chances = [forecast(glimpse(2.2, accuracy / 1000)) for accuracy in range(100, 900)]
    found = [judge(glimpse(2.2, accuracy / 1000)).will_learn for accuracy in range(100, 900)]
    assert found == [chance >= 0.26 for chance in chances]
    assert 0 < sum(found) < len(found)


def test_the_forecast_knows_chance_by_the_loss_s_own_scale():
    """The same part of the chance loss is gone from a squared error as from a cross-entropy."""
    found = [features(replace(glimpse(chance / 2), chance_loss=chance)) for chance in (2.3, 0.09)]
    assert found[0] == pytest.approx(found[1])
    assert found[0]["loss gone"] == pytest.approx(math.log(0.5))


@given(st.lists(st.floats(1e-5, 1e9), min_size=1, max_size=200))
def test_spike_is_the_last_third_s_highest_loss_over_its_median(losses):
    last = np.log(losses[-max(len(losses) // 3, 1) :])
    assert spike(losses) == pytest.approx(last.max() - math.log(np.median(np.exp(last))), abs=1e-9)


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        (0.0, "the weights no longer move"),
        (1e-6, "the whole training moves the weights by 0.0003 of their norm at this pace"),
        (0.002, None),
        (0.5, "the next step moves the weights by 0.5 of their norm"),
    ],
)
def test_evidence_speaks_of_steps_too_short_and_too_long(pace, said):
    found = [line for line in judge(glimpse(update_ratio=pace, total=396)).evidence if "the weights" in line]
    assert found == [said] * (said is not None)


def test_evidence_for_slowness_begins_with_the_pace():
    found = judge(glimpse(2.3, 0.1, update_ratio=1e-6, initial={"stability_index": 0.1}))
    assert found.outcome == "will train slowly"
    assert "moves the weights" in found.evidence[0]


@pytest.mark.parametrize(("first", "vanishes"), [(2e-8, True), (0.1, False), (0.0, False), (None, False)])
def test_evidence_for_slowness_begins_with_a_gradient_that_vanishes(first, vanishes):
    start = {"gradient_norm": 0.5, "gradient_norm_1": 0.01, "gradient_norm_2": 0.4}
    start |= {} if first is None else {"gradient_norm_0": first}
    found = judge(glimpse(2.3, 0.1, update_ratio=1e-6, initial=start))
    said = "before training the first layer's gradient is 5e-08 of the largest: it vanishes"
    assert (found.evidence[0] == said) == vanishes
    assert ("vanishes" in " ".join(found.evidence)) == vanishes
    assert vanishing(dict.fromkeys(start, 0.0)) is None


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
