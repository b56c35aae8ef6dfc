"""What the commands share: `--help` from the tables, checks before any data is read, one-line errors, and Hydra."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlp_study.compose import compose, explain, register_groups, sweeper_of, with_variant, yaml_choices
from mlp_study.config import GROUPS, TABLES, RunConfig, described_settings
from mlp_study.errors import ConfigError, Interrupted, StudyError, one_line
from mlp_study.imports import Process, spin_briefly
from mlp_study.records.atomic import cause_of
from mlp_study.signals import Work, answer_of, swallowed
from mlp_study.targets import checked_targets

if TYPE_CHECKING:
    import argparse

    from mlp_study.factors.table import Option

EXAMPLES = {
    "diagnose": (
        "python -m mlp_study.diagnose activation=relu data.scale=none",
        "python -m mlp_study.diagnose data=mnist optimizer=adam optimizer.lr=0.1 loss=clipped_cross_entropy --json",
        "python -m mlp_study.diagnose run=outputs/2026-01-31/12-00-00",
    ),
    "train": (
        "python -m mlp_study.train activation=relu data.scale=none",
        "python -m mlp_study.train data=mnist activation=sigmoid optimizer=adam model.widths=[128,64]",
        "python -m mlp_study.train -m activation=relu,sigmoid,tanh data.scale=none,unit seed='range(0,5)'",
    ),
}

ALSO = {
    "diagnose": "",
    "train": "--cfg job shows the whole config; resume=FOLDER continues an interrupted run; ",
}

NO_RESUME = ("resume=", "resume=null")
SEARCH_PATH = "hydra.searchpath="  # an override that names folders of the user's own configs, as --config-dir does
OF_A_SWEEP = {  # what a single run has no use for
    "hydra/sweeper": "chooses a sweep's runs",
    "sweep_dir": "is a sweep's folder, as hydra.run.dir is a run's",
    "shard": "divides a sweep",
    "retry_failed": "is about a sweep's runs",
}


def help_text(command: str, purpose: str) -> str:
    """Every factor with its choices, every setting with what it takes, and examples.

    Where the command line names factors, as in ``--help optimizer``, it is their choices with formula and options.
    """
    named = [key for word in sys.argv[1:] if (key := word.partition("=")[0]) in TABLES]
    return "\n".join(map(_choices_text, named)) if named else _overview(command, purpose)


def _choices_text(key: str) -> str:
    lines = [f"{key}=CHOICE{f'; its options as {key}.OPTION=VALUE' if key in GROUPS else ''}"]
    for name, entry in TABLES[key].items():
        said = getattr(entry, "doc", None) or entry.formula  # each table has one of the two
        source = getattr(entry, "source", "")
        lines += ["", *_wrapped(f"  {name:<26}", f"{said}  ({source})" if source else said)]
        for option, about in getattr(entry, "options", {}).items():
            lines += _option_lines(f"    .{option}", about)
    return "\n".join([*lines, ""])


def _option_lines(key: str, option: Option) -> list[str]:
    """The option's default, what it is, and what it takes."""
    default = option.default
    shown = "null" if default is None else str(default).lower() if option.type is bool else default
    takes = f"; takes {option.takes}" if option.range or option.choices else ""
    return _wrapped(f"{key:<28}", f"{shown}  {option.doc}{takes}")


def _overview(command: str, purpose: str) -> str:
    lines = [
        purpose,
        "",
        f"usage: python -m mlp_study.{command} {'[-m] ' if command == 'train' else ''}[key=value ...]",
        "",
        "Factors (key=choice; --help KEY, such as --help optimizer, gives each choice's formula and options):",
    ]
    for kind, table in GROUPS.items():
        lines += _wrapped(f"  {kind:<12}", ", ".join(table))
    lines += ["", "Settings (key=value; the default comes first):"]
    for key, option in described_settings():
        if option.default != {}:
            lines += _option_lines(f"  {key}", option)
    for group in ("experiment", "sweeps"):
        if yaml_choices(group):
            lines += ["", *_wrapped(f"  +{group}=  ", ", ".join(yaml_choices(group)))]
    lines += ["", "Examples:", *(f"  {example}" for example in EXAMPLES[command]), ""]
    return "\n".join([*lines, f"Also: {ALSO[command]}HYDRA_FULL_ERROR=1 shows tracebacks."])


