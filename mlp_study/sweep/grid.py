"""From sweep overrides to the list of jobs: the full grid, in the order of Hydra's own BasicSweeper."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.config.composing import explain
from mlp_study.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

Job = list[str]


def expand(overrides: Sequence[str], loader: ConfigLoader | None = None) -> list[Job]:
    """Every combination of the values that the overrides sweep over; the last axis varies fastest.

    See ``read_axes`` for the arguments and for what it raises.
    """
    return [list(job) for job in itertools.product(*read_axes(overrides, loader).values())]


def read_axes(overrides: Sequence[str], loader: ConfigLoader | None = None) -> dict[str, list[str]]:
    """Each key's ``key=value`` for each of its values.

    ``a=1,2``, ``a=choice(1,2)``, ``a=range(0,5)`` and ``group=glob(*)`` are axes. Of several overrides of one key the
    last one counts, at the place of the first.

    Args:
        overrides: Hydra overrides.
        loader: knows the groups' choices, which ``glob`` needs.

    Raises:
        ConfigError: an override that cannot be read, an interval, or an axis without values.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    except HydraException as error:
        raise explain(overrides, error) from error
    axes: dict[str, list[str]] = {}
    for override in parsed:
        axes[override.get_key_element()] = _values(override)
    return axes


def _values(override: Any) -> list[str]:
    """One axis: ``key=value`` for each of an override's values."""
    key, text = override.get_key_element(), override.input_line
    if not override.is_sweep_override():
        value = override.get_value_element_as_str()
        return [f"{key}={value}"]
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{text}: a grid has no values for an interval; it takes a list, such as {key}=0.01,0.1, or a range, "
            "and hydra/sweeper=optuna searches intervals"
        )
    try:
        values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    except ValueError as error:  # such as range(0,1,0)
        raise ConfigError(f"{text} is not valid: {error}") from error
    if not values:
        raise ConfigError(f"{text}: the sweep is empty, this gives no values")
    return values
