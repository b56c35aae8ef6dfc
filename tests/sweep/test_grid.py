"""The grid against Hydra's own sweeper."""

from __future__ import annotations

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from mlp_study.errors import ConfigError
from mlp_study.sweep.grid import expand
from tests.sweep.sweeps import hydra_of

numbers = st.integers(-9, 9).map(str) | st.floats(-5, 5).map(lambda x: f"{x:.3g}")
words = st.sampled_from(["relu", "null", "true", "'a b'", '"x,y"', "[16]", "[128,64]", "{a:1}", "a.b", "10%"])
value = numbers | words
simple = st.lists(value, min_size=1, max_size=4).map(",".join)
choice = st.lists(value.filter(lambda v: v != "null"), min_size=1, max_size=3).map(lambda v: f"choice({','.join(v)})")
ranges = st.builds(
    lambda a, n, s: f"range({a},{a + n * s},{s})", st.integers(-5, 5), st.integers(1, 4), st.integers(1, 3)
)
others = st.sampled_from(["shuffle(1,2)", "sort(3,1,2)", "tag(log,choice(1,2))", "range(3)", "range(1.5,3,0.5)"])
keys = st.sampled_from(["seed", "optimizer.lr", "activation", "+new", "++other", "data.gain", "a@b", "~gone"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(keys, simple | choice | ranges | others), min_size=1, max_size=4))
def test_the_same_jobs_in_the_same_order_as_hydras_sweeper(pairs):
    overrides = [key if key.startswith("~") else f"{key}={text}" for key, text in pairs]
    if any("shuffle" in override for override in overrides):
        overrides = [override.replace("shuffle", "choice") for override in overrides]
    [theirs] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
    assert expand(overrides) == theirs


@pytest.mark.parametrize("pattern", ["glob(*)", "glob(re*)", "glob([s*,t*],exclude=*tanh)"])
def test_glob_finds_the_choices_that_hydras_sweeper_finds(pattern):
    with hydra_of() as (loader, _):
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([f"activation={pattern}", "seed=1,2"])
        [theirs] = BasicSweeper.split_arguments(parsed, None)
        found = expand([f"activation={pattern}", "seed=1,2"], loader)
    assert found == theirs
    assert len(found) > 2


def test_of_two_overrides_of_a_key_the_last_counts_at_the_place_of_the_first():
    assert expand(["a=1,2", "b=3", "a=4"]) == [["a=4", "b=3"]]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("optimizer.lr=interval(0.1,1)", "hydra/sweeper=optuna"),
        ("seed=range(5,5)", "empty"),
        ("activation=glob(zzz*)", "empty"),
        ("seed=range(0,1,0)", "seed=range(0,1,0)"),
        ("seed=[", "is not an override"),
    ],
)
def test_what_is_no_grid_is_refused_in_one_line_that_names_it(override, says):
    with hydra_of() as (loader, _), pytest.raises(ConfigError, match=r"\A[^\n]*\Z") as error:
        expand(["activation=relu", override], loader)
    assert says in str(error.value)
    assert override.split("=", maxsplit=1)[0] in str(error.value)
