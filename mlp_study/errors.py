"""The errors a user meets: one clear line each, printed without a traceback by the commands."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable


def spelt_out(text: str) -> str:
    """``text`` without what would move a terminal's cursor or forge a line of a log: names may come from others.

    >>> spelt_out("two\\nlines, \\x1b[31mred")
    'two lines, \\\\x1b[31mred'
    """
    return "".join(c if c.isprintable() else " " if c.isspace() else repr(c)[1:-1] for c in text)


_LOGIN = re.compile(r"(?<=://)([^\s:/@]*):(\S*)@")  # to the last @: a password may hold one
_NAMED = re.compile(r"(?i)\b(\w*(?:password|passwd|pwd|secret|token|api_?key)=)[^&\s'\"]+")
_SECRETS = re.compile(r"(?i)password|passwd|secret|token|api_?key")  # in the names of environment variables


def masked(text: str) -> str:
    """``text`` without the passwords of its URLs and without the environment's secrets.

    >>> masked("storage=postgresql://me:s@cret@host/db?sslmode=require")
    'storage=postgresql://me:***@host/db?sslmode=require'
    """
    text = _NAMED.sub(r"\1***", _LOGIN.sub(r"\1:***@", text))
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRETS.search(name):
            text = text.replace(value, "***")
    return text


def one_line(text: str) -> str:
    """The same, on one line without gaps and without secrets."""
    return spelt_out(" ".join(masked(text).split()))


class StudyError(Exception):
    """Something the user can mend. Its message is one line: the option or file, what was found, what is taken."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class ConfigError(StudyError):
    """A configuration that names something unknown or asks for something impossible."""


class DataError(StudyError):
    """Images or labels that are missing, damaged or contradict each other."""


class Interrupted(StudyError):
    """The user or the scheduler asked to stop; what was finished is recorded."""

    code = 130  # the command's exit code, as a shell's after Ctrl-C


class Preempted(Interrupted):
    """SIGUSR1 or SIGUSR2: the scheduler wants the machine back; the same command, started again, goes on."""

    code = 75  # EX_TEMPFAIL of sysexits.h: try again


def nearest_first(name: str, choices: Iterable[str]) -> list[str]:
    """All choices, those that resemble ``name`` first."""
    known = list(choices)
    close = _close(name, known)
    return close + [choice for choice in known if choice not in close]


def _close(name: str, known: list[str]) -> list[str]:
    """Those that end in the same word or its initials, as ``optimizer.lr`` in ``learning_rate``; else the similar."""
    last = name.lower().rpartition(".")[2]
    words = {last, "".join(part[:1] for part in last.split("_"))} - {""}
    same = [choice for choice in known if "." in choice and choice.rpartition(".")[2] in words]
    return same or difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)


def unknown(option: str, got: object, choices: Iterable[str]) -> ConfigError:
    """The error for a name outside a fixed set of choices, nearest match first.

    >>> str(unknown("activation", "rellu", ["tanh", "relu"]))
    "activation='rellu' is unknown; did you mean 'relu'? It takes one of: relu, tanh"
    """
    ordered = nearest_first(str(got), choices)
    close = _close(str(got), ordered)
    hint = f"did you mean {close[0]!r}? It" if close else "it"
    return ConfigError(f"{option}={got!r} is unknown; {hint} takes one of: {', '.join(ordered)}")


def no_such_option(option: str, takes: Iterable[str], where: str = "") -> ConfigError:
    """The error for a key that does not exist, nearest match first.

    >>> str(no_such_option("seeed", ["data", "seed"]))
    "seeed: no such option; did you mean 'seed'? It takes one of: seed, data"
    """
    text = str(unknown("", option, takes)).split("; ", 1)[1] if list(takes) else "it takes none"
    return ConfigError(f"{option}: no such option{where}; {text}")
