"""`--help`: every factor with its choices and every setting with what it takes, generated from the tables."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.config.composing import yaml_choices
from mlp_study.config.schema import GROUPS, TABLES, described_settings
from mlp_study.config.shipped import group_folder
from mlp_study.errors import no_such_option

if TYPE_CHECKING:
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


def help_text(command: str, purpose: str) -> str:
    """Every factor with its choices, every setting with what it takes, and examples.

    Where the command line names factors, as in ``--help optimizer``, it is their choices with formula and options.
    """
    stray = [
        word for before, word in pairwise(sys.argv) if "=" not in word and not word.startswith("-")
        and (before in ("--help", "-h") or not before.startswith("-")) and word not in (*TABLES, "trainer")
    ]  # fmt: skip
    if stray:
        raise no_such_option(stray[0], (*TABLES, "trainer"), " of --help")
    named = [key for word in sys.argv[1:] if (key := word.partition("=")[0]) in (*TABLES, "trainer")]
    return "\n".join(map(_choices_text, named)) if named else _overview(command, purpose)


def _choices_text(key: str) -> str:
    lines = [f"{key}=CHOICE{f'; its options as {key}.OPTION=VALUE' if key in GROUPS else ''}"]
    for name, entry in TABLES.get(key, {}).items():
        said = getattr(entry, "doc", None) or entry.formula  # each table has one of the two
        source = getattr(entry, "source", "")
        lines += ["", *_wrapped(f"  {name:<26}", f"{said}  ({source})" if source else said)]
        for option, about in getattr(entry, "options", {}).items():
            lines += _option_lines(f"    .{option}", about)
    for file in _presets(key):
        said = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines += ["", *_wrapped(f"  {file.stem:<26}", f"{said}  ({file})")]
    return "\n".join([*lines, ""])


def _presets(group: str) -> list[Path]:
    """The group's YAML files, ours and those in the folder that ``--config-dir`` names; their first line says what."""
    words = [part for word in sys.argv[1:] for part in word.split("=", 1)]
    own = [Path(words[i + 1]) for i, word in enumerate(words[:-1]) if word in ("--config-dir", "-cd")]
    return [
        file for folder in (group_folder(group), *(o / group for o in own)) for file in sorted(folder.glob("*.yaml"))
    ]


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
        lines += _wrapped(f"  {kind:<12}", ", ".join([*table, *yaml_choices(kind)]))
    lines += _wrapped(f"  {'trainer':<12}", ", ".join(yaml_choices("trainer")))
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
