"""The search space: Hydra's sweep grammar to Optuna's distributions, and a trial's values back to overrides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlp_study.config.composing import explain
from mlp_study.errors import ConfigError
from mlp_study.search.conditions import Condition, read_condition

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from optuna import Trial
    from optuna.distributions import BaseDistribution

Values = dict[str, Any]

MANY = 10_000  # cells that a space is counted up to one by one


@dataclass(frozen=True)
class Parameter:
    """One axis of the space.

    Attributes:
        name: in the study; the key, with its condition where several conditions give the key different values.
        key: as an override has it, such as ``optimizer.lr`` or ``+experiment``.
        text: what was typed for it.
        distribution: Optuna's; a choice's values are texts, as they stand in an override.
        when: in which trials there is this parameter; None: in all.
    """

    name: str
    key: str
    text: str
    distribution: BaseDistribution
    when: Condition | None = None

    def suggest(self, trial: Trial) -> Any:
        """The trial's value."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return trial.suggest_categorical(self.name, d.choices)
        if isinstance(d, IntDistribution):
            return trial.suggest_int(self.name, d.low, d.high, step=d.step, log=d.log)
        assert isinstance(d, FloatDistribution)
        return trial.suggest_float(self.name, d.low, d.high, step=d.step, log=d.log)

    @cached_property
    def count(self) -> float:
        """How many values it has; inf for an interval of real numbers."""
        d: Any = self.distribution
        if hasattr(d, "choices"):
            return len(d.choices)
        return math.inf if d.step is None else round((d.high - d.low) / d.step) + 1

    def values(self) -> list[Any]:
        """All values of a discrete parameter; the ends of an interval."""
        d: Any = self.distribution
        if hasattr(d, "choices"):
            return list(d.choices)
        if d.step is None:
            return [d.low, d.high]
        whole = isinstance(d.low, int)
        step, low = Decimal(str(d.step)), Decimal(str(d.low))
        return [int(v) if whole else float(v) for v in (low + step * i for i in range(int(self.count)))]

    def probes(self) -> list[Any]:
        """Values that show whether the parameter is valid: every choice, or the two ends."""
        values = self.values() if hasattr(self.distribution, "choices") or self.count < 3 else []
        d: Any = self.distribution
        return values or [d.low, d.high]


