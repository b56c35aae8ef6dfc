"""From a command line's overrides to a plain config, through Hydra; and from Hydra's errors to one clear line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mlp_study.config.plugin_settings import store_plugin_configs
from mlp_study.config.schema import GROUPS, SECTIONS, default_settings, described_settings, option_not_of, options_of
from mlp_study.config.shipped import group_folder, shipped
from mlp_study.config.trust import guarded_configs
from mlp_study.errors import ConfigError, no_such_option, unknown

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath

YAML_GROUPS = ("experiment", "sweeps", "trainer")  # the config groups that are files only; the others are tables, too


@lru_cache(maxsize=1)
def register_groups() -> None:
    """Give Hydra one config group per table, one config per entry, and the settings' defaults."""
    from hydra.conf import HydraConf
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class SweepFiles(SearchPathPlugin):
        """Makes ``sweeps/`` a config group of this project's commands; no other application's."""

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            search_path.append("mlp_study", f"file://{shipped('sweeps').parent}")

    store_plugin_configs()
    Plugins.instance().register(SweepFiles)
    store = ConfigStore.instance()
    # Hydra copies the whole store for each config that it composes, a fifth of that time; what it loads from it, it
    # copies again, so that the one store, a singleton, may stand for its copies.
    ConfigStore.__deepcopy__ = lambda self, _: self  # type: ignore[attr-defined] # it has none
    # As Hydra's own defaults, not as overrides in conf/config.yaml, which no other file could override.
    ours = ({"sweeper": "population"}, {"launcher": "population"})
    hydras = [entry for entry in HydraConf().defaults if not {"sweeper", "launcher"} & set(entry)]
    store.store(group="hydra", name="config", node=HydraConf(defaults=[*ours, *hydras]), provider="hydra")
    store.store(name="settings", node=default_settings())
    for kind, table in GROUPS.items():
        for name, entry in table.items():
            options = {key: option.default for key, option in options_of(entry).items()}
            store.store(group=kind, name=name, node={"name": name, **options})


def choices_of(group: str) -> list[str]:
    """The names of a group's choices: its table's entries, then the presets in ``conf/``."""
    return [*GROUPS.get(group, ()), *yaml_choices(group)]


def yaml_choices(group: str) -> list[str]:
    """The names of a group of YAML files, such as ``experiment``."""
    return sorted(file.stem for file in group_folder(group).glob("*.yaml"))


@lru_cache(maxsize=1)
def default_choices() -> dict[str, str]:
    """The choice of each config group where none is typed, as ``conf/config.yaml`` has it."""
    from omegaconf import OmegaConf

    file: Any = OmegaConf.create((shipped("conf") / "config.yaml").read_text(encoding="utf-8"))
    choices = [pair for entry in file.defaults if not isinstance(entry, str) for pair in entry.items()]
    return {group: choice for group, choice in choices if group in GROUPS}


LAUNCHERS = {"joblib": "hydra-joblib-launcher", "submitit": "hydra-submitit-launcher", "ray": "hydra-ray-launcher"}
RESOLVING = "ConfigError raised while resolving interpolation: "  # OmegaConf's words before ours
SWEEP = "add -m before the overrides, or quote one value"  # to who gives several values to a command that can sweep


def compose(overrides: Sequence[str], several: str = SWEEP) -> dict[str, Any]:
    """The plain resolved config that Hydra composes from command-line overrides.

    Args:
        overrides: as they are typed.
        several: what to do instead of giving one key several values.

    Raises:
        ConfigError: an override that Hydra cannot read or place; the message names the override.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    register_groups()
    GlobalHydra.instance().clear()
    try:
        with guarded_configs(), initialize_config_dir(version_base="1.3", config_dir=str(shipped("conf"))):
            composed = hydra_compose("config", overrides=with_variant(overrides))
            plain = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: a number for a group's choice
        raise explain(overrides, error, several) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def with_variant(overrides: Sequence[str]) -> list[str]:
    """The overrides with an experiment's variant spelt out, placed before the user's own so that those win.

    ``+experiment=raw_relu experiment.variant=relu_unit`` becomes the experiment followed by that variant's overrides.
    Without a variant the experiment's first one is taken; with ``data=digits`` its changes for that data set come too.

    Raises:
        ConfigError: the experiment has no such variant, or several are asked for.
    """
    given = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    name = given.get("experiment")
    if name is None or name not in yaml_choices("experiment"):
        return list(overrides)
    node = experiment(name)
    variants: dict[str, list[str]] = node["variants"]
    chosen = given.get("experiment.variant", next(iter(variants)))
    if set(chosen.split(",")) <= set(variants) and chosen not in variants:
        raise ConfigError(
            f"experiment.variant={chosen}: a run takes one variant; "
            f"python -m mlp_study.reproduce source={name} runs all"
        )
    if chosen not in variants:
        raise unknown("experiment.variant", chosen, variants)
    digits: list[str] = node.get("digits", []) if given.get("data") == "digits" else []
    spelt = ("experiment=", "experiment.variant=")
    rest = [o for o in overrides if not o.lstrip("+").startswith(spelt)]
    return [f"+experiment={name}", *digits, *variants[chosen], *rest, f"++experiment.variant={chosen}"]


def experiment(name: str) -> dict[str, Any]:
    """The ``experiment`` node of ``conf/experiment/NAME.yaml``: its source, variants and published claims."""
    from omegaconf import OmegaConf

    text = (group_folder("experiment") / f"{name}.yaml").read_text(encoding="utf-8")
    node = OmegaConf.to_container(OmegaConf.create(text).experiment)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def explain(overrides: Sequence[str], error: Exception, several: str = SWEEP) -> ConfigError:
    """One line for Hydra's refusal of ``overrides``: the first unknown key or choice, else Hydra's words.

    Args:
        overrides: as they are typed.
        error: the refusal.
        several: see ``compose``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            return _unreadable(text)
    choices: dict[str, list[str]] = {}
    for override in parsed:
        if override.key_or_group in GROUPS:
            choices[override.key_or_group] = list(map(str, _values(override)))
    for override in parsed:
        key = override.key_or_group
        if (
            key == "hydra/launcher"
            and "Could not find" in str(error)
            and (package := LAUNCHERS.get(str(override.value()).partition("_")[0]))
        ):
            return ConfigError(f"{override.input_line} is not installed; pip install {package} brings it")
        if key.split(".")[0] == "hydra" or "/" in key:
            continue
        found = _unknown_choice(override, str(error)) or _unknown_key(key, choices)
        if found:
            return found
        if override.is_sweep_override() and "multirun" in str(error):
            return ConfigError(f"{override.input_line}: several values make a sweep; {several}")
    groups = [o for o in parsed if "/" in o.key_or_group]
    nameless = [str(o.input_line) for o in groups if not all(isinstance(value, str) for value in _values(o))]
    if "Config group override" in str(error) and nameless:
        return ConfigError(f"{', '.join(nameless)}: a group of the configuration takes the name of a choice")
    said = [_first_words(str(part)) for part in (error, error.__cause__) if str(part or "")]
    return ConfigError(": ".join(said).replace(RESOLVING, ""))  # the cause says what the option takes


