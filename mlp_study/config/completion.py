"""What a shell offers after `mlp-study`: commands, keys and choices, read from the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlp_study.config.composing import YAML_GROUPS, choices_of, default_choices
from mlp_study.config.schema import GROUPS, TABLES, described_settings, options_of
from mlp_study.errors import ConfigError, unknown

BASH = """\
_mlp_study() {
    local words
    words=$(mlp-study --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}
complete -o default -F _mlp_study mlp-study"""
FISH = "complete -c mlp-study -a '(mlp-study --complete (commandline -opc)[2..-1] (commandline -ct))'"
SCRIPTS = {"bash": BASH, "zsh": BASH, "fish": FISH}
OVERRIDDEN = ("train", "diagnose")  # the commands that take a run's settings


def script(shell: Sequence[str]) -> str:
    """The lines that make a shell complete `mlp-study`.

    Raises:
        ConfigError: the shell is none of those known here.
    """
    if len(shell) != 1:
        raise ConfigError(f"--completion takes one of: {', '.join(SCRIPTS)}")
    if shell[0] not in SCRIPTS:
        raise unknown("--completion", shell[0], SCRIPTS)
    return SCRIPTS[shell[0]]


def candidates(words: Sequence[str], commands: Iterable[str]) -> list[str]:
    """What may stand in the place of the last word; nothing where a shell's own file names serve.

    Args:
        words: what is typed after ``mlp-study``, the word to be completed last.
        commands: the names of all commands.
    """
    *before, last = words or [""]
    if not before:
        return [name for name in commands if name.startswith(last)]
    if before[0] not in OVERRIDDEN:
        return []
    key, equals, _ = last.partition("=")
    found = [f"{key}={choice}" for choice in _choices(key.lstrip("+"))] if equals else _keys(before)
    return [word for word in found if word.startswith(last)]


def _choices(key: str) -> list[str]:
    options = dict(described_settings())
    if key in TABLES and key not in GROUPS:
        return list(TABLES[key])
    if key in options and options[key].type is bool:
        return ["true", "false"]
    return choices_of(key) or list(options[key].choices if key in options else ())


def _keys(before: Sequence[str]) -> list[str]:
    """Every key, an option's after its group's choice."""
    chosen = {**default_choices(), **dict(word.split("=", 1) for word in before if "=" in word)}
    options = [
        f"{group}.{option}="
        for group, table in GROUPS.items()
        if chosen.get(group) in table
        for option in options_of(table[chosen[group]])
    ]
    files = [f"{'' if group == 'trainer' else '+'}{group}=" for group in YAML_GROUPS]
    return [*(f"{group}=" for group in GROUPS), *files, *(f"{key}=" for key, _ in described_settings()), *options]
