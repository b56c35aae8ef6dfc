"""End a command that fails with one clear line and an exit code."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from mlp_study.errors import Interrupted, StudyError, masked, one_line
from mlp_study.runtime.files import cause_of
from mlp_study.runtime.signals import Work, answer_of, swallowed

LONG = re.compile(r"\S{400,}")  # a word that a line shows in part


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with one line on stderr."""
    print(f"error: {LONG.sub(_shortened, masked(message))}", file=sys.stderr)
    sys.exit(code)


def wants_tracebacks() -> bool:
    """Return whether the user asks for whole tracebacks, as Hydra's users do."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def guarded(work: Callable[[], Any], tracebacks: bool | None = None) -> Any:
    """Return ``work()``; end with one clear line and exit code 1 at an error, unless whole tracebacks are asked for.

    A signal ends it in one line too, by the exit codes of ``Interrupted``.
    """
    whole = wants_tracebacks() if tracebacks is None else tracebacks
    logging.raiseExceptions = False  # a full disk is one line, not one more traceback for each line of a log
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without the plus-minus sign is no reason to fail
            stream.reconfigure(errors="backslashreplace")
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
    if isinstance(error, RecursionError):
        fail("an override or a file is nested too deeply; it takes a few levels of lists and mappings")
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        fail("a number in an override or a file has too many digits")
    if isinstance(error, MemoryError):
        fail("there is not enough memory; a smaller data set, model or max_members needs less")
    if isinstance(error, OSError) and error.filename is not None:
        fail(f"{_option_of(str(error.filename))}: {cause_of(error)}; choose another one")
    fail(f"{type(error).__name__}: {one_line(str(error))} (HYDRA_FULL_ERROR=1 shows where)")


def _open_streams() -> None:
    """A command started with closed streams writes to nowhere: files opened later must not take their place."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _option_of(file: str) -> str:
    """The word of the command line that names this file, or the folder above it; else the file."""
    named = {word.partition("=")[2].strip("'\""): word for word in sys.argv[1:] if "=" in word}
    here = f"{Path(file).absolute()}/"
    words = [word for value, word in named.items() if value and here.startswith(f"{Path(value).absolute()}/")]
    return words[0] if words else one_line(file)


def _shortened(word: re.Match[str]) -> str:
    return f"{word[0][:100]}... ({len(word[0])} characters)"
