"""A command line's overrides, checked and spelt out before Hydra reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mlp_study.config.composing import compose, with_variant
from mlp_study.config.schema import GROUPS, RunConfig
from mlp_study.errors import ConfigError, one_line
from mlp_study.runtime.reading import read_bytes

NO_RESUME = ("resume=", "resume=null")
SEARCH_PATH = "hydra.searchpath="  # an override that names folders of the user's own configs, as --config-dir does
OF_A_RUN = re.compile(r"(?s)[+~]{0,2}(?!hydra\b)[A-Za-z_][\w./@]*(=.*)?")  # an override that a run may have recorded
OVERRIDES_BYTES = 2**20  # of a file with them
OF_A_SWEEP = {  # what a single run has no use for
    "hydra/sweeper": "chooses a sweep's runs",
    "sweep_dir": "is a sweep's folder, as hydra.run.dir is a run's",
    "shard": "divides a sweep",
    "retry_failed": "is about a sweep's runs",
}


def swept(overrides: Sequence[str]) -> list[str]:
    """A sweep's overrides: ``sweep_dir`` holds for every sweeper and launcher; one experiment's variant is spelt out.

    Several variants or experiments are spelt out by the project's sweeper, job by job.
    """
    own = [o.partition("=")[2] for o in overrides if o.startswith("sweep_dir=")]
    hydras = any(o.startswith("hydra.sweep.dir=") for o in overrides)
    given = list(overrides)
    if not any("," in o or "(" in o for o in overrides if o.startswith(("+experiment=", "experiment"))):
        given = with_variant(given)
    return given if hydras or not own or own[-1] in ("", "null") else [*given, f"hydra.sweep.dir={own[-1]}"]


def check_choices(overrides: Sequence[str]) -> None:
    """Hydra reads ``activation=[relu,tanh]`` as two files of which the last one holds.

    Raises:
        ConfigError: such a list.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if key in GROUPS and value.startswith("["):
            raise ConfigError(f"{override} is not valid; it takes one choice, or {key}=A,B with -m for a sweep")


def check_single(overrides: Sequence[str]) -> None:
    """What a single run would ignore, or overwrite.

    Raises:
        ConfigError: an option of sweeps only, or a folder that holds a finished run.
    """
    given = dict(o.lstrip("+").partition("=")[::2] for o in overrides)
    for key, why in OF_A_SWEEP.items():
        if given.get(key) not in (None, "", "null", "false", "population"):
            raise ConfigError(f"{key}={given[key]} {why}; add -m for a sweep")
    folder = _unquoted(given.get("hydra.run.dir", ""))
    if folder and (Path(folder) / "result.json").is_file():
        raise ConfigError(f"hydra.run.dir={folder} holds a finished run; it takes a folder without result.json")


def resumed(overrides: Sequence[str], config_dir: str | None = None) -> list[str]:
    """``resume=FOLDER`` spelt out: the interrupted run's own overrides, in its own folder, whose ``.hydra`` stays.

    Args:
        overrides: the command line's.
        config_dir: a folder of the user's own configs; None: there is none.

    Raises:
        ConfigError: the folder is no run's, its run is finished, or the other overrides make it another run.
    """
    folders = [
        o.partition("=")[2] for o in map(_plain_key, overrides) if o.startswith("resume=") and o not in NO_RESUME
    ]
    if not folders:
        return list(overrides)
    folder = Path(_unquoted(folders[-1]))
    own = [o for o in _recorded(folder) if not _plain_key(o).startswith("resume=")]
    others = [o for o in overrides if not _plain_key(o).startswith("resume=")]
    configs = [o for o in others if o.startswith(SEARCH_PATH)][:1]  # Hydra takes the first
    if config_dir is not None:
        named = f"'file://{Path(config_dir).absolute()}'"
        configs = [f"{configs[0].removesuffix(']')},{named}]" if configs else f"{SEARCH_PATH}[{named}]"]
    rest = [o for o in others if not o.startswith(SEARCH_PATH)]
    if rest and _run_id([*own, *rest, *configs]) != _run_id([*own, *configs]):
        raise ConfigError(
            f"resume={folder} with {' '.join(others)} would be another run; it takes what changes no result"
        )
    quoted = "'" + str(folder).replace("'", "\\'") + "'"  # its name may have what Hydra's grammar gives a meaning
    return [*own, *others, f"resume={quoted}", f"hydra.run.dir={quoted}", "hydra.output_subdir=null"]


def _recorded(folder: Path) -> list[str]:
    """The overrides of an interrupted run, which may be a stranger's: no flags, and nothing of Hydra's.

    Raises:
        ConfigError: the folder is no run's, its run is finished, or its overrides are not a run's.
    """
    import yaml

    recorded = folder / ".hydra" / "overrides.yaml"
    if not recorded.is_file():
        raise ConfigError(f"resume={folder} is no run's folder; it takes one that has .hydra/overrides.yaml in it")
    if (folder / "result.json").is_file():
        raise ConfigError(f"resume={folder}: that run is finished; its record is {folder / 'result.json'}")
    try:
        own = yaml.safe_load(read_bytes(recorded, OVERRIDES_BYTES))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"resume={folder}: {recorded} cannot be read: {one_line(str(error))}") from error
    if not isinstance(own, list) or not all(isinstance(o, str) for o in own):
        raise ConfigError(f"resume={folder}: {recorded} cannot be read: it is no list of overrides")
    if strange := [o for o in own if not OF_A_RUN.fullmatch(o)]:
        raise ConfigError(f"resume={folder}: {recorded} has {strange[0]!r}, which is no setting of a run")
    return own


def _plain_key(override: str) -> str:
    """``++key=value`` sets a key that is there, too."""
    return override.lstrip("+")


def _run_id(overrides: Sequence[str]) -> str:
    return RunConfig.from_dict(compose(with_variant(overrides))).run_id


def _unquoted(text: str) -> str:
    """The text within the quotes that Hydra's grammar asks for where a value has spaces, commas or brackets."""
    quote = text[:1]
    whole = len(text) >= 2 and quote in ("'", '"') and text.endswith(quote)
    return text[1:-1].replace(f"\\{quote}", quote) if whole else text
