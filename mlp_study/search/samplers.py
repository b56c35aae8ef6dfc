"""From a sampler's or pruner's settings to Optuna's object: names are looked up in tables, nothing else is imported."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import nsgaii
from optuna.samplers._tpe.sampler import default_gamma, hyperopt_default_gamma

from mlp_study.config.optuna_settings import PRUNERS, SAMPLERS
from mlp_study.errors import ConfigError, no_such_option, unknown
from mlp_study.runtime.randomness import derived_seed

if TYPE_CHECKING:
    from mlp_study.search.space import Space

CROSSOVERS = {
    name.removesuffix("Crossover").lower(): getattr(nsgaii, name)
    for name in nsgaii.__all__
    if name.endswith("Crossover") and name != "BaseCrossover"
}
NAMED: dict[str, Mapping[str, Callable[[], Any]]] = {  # options that are objects, by name
    "crossover": CROSSOVERS,
    "mutation": {"polynomial": nsgaii.PolynomialMutation},
    "gamma": {"default": lambda: default_gamma, "hyperopt": lambda: hyperopt_default_gamma},
}
DEFAULT_SEED = 0
STREAMS = ("qmc", "grid")  # one sequence, or one order of cells, for the whole study: the seed must stay the same

Settings = dict[str, Any]


def sampler_settings(value: Any) -> Settings:
    """Read a sampler's name and options, from ``tpe``, ``{"name": "tpe", ...}`` or the stock plugin's ``_target_``.

    Raises:
        ConfigError: an unknown sampler or option; the message names it.
    """
    found = _settings("sampler", value, SAMPLERS, "tpe", ("seed", "search_space"))
    found.pop("search_space", None)  # of the stock plugin's grid sampler, which leaves it empty, too
    return found


def pruner_settings(value: Any) -> Settings:
    """Read a pruner's.

    Raises:
        ConfigError: an unknown pruner or option; the message names it.
    """
    found = _settings("pruner", value, PRUNERS, "none", ())
    if found.get("wrapped_pruner") is not None:
        found["wrapped_pruner"] = pruner_settings(found["wrapped_pruner"])
    return found


def _settings(
    kind: str, value: Any, table: Mapping[str, tuple[str, tuple[str, ...]]], default: str, more: tuple[str, ...]
) -> Settings:
    given = {"name": value} if isinstance(value, str) else dict(value or {})
    name, target = given.get("name") or default, given.get("_target_")
    options = {
        key: option for key, option in given.items() if option is not None and key != "name" and not key.startswith("_")
    }
    if target is not None:  # the stock plugin's: a class of Optuna's, taken as a name
        classes = {optuna_name: name for name, (optuna_name, _) in table.items()}
        name = classes.get(str(target).rpartition(".")[2], str(target))
    if name not in table:
        raise unknown(f"hydra.sweeper.{kind}", name, table)
    takes = (*more, *table[name][1])
    for key in options:
        if key not in takes:
            raise no_such_option(
                f"hydra.sweeper.{kind}.{key}", [f"hydra.sweeper.{kind}.{o}" for o in takes], f" with {kind}={name}"
            )
    return {"name": name, **options}


def build_sampler(settings: Settings, space: Space, number: int) -> optuna.samplers.BaseSampler:
    """Build Optuna's sampler for the trial of this number.

    Its seed follows from the study's seed and ``number``, so that a study that was interrupted goes on as if it had not
    been, and processes that share a study do not propose the same.

    Raises:
        ConfigError: options that Optuna refuses, or a space that this sampler cannot search.
    """
    options = dict(settings)
    name, seed = options.pop("name"), int(options.pop("seed", DEFAULT_SEED))
    options["seed"] = seed if name in STREAMS else derived_seed(seed, "search", number) % 2**32
    if name == "grid":
        options["search_space"] = space.grid()
    if name == "qmc":  # Optuna's own would have the stream's seed, and so the same values in every trial
        options.setdefault("independent_sampler", "random")
    if "independent_sampler" in options:
        independent = {"seed": seed, **sampler_settings(options["independent_sampler"])}
        options["independent_sampler"] = build_sampler(independent, space, number)
    for option in NAMED.keys() & options.keys():
        if options[option] not in NAMED[option]:
            raise unknown(f"hydra.sweeper.sampler.{option}", options[option], NAMED[option])
        options[option] = _built("sampler", name, NAMED[option][options[option]], {})
    if "reference_points" in options:
        options["reference_points"] = np.array(options["reference_points"], dtype=float)
    kind = getattr(optuna.samplers, SAMPLERS[name][0])
    if name in ("grid", "brute_force"):  # after the last cell these stop ``Study.optimize``, which does not run here
        kind = type(kind.__name__, (kind,), {"after_trial": lambda *_: None})
    sampler: optuna.samplers.BaseSampler = _built("sampler", name, kind, options)
    return sampler


def build_pruner(settings: Settings) -> optuna.pruners.BasePruner:
    """Build Optuna's pruner.

    Raises:
        ConfigError: options that Optuna refuses.
    """
    options = dict(settings)
    name = options.pop("name")
    if name == "patient":
        if "patience" not in options:
            raise ConfigError("hydra.sweeper.pruner.patience is not set; the patient pruner takes a number of epochs")
        wrapped = options.get("wrapped_pruner")
        options["wrapped_pruner"] = None if wrapped is None else build_pruner(wrapped)
    if name == "percentile":
        options.setdefault("percentile", 25.0)
    pruner: optuna.pruners.BasePruner = _built("pruner", name, getattr(optuna.pruners, PRUNERS[name][0]), options)
    return pruner


def _built(kind: str, name: str, build: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return build(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(f"hydra.sweeper.{kind}={name} with {dict(options)}: {error}") from error
