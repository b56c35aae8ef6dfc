"""How far a sweep is: python -m mlp_study.status FOLDER."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mlp_study.runtime import signals

if __name__ == "__main__":  # before the imports that take time
    signals.listen()

from mlp_study.errors import ConfigError, no_such_option
from mlp_study.runtime.guard import guarded

HELP = """Say how many runs of a sweep are done, running, waiting and failed, and who trains what since when.

usage: python -m mlp_study.status FOLDER [FOLDER ...] [--json]

It reads the folder's files only: no lock is taken, nothing is written, no scheduler is asked. A process of another
machine counts as dead when it has given no sign of life for five minutes; its runs wait for the next command.

  FOLDER  a sweep's: what the sweep printed as sweep_dir
  --json  the same for programs, one line a folder

Examples:
  python -m mlp_study.status multirun/2026-11-20/12-00-00
  watch python -m mlp_study.status multirun/17
"""


def main(arguments: Sequence[str]) -> None:
    """The command, from its arguments.

    Raises:
        ConfigError: an argument is not valid, or a folder holds no sweep.
    """
    if {"--help", "-h"} & set(arguments):
        print(HELP, end="")
        return
    folders = [Path(argument) for argument in arguments if not argument.startswith("-")]
    for argument in arguments:
        if argument.startswith("-") and argument != "--json":
            raise no_such_option(argument, ["--json"])
    if not folders:
        raise ConfigError("status takes a sweep's folder, such as: python -m mlp_study.status multirun/17")
    from mlp_study.sweep.status import lines_of, read_status

    for folder in folders:
        status = read_status(folder)
        print(json.dumps(status.to_dict()) if "--json" in arguments else "\n".join(lines_of(status)), flush=True)


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
