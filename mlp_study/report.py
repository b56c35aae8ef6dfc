"""Show a study in one page: python -m mlp_study.report FOLDER."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mlp_study.runtime import signals

if __name__ == "__main__":  # before the imports that take time
    signals.listen()

from mlp_study.errors import ConfigError, no_such_option
from mlp_study.runtime.guard import guarded

HELP = """Write one self-contained report.html about runs, with figures (PNG, SVG) and tables (CSV) beside it.

usage: python -m mlp_study.report FOLDER [FOLDER ...] [key=value ...]

  FOLDER            a run, a sweep, a search or a folder of reproduce; several are compared
  output=FOLDER     where report.html and report/ go (default: the folder itself; comparison for several)
  figures=true      whether to draw the static figures
  data.root=FOLDER  where the data sets are, for a single run's confusion matrix (default: where it had them)

Examples:
  python -m mlp_study.report multirun/2026-11-20/12-00-00
  python -m mlp_study.report outputs/2026-11-20/12-00-00
  python -m mlp_study.report sweep_a sweep_b output=both
"""
OPTIONS = ("output", "figures", "data.root")


def main(arguments: Sequence[str]) -> None:
    """The command, from its arguments.

    Raises:
        StudyError: an argument is not valid, a folder is missing or holds no run, the disk is full.
    """
    if {"--help", "-h"} & set(arguments):
        print(HELP, end="")
        return
    folders, options = [], {"output": "", "figures": "true", "data.root": ""}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and not Path(argument).exists():
            if key not in options:
                raise no_such_option(key, OPTIONS)
            options[key] = value
        elif argument.startswith("-"):
            raise no_such_option(argument, OPTIONS)
        else:
            folders.append(Path(argument))
    if not folders:
        raise ConfigError(
            "report takes at least one folder, such as: python -m mlp_study.report multirun/2026-11-20/12-00-00"
        )
    if options["figures"] not in ("true", "false"):
        raise ConfigError(f"figures={options['figures']} is not valid; it takes true or false")
    from mlp_study.reporting.make import make_report

    output, root = (Path(options[key]) if options[key] else None for key in ("output", "data.root"))
    print(make_report(folders, output, figures=options["figures"] == "true", data_root=root))


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
