"""How a setting is declared, and the checks of values that are more than one number or name.

Every check takes the option's name and what it got, returns the value, and raises ConfigError with the option's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from mlp_study.errors import ConfigError, unknown
from mlp_study.factors.diagnostics import DIAGNOSTICS
from mlp_study.factors.table import Option

SHARD = re.compile(r"(\d+)/(\d+)")
PRECISIONS = {"32": "32", "32-true": "32", "64": "64", "64-true": "64", "bf16": "bf16", "bf16-mixed": "bf16"}

Check = Callable[[str, Any], Any]


def setting(
    default: Any, range: str = "", doc: str = "", *, check: Check | None = None, result: bool = True, **option: Any
) -> Any:
    """A dataclass field with its range and meaning; ``result`` says whether its value can change a run's numbers."""
    declared = Option(default, range, doc, **option)
    metadata = {"check": check or declared.check, "option": declared, "result": result}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def widths(option: str, got: Any) -> list[int]:
    """Layer widths: at least one, each at least 1."""
    if not isinstance(got, Sequence) or isinstance(got, str) or not got:
        raise ConfigError(f"{option}={got} is not valid; it takes a list of at least one layer width, such as [100]")
    return [Option(1, "[1, inf)").check(option, width) for width in got]


def batch_size(option: str, got: Any) -> int | str:
    """Images in a minibatch, or ``full``."""
    if got == "full":
        return "full"
    try:
        return int(Option(1, "[1, inf)").check(option, got))
    except ConfigError:
        raise ConfigError(f"{option}={got} is not valid; it takes a whole number in [1, inf) or full") from None


def validation(option: str, got: Any) -> float | str:
    """A fraction, or ``test``."""
    if got == "test":
        return "test"
    try:
        return float(Option(0.1, "(0, 1)").check(option, got))
    except ConfigError:
        raise ConfigError(f"{option}={got} is not valid; it takes a fraction in (0, 1) or test") from None


def precision(option: str, got: Any) -> str:
    """32, 64 or bf16, also by Lightning's names."""
    if str(got) not in PRECISIONS:
        raise unknown(option, got, PRECISIONS)
    return PRECISIONS[str(got)]


def shard(option: str, got: Any) -> str | None:
    """``i/n``: the i-th of n shares, counted from 0."""
    if got is None:
        return None
    found = SHARD.fullmatch(str(got))
    if found is None or not int(found[1]) < int(found[2]):
        raise ConfigError(f"{option}={got} is not valid; it takes i/n with 0 <= i < n, such as 0/16, or null")
    return str(got)


def names(option: str, got: Any) -> list[str]:
    """A list of names."""
    if not isinstance(got, Sequence) or isinstance(got, str) or not all(isinstance(name, str) for name in got):
        raise ConfigError(f"{option}={got} is not valid; it takes a list of names, such as [a,b]")
    return list(got)


def diagnostics(option: str, got: Any) -> list[str]:
    """A list of diagnostics' names."""
    found = names(option, got)
    for name in found:
        if name not in DIAGNOSTICS:
            raise unknown(option, name, DIAGNOSTICS)
    return found


def steps(option: str, got: Any) -> list[int]:
    """A list of step numbers."""
    if not isinstance(got, Sequence) or isinstance(got, str):
        raise ConfigError(f"{option}={got} is not valid; it takes a list of steps, such as [1,10,100]")
    return [Option(1, "[1, inf)").check(option, step) for step in got]


def mapping(option: str, got: Any) -> dict[str, Any]:
    """A mapping."""
    if not isinstance(got, Mapping):
        raise ConfigError(f"{option}={got} is not valid; it takes a mapping")
    return dict(got)


def experiment(option: str, got: Any) -> dict[str, Any]:
    """Which experiment and variant a run belongs to; what else its YAML says is about the source, not the run."""
    return {key: value for key, value in mapping(option, got).items() if key in ("name", "variant")}
