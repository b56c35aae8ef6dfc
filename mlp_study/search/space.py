"""The search space: its parameters, the conditions under which they exist, and the overrides of a trial."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from mlp_study.errors import ConfigError
from mlp_study.search.distributions import (
    count_of,
    described,
    distribution_of,
    override_text,
    parse_overrides,
    values_of,
)

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from optuna import Trial

MANY = 10_000  # values of a parameter that are counted one by one


@dataclass(frozen=True)
class Condition:
    """For each key the values of which a trial must have one: ``optimizer=sgd,rmsprop activation=relu``."""

    allowed: Mapping[str, tuple[str, ...]]

    def holds(self, settings: Mapping[str, str]) -> bool:
        """Whether a trial with these settings fulfils it; a key that the trial lacks fulfils nothing."""
        return all(settings.get(key) in values for key, values in self.allowed.items())

    def __str__(self) -> str:
        return " ".join(f"{key}={','.join(values)}" for key, values in self.allowed.items())


def read_condition(words: str) -> Condition:
    """Read a line such as ``optimizer=sgd,rmsprop activation=relu``.

    Raises:
        ConfigError: it is no such line.
    """
    allowed = {}
    for word in str(words).split():
        key, _, values = word.partition("=")
        allowed[key] = tuple(value for value in values.split(",") if value)
    if not allowed or not all(key and values for key, values in allowed.items()):
        raise ConfigError(
            f"hydra.sweeper.conditions: {words!r} is no condition; it takes key=value, such as optimizer=sgd"
        )
    return Condition(allowed)


@dataclass(frozen=True)
class Parameter:
    """One axis of the space.

    Attributes:
        name: its name in the study: the key, with the condition where several conditions give it different values.
        key: the key of its override, such as ``optimizer.lr`` or ``+experiment``.
        text: what was typed for it.
        distribution: Optuna's distribution.
        when: the condition of trials that have it; None: all have it.
    """

    name: str
    key: str
    text: str
    distribution: BaseDistribution
    when: Condition | None = None

    @property
    def plain_key(self) -> str:
        """The key without Hydra's ``+``."""
        return self.key.lstrip("+")

    def suggest(self, trial: Trial) -> Any:
        """Let Optuna choose the trial's value."""
        d: Any = self.distribution
        if isinstance(d, CategoricalDistribution):
            return trial.suggest_categorical(self.name, d.choices)
        suggest: Any = trial.suggest_int if isinstance(d.low, int) else trial.suggest_float
        return suggest(self.name, d.low, d.high, step=d.step, log=d.log)

    def fitting(self, value: Any) -> Any:
        """Return ``value`` as this parameter has it; None if it is none of its values."""
        d: Any = self.distribution
        if isinstance(d, CategoricalDistribution):
            return next((choice for choice in d.choices if override_text(choice) == override_text(value)), None)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not d.low <= value <= d.high or (isinstance(d.low, int) and value != int(value)):
            return None
        return type(d.low)(value)

    def probes(self) -> list[Any]:
        """Return values that show whether the parameter is valid: every choice, or the two ends."""
        d: Any = self.distribution
        return values_of(d) if hasattr(d, "choices") or count_of(d) < 3 else [d.low, d.high]


