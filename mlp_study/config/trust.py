"""What a config, which may be a stranger's, may change of Hydra's own settings in this project's commands.

Hydra calls classes, sets up logs, changes the environment and imports packages by what its ``hydra`` node says. Of that
node only what is listed here may differ from what the project ships; ``MLP_STUDY_TRUST_CONFIGS=1`` lifts every limit.
In another application the project's plugins accept what Hydra accepts.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from mlp_study.errors import ConfigError
from mlp_study.runtime.files import refuse_links

TRUST = "MLP_STUDY_TRUST_CONFIGS"
# What a config may set, and the values that it takes; None: any.
FREE: dict[str, tuple[Any, ...] | None] = {
    "run.dir": None,
    "sweep.dir": None,
    "sweep.subdir": None,
    "job.chdir": None,
    "verbose": None,
    "searchpath": None,
    "mode": None,
    "output_subdir": (".hydra", None),
}
HYDRAS_OWN = (  # what Hydra sets itself after it has read all configs
    *("overrides.", "job.override_dirname", "job.config_name"),
    *("runtime.choices", "runtime.config_sources", "runtime.version", "runtime.cwd"),
)
# A launcher's settings that may be words; the others are as the launcher has them, or numbers: text may be a command.
WORDS = ("executor", "partition", "account", "qos", "constraint", "backend", "prefer", "require")
ENVIRONMENT = re.compile(r"(?:\$\{)?oc\.env:(\w+)\}?(\?[^$]*)?")

_guarding: ContextVar[bool] = ContextVar("guarding", default=False)


@contextlib.contextmanager
def guarded_configs() -> Iterator[None]:
    """Within it Hydra gives out no config whose ``hydra`` node goes beyond the limits, and none reads the environment.

    This is the one place that replaces functions inside Hydra: it has no hook between reading a config and obeying it.
    """
    if os.environ.get(TRUST) == "1" or _guarding.get():
        yield
        return
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    load, append = ConfigLoaderImpl.load_configuration, ConfigSearchPathImpl.append

    def checked_load(self: Any, config_name: str | None, overrides: list[str], *rest: Any, **more: Any) -> Any:
        try:
            found = load(self, config_name, overrides, *rest, **more)
        except (KeyError, TypeError) as error:  # an environment variable that is not there, or no name of one
            raise _refused("job.env_copy") from error
        except AttributeError as error:  # the node is null
            raise _refused("") from error
        if config_name is not None:
            check_hydra(found, _shipped(load), overrides)
            sweeper: Any = OmegaConf.to_container(found.hydra.sweeper, resolve=False)
            storage = sweeper.get("storage")
            if isinstance(storage, str) and ENVIRONMENT.fullmatch(storage):
                found.hydra.sweeper.storage = storage.replace("${", "").replace("}", "")  # for ``environment_url``
        return found

    def checked_append(self: ConfigSearchPathImpl, provider: str, path: str, anchor: Any = None) -> None:
        if provider.startswith("hydra.searchpath") and "://" in path.removeprefix("file://"):
            raise ConfigError(f"hydra.searchpath={path} is not valid; it takes folders, as PATH or file://PATH")
        append(self, provider, path, anchor)

    ConfigLoaderImpl.load_configuration = checked_load  # type: ignore[method-assign]
    ConfigSearchPathImpl.append = checked_append  # type: ignore[method-assign]
    OmegaConf.register_new_resolver("oc.env", _no_environment, replace=True)
    token = _guarding.set(True)
    try:
        yield
    finally:
        _guarding.reset(token)
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]
        ConfigSearchPathImpl.append = append  # type: ignore[method-assign]


def check_hydra(config: Any, shipped: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Compare the ``hydra`` node of a composed config with the shipped one, interpolations unresolved.

    Args:
        config: as Hydra has composed it.
        shipped: the ``hydra`` node without any override, as plain data.
        overrides: what Hydra has composed it from.

    Raises:
        ConfigError: a setting may not differ, or not like this; the message names it.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=False)
    hydra = plain.get("hydra")
    if not isinstance(hydra, dict):
        raise _refused("")
    recorded = hydra.get("overrides")
    if not isinstance(recorded, dict) or sorted(map(str, _listed(recorded))) != sorted(overrides):
        raise _refused("overrides")
    ours, theirs = dict(_leaves(shipped)), dict(_leaves(hydra))
    for path in dict.fromkeys([*theirs, *ours]):
        takes = FREE.get(path)
        known = path in theirs and path in ours and theirs[path] == ours[path]
        free = path in FREE and (takes is None or theirs.get(path, "") in takes)
        plugins = path.split(".")[0] in ("sweeper", "launcher")
        if not (known or free or plugins or path.startswith(HYDRAS_OWN)):
            raise _refused(path)
    loud = theirs.get("verbose")
    names = loud if isinstance(loud, list) else [loud]
    if not isinstance(loud, bool) and not all(isinstance(name, str) and not _interpolates(name) for name in names):
        raise ConfigError(f"hydra.verbose={loud} is not valid; it takes true, false, a logger's name or a list of them")
    for path in ("run.dir", "sweep.dir"):
        if not isinstance(theirs.get(path), str) or not theirs[path]:
            raise ConfigError(f"hydra.{path}={theirs.get(path)} is not valid; it takes a folder")
    if not _interpolates(theirs["run.dir"]):  # Hydra writes there before any command does
        refuse_links(Path(theirs["run.dir"]))
    _check_plugin("sweeper", hydra.get("sweeper"), _sweeper_setting)
    _check_plugin("launcher", hydra.get("launcher"), _launcher_setting)
    _check_storage(hydra["sweeper"].get("storage"), overrides)


def environment_url(storage: Any) -> Any:
    """``hydra.sweeper.storage`` with the URL that ``${oc.env:NAME}`` stands for; anything else as it is.

    Raises:
        ConfigError: there is no such environment variable.
    """
    named = ENVIRONMENT.fullmatch(storage) if isinstance(storage, str) else None
    if named is None:
        return storage
    if named[1] not in os.environ:
        raise ConfigError(f"hydra.sweeper.storage={storage}: the environment variable {named[1]} is not set")
    return os.environ[named[1]] + (named[2] or "")


def composing_first(launcher: Any, loader: Any, master: Any) -> Any:
    """Let a launcher whose processes compose their own configs run only jobs that this process may compose, too."""
    launch = launcher.launch

    def checked(job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        for job in job_overrides:
            loader.load_sweep_config(master, list(job))
        return launch(job_overrides, initial_job_idx)

    if _guarding.get():
        launcher.launch = checked
    return launcher


def _refused(path: str) -> ConfigError:
    name = f"hydra.{path}".rstrip(".")
    return ConfigError(
        f"{name} is not for a config to change like this: Hydra could run code by it; "
        f"{TRUST}=1 in the environment allows everything to the configs that you trust"
    )


def _no_environment(name: str, *_default: Any) -> NoReturn:
    raise ConfigError(
        f"oc.env:{name} reads the environment, which only hydra.sweeper.storage='${{oc.env:NAME}}' may; "
        f"{TRUST}=1 in the environment allows everything to the configs that you trust"
    )


@lru_cache(maxsize=1)
def _shipped(load: Callable[..., Any]) -> dict[str, Any]:
    """The ``hydra`` node of ``conf/config.yaml`` alone, as Hydra's own ``load`` composes it."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from mlp_study.config.shipped import shipped

    loader = ConfigLoaderImpl(create_config_search_path(str(shipped("conf"))))
    plain: Any = OmegaConf.to_container(load(loader, "config", [], RunMode.RUN), resolve=False)
    return dict(plain["hydra"])


