"""Jobs' overrides to plain configs, fast: Hydra composes once per group choice, values are set in the plain dict.

Hydra takes about 80 ms to compose a config, more than a small run trains. The groups' nodes do not depend on each
other, so one composition per choice of each group serves every combination of them; this is checked, and whatever is
out of the ordinary (interpolations, added or deleted keys, packages, dicts) is composed by Hydra in full.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlp_study.config.composing import explain
from mlp_study.config.schema import GROUPS
from mlp_study.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from omegaconf import DictConfig

Plain = dict[str, Any]

KEPT = 1000  # compositions in memory


class Kept(dict[Any, Any]):
    """Values that are made when they are first asked for; at most ``KEPT`` are kept."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: Any) -> Any:
        if len(self) >= KEPT:
            self.clear()
        value = self[key] = self._make(key)
        return value


class Composer:
    """Composes jobs of one sweep.

    Args:
        loader: Hydra's loader, as ``HydraContext`` has it.
        master: the sweep's own composed config, with its ``hydra`` node.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._kinds: dict[str, tuple[str, str, Any]] = {}
        self._is_group = Kept(lambda key: bool(loader.get_group_options(key)))  # Hydra takes a tenth of a second to say
        self._composed = Kept(self._plain)
        self._nodes = Kept(self._node)
        self._bases = Kept(self._base)
        self.compositions = 0

    def compose(self, job: Sequence[str]) -> Plain:
        """The plain resolved config of one job, as Hydra would compose it.

        Raises:
            ConfigError: Hydra refuses an override; the message names it.
        """
        fixed: list[str] = []
        touched: set[str] = set()
        choices: dict[str, str] = {}
        values: list[tuple[str, Any]] = []
        for override in job:
            kind, key, value = self._kind(override, job)
            if kind == "value":
                values.append((key, value))
            elif kind == "choice":
                choices[key] = override
            else:
                fixed.append(override)
                touched.add(key.split(".")[0])
        if any(key.split(".")[0] in touched for key, _ in values):  # their order matters
            return self._plain(job)[0]
        try:
            base = self._bases[tuple(fixed), tuple(choices.values())]
        except ConfigError:  # of a part of the job, which the whole may mend, or explain with the choices that it names
            base = None
        if base is None or not all(_has(base, key) for key, _ in values):
            return self._plain(job)[0]
        config: Plain = _copied(base)
        for key, value in values:
            _set(config, key, value)
        return config

    def full(self, job: Sequence[str]) -> DictConfig:
        """The job's config as Hydra composes it, with its ``hydra`` node."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        self.compositions += 1
        try:
            return self._loader.load_sweep_config(self._master, list(job))
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(job, error) from error

    @cached_property
    def _parser(self) -> Any:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        return OverridesParser.create(config_loader=self._loader)

    def _kind(self, override: str, job: Sequence[str]) -> tuple[str, str, Any]:
        """``value`` with its key and value, ``choice`` with its group, or ``other``; read once per distinct text."""
        if override not in self._kinds:
            self._kinds[override] = self._read(override, job)
        return self._kinds[override]

    def _read(self, override: str, job: Sequence[str]) -> tuple[str, str, Any]:
        from hydra.core.override_parser.types import OverrideType
        from hydra.errors import HydraException

        try:
            parsed = self._parser.parse_override(override)
        except HydraException as error:
            raise explain(job, error) from error
        key, other = parsed.key_or_group, ("other", parsed.key_or_group, None)
        if parsed.type != OverrideType.CHANGE or parsed.package is not None or parsed.is_sweep_override():
            return other
        if key in GROUPS:
            return "choice", key, None
        value = parsed.value()
        if "/" in key or key.split(".")[0] == "hydra" or isinstance(value, dict) or "${" in override:
            return other
        return other if self._is_group[key] else ("value", key, value)

    def _base(self, parts: tuple[tuple[str, ...], tuple[str, ...]]) -> Plain | None:
        """The config of fixed overrides and group choices, from one composition for each choice; None if not sound."""
        fixed, choices = parts
        nodes = [self._nodes[fixed, choice] for choice in choices]
        plain, interpolates = self._composed[fixed]
        if interpolates or any(node is None for node in nodes):
            return None
        return {**plain, **{_key(choice): node for choice, node in zip(choices, nodes, strict=True)}}

    def _node(self, parts: tuple[tuple[str, ...], str]) -> Plain | None:
        """The group's node under a choice; None if the choice changes more than its own node."""
        fixed, choice = parts
        changed, interpolates = self._composed[(*fixed, choice)]
        group, plain = _key(choice), self._composed[fixed][0]
        alone = {**changed, group: None} == {**plain, group: None} and not interpolates
        return changed[group] if alone else None

    def _plain(self, overrides: Sequence[str]) -> tuple[Plain, bool]:
        """Hydra's own composition, and whether interpolations were resolved in it."""
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        composed = self.full(overrides)
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        try:
            resolved: Any = OmegaConf.to_container(own, resolve=True)
        except OmegaConfBaseException as error:
            raise explain(overrides, error) from error
        return resolved, resolved != OmegaConf.to_container(own, resolve=False)


def _copied(node: Any) -> Any:
    """A copy of plain dicts and lists that shares nothing with them; several times faster than ``copy.deepcopy``."""
    if isinstance(node, dict):
        return {key: _copied(value) for key, value in node.items()}
    return [_copied(value) for value in node] if isinstance(node, list) else node


def _key(override: str) -> str:
    return override.split("=", 1)[0]


def _has(config: Mapping[str, Any], key: str) -> bool:
    """Whether the dotted key is there, so that setting it is all that Hydra would do."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _set(config: Plain, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        config = config[part]
    config[last] = copy.copy(value)
