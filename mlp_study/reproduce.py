"""Reproduce the five sources over many seeds: python -m mlp_study.reproduce source=raw_relu seeds=10."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlp_study.runtime import signals

if __name__ == "__main__":  # before the imports that take time
    signals.listen()

from mlp_study.errors import Interrupted
from mlp_study.runtime.guard import fail, guarded

PURPOSE = "Train the five sources' networks over many seeds, and say which of their claims hold, and why."
HELP = f"""{PURPOSE}

usage: python -m mlp_study.reproduce [source=NAME[,NAME]] [seeds=N] [folder=FOLDER] [key=value ...]

  source=all           {{sources}}
  seeds=10             runs of each variant, seeds 0 to N-1
  folder=reproduction  where reproduction.md, .csv, .json, figures and every run's records go; runs that are there
                       are not trained again
  key=value            any setting of a run, such as data=digits, data.root=FOLDER, trainer.accelerator=gpu; it wins
                       over the source's own

Examples:
  python -m mlp_study.reproduce data=digits                     all five, offline, in a minute or two
  python -m mlp_study.reproduce data.root=data                  all five on MNIST and Fashion-MNIST
  python -m mlp_study.reproduce source=numpy_relu seeds=3
"""


def main(arguments: Sequence[str]) -> None:
    """The command, from its arguments."""
    if {"--help", "-h"} & set(arguments):
        from mlp_study.config.composing import yaml_choices

        print(HELP.format(sources=", ".join(["all", *yaml_choices("experiment")])))
        return
    from mlp_study.reporting.make import report_at_end
    from mlp_study.reproduction.command import reproduce, request_of
    from mlp_study.runtime.startup import import_lightning

    request = request_of(arguments)
    import_lightning()
    try:
        reproduce(request, report_at_end)
    except (Interrupted, KeyboardInterrupt) as stop:
        answer = signals.answer_of(stop)
        fail(f"{answer}; the same command goes on from {request.folder}", answer.code)


if __name__ == "__main__":
    guarded(lambda: main(sys.argv[1:]))
