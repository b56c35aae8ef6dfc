"""What the factor tables share: tables that explain unknown names, options with ranges, a torch that loads late."""

from __future__ import annotations

import contextlib
import importlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Generic, TypeGuard, TypeVar

from mlp_study.errors import ConfigError, unknown

Entry = TypeVar("Entry")
LARGEST = 3.4e38  # of a number: what single precision holds
Number = Any  # an option as factors get it: a float, or a Tensor with one number a member


class _LazyModule(ModuleType):
    """A module imported when its first attribute is read."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)  # the next read is an ordinary one: training reads a dozen a step
        return value


def lazy_module(name: str) -> Any:
    """Import the module ``name`` at its first use: `--help` and a misspelt option should not pay for torch."""
    return _LazyModule(name)


def is_plain(value: object) -> TypeGuard[float]:
    """Whether an option arrived as one number for all members, not as a tensor over members."""
    return isinstance(value, float | int)


class Table(Mapping[str, Entry], Generic[Entry]):
    """One factor's choices by name. ``table[name]`` raises ConfigError with the nearest names for an unknown one."""

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise unknown(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, name: str, entry: Entry) -> None:
        """Register one more choice from Python; raises ConfigError if the name is taken."""
        if name in self._entries:
            raise ConfigError(f"{self.kind}={name!r} exists already; choose another name")
        self._entries[name] = entry


@dataclass(frozen=True)
class Option:
    """One number, name or switch that a choice takes.

    ``range`` is an interval such as ``(0, inf)`` or ``[0, 1)`` for numbers; ``choices`` lists the names a string takes.
    The default's type is the option's type; ``optional`` also admits None. ``per_member`` options reach a factor's
    functions as a float or as a tensor over members; the others (switches in code) must be equal within a group of
    members.
    """

    default: Any
    range: str = ""
    doc: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False
    type: type = field(default=float)
    per_member: bool = True

    def __post_init__(self) -> None:
        if self.choices:
            object.__setattr__(self, "type", str)
            object.__setattr__(self, "per_member", False)
        elif isinstance(self.default, bool | int) and self.type is float:
            object.__setattr__(self, "type", type(self.default))

    @property
    def takes(self) -> str:
        """Say what the option takes, as errors and `--help` print it."""
        names = {float: "a number", int: "a whole number", bool: "true or false", str: "a name"}
        text = f"one of: {', '.join(self.choices)}" if self.choices else names[self.type]
        text += f" in {self.range}" if self.range else ""
        return text + (" or null" if self.optional else "")

    def check(self, option: str, got: Any) -> Any:
        """Return ``got`` as this option's type.

        Raises:
            ConfigError: it has another type or lies outside the range or the choices; the message names ``option``.
        """
        if got is None and self.optional:
            return None
        if self.choices:
            if got not in self.choices:
                raise unknown(option, got, self.choices)
            return got
        value = self._converted(got)
        if value is None or not self._inside(value):
            large = isinstance(value, float) and LARGEST < abs(value) < math.inf
            raise ConfigError(f"{option}={got} is not valid; it takes {self.takes}{f' up to {LARGEST:g}' * large}")
        return value

    def _converted(self, got: Any) -> Any:
        if self.type is bool or isinstance(got, bool):
            return got if self.type is bool and isinstance(got, bool) else None
        if self.type is str:
            return got if isinstance(got, str) else None
        if isinstance(got, str) and got.isascii():  # YAML 1.1 reads 1e-7 as text; not digits of other scripts
            try:
                got = float(got) if self.type is float else int(got)
            except ValueError:
                return None
        if self.type is int:
            return got if isinstance(got, int) else None
        with contextlib.suppress(OverflowError):  # a whole number beyond what a float holds
            got = float(got) + 0.0 if isinstance(got, int | float) else None  # of the two zeros the one without a sign
        return got if isinstance(got, float) else None

    def _inside(self, value: Any) -> bool:
        if isinstance(value, float) and abs(value) > LARGEST:
            return math.isinf(value) and not self.range
        if not self.range:
            return not (isinstance(value, float) and math.isnan(value))
        match = re.fullmatch(r"([\[(])\s*([^,\s]+)\s*,\s*([^,\s]+)\s*([\])])", self.range)
        assert match, f"a range looks like (0, inf), not {self.range!r}"
        low, high = (int(end) if end.lstrip("-").isdigit() else float(end) for end in (match[2], match[3]))
        above: bool = value >= low if match[1] == "[" else value > low
        below: bool = value <= high if match[4] == "]" else value < high
        return above and below
