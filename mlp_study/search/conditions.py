"""Which trials have a parameter: ``optimizer=sgd,rmsprop activation=relu`` asks for one of each list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlp_study.errors import ConfigError


@dataclass(frozen=True)
class Condition:
    """For each key the values of which a trial must have one."""

    allowed: Mapping[str, tuple[str, ...]]

    def holds(self, settings: Mapping[str, str]) -> bool:
        """Whether a trial with these settings fulfils it; a key that the trial lacks fulfils nothing."""
        return all(settings.get(key) in values for key, values in self.allowed.items())

    def __str__(self) -> str:
        return " ".join(f"{key}={','.join(values)}" for key, values in self.allowed.items())


def read_condition(words: str) -> Condition:
    """The condition of a line such as ``optimizer=sgd,rmsprop activation=relu``.

    Raises:
        ConfigError: it is no such line.
    """
    allowed: dict[str, tuple[str, ...]] = {}
    for word in str(words).split():
        key, equals, values = word.partition("=")
        listed = tuple(value for value in values.split(",") if value)
        if not (key and equals and listed):
            raise ConfigError(
                f"hydra.sweeper.conditions: {words!r} is no condition; it takes key=value, such as optimizer=sgd"
            )
        allowed[key] = listed
    if not allowed:
        raise ConfigError("hydra.sweeper.conditions: an empty condition; it takes key=value, such as optimizer=sgd")
    return Condition(allowed)