@dataclass(frozen=True)
class Space:
    """All parameters, those that others depend on first; ``fixed`` overrides are every trial's."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]
    defaults: Mapping[str, str]

    def suggest(self, trial: Trial) -> list[str]:
        """The overrides of a trial."""
        values: Values = {}
        for parameter in self.parameters:
            if self._holds(parameter, values):
                values[parameter.name] = parameter.suggest(trial)
        return self.overrides(values)

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The overrides of these values of the parameters, after the fixed ones."""
        own = {p.key: shown(values[p.name]) for p in self.parameters if p.name in values}
        return [*self.fixed, *(f"{key}={value}" for key, value in own.items())]

    def _holds(self, parameter: Parameter, values: Mapping[str, Any]) -> bool:
        return parameter.when is None or parameter.when.holds(self._settings(values))

    def _settings(self, values: Mapping[str, Any]) -> dict[str, str]:
        fixed = dict(text.lstrip("+").split("=", 1) for text in self.fixed if "=" in text)
        ours = {p.key.lstrip("+"): str(values[p.name]) for p in self.parameters if p.name in values}
        return {**self.defaults, **fixed, **ours}

    @property
    def conditional(self) -> bool:
        """Whether some parameters are not in every trial."""
        return any(p.when is not None for p in self.parameters)

    def grid(self) -> dict[str, list[Any]]:
        """All values of each parameter.

        Raises:
            ConfigError: an interval, which has no list of values, or conditions.
        """
        for parameter in self.parameters:
            if math.isinf(parameter.count):
                raise ConfigError(
                    f"{parameter.text}: hydra.sweeper.sampler=grid takes lists and ranges, and an interval has no "
                    "list of values; another sampler, such as tpe, searches intervals"
                )
        if self.conditional:
            raise ConfigError(
                "hydra.sweeper.sampler=grid cannot search a space with conditions; brute_force tries all of its cells"
            )
        return {p.name: p.values() for p in self.parameters}

    def size(self) -> float:
        """How many different trials there are; inf if the space has intervals."""
        asked = {key for p in self.parameters if p.when is not None for key in p.when.allowed}
        return self._size(0, {}, asked)

    def _size(self, at: int, values: Values, asked: set[str]) -> float:
        if at == len(self.parameters):
            return 1
        parameter = self.parameters[at]
        if not self._holds(parameter, values):
            return self._size(at + 1, values, asked)
        if parameter.key.lstrip("+") not in asked:
            return parameter.count * self._size(at + 1, values, asked)
        return sum(self._size(at + 1, {**values, parameter.name: v}, asked) for v in parameter.values()[:MANY])

    def samples(self) -> Iterator[list[str]]:
        """Overrides of trials that show together whether every parameter and choice is valid."""
        if not self.parameters:
            yield self.overrides({})
        for parameter in self.parameters:
            for value in parameter.probes():
                values = self._around(parameter, value)
                if values is not None:
                    yield self.overrides(values)

    def _around(self, wanted: Parameter, value: Any) -> Values | None:
        """A trial that has ``wanted=value``, the others at their first value that allows it; None if there is none."""
        needs = self._needs(wanted)
        values: Values = {}
        for parameter in self.parameters:
            if parameter is wanted:
                values[parameter.name] = value
            elif self._holds(parameter, values):
                allowed = needs.get(parameter.key.lstrip("+"))
                fitting = [v for v in parameter.probes() if allowed is None or str(v) in allowed]
                values[parameter.name] = (fitting or parameter.probes())[0]
        held = {name: v for name, v in values.items() if name != wanted.name}
        return values if self._holds(wanted, held) else None

    def _needs(self, parameter: Parameter) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        waiting = [parameter]
        while waiting:
            when = waiting.pop().when
            for key, allowed in {} if when is None else when.allowed.items():
                if key not in found:
                    found[key] = allowed
                    waiting += [p for p in self.parameters if p.key.lstrip("+") == key]
        return found

    def described(self) -> dict[str, str]:
        """The space in words, equal for equal spaces."""
        return {p.name if p.when is None else f"{p.name} if {p.when}": str(p.distribution) for p in self.parameters}


def read_space(
    params: Mapping[str, Any],
    overrides: Sequence[str],
    conditions: Mapping[str, Mapping[str, Any]],
    loader: ConfigLoader | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Space:
    """The space of the sweeper's ``params`` and ``conditions`` and of the command line's overrides, which win.

    Raises:
        ConfigError: an override that cannot be read, an axis without values, a condition on what nobody sets.
    """
    axes: dict[str, Any] = {}
    for override in _parsed([*(f"{key}={text(value)}" for key, value in params.items()), *overrides], loader):
        axes[override.get_key_element().lstrip("+")] = override
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in axes.values() if not _is_axis(o)]
    parameters = [_parameter(o, o.get_key_element().lstrip("+")) for o in axes.values() if _is_axis(o)]
    settled = {key: o.get_value_element_as_str() for key, o in axes.items() if not _is_axis(o)}
    typed = {o.get_key_element().lstrip("+"): o for o in _parsed(overrides, loader)}
    known = {**(defaults or {}), **settled}
    for words, given in conditions.items():
        when = read_condition(words)
        _check_condition(when, parameters, known)
        for override in _parsed([f"{key}={text(value)}" for key, value in given.items()], loader):
            key = override.get_key_element().lstrip("+")
            if key in typed or key in axes:
                continue  # the command line's holds in every trial
            parameters.append(_conditional(override, key, when, parameters))
    return Space(tuple(parameters), tuple(fixed), dict(defaults or {}))


def _conditional(override: Any, key: str, when: Condition, before: Sequence[Parameter]) -> Parameter:
    distribution = distribution_of(override)
    others = [p.distribution for p in before if p.key.lstrip("+") == key]
    name = f"{key} [{when}]" if any(other != distribution for other in others) else key
    return Parameter(name, override.get_key_element(), override.input_line, distribution, when)


