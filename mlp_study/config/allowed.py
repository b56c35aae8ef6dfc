"""What Hydra may call by the name that a config gives it: its own classes and its plugins', and handlers of logs.

A ``_target_`` or a logging factory may come from an override or a YAML file that somebody else has written; neither is
code, and neither may run any.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from mlp_study.errors import ConfigError

# In the ``hydra`` node, which is all that Hydra instantiates: key -> what it may name.
ALLOWED = {
    "_target_": (
        r"(hydra|hydra_plugins)\.[\w.]+|optuna\.(samplers|pruners)\.\w+",
        "a class of Hydra or of one of its plugins, or a sampler or pruner of Optuna",
    ),
    "()": (r"colorlog\.ColoredFormatter", "colorlog.ColoredFormatter"),
    "class": (
        r"logging\.(handlers\.(Timed)?Rotating|handlers\.Watched)?(File|Stream|Null)Handler|rich\.logging\.RichHandler"
        r"|logging\.Formatter",
        "a handler of files or streams of Python's logging",
    ),
}
EXTERNAL = re.compile(r"ext://(?!sys\.std(out|err)$)")  # an object that logging imports


def check_targets(node: Any, path: str = "hydra") -> None:
    """Refuse what a config must not name.

    Raises:
        ConfigError: it names the option.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            pattern, takes = ALLOWED.get(str(key), ("", ""))
            if takes and not re.fullmatch(pattern, str(value)):
                raise ConfigError(f"{path}.{key}={value} is not valid; it takes {takes}")
            check_targets(value, f"{path}.{key}")
    elif isinstance(node, list):
        for place, value in enumerate(node):
            check_targets(value, f"{path}.{place}")
    elif isinstance(node, str) and EXTERNAL.match(node):
        raise ConfigError(f"{path}={node} is not valid; it takes ext://sys.stdout or ext://sys.stderr")


@contextlib.contextmanager
def checked_targets() -> Iterator[None]:
    """Within it Hydra gives out no config that ``check_targets`` refuses: it sets up logs and callbacks right after."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from omegaconf import OmegaConf

    load = ConfigLoaderImpl.load_configuration

    def checked(self: ConfigLoaderImpl, *arguments: Any, **options: Any) -> Any:
        found = load(self, *arguments, **options)
        if "hydra" in found:
            check_targets(OmegaConf.to_container(found.hydra))
        return found

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign] # it has no hook between the two
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign] # as above