def _unreadable(text: str) -> ConfigError:
    """The error for what is no override in Hydra's grammar: most often its value needs quotes."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = text.partition("=")
    quoted = f"{key}='{value}'"
    with contextlib.suppress(HydraException):
        if equals and OverridesParser.create().parse_override(quoted) and not value.startswith(("[", "{", "'", '"')):
            return ConfigError(f'{text!r} is not an override; its value needs quotes: "{quoted}"')
    return ConfigError(f"{text!r} is not an override; it takes key=value, such as activation=relu")


def _first_words(said: str) -> str:
    """The first line of an error; where that only announces the next one, that line and the key too."""
    first, *lines = map(str.strip, said.splitlines())
    if not first.endswith(":") or not lines:
        return first.rstrip(".")
    keys = [line.removeprefix("full_key: ") for line in lines if line.startswith("full_key: ")]
    return " ".join([first, lines[0].rstrip("."), *(f"({key})" for key in keys)])


def _values(override: Any) -> Iterator[Any]:
    """The values that an override gives its key: one, or each of a choice sweep."""
    from hydra.core.override_parser.types import ChoiceSweep, QuotedString

    value = override.value()
    many: Iterable[Any] = value.list if isinstance(value, ChoiceSweep) else [value]
    for one in many:
        yield one.text if isinstance(one, QuotedString) else one


def _unknown_choice(override: Any, said: str) -> ConfigError | None:
    """What is wrong with a group's choice, of which Hydra has ``said`` something if it did not find it."""
    key = override.key_or_group
    known = choices_of(key)
    if not known or override.is_delete():
        return None
    values = list(_values(override))
    if any(value is None or isinstance(value, int | float | dict) for value in values):
        return ConfigError(f"{override.input_line} is not valid; it takes one of: {', '.join(known)}")
    if f"Could not find '{key}/" not in said:
        return None  # what is not known here is a file of the user's own
    return next((unknown(key, value, known) for value in values if isinstance(value, str) and value not in known), None)


def _entry_name(group: str, choice: str) -> str | None:
    """The table's entry behind a choice: itself, or the one that a preset starts from; None for a file elsewhere."""
    from omegaconf import OmegaConf

    if choice in GROUPS[group] or choice not in yaml_choices(group):
        return choice if choice in GROUPS[group] else None
    file: Any = OmegaConf.load(group_folder(group) / f"{choice}.yaml")
    named = [str(entry) for entry in [file.get("name"), *file.get("defaults", [])] if entry in GROUPS[group]]
    return named[0] if named else None


def _unknown_key(key: str, choices: Mapping[str, list[str]]) -> ConfigError | None:
    section, _, option = key.partition(".")
    settings = [name for name, _ in described_settings()]
    if key in (*GROUPS, *SECTIONS, *settings, *YAML_GROUPS) or key.startswith("experiment."):
        return None
    if section in GROUPS and option:
        shared = (
            [name.removeprefix("data.") for name in settings if name.startswith("data.")] if section == "data" else []
        )
        chosen = [_entry_name(section, choice) for choice in choices.get(section, [default_choices()[section]])]
        for name in filter(None, chosen):
            if option != "name" and option not in (*options_of(GROUPS[section][name]), *shared):
                return option_not_of(section, name, option)
        return None
    first = {group: (choices.get(group) or [default])[0] for group, default in default_choices().items()}
    options = [f"{g}.{o}" for g, c in first.items() if (n := _entry_name(g, c)) for o in options_of(GROUPS[g][n])]
    return no_such_option(key, dict.fromkeys([*GROUPS, *settings, *options, *YAML_GROUPS]))
