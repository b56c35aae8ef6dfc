"""The best trial as a command and as a YAML file that run it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mlp_study.config.schema import GROUPS
from mlp_study.search.batches import sets_seed

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig

TRAIN = ("python", "-m", "mlp_study.train")
OF_FILES = ("sweeps=", "experiment")  # overrides that name YAML files, which a run of the best trial does without


def single_run(overrides: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Return a trial's overrides for a single run, with the first of its seeds."""
    found = [o for o in overrides if not o.startswith("sweep_dir=")]
    return [*(o for o in found if not sets_seed(o)), f"seed={seeds[0]}"] if seeds else found


def command(overrides: Sequence[str], folder: Path) -> str:
    """Return the command that trains the best trial: its overrides, or its YAML file if files have set some of them."""
    if any(o.lstrip("+").startswith(OF_FILES) for o in overrides):
        return shlex.join([*TRAIN, *as_experiment(folder)])
    return shlex.join([*TRAIN, *overrides])


def as_experiment(folder: Path) -> list[str]:
    """Return the overrides that take the best trial from its YAML file in the search's folder."""
    return [f"hydra.searchpath=[file://{folder.absolute()}]", "+experiment=best"]


def best_yaml(about: str, config: RunConfig, folder: Path) -> str:
    """Return all settings that determine the run's numbers, as an experiment's YAML; ``about`` is its first line."""
    values = config.determining()
    choices = [{f"override /{kind}": values[kind]["name"]} for kind in GROUPS]
    sections = {
        key: {name: inner for name, inner in value.items() if key not in GROUPS or name != "name"}
        if isinstance(value, dict)
        else value
        for key, value in values.items()
    }
    tree = {"defaults": choices, **{key: value for key, value in sections.items() if value != {}}}
    head = f"# @package _global_\n# {about}\n# {shlex.join([*TRAIN, *as_experiment(folder)])}\n"
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
