"""End a command that fails with one clear line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from mlp_study.errors import Interrupted, StudyError, masked, one_line
from mlp_study.runtime.signals import Work, answer_of, swallowed


def fail(message: str, code: int = 1) -> NoReturn:
    """End the command with one line on stderr."""
    print(f"error: {masked(message)}", file=sys.stderr)
    sys.exit(code)


def wants_tracebacks() -> bool:
    """Return whether the user asks for whole tracebacks, as Hydra's users do."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def guarded(work: Callable[[], Any], tracebacks: bool | None = None) -> Any:
    """Return ``work()``; end with one clear line and exit code 1 at an error, unless whole tracebacks are asked for.

    A signal ends it in one line too, by the exit codes of ``Interrupted``.
    """
    whole = wants_tracebacks() if tracebacks is None else tracebacks
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
    fail(f"{type(error).__name__}: {one_line(str(error))} (HYDRA_FULL_ERROR=1 shows where)")
