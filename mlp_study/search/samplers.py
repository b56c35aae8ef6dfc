"""From a sampler's or pruner's settings to Optuna's object: names are looked up in tables, nothing else is imported."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlp_study.config.optuna_settings import PRUNERS, SAMPLERS
from mlp_study.errors import ConfigError, no_such_option, unknown
from mlp_study.runtime.randomness import derived_seed

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from mlp_study.search.space import Space

CROSSOVERS = {
    "uniform": "UniformCrossover",
    "blxalpha": "BLXAlphaCrossover",
    "spx": "SPXCrossover",
    "sbx": "SBXCrossover",
    "vsbx": "VSBXCrossover",
    "undx": "UNDXCrossover",
}
MUTATIONS = {"polynomial": "PolynomialMutation"}
GAMMAS = {"default": "default_gamma", "hyperopt": "hyperopt_default_gamma"}
DEFAULT_SEED = 0
STREAMS = ("qmc", "grid")  # one sequence, or one order of cells, for the whole study: the seed must stay the same

Settings = dict[str, Any]


def sampler_settings(value: Any) -> Settings:
    """The sampler's name and options, from ``tpe``, ``{"name": "tpe", ...}`` or the stock plugin's ``_target_``.

    Raises:
        ConfigError: an unknown sampler or option; the message names it.
    """
    return _settings("sampler", value, SAMPLERS, "tpe", ("seed",))


def pruner_settings(value: Any) -> Settings:
    """The same for a pruner.

    Raises:
        ConfigError: an unknown pruner or option; the message names it.
    """
    found = _settings("pruner", value, PRUNERS, "none", ())
    if found["name"] == "patient":
        wrapped = found.get("wrapped_pruner")
        found["wrapped_pruner"] = None if wrapped is None else pruner_settings(wrapped)
        found.setdefault("patience", None)
    return found


def _settings(
    kind: str, value: Any, table: Mapping[str, tuple[str, tuple[str, ...]]], default: str, more: tuple[str, ...]
) -> Settings:
    given = {"name": value} if isinstance(value, str) else dict(value or {})
    node = {key: option for key, option in given.items() if option is not None}
    classes = {optuna: name for name, (optuna, _) in table.items()}
    name, target = node.pop("name", default), node.pop("_target_", None)
    if target is not None:  # the stock plugin's: a class of Optuna's, taken as a name
        name = classes.get(str(target).rpartition(".")[2], str(target))
    if name not in table:
        raise unknown(f"hydra.sweeper.{kind}", name, table)
    takes = (*more, *table[name][1])
    for key in node:
        if key not in takes and not (name == "grid" and key == "search_space"):
            raise no_such_option(
                f"hydra.sweeper.{kind}.{key}", [f"hydra.sweeper.{kind}.{o}" for o in takes], f" with {kind}={name}"
            )
    return {"name": name, **{key: option for key, option in node.items() if key != "search_space"}}


def build_sampler(settings: Settings, space: Space, number: int) -> BaseSampler:
    """Optuna's sampler for the trial of this number.

    Its seed follows from the study's seed and ``number``, so that a study that was interrupted goes on as if it had not
    been, and processes that share a study do not propose the same.

    Raises:
        ConfigError: options that Optuna refuses, or a space that this sampler cannot search.
    """
    import optuna

    name = settings["name"]
    options = {key: value for key, value in settings.items() if key not in ("name", "seed")}
    seed = int(settings.get("seed", DEFAULT_SEED))
    options["seed"] = seed if name in STREAMS else derived_seed(seed, "search", number) % 2**32
    if name == "grid":
        options["search_space"] = space.grid()
    if name == "qmc":  # Optuna's own would have the stream's seed, and so the same values in every trial
        options.setdefault("independent_sampler", "random")
    if "independent_sampler" in options:
        independent = {"seed": seed, **sampler_settings(options["independent_sampler"])}
        options["independent_sampler"] = build_sampler(independent, space, number)
    for option, find in _OBJECTS.items():
        if option in options:
            options[option] = _built("sampler", settings, find, {"name": options[option]})
    kind = _without_stop(SAMPLERS[name][0]) if name in ("grid", "brute_force") else None
    sampler: BaseSampler = _built("sampler", settings, kind or getattr(optuna.samplers, SAMPLERS[name][0]), options)
    return sampler


def _without_stop(name: str) -> Any:
    """After the last cell Optuna's sampler stops ``Study.optimize``, which does not run here."""
    import optuna

    return type(name, (getattr(optuna.samplers, name),), {"after_trial": lambda *_: None})


def build_pruner(settings: Settings) -> BasePruner:
    """Optuna's pruner.

    Raises:
        ConfigError: options that Optuna refuses.
    """
    import optuna

    options = {key: value for key, value in settings.items() if key != "name"}
    if settings["name"] == "patient":
        if options["patience"] is None:
            raise ConfigError("hydra.sweeper.pruner.patience is not set; the patient pruner takes a number of epochs")
        wrapped = options.get("wrapped_pruner")
        options["wrapped_pruner"] = None if wrapped is None else build_pruner(wrapped)
    if settings["name"] == "percentile":
        options.setdefault("percentile", 25.0)
    pruner: optuna.pruners.BasePruner = _built(
        "pruner", settings, getattr(optuna.pruners, PRUNERS[settings["name"]][0]), options
    )
    return pruner


def _built(kind: str, settings: Settings, build: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    from optuna.exceptions import ExperimentalWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return build(**options)
    except (TypeError, ValueError, ImportError) as error:
        words = " ".join(str(error).split())
        raise ConfigError(f"hydra.sweeper.{kind}={settings['name']} with {dict(options)}: {words}") from error


def _named(option: str, table: Mapping[str, str], module: str) -> Callable[[Any], Any]:
    def find(name: Any) -> Any:
        from importlib import import_module

        if name not in table:
            raise unknown(f"hydra.sweeper.sampler.{option}", name, table)
        found = getattr(import_module(module), table[name])
        return found if option == "gamma" else found()

    return find


def _points(name: Any) -> Any:
    import numpy as np

    return np.array(name, dtype=float)


_OBJECTS: dict[str, Callable[[Any], Any]] = {
    "crossover": _named("crossover", CROSSOVERS, "optuna.samplers.nsgaii"),
    "mutation": _named("mutation", MUTATIONS, "optuna.samplers.nsgaii"),
    "gamma": _named("gamma", GAMMAS, "optuna.samplers._tpe.sampler"),
    "reference_points": _points,
}
