"""The tables of samplers and pruners against Optuna's own signatures."""

from __future__ import annotations

import inspect

import optuna
import pytest

from mlp_study.config.optuna_settings import PRUNERS, SAMPLERS
from mlp_study.errors import ConfigError
from mlp_study.search.samplers import build_pruner, build_sampler, pruner_settings, sampler_settings
from mlp_study.search.space import read_space

SPACE = read_space({}, ["a=1,2", "b=range(0,3)"], {}, None)
OBJECTS = {  # take a Python object, or come from elsewhere
    "seed",
    "search_space",
    "weights",
    "constraints_func",
    "source_trials",
    "elite_population_selection_strategy",
    "child_generation_strategy",
    "after_trial_strategy",
}


def built(settings):
    return build_sampler(sampler_settings(settings), SPACE, 0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_has_all_of_optunas_options(name):
    kind, options = SAMPLERS[name]
    theirs = set(inspect.signature(getattr(optuna.samplers, kind).__init__).parameters) - {"self"}
    assert set(options) == theirs - OBJECTS
    assert isinstance(built(name), getattr(optuna.samplers, kind))


@pytest.mark.parametrize("name", PRUNERS)
def test_each_pruner_has_all_of_optunas_options(name):
    kind, options = PRUNERS[name]
    theirs = set(inspect.signature(getattr(optuna.pruners, kind).__init__).parameters) - {"self", "args", "kwargs"}
    assert set(options) == theirs
    more = {"patience": 3} if name == "patient" else {}
    assert isinstance(build_pruner(pruner_settings({"name": name, **more})), getattr(optuna.pruners, kind))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("tpee", "hydra.sweeper.sampler='tpee' is unknown; did you mean 'tpe'"),
        ({"name": "tpe", "n_startup": 3}, "n_startup_trials"),
        ({"_target_": "os.system"}, "'os.system' is unknown"),
        ({"name": "nsgaii", "crossover": "unifrom"}, "did you mean 'uniform'"),
        ({"name": "nsgaii", "population_size": 1}, "population_size"),
        ({"name": "qmc", "qmc_type": "niederreiter"}, "niederreiter"),
    ],
)
def test_what_no_sampler_takes_is_one_line(settings, words):
    with pytest.raises(ConfigError, match=words):
        built(settings)


def test_the_stock_plugins_target_is_a_name_and_nothing_is_imported_for_it():
    settings = {"_target_": "optuna.samplers.TPESampler", "seed": 123, "n_startup_trials": 4, "name": "tpe"}
    assert sampler_settings({"name": "tpe", "_target_": "optuna.samplers.GridSampler", "_partial_": True}) == {
        "name": "grid"
    }
    assert sampler_settings(settings) == {"name": "tpe", "seed": 123, "n_startup_trials": 4}


def test_options_that_are_names():
    sampler = built({"name": "nsgaii", "crossover": "sbx", "mutation": "polynomial"})
    assert isinstance(sampler, optuna.samplers.NSGAIISampler)
    assert isinstance(
        built({"name": "cmaes", "independent_sampler": "qmc"})._independent_sampler, optuna.samplers.QMCSampler
    )
    with pytest.warns(FutureWarning, match="gamma"):  # Optuna's own word that it will go
        assert built({"name": "tpe", "gamma": "hyperopt"})._gamma(100) == 3


def test_an_interval_and_a_condition_make_no_grid():
    with pytest.raises(ConfigError, match="an interval has no list of values"):
        build_sampler(sampler_settings("grid"), read_space({}, ["a=interval(0,1)"], {}, None), 0)
    conditional = read_space({}, ["a=1,2"], {"a=1": {"b": "1,2"}}, None)
    with pytest.raises(ConfigError, match="brute_force"):
        build_sampler(sampler_settings("grid"), conditional, 0)


def test_a_wrapped_pruner_is_built():
    pruner = build_pruner(pruner_settings({"name": "patient", "wrapped_pruner": "median", "patience": 2}))
    assert isinstance(pruner._wrapped_pruner, optuna.pruners.MedianPruner)
    with pytest.raises(ConfigError, match="patience is not set"):
        build_pruner(pruner_settings("patient"))
