"""The best trial as a command and as a YAML file that run it again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.core.override_parser.types import QuotedString

from mlp_study.config.schema import GROUPS
from mlp_study.search.batches import sets_seed
from mlp_study.search.distributions import override_text, parse_overrides

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig

    Compose = Callable[[Sequence[str]], RunConfig]


def command(overrides: Sequence[str]) -> str:
    """Return the command that runs it again."""
    return shlex.join(["python", "-m", "mlp_study.train", *overrides])


def best_yaml(about: str, overrides: Sequence[str], folder: Path) -> str:
    """Return it as an experiment's YAML; ``about`` is its first line."""
    head = (
        "# @package _global_\n"
        f"# {about}\n"
        f"# {command(overrides)}\n"
        "# As an experiment: python -m mlp_study.train "
        f"'hydra.searchpath=[file://{folder.absolute()}]' +experiment=best\n"
    )
    return head + yaml.safe_dump(nested(overrides), sort_keys=False, allow_unicode=True)


def overrides_of(overrides: Sequence[str], seeds: Sequence[int] | None, compose: Compose | None) -> list[str]:
    """Return what a single run of a trial takes, with its first seed; what a YAML file has set is spelt out."""
    found = [o for o in overrides if not o.startswith("sweep_dir=")]
    if seeds:
        found = [*(o for o in found if not sets_seed(o)), f"seed={seeds[0]}"]
    typed = [o for o in found if not o.lstrip("+").startswith(("sweeps=", "experiment"))]
    return typed if compose is None or typed == found else spelt_out(compose(found), typed, compose)


def spelt_out(wanted: RunConfig, typed: Sequence[str], compose: Compose) -> list[str]:
    """Return ``typed`` with overrides added until it has the results of ``wanted``."""
    values = wanted.determining()
    choices = [f"{kind}={values[kind]['name']}" for kind in GROUPS]
    given = [*choices, *(o for o in typed if o.partition("=")[0] not in GROUPS)]
    there = compose(given).determining()
    more = {
        f"{key}.{name}": inner
        for key, value in values.items()
        if isinstance(value, Mapping)
        for name, inner in value.items()
        if there.get(key, {}).get(name) != inner
    }
    more |= {key: v for key, v in values.items() if not isinstance(v, Mapping) and there.get(key) != v}
    return [*given, *(f"{key}={override_text(value)}" for key, value in more.items())]


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    """Return overrides as the content of a config file: groups into its defaults list, values into sections."""
    tree: dict[str, Any] = {"defaults": []}
    for override in parse_overrides(overrides, None):
        key, value = override.key_or_group, plain(override.value())
        if key in GROUPS:
            tree["defaults"].append({f"override /{key}": value})
        elif key.split(".")[0] != "hydra" and "/" not in key:
            *above, last = key.split(".")
            node = tree
            for part in above:
                node = node.setdefault(part, {})
            node[last] = value
    return tree


def plain(value: Any) -> Any:
    """Return a parsed override's value as YAML has it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value