@dataclass(frozen=True)
class Space:
    """All parameters, those that others depend on first; ``fixed`` overrides hold in every trial."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]
    defaults: Mapping[str, str]

    def suggest(self, trial: Trial) -> list[str]:
        """Let Optuna choose a trial's values; return its overrides."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if self._holds(parameter, values):
                values[parameter.name] = parameter.suggest(trial)
        return self.overrides(values)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides of these values of the parameters, after the fixed ones."""
        own = {p.key: override_text(values[p.name]) for p in self.parameters if p.name in values}
        return [*self.fixed, *(f"{key}={value}" for key, value in own.items())]

    def _holds(self, parameter: Parameter, values: Mapping[str, Any]) -> bool:
        if parameter.when is None:
            return True
        fixed = dict(text.lstrip("+").split("=", 1) for text in self.fixed if "=" in text)
        ours = {p.plain_key: override_text(values[p.name]) for p in self.parameters if p.name in values}
        return parameter.when.holds({**self.defaults, **fixed, **ours})

    def fixed_values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's values by the names of the parameters, from values by their keys.

        Raises:
            ConfigError: a key that is not searched, or a value that it cannot have.
        """
        found: dict[str, Any] = {}
        for key, value in given.items():
            same = [p for p in self.parameters if p.plain_key == str(key).lstrip("+")]
            fitting = {p.name: fit for p in same if (fit := p.fitting(value)) is not None}
            if not fitting:
                takes = " or ".join(described(p.distribution) for p in same) or "only parameters that are searched"
                raise ConfigError(f"hydra.sweeper.enqueue: {key}={value} is not valid; it takes {takes}")
            found |= fitting
        return found

    def grid(self) -> dict[str, list[Any]]:
        """List all values of each parameter.

        Raises:
            ConfigError: an interval, which has no list of values, or conditions.
        """
        for parameter in self.parameters:
            if math.isinf(count_of(parameter.distribution)):
                raise ConfigError(
                    f"{parameter.text}: hydra.sweeper.sampler=grid takes lists and ranges, and an interval has no "
                    "list of values; another sampler, such as tpe, searches intervals"
                )
            if parameter.when is not None:
                raise ConfigError(
                    "hydra.sweeper.sampler=grid cannot search a space with conditions; brute_force tries all its cells"
                )
        return {p.name: values_of(p.distribution) for p in self.parameters}

    def size(self) -> float:
        """Count the different trials; inf if the space has intervals."""
        asked = {key for p in self.parameters if p.when is not None for key in p.when.allowed}
        return self._size(0, {}, asked)

    def _size(self, at: int, values: dict[str, Any], asked: set[str]) -> float:
        if at == len(self.parameters):
            return 1
        parameter = self.parameters[at]
        if not self._holds(parameter, values):
            return self._size(at + 1, values, asked)
        if parameter.plain_key not in asked:
            return count_of(parameter.distribution) * self._size(at + 1, values, asked)
        own = values_of(parameter.distribution)[:MANY]
        return sum(self._size(at + 1, {**values, parameter.name: value}, asked) for value in own)

    def samples(self) -> Iterator[list[str]]:
        """Yield overrides of trials that show together whether every parameter and choice is valid."""
        if not self.parameters:
            yield self.overrides({})
        for parameter in self.parameters:
            for value in parameter.probes():
                values = self._around(parameter, value)
                if values is not None:
                    yield self.overrides(values)

    def _around(self, wanted: Parameter, value: Any) -> dict[str, Any] | None:
        """A trial that has ``wanted=value``, the others at their first value that allows it; None if there is none."""
        needs = self._needs(wanted)
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter is wanted:
                values[parameter.name] = value
            elif self._holds(parameter, values):
                allowed = needs.get(parameter.plain_key)
                fitting = [v for v in parameter.probes() if allowed is None or override_text(v) in allowed]
                values[parameter.name] = (fitting or parameter.probes())[0]
        others = {name: v for name, v in values.items() if name != wanted.name}
        return values if self._holds(wanted, others) else None

    def _needs(self, parameter: Parameter) -> dict[str, tuple[str, ...]]:
        """What a trial must have so that it has this parameter, also by conditions of its conditions."""
        found: dict[str, tuple[str, ...]] = {}
        waiting = [parameter]
        while waiting:
            when = waiting.pop().when
            for key, allowed in {} if when is None else when.allowed.items():
                if key not in found:
                    found[key] = allowed
                    waiting += [p for p in self.parameters if p.plain_key == key]
        return found

    def described(self) -> dict[str, str]:
        """Describe the space in words, equal for equal spaces."""
        return {
            p.name if p.when is None else f"{p.name} if {p.when}": described(p.distribution) for p in self.parameters
        }


def read_space(
    params: Mapping[str, Any],
    overrides: Sequence[str],
    conditions: Mapping[str, Mapping[str, Any]],
    loader: ConfigLoader | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Space:
    """Read the space of the sweeper's ``params`` and ``conditions`` and of the command line's overrides, which win.

    Raises:
        ConfigError: an override that cannot be read, an axis without values, a condition on what nobody sets.
    """
    typed = parse_overrides(overrides, loader)
    axes = {o.get_key_element().lstrip("+"): o for o in [*parse_overrides(_lines(params), loader), *typed]}
    settled = {key: o for key, o in axes.items() if not o.is_sweep_override()}
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in settled.values()]
    parameters = [
        Parameter(key, o.get_key_element(), str(o.input_line), distribution_of(o))
        for key, o in axes.items()
        if key not in settled
    ]
    known = {**(defaults or {}), **{key: o.get_value_element_as_str() for key, o in settled.items()}}
    for words, given in conditions.items():
        when = read_condition(words)
        _check_condition(when, parameters, known)
        for override in parse_overrides(_lines(given), loader):
            if override.get_key_element().lstrip("+") not in axes:  # what the command line sets holds in every trial
                parameters.append(_conditional(override, when, parameters))
    return Space(tuple(parameters), tuple(fixed), dict(defaults or {}))


def _lines(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={override_text(value)}" for key, value in settings.items()]


def _conditional(override: Any, when: Condition, before: Sequence[Parameter]) -> Parameter:
    key, distribution = override.get_key_element().lstrip("+"), distribution_of(override)
    others = [p.distribution for p in before if p.plain_key == key]
    name = f"{key} [{when}]" if any(other != distribution for other in others) else key
    return Parameter(name, override.get_key_element(), override.input_line, distribution, when)


def _check_condition(when: Condition, parameters: Sequence[Parameter], known: Mapping[str, str]) -> None:
    for key, allowed in when.allowed.items():
        same = [p for p in parameters if p.plain_key == key]
        if not same and key not in known:
            raise ConfigError(
                f"hydra.sweeper.conditions: {when} asks for {key}, which no parameter above it and no override sets"
            )
        possible = [override_text(v) for p in same for v in values_of(p.distribution)]
        for value in allowed if same else ():
            if value not in possible:
                raise ConfigError(f"hydra.sweeper.conditions: {when}: {key} is never {value}; it takes {possible}")