def _check_condition(when: Condition, parameters: Sequence[Parameter], known: Mapping[str, str]) -> None:
    for key, allowed in when.allowed.items():
        same = [p for p in parameters if p.key.lstrip("+") == key]
        if not same and key not in known:
            raise ConfigError(
                f"hydra.sweeper.conditions: {when} asks for {key}, which no parameter above it and no override sets"
            )
        for value in allowed:
            possible = [str(v) for p in same for v in p.values()] or [known[key]]
            if same and value not in possible:
                raise ConfigError(f"hydra.sweeper.conditions: {when}: {key} is never {value}; it takes {possible}")


def _parsed(overrides: Sequence[str], loader: ConfigLoader | None) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return list(OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)))
    except HydraException as error:
        raise explain(overrides, error) from error


def _is_axis(override: Any) -> bool:
    return bool(override.is_sweep_override())


def _parameter(override: Any, name: str) -> Parameter:
    return Parameter(name, override.get_key_element(), override.input_line, distribution_of(override))


def distribution_of(override: Any) -> BaseDistribution:
    """Optuna's distribution of a parsed sweep override; a fixed value is a choice of one.

    Raises:
        ConfigError: no values, a reversed interval, a logarithm of zero.
    """
    from optuna.distributions import CategoricalDistribution

    if override.is_interval_sweep():
        return _interval(override)
    if override.is_range_sweep():
        return _range(override)
    if not override.is_sweep_override():
        return CategoricalDistribution([override.get_value_element_as_str()])
    choices = list(dict.fromkeys(override.sweep_string_iterator()))
    if not choices:
        raise ConfigError(f"{override.input_line}: the search space is empty, this gives no values")
    return CategoricalDistribution(choices)


def _interval(override: Any) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    sweep, line = override.value(), override.input_line
    low, high = sweep.start, sweep.end
    whole = "int" in sweep.tags or isinstance(low, int)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{line}: an interval's ends are finite numbers")
    if low > high:
        raise ConfigError(f"{line}: the interval is reversed, {low} is above {high}; it takes interval(low, high)")
    _check_log(sweep.tags, low, line)
    if whole:
        if math.ceil(low) > math.floor(high):
            raise ConfigError(f"{line}: there is no whole number in the interval")
        return IntDistribution(math.ceil(low), math.floor(high), log="log" in sweep.tags)
    return FloatDistribution(float(low), float(high), log="log" in sweep.tags)


def _range(override: Any) -> BaseDistribution:
    """Hydra's range, whose end is exclusive; Optuna's ends are inclusive."""
    from optuna.distributions import FloatDistribution, IntDistribution

    sweep, line = override.value(), override.input_line
    start, stop, step = (Decimal(str(v)) for v in (sweep.start, sweep.stop, sweep.step))
    count = math.ceil((stop - start) / step) if step else 0
    if count < 1:
        raise ConfigError(f"{line}: the search space is empty, this range has no values (its end is exclusive)")
    low, high = sorted((start, start + step * (count - 1)))
    log = "log" in sweep.tags
    _check_log(sweep.tags, float(low), line)
    whole = "int" in sweep.tags or all(isinstance(v, int) for v in (sweep.start, sweep.stop, sweep.step))
    if log and (not whole or abs(step) != 1):
        raise ConfigError(f"{line}: a logarithmic range takes whole numbers in steps of 1; tag(log,interval(low,high))")
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=max(1, int(abs(step))))
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _check_log(tags: set[str], low: float, line: str) -> None:
    if "log" in tags and low <= 0:
        raise ConfigError(f"{line}: the logarithm of {low:g} does not exist; a logarithmic interval begins above zero")
    if tags - {"log", "int"}:
        raise ConfigError(
            f"{line}: unknown tag {', '.join(sorted(tags - {'log', 'int'}))}; an interval takes log and int"
        )


def text(value: Any) -> str:
    """A value of a YAML file as it stands in an override."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text, value)) + "]"
    return str(value)


def shown(value: Any) -> str:
    """A trial's value as it stands in an override."""
    return repr(value) if isinstance(value, float) else str(value)
