"""The settings of ``hydra.sweeper``, checked before anything is opened or trained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf, open_dict, read_write

from mlp_study.errors import ConfigError, masked
from mlp_study.search.objective import Constraint, Objective, read_constraint, read_objectives
from mlp_study.search.samplers import Settings, pruner_settings, sampler_settings

DEFAULTS = "defaults"  # in ``enqueue``: the trial that has the config's own values
STUDY = "mlp_study"
CODE_ALLOWED = "MLP_STUDY_CUSTOM_SEARCH_SPACE"  # an environment variable: no config sets one for its own command


@dataclass(frozen=True)
class SearchSettings:
    """What ``hydra.sweeper`` says; see ``mlp_study.config.optuna_settings.OptunaConfig``."""

    objectives: tuple[Objective, ...]
    sampler: Settings
    pruner: Settings
    params: Mapping[str, Any]
    conditions: Mapping[str, Mapping[str, Any]]
    custom_search_space: str | None
    storage: Any
    study_name: str
    n_trials: int
    n_jobs: int
    repeats: int
    max_failure_rate: float | None
    enqueue: tuple[Mapping[str, Any] | str, ...] = ()
    timeout: float | None = None
    constraints: tuple[Constraint, ...] = ()

    @property
    def prunes(self) -> bool:
        """Whether trials can be given up early."""
        return bool(self.pruner["name"] != "none")

    @property
    def by_repeat(self) -> bool:
        """Whether the repeats train one after the other: the Wilcoxon pruner compares trials seed by seed."""
        inner = self.pruner.get("wrapped_pruner") or self.pruner
        return bool(inner["name"] == "wilcoxon")


def read_settings(node: Mapping[str, Any]) -> SearchSettings:
    """Check the settings.

    Raises:
        ConfigError: an unknown sampler, pruner, rule or option, or a number out of range.
    """
    for key in ("n_trials", "n_jobs", "repeats"):
        if type(node[key]) is not int or node[key] < 1:
            raise ConfigError(f"hydra.sweeper.{key}={node[key]} is not valid; it takes a whole number in [1, inf)")
    rate = node["max_failure_rate"]
    if rate is not None and not (isinstance(rate, int | float) and 0 <= rate <= 1):
        raise ConfigError(f"hydra.sweeper.max_failure_rate={rate} is not valid; it takes a part in [0, 1]")
    timeout = node["timeout"]
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise ConfigError(f"hydra.sweeper.timeout={timeout} is not valid; it takes seconds above 0")
    code = node["custom_search_space"]
    if code is not None and os.environ.get(CODE_ALLOWED) != code:
        raise ConfigError(
            f"hydra.sweeper.custom_search_space={code} names code, which no config may run by itself; "
            f"it takes the function that the environment variable {CODE_ALLOWED} names too"
        )
    settings = SearchSettings(
        objectives=tuple(
            read_objectives(node["objective"], node["direction"], node["diverged"], str(node["aggregate"]))
        ),
        sampler=sampler_settings(node["sampler"]),
        pruner=pruner_settings(node["pruner"]),
        params=dict(node["params"] or {}),
        conditions=dict(node["conditions"] or {}),
        custom_search_space=code,
        storage=node["storage"],
        study_name=str(node["study_name"] or STUDY),
        n_trials=node["n_trials"],
        n_jobs=node["n_jobs"],
        repeats=node["repeats"],
        max_failure_rate=rate,
        enqueue=_enqueued(node["enqueue"], node["n_trials"]),
        timeout=timeout,
        constraints=tuple(map(read_constraint, node["constraints"] or ())),
    )
    if settings.by_repeat and settings.repeats < 2:
        raise ConfigError(
            "hydra.sweeper.pruner=wilcoxon compares trials over repeats; hydra.sweeper.repeats takes 2 or more"
        )
    return settings


def _enqueued(trials: Any, most: int) -> tuple[Mapping[str, Any] | str, ...]:
    found = tuple(trials or ())
    for trial in found:
        if trial != DEFAULTS and not isinstance(trial, Mapping):
            raise ConfigError(
                f"hydra.sweeper.enqueue={trial} is not valid; each trial is {DEFAULTS}, or a mapping such as "
                "{optimizer.lr: 0.1}"
            )
    if len(found) > most:
        raise ConfigError(f"hydra.sweeper.enqueue has {len(found)} trials, more than hydra.sweeper.n_trials={most}")
    return found


def of_any_task(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a task that is no training of this project: its objectives are what it returns.

    As in Hydra's stock plugin they are minimized, unless ``direction`` says otherwise.
    """
    directions = node["direction"]
    several = len(directions) if isinstance(directions, Sequence) and not isinstance(directions, str) else 1
    names = ["value"] if several == 1 else [f"value {place}" for place in range(several)]
    return {**node, "objective": names if node["objective"] is None else node["objective"]}


def hide_passwords(master: Any) -> bool:
    """Take the passwords out of the config that is recorded with the sweep and with each of its runs.

    Returns:
        whether one of them was typed, so that the process list shows it.
    """
    hydra = master.hydra
    plain: Any = OmegaConf.to_container(hydra.sweeper, resolve=False)
    given: Any = OmegaConf.to_container(hydra.overrides, resolve=False)
    with read_write(hydra), open_dict(hydra):
        if isinstance(plain.get("storage"), str):
            hydra.sweeper.storage = masked(plain["storage"])
        for kind in ("hydra", "task"):
            hydra.overrides[kind] = [masked(override) for override in given[kind]]
    return any(masked(override) != override for override in given["hydra"])