def _listed(recorded: Mapping[str, Any]) -> list[Any]:
    """The overrides that a composed config says it was made of."""
    kinds = [recorded.get(kind) for kind in ("hydra", "task")]
    return [override for kind in kinds for override in (kind if isinstance(kind, list) else [kind])]


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value under its dotted path; lists and empty mappings are values."""
    if not isinstance(node, dict) or not node:
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _check_plugin(kind: str, node: Any, may: Callable[[Mapping[str, Any], str, Any], bool]) -> None:
    """A sweeper or launcher is one that a plugin has registered, with that plugin's settings.

    Args:
        kind: ``sweeper`` or ``launcher``.
        node: what the config says.
        may: whether a setting that is not the plugin's default may have this value.
    """
    from hydra.core.config_store import ConfigNode, ConfigStore
    from omegaconf import OmegaConf

    entries = [entry for entry in ConfigStore.instance().repo["hydra"][kind].values() if isinstance(entry, ConfigNode)]
    plugins: dict[str, Any] = {str(e.node["_target_"]): OmegaConf.to_container(e.node) for e in entries}
    target = node.get("_target_") if isinstance(node, dict) else None
    if target not in plugins:
        known = ", ".join(sorted(plugins))
        raise ConfigError(f"hydra.{kind}._target_={target} is not valid; it takes a plugin's class: {known}")
    default = plugins[target]
    defaults = dict(_leaves(default))
    if {key: value for key, value in node.items() if str(key).startswith("_")} != {
        key: value for key, value in default.items() if key.startswith("_")
    }:
        raise _refused(f"{kind}")
    for path, value in _leaves(node):
        known_key = path.split(".")[0] in default
        if not known_key or not ((path in defaults and defaults[path] == value) or may(default, path, value)):
            raise _refused(f"{kind}.{path}")


def _sweeper_setting(default: Mapping[str, Any], path: str, value: Any) -> bool:
    """Plain values; what Hydra instantiates along with the sweeper has keys that begin with an underscore."""
    if path == "storage":
        return True
    nested = any(key.startswith("_") for key in path.split(".")) or (isinstance(value, list) and _nests(value))
    return not (nested and default.get("_recursive_", True)) and not _interpolates(value)


def _launcher_setting(default: Mapping[str, Any], path: str, value: Any) -> bool:
    if not re.fullmatch(r"[\w.-]+", path):  # a key with a line end would be a line of a job's script
        return False
    word = path.rpartition(".")[2] in WORDS and isinstance(value, str) and re.fullmatch(r"[\w.+-]+", value) is not None
    return word or value is None or isinstance(value, bool | int | float)


def _interpolates(value: Any) -> bool:
    return "${" in str(value)


def _nests(value: list[Any]) -> bool:
    return any(isinstance(item, dict | list) for item in value)


def _check_storage(storage: Any, overrides: Sequence[str]) -> None:
    """A server's address comes from the person: a password in the environment would be sent to it."""
    typed = any(override.lstrip("+").startswith("hydra.sweeper.storage=") for override in overrides)
    if storage is None or not isinstance(storage, str):
        return
    if named := ENVIRONMENT.fullmatch(storage):
        if "://" not in os.environ.get(named[1], "://"):
            raise ConfigError(f"hydra.sweeper.storage={storage}: the environment variable {named[1]} holds no URL")
    elif _interpolates(storage):
        raise ConfigError(f"hydra.sweeper.storage={storage} is not valid; of interpolations it takes ${{oc.env:NAME}}")
    elif "://" in storage and not typed and not storage.startswith(("sqlite:", "journal:")):
        raise ConfigError("hydra.sweeper.storage: a server's address is taken from the command line, not from a file")