def _wrapped(head: str, text: str, width: int = 110) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with one line on stderr."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def wants_tracebacks() -> bool:
    """Whether the user asks for whole tracebacks, as Hydra's users do."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def guarded(work: Callable[[], Any], tracebacks: bool | None = None) -> Any:
    """``work()`` with every error as one clear line and exit code 1, unless whole tracebacks are asked for.

    A signal ends it in one line too, by the exit codes of ``Interrupted``.
    """
    whole = wants_tracebacks() if tracebacks is None else tracebacks
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without the plus-minus sign is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    Process.of_a_command = True
    spin_briefly()
    try:
        with Work():
            return work()
    except (Interrupted, KeyboardInterrupt) as stop:
        fail(str(answer_of(stop)), answer_of(stop).code)
    except Exception as error:
        if asked := swallowed():
            fail(str(asked.answer), asked.answer.code)
        if whole:
            raise
        _fail_by(error)


def _fail_by(error: Exception) -> NoReturn:
    if isinstance(error, StudyError):
        fail(str(error))
    if isinstance(error, BrokenPipeError):  # such as of `--help | head`; what Python holds for the pipe goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    fail(f"{type(error).__name__}: {one_line(str(error))} (HYDRA_FULL_ERROR=1 shows where)")


def run_hydra(task: Callable[[Any], Any], command: str, purpose: str) -> None:
    """Run ``task`` as a Hydra application after its overrides have been checked."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        guarded(lambda: print(help_text(command, purpose), flush=True))
        return
    tracebacks = wants_tracebacks()

    @functools.wraps(task)
    def shielded(composed: Any) -> Any:
        """Inside Hydra's job, which would print a line of its own; of a sweep's job the sweeper gets the error."""
        return guarded(lambda: task(composed), tracebacks or _in_sweep())

    guarded(lambda: _run_hydra(shielded))


def _in_sweep() -> bool:
    """Whether the job at hand is one of a sweep's, which goes on when it fails."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.get().mode is RunMode.MULTIRUN


def _run_hydra(task: Callable[[Any], Any]) -> None:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from hydra_plugins.mlp_study import register  # by name: Hydra's discovery may have imported it without its package

    register_groups()
    register()
    args = _arguments()
    if args.experimental_rerun and not Path(args.experimental_rerun).is_file():
        raise ConfigError(f"--experimental-rerun={args.experimental_rerun}: there is no such file")
    flags = sys.argv[1:]
    for override in args.overrides:
        flags.remove(override)
    sweeps = args.multirun or _is_sweep_file(args.overrides)
    overrides = swept(args.overrides) if sweeps else with_variant(resumed(args.overrides, args.config_dir))
    check_choices(args.overrides)
    foreign = args.config_name or args.config_dir or args.config_path
    shown = args.cfg or args.info or args.hydra_help or args.shell_completion
    if not (sweeps or args.hydra_help or args.shell_completion or foreign):
        config = RunConfig.from_dict(compose(overrides))
        if config.dry_run and not shown:
            flags.append("-m")  # the plan of a sweep of one
        elif not shown:
            check_single(args.overrides)
    elif foreign and not (sweeps or shown) and "dry_run=true" in overrides:  # only Hydra can compose it
        flags.append("-m")
    sys.argv[1:] = [*overrides, *flags]  # the last flag may be one whose value can be left out
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them: `guarded` does
    try:
        with checked_targets():
            hydra.main(version_base="1.3", config_path="pkg://mlp_study.conf", config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(overrides, error) from error
    except ValueError as error:
        if "Config group override" not in str(error):  # else Hydra's, for a number where a choice's name belongs
            raise
        raise explain(overrides, error) from error
    except OSError as error:
        if sweeps or before == "1" or error.filename is None:
            raise
        raise ConfigError(  # the task's own errors have ended the command: this is of its folder, which Hydra makes
            f"hydra.run.dir={error.filename} cannot be written: {cause_of(error)}; "
            "it takes a folder that is there or can be made"
        ) from error
    finally:
        os.environ.pop("HYDRA_FULL_ERROR") if before is None else os.environ.update(HYDRA_FULL_ERROR=before)


def _arguments() -> argparse.Namespace:
    """The command line by Hydra's own parser, flags and overrides in any order.

    Raises:
        ConfigError: a flag that Hydra does not have, or one without its value.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; a command takes key=value and the flags that --hydra-help lists")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign] # it would print its usage and exit with 2
    return parser.parse_intermixed_args()


def _is_sweep_file(overrides: Sequence[str]) -> bool:
    return any(override.startswith("+sweeps=") for override in overrides)


def swept(overrides: Sequence[str]) -> list[str]:
    """A sweep's overrides: ``sweep_dir`` holds for every sweeper and launcher; one experiment's variant is spelt out.

    Several variants or experiments are spelt out by the project's sweeper, job by job.
    """
    own = [o.partition("=")[2] for o in overrides if o.startswith("sweep_dir=")]
    hydras = any(o.startswith("hydra.sweep.dir=") for o in overrides)
    given = [*sweeper_of(overrides), *overrides]
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
    from omegaconf import OmegaConf

    folders = [
        o.partition("=")[2] for o in map(_plain_key, overrides) if o.startswith("resume=") and o not in NO_RESUME
    ]
    if not folders:
        return list(overrides)
    folder = Path(_unquoted(folders[-1]))
    recorded = folder / ".hydra" / "overrides.yaml"
    if not recorded.is_file():
        raise ConfigError(f"resume={folder} is no run's folder; it takes one that has .hydra/overrides.yaml in it")
    if (folder / "result.json").is_file():
        raise ConfigError(f"resume={folder}: that run is finished; its record is {folder / 'result.json'}")
    try:
        own = [str(o) for o in OmegaConf.load(recorded) if not str(o).startswith("resume=")]
    except Exception as error:  # whatever a YAML parser makes of a damaged file
        raise ConfigError(f"resume={folder}: {recorded} cannot be read: {one_line(str(error))}") from error
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
