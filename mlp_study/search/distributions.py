"""Translate Hydra's sweep grammar to Optuna's distributions, and a trial's values back to overrides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mlp_study.config.composing import explain
from mlp_study.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader


def parse_overrides(overrides: Sequence[str], loader: ConfigLoader | None) -> list[Override]:
    """Parse overrides with Hydra's grammar; ``loader`` resolves ``glob``.

    Raises:
        ConfigError: an override that cannot be read.
    """
    try:
        return list(OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)))
    except HydraException as error:
        raise explain(overrides, error) from error


def distribution_of(override: Any) -> BaseDistribution:
    """Return Optuna's distribution of a parsed sweep override; a fixed value is a choice of one.

    Choices keep their types: numbers and booleans as such, everything else as the text of its override.

    Raises:
        ConfigError: no values, a reversed interval, a logarithm of zero.
    """
    if override.is_interval_sweep():
        return _interval(override)
    if override.is_range_sweep():
        return _range(override)
    if not override.is_sweep_override():
        return CategoricalDistribution([override.get_value_element_as_str()])
    kinds = {(type(value), value): value for value in override.sweep_iterator(transformer=Transformer.encode)}
    if not kinds:
        raise ConfigError(f"{override.input_line}: the search space is empty, this gives no values")
    return CategoricalDistribution(list(kinds.values()))


def _interval(override: Any) -> BaseDistribution:
    sweep, line = override.value(), override.input_line
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{line}: an interval's ends are finite numbers")
    if low > high:
        raise ConfigError(f"{line}: the interval is reversed, {low} is above {high}; it takes interval(low, high)")
    _check_tags(sweep.tags, low, line)
    if "int" not in sweep.tags and not isinstance(low, int):
        return FloatDistribution(float(low), float(high), log=log)
    if math.ceil(low) > math.floor(high):
        raise ConfigError(f"{line}: there is no whole number in the interval")
    return IntDistribution(math.ceil(low), math.floor(high), log=log)


def _range(override: Any) -> BaseDistribution:
    """Hydra's range, whose end is exclusive; Optuna's ends are inclusive."""
    sweep, line = override.value(), override.input_line
    start, stop, step = (Decimal(str(v)) for v in (sweep.start, sweep.stop, sweep.step))
    count = math.ceil((stop - start) / step) if step else 0
    if count < 1:
        raise ConfigError(f"{line}: the search space is empty, this range has no values (its end is exclusive)")
    low, high = sorted((start, start + step * (count - 1)))
    _check_tags(sweep.tags, float(low), line)
    log = "log" in sweep.tags
    whole = "int" in sweep.tags or all(isinstance(v, int) for v in (sweep.start, sweep.stop, sweep.step))
    if log and (not whole or abs(step) != 1):
        raise ConfigError(f"{line}: a logarithmic range takes whole numbers in steps of 1; tag(log,interval(low,high))")
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=max(1, int(abs(step))))
    return FloatDistribution(float(low), float(high), step=float(abs(step)))


def _check_tags(tags: set[str], low: float, line: str) -> None:
    if "log" in tags and low <= 0:
        raise ConfigError(f"{line}: the logarithm of {low:g} does not exist; a logarithmic interval begins above zero")
    if unknown := sorted(tags - {"log", "int"}):
        raise ConfigError(f"{line}: unknown tag {', '.join(unknown)}; an interval takes log and int")


def count_of(distribution: Any) -> float:
    """Count the values; inf for an interval of real numbers."""
    if hasattr(distribution, "choices"):
        return float(len(distribution.choices))
    if distribution.step is None:
        return math.inf
    return float(round((distribution.high - distribution.low) / distribution.step) + 1)


def values_of(distribution: Any) -> list[Any]:
    """List all values of a discrete distribution, or the ends of an interval."""
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    if distribution.step is None:
        return [distribution.low, distribution.high]
    step, low = Decimal(str(distribution.step)), Decimal(str(distribution.low))
    return [type(distribution.low)(low + step * i) for i in range(int(count_of(distribution)))]


def described(distribution: BaseDistribution) -> str:
    """Describe a distribution; choices by their texts, so that ``1`` and ``'1'`` are the same choice."""
    if isinstance(distribution, CategoricalDistribution):
        return str(CategoricalDistribution([override_text(choice) for choice in distribution.choices]))
    return str(distribution)


def override_text(value: Any) -> str:
    """Write a value of a trial or of a YAML file as it stands in an override."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(override_text, value)) + "]"
    return repr(value) if isinstance(value, float) else str(value)
