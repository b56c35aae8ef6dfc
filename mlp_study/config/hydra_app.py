"""A command as a Hydra application: its overrides are checked first, its errors are one line."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from mlp_study.config.composing import compose, explain, register_groups, with_variant
from mlp_study.config.help import help_text
from mlp_study.config.overrides import check_choices, check_single, resumed, swept
from mlp_study.config.schema import RunConfig
from mlp_study.config.shipped import shipped
from mlp_study.config.trust import guarded_configs
from mlp_study.errors import ConfigError
from mlp_study.runtime.files import cause_of
from mlp_study.runtime.guard import guarded, wants_tracebacks

if TYPE_CHECKING:
    import argparse


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

    register_groups()
    args = _arguments()
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
        with guarded_configs():
            hydra.main(version_base="1.3", config_path=str(shipped("conf")), config_name="config")(task)()
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
        ConfigError: a flag that Hydra does not have, one without its value, or one that could run code.
    """
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}; a command takes key=value and the flags that --hydra-help lists")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign] # it would print its usage and exit with 2
    args = parser.parse_intermixed_args()
    if args.experimental_rerun:
        raise ConfigError("--experimental-rerun reads a pickle, which can run code; resume=FOLDER continues a run")
    if "://" in (args.config_path or "").removeprefix("file://"):
        raise ConfigError(f"--config-path={args.config_path} is not valid; it takes a folder")
    return args


def _is_sweep_file(overrides: Sequence[str]) -> bool:
    return any(override.startswith("+sweeps=") for override in overrides)
