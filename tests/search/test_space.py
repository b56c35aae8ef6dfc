"""Hydra's sweep grammar as Optuna's distributions, against Hydra's own reading of it; conditions."""

from __future__ import annotations

import itertools
import math

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mlp_study.errors import ConfigError
from mlp_study.search.space import read_space


def space(*overrides, params=None, conditions=None, defaults=None):
    return read_space(params or {}, overrides, conditions or {}, None, defaults)


def only(override):
    [parameter] = space(override).parameters
    return parameter.distribution


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=1,2,x", CategoricalDistribution([1, 2, "x"])),
        ("a=true,null", CategoricalDistribution([True, "null"])),
        ("a=[16],[128,64]", CategoricalDistribution(["[16]", "[128,64]"])),
        ("a='x y',b", CategoricalDistribution(["'x y'", "b"])),
        ("a=range(5)", IntDistribution(0, 4)),
        ("a=range(1,10,2)", IntDistribution(1, 9, step=2)),
        ("a=range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("a=range(5,1,-1)", IntDistribution(2, 5)),
        ("a=range(0,1,0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("a=range(0.1,1,0.1)", FloatDistribution(0.1, 0.9, step=0.1)),
        ("a=tag(log,range(1,65))", IntDistribution(1, 64, log=True)),
        ("a=interval(0,1)", FloatDistribution(0, 1)),
        ("a=interval(1,1)", FloatDistribution(1, 1)),
        ("a=tag(log,interval(1e-4,1))", FloatDistribution(1e-4, 1, log=True)),
        ("a=tag(int,interval(1,8))", IntDistribution(1, 8)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(int,log,interval(1,100))", IntDistribution(1, 100, log=True)),
    ],
)
def test_an_override_becomes_the_distribution_that_it_says(override, expected):
    assert only(override) == expected


@given(start=st.integers(-50, 50), stop=st.integers(-50, 50), step=st.integers(-9, 9).filter(bool))
def test_a_range_has_the_values_that_hydra_gives_it(start, stop, step):
    text = f"a=range({start},{stop},{step})"
    hydras = [float(v) for v in OverridesParser.create().parse_override(text).sweep_string_iterator()]
    if not hydras:
        with pytest.raises(ConfigError, match="empty"):
            space(text)
        return
    assert space(text).grid() == {"a": sorted(hydras)}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("a=interval(5,1)", "reversed"),
        ("a=tag(log,interval(0,1))", "logarithm of 0 does not exist"),
        ("a=tag(log,interval(-1,1))", "logarithm of -1"),
        ("a=tag(log,range(0,8))", "logarithm of 0"),
        ("a=tag(log,range(1,8,2))", "steps of 1"),
        ("a=range(3,3)", "empty"),
        ("a=interval(0,inf)", "finite"),
        ("a=tag(int,interval(0.2,0.8))", "no whole number"),
        ("a=tag(lg,interval(1,2))", "unknown tag lg"),
        ("a=interval(", "not an override"),
    ],
)
def test_a_space_that_is_none_is_one_line(override, words):
    with pytest.raises(ConfigError, match=words):
        space(override)


def test_fixed_overrides_and_the_command_lines_word_before_the_files():
    found = space("b=3", "c=7", params={"a": "1,2", "b": "interval(0,1)", "d": True, "e": [1, 2]})
    assert [p.name for p in found.parameters] == ["a"]
    assert set(found.fixed) == {"b=3", "c=7", "d=True", "e=[1,2]"}
    assert found.overrides({"a": "2"})[-1] == "a=2"


OPTIMIZERS = {
    "optimizer=sgd": {"optimizer.momentum": "interval(0,0.9)"},
    "optimizer=adam,adamw": {"optimizer.eps": "tag(log,interval(1e-8,1e-2))"},
}


def test_a_conditional_parameter_is_in_the_trials_of_its_choice_only():
    found = space("optimizer=sgd,adam,adamw", conditions=OPTIMIZERS)
    tried = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    seen = set()
    for _ in range(40):
        trial = tried.ask()
        overrides = dict(o.split("=") for o in found.suggest(trial))
        kind = overrides.pop("optimizer")
        seen.add(kind)
        assert set(overrides) == ({"optimizer.momentum"} if kind == "sgd" else {"optimizer.eps"})
        tried.tell(trial, 0.0)
    assert seen == {"sgd", "adam", "adamw"}


def test_conditions_see_fixed_values_and_defaults_and_each_other():
    found = space("optimizer=sgd", conditions=OPTIMIZERS)
    assert found.size() == math.inf
    assert [o.split("=")[0] for o in next(iter(found.samples()))] == ["optimizer", "optimizer.momentum"]
    assert space("a=1,2", conditions=OPTIMIZERS, defaults={"optimizer": "muon"}).size() == 2
    chained = space("a=x,y", conditions={"a=x": {"b": "1,2,3"}, "b=3": {"c": "range(0,5)"}})
    assert chained.size() == 1 + 2 + 5
    assert [o for job in chained.samples() for o in job if o.startswith("c=")] == ["c=0", "c=0", "c=4"]


def test_one_key_with_the_same_range_under_two_conditions_is_set_once():
    same = {"optimizer.lr": "interval(0.1,1)"}
    found = space("optimizer=sgd,adam", conditions={"optimizer=sgd": same, "optimizer=adam": same})
    assert found.overrides({"optimizer": "adam", "optimizer.lr": 0.5}) == ["optimizer=adam", "optimizer.lr=0.5"]


def test_one_key_with_two_ranges_is_two_parameters():
    found = space(
        "optimizer=sgd,adam",
        conditions={
            "optimizer=sgd": {"optimizer.lr": "interval(0.1,1)"},
            "optimizer=adam": {"optimizer.lr": "interval(1e-4,1e-2)"},
        },
    )
    assert [p.name for p in found.parameters] == ["optimizer", "optimizer.lr", "optimizer.lr [optimizer=adam]"]
    assert found.overrides({"optimizer": "adam", "optimizer.lr [optimizer=adam]": 1e-05}) == [
        "optimizer=adam",
        "optimizer.lr=1e-05",
    ]


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"optimizer=sdg": {"x": "1,2"}}, "never sdg"),
        ({"optimzer=sgd": {"x": "1,2"}}, "no override sets"),
        ({"optimizer": {"x": "1,2"}}, "no condition"),
    ],
)
def test_a_condition_that_never_holds_is_refused(conditions, words):
    with pytest.raises(ConfigError, match=words):
        space("optimizer=sgd,adam", conditions=conditions)


def test_the_size_is_the_number_of_cells():
    found = space("a=1,2,3", "b=range(0,4)", "c=range(0,1,0.5)")
    assert found.size() == len(list(itertools.product(*found.grid().values()))) == 24
    assert space("a=interval(0,1)").size() == math.inf
